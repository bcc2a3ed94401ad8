from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from helpers import refusal, rfsearch
from optuna.trial import TrialState
from studies import load_study, open_storage
from test_cli import count_complete, many_candidates, stored_trials, write_experiment

from rfsearch.cli._studies import STORAGE_VARIABLE
from rfsearch.search.folder_lock import exclusive, together
from rfsearch.search.stopping import num_trained
from rfsearch.search.study import storage_url
from rfsearch.storage.recovery import RETRY_OF

SECRET = "hunter2"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_experiment(tmp_path / "tiny")


@pytest.fixture(autouse=True)
def no_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STORAGE_VARIABLE, raising=False)


def shared(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'shared.db'}"


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rfsearch.cli.main", *map(str, arguments), "--device", "cpu"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# -- one process ------------------------------------------------------------------------------


def test_workers_of_two_studies_share_a_database(tmp_path: Path, folder: Path) -> None:
    for name in ("first", "../../second"):
        result = rfsearch("worker", folder, "--storage", shared(tmp_path), "--study", name)
        assert result.exit_code == 0, result.output
    assert not (folder / "study.db").exists()
    studies = optuna.get_all_study_summaries(open_storage(shared(tmp_path)))
    assert sorted(study.study_name for study in studies) == ["../../second", "first"]
    written = {path.name for path in tmp_path.iterdir()}
    assert written <= {"tiny", "shared.db", "shared.db-wal", "shared.db-shm"}


def test_run_and_worker_work_on_the_same_study(tmp_path: Path, folder: Path) -> None:
    options = ("--storage", shared(tmp_path), "--device", "cpu")
    assert rfsearch("worker", folder, *options).exit_code == 0
    result = rfsearch("run", folder, *options)
    assert result.exit_code == 0, result.output
    assert "2 trained to the end" in result.stdout
    study = load_study("tiny", shared(tmp_path))
    assert num_trained(study.trials) == 2  # A repeated candidate is not trained again.


def test_a_worker_takes_part_in_the_folders_own_study(folder: Path) -> None:
    with together(folder):
        assert rfsearch("worker", folder, "--device", "cpu").exit_code == 0
        assert "is searching here" in refusal(rfsearch("run", folder, "--device", "cpu"))
    assert num_trained(stored_trials(folder)) == 2


def test_a_worker_is_kept_out_of_a_folder_that_one_process_has_for_itself(folder: Path) -> None:
    with exclusive(folder):
        line = refusal(rfsearch("worker", folder, "--device", "cpu"))
    assert f"process {os.getpid()} is searching here" in line


# -- mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "worker"])
def test_a_study_without_a_database(folder: Path, command: str) -> None:
    assert "--study needs --storage" in refusal(rfsearch(command, folder, "--study", "x"))


@pytest.mark.parametrize("name", ["a\nb", "x" * 513])
def test_a_name_that_cannot_be_stored(tmp_path: Path, folder: Path, name: str) -> None:
    line = refusal(rfsearch("worker", folder, "--storage", shared(tmp_path), "--study", name))
    assert "--study must have 1 to 512 printable characters" in line


@pytest.mark.parametrize(
    "address",
    [f"me:{SECRET}", f"oracle9://me:{SECRET}@db/x", f"postgresql://me:{SECRET}@127.0.0.1:1/x"],
)
def test_a_wrong_address_is_refused_without_its_password(
    folder: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STORAGE_VARIABLE, address)
    line = refusal(rfsearch("run", folder, "--device", "cpu"))
    assert SECRET not in line


def test_a_study_of_another_experiment(tmp_path: Path, folder: Path) -> None:
    other = write_experiment(tmp_path / "other", epochs=2)
    options = ("--storage", shared(tmp_path), "--study", "x", "--device", "cpu")
    assert rfsearch("worker", folder, *options).exit_code == 0
    line = refusal(rfsearch("worker", other, *options))
    assert "study 'x': holds trials of another experiment, whose training differ; use" in line


def test_a_study_of_another_version(tmp_path: Path, folder: Path) -> None:
    options = ("--storage", shared(tmp_path), "--device", "cpu")
    assert rfsearch("worker", folder, *options).exit_code == 0
    study = load_study("tiny", shared(tmp_path))
    before = study.trials
    study.set_user_attr("rfsearch_format", 99)
    line = refusal(rfsearch("worker", folder, *options))
    assert "was written by another version of rfsearch (format 99, but this one has" in line
    assert study.trials == before


def test_a_network_of_a_million_layers_is_refused(folder: Path) -> None:
    space = (folder / "space.toml").read_text().replace("[1, 2, 3]", "1000000")
    (folder / "space.toml").write_text(space)
    line = refusal(rfsearch("run", folder, "--device", "cpu"))
    assert "stage 1, depth 1: Input should be less than or equal to 64, but got 1000000." in line


