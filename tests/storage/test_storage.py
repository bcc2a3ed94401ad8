from __future__ import annotations

import gc
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState
from studies import load_study, open_storage

sys.path.append(str(Path(__file__).parents[2] / "experiments" / "many_workers"))
from postgres import PostgresServer, postgres  # from the folder above

# Optuna's storage has no way to close its connections, so they end with it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    try:
        with postgres() as running:
            yield running
    except FileNotFoundError as error:
        pytest.skip(str(error))


def objective(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0, 1)


def refusal(address: str) -> str:
    with pytest.raises(ValueError, match="database") as error:
        open_storage(address)
    assert "\n" not in str(error.value)
    return str(error.value)


# -- SQLite -----------------------------------------------------------------------------------


def test_a_trial_is_taken_by_one_and_ended_by_one(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'a.db'}"
    study = optuna.create_study(study_name="a", storage=open_storage(address))
    for x in range(rounds := 60):
        study.enqueue_trial({"x": x})
    together, taken, ended = threading.Barrier(2), list[int](), list[int]()

    def work() -> None:
        mine = load_study("a", address)
        for _ in range(rounds // 2):
            together.wait()
            taken.append(mine.ask().number)
        for number in range(rounds):
            together.wait()
            with suppress(ValueError, UpdateFinishedTrialError):
                mine.tell(number, state=TrialState.FAIL)
                ended.append(number)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(rounds))
    assert sorted(ended) == list(range(rounds))


def test_sqlite_lets_others_read_while_one_writes(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'a{b}.db'}"
    storage = open_storage(address)
    study = optuna.create_study(study_name="a", storage=storage)
    study.optimize(objective, n_trials=2)
    assert len(load_study("a", address).trials) == 2
    assert (tmp_path / "a{b}.db").read_bytes()[18:20] == b"\x02\x02"  # Written ahead.


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("sqlite:////nowhere/study.db", "unable to open database file"),
        ("oracle9://me:hunter2@db/x", "'oracle9' is no kind of database"),
        ("grpc://127.0.0.1:1", "GRPC connection timeout"),
        ("mysql://me:hunter2@127.0.0.1:1/x", "Can't connect to MySQL server on '127.0.0.1'"),
    ],
)
def test_a_database_that_cannot_be_used(
    address: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if address.startswith("mysql"):
        pytest.importorskip("pymysql")
    if address.startswith("grpc"):
        pytest.importorskip("grpc")
        ready = optuna.storages.GrpcStorageProxy.wait_server_ready
        monkeypatch.setattr(
            optuna.storages.GrpcStorageProxy,
            "wait_server_ready",
            lambda self, timeout: ready(self, timeout=0.1),
        )
    line = refusal(address)
    assert reason in line
    assert "hunter2" not in line


def test_a_driver_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ValueError, match=r"pip install 'rfsearch\[postgresql\]'\.$") as error:
        open_storage("postgresql://me:hunter2@127.0.0.1:1/x")
    assert "hunter2" not in str(error.value)


# -- PostgreSQL -------------------------------------------------------------------------------


def test_a_study_in_postgresql(server: PostgresServer) -> None:
    storage = open_storage(server.url)
    assert storage.name == f"postgresql://rfsearch:***@127.0.0.1:{server.port}/postgres"
    study = optuna.create_study(study_name="a", storage=storage)
    study.optimize(objective, n_trials=2)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("/postgres", "/nowhere", 'database "nowhere" does not exist'),
        (PostgresServer.password, "hunter2", 'password authentication failed for user "rfsearch"'),
        ("@127.0.0.1:", "@127.0.0.1:1", "Connection refused"),
        ("rfsearch:", "nobody:", 'password authentication failed for user "nobody"'),
    ],
)
def test_an_address_that_is_wrong(server: PostgresServer, old: str, new: str, reason: str) -> None:
    address = server.url.replace(old, new)
    if new.endswith(":1"):
        address = server.url.replace(str(server.port), "1")
    line = refusal(address)
    assert reason in line
    assert PostgresServer.password not in line
    assert "hunter2" not in line


def test_a_database_that_one_may_only_read(server: PostgresServer) -> None:
    open_storage(server.url)
    url = sqlalchemy.make_url(server.url).set(drivername="postgresql+psycopg")
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("CREATE DATABASE readonly TEMPLATE template0"))
        connection.execute(
            sqlalchemy.text("ALTER DATABASE readonly SET default_transaction_read_only = on")
        )
    engine.dispose()
    line = refusal(server.url.replace("/postgres", "/readonly"))
    assert "read-only transaction" in line


def test_a_restart_of_the_server_loses_nothing(server: PostgresServer) -> None:
    storage = open_storage(server.url)
    study = optuna.create_study(study_name="restart", storage=storage)
    trial = study.ask()
    value = objective(trial)
    server.stop("immediate")
    again = threading.Timer(1.0, server.start)
    again.start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        study.tell(trial, value)
    again.join()
    assert [trial.value for trial in study.trials] == [value]
