from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import shutil
import sqlite3
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState
from sqlalchemy.engine import URL
from studies import load_study, open_storage

from rfsearch.storage import storage

sys.path.append(str(Path(__file__).parents[2] / "experiments" / "many_workers"))
from postgres import PostgresServer, postgres  # from the folder above

# Optuna's storage has no way to close its connections, so they end with it.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("small_heap"),
]


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


def readers(address: str) -> list[int]:
    """Which trials are seen by who can only read."""
    with storage.open_storage(address, read_only=True) as opened:
        return [t.number for t in optuna.load_study(study_name="a", storage=opened).trials]


@pytest.fixture
def foreign_folder() -> Iterator[Path]:
    """A folder in which `readers_without_write_access` cannot write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "a b?c"
        folder.mkdir()
        yield folder
        folder.chmod(0o755)


def readers_without_write_access(address: str, folder: Path) -> list[int]:
    before = set(folder.iterdir())
    folder.chmod(0o555)
    for file in before:
        file.chmod(0o444)
    with ThreadPoolExecutor(1, initializer=give_up_capabilities) as thread:
        found = thread.submit(readers, address).result()
    assert set(folder.iterdir()) == before
    return found


def give_up_capabilities() -> None:
    """Permissions count for root too, in this thread."""
    if os.getuid() == 0:
        version_3, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert ctypes.CDLL(None).capset(version_3, none) == 0


@pytest.mark.parametrize("left", ["closed", "in use", "killed", "copied without its index"])
def test_a_study_is_read_where_nothing_can_be_written(foreign_folder: Path, left: str) -> None:
    address = URL.create("sqlite", database=str(foreign_folder / "a.db")).render_as_string()
    with storage.open_storage(address) as opened:
        study = optuna.create_study(study_name="a", storage=opened)
        study.optimize(objective, n_trials=3)
        if left != "closed":
            kept = shutil.copytree(foreign_folder, foreign_folder.parent / "kept")
            assert (kept / "a.db-wal").stat().st_size > 0
        if left == "in use":
            assert readers_without_write_access(address, foreign_folder) == [0, 1, 2]
    if left in ("killed", "copied without its index"):
        shutil.rmtree(foreign_folder)
        kept.rename(foreign_folder)
        if left != "killed":
            (foreign_folder / "a.db-shm").unlink()
    assert readers_without_write_access(address, foreign_folder) == [0, 1, 2]


def test_reading_leaves_no_tables_and_no_files_behind(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "diary.db")
    other.execute("CREATE TABLE diary (day TEXT)")
    other.close()
    before = (tmp_path / "diary.db").read_bytes()
    with pytest.raises(ValueError, match="not a usable Optuna database"):
        storage.open_storage(f"sqlite:///{tmp_path / 'diary.db'}", read_only=True)
    assert [path.name for path in tmp_path.iterdir()] == ["diary.db"]
    tables = sqlite3.connect(tmp_path / "diary.db")
    assert tables.execute("SELECT name FROM sqlite_master").fetchall() == [("diary",)]
    tables.close()
    assert len((tmp_path / "diary.db").read_bytes()) == len(before)


def test_workers_that_start_at_once_make_one_database(tmp_path: Path) -> None:
    """Threads here, and processes that are copies of this one."""
    number, errors = 6, list[Exception]()
    start, context = threading.Barrier(number), multiprocessing.get_context("fork")
    at_once = context.Barrier(number)

    def make(name: str, barrier: Any) -> None:
        barrier.wait(timeout=60)
        with storage.open_storage(f"sqlite:///{tmp_path / name}") as opened:
            optuna.create_study(study_name="a", storage=opened, load_if_exists=True).ask()

    def work() -> None:
        try:
            make("threads.db", start)
        except Exception as error:
            errors.append(error)

    processes = [context.Process(target=make, args=("forks.db", at_once)) for _ in range(number)]
    for process in processes:
        process.start()
    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
    for one in (*processes, *threads):
        one.join()
    assert errors == []
    assert [process.exitcode for process in processes] == [0] * number
    for name in ("threads.db", "forks.db"):
        assert len(load_study("a", f"sqlite:///{tmp_path / name}").trials) == number


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