def test_a_database_that_fails_for_good_ends_with_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        from sqlalchemy.exc import OperationalError

        raise OperationalError("INSERT", {}, Exception("database or disk is full"))

    monkeypatch.setattr("optuna.storages.RDBStorage.set_trial_user_attr", full)
    line = refusal(rfsearch("worker", folder, "--device", "cpu"))
    assert "the database cannot be used (database or disk is full)." in line
    monkeypatch.undo()
    assert rfsearch("run", folder, "--device", "cpu").exit_code == 0  # Nothing is damaged.


@pytest.mark.parametrize("option", ["--grace", "--heartbeat"])
@pytest.mark.parametrize("seconds", ["inf", "nan", "0", "-1", "1e9"])
def test_seconds_that_are_none(folder: Path, option: str, seconds: str) -> None:
    for command in ("run", "worker"):
        result = rfsearch(command, folder, option, seconds)
        assert result.exit_code == 2
        assert option in result.stderr


# -- real processes ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_worker_that_is_told_to_stop_hands_its_trial_back(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path / "long", min_size=5, epochs=100_000)
    process = start("worker", folder, "--grace", 3)
    try:
        while not list(folder.glob("checkpoints/*/*/last.pt")):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 143
    assert "Stopped; the trial was handed back." in stderr
    assert "Traceback" not in stderr
    interrupted, waiting = stored_trials(folder)[-2:]
    assert (interrupted.state, waiting.state) == (TrialState.FAIL, TrialState.WAITING)
    assert waiting.user_attrs[RETRY_OF] == interrupted.number
    assert list(folder.glob("checkpoints/*/*/last.pt"))


def until_two_are_training(process: subprocess.Popen[str], folder: Path) -> None:
    while len(list(folder.glob("checkpoints/*/*/last.pt"))) < 2:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_several_workers_are_told_to_stop(tmp_path: Path, number: signal.Signals) -> None:
    folder = write_experiment(tmp_path / "long", min_size=5, epochs=100_000)
    process = start("run", folder, "--workers", 2, "--grace", 10)
    try:
        until_two_are_training(process, folder)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 128 + number
    assert "Traceback" not in stderr
    assert f"{number.name}: waiting until running trials can be handed back" in stderr
    assert "0 trained to the end" in stdout
    waiting = [t for t in stored_trials(folder) if t.state == TrialState.WAITING]
    assert len(waiting) == 2


@pytest.mark.slow
def test_workers_end_with_the_search_that_was_killed(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path / "long", min_size=5, epochs=100_000)
    command = [sys.executable, "-m", "rfsearch.cli.main", "run", str(folder), "--workers", "2"]
    command += ["--device", "cpu", "--grace", "10"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until_two_are_training(process, folder)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    with (
        pytest.warns(UserWarning, match=f"process {process.pid} was killed here"),
        exclusive(folder, wait=120),
    ):
        states = [trial.state for trial in stored_trials(folder)]
    assert TrialState.RUNNING not in states
    assert states.count(TrialState.WAITING) == 2


@pytest.mark.slow
def test_a_crew_replaces_a_worker_that_was_killed(tmp_path: Path) -> None:
    folder = many_candidates(tmp_path / "pool", trained_trials=60)
    process = start("run", folder, "--workers", 2, "--heartbeat", 1)
    try:
        while count_complete(folder) < 1:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.1)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        stdout, stderr = process.communicate(timeout=500)
    finally:
        process.kill()
    assert process.returncode == 0, stderr
    assert len(children) == 2
    assert "trained to the end" in stdout
    trials = stored_trials(folder)
    assert all(trial.state.is_finished() for trial in trials)
    names = {trial.user_attrs["heartbeat"].split()[0] for trial in trials}
    assert len(names) >= 2
    assert load_study("pool", storage_url(folder)).best_value > 0


PROXY = """
import sys
from optuna.storages import get_storage, run_grpc_proxy_server
run_grpc_proxy_server(get_storage(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]))
"""


@pytest.mark.slow
def test_workers_reach_their_study_through_the_grpc_proxy(tmp_path: Path, folder: Path) -> None:
    pytest.importorskip("grpc")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-c", PROXY, shared(tmp_path), str(port)]
    proxy = subprocess.Popen(command)
    try:
        options = ("--storage", f"grpc://127.0.0.1:{port}", "--study", "x", "--device", "cpu")
        result = rfsearch("worker", folder, *options)
        assert result.exit_code == 0, result.output
    finally:
        proxy.terminate()
        proxy.wait()
    study = load_study("x", shared(tmp_path))
    assert num_trained(study.trials) == 2  # A repeated candidate is not trained again.
    assert all("heartbeat" in trial.user_attrs for trial in study.trials)
