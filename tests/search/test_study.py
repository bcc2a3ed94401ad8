from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import pytest
from helpers import TINY_SPACE
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState
from studies import open_storage, open_study, stored_study

from rfsearch.network.model import SearchedNetwork
from rfsearch.search.config import SearchConfig
from rfsearch.search.experiment import Experiment
from rfsearch.search.folder_lock import exclusive, together
from rfsearch.search.stopping import is_finished, num_trained
from rfsearch.search.study import storage_url
from rfsearch.training.checkpoints import Checkpoint
from rfsearch.training.classification import ClassificationTask
from rfsearch.training.loop import TrainingResult
from rfsearch.workers.worker import Worker

EXPERIMENT = """
space = "space.toml"
[target]
min_size = 5
max_size = 6
[data]
source = "digits"
object_size = 8
canvas_size = 16
num_train = 32
num_valid = 16
[training]
epochs = 1
"""
SEARCH: dict[str, int | str | bool] = {
    "trained_trials": 2,
    "max_trials": 50,
    "sampler": "random",
    "feasible_only": False,
    "seed": 2,
}


class StubERF(NamedTuple):
    size: float = 10.0
    clipped: float = 0.0


@dataclass(frozen=True)
class StubTask(ClassificationTask):
    """A task that costs nothing and may fail: at the numbered trainings, from 1."""

    failures: dict[int, type[BaseException]] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)

    def measure_erf(self, model: SearchedNetwork, level: str | None = None) -> Any:
        return StubERF()

    def train(
        self,
        model: SearchedNetwork,
        report: Callable[[int, float], None] | None = None,
        checkpoint: Checkpoint | None = None,
        after_batch: Callable[[], None] | None = None,
    ) -> TrainingResult:
        self.started.append(model.architecture.fingerprint)
        if error := self.failures.get(len(self.started)):
            raise error
        assert report is not None
        report(1, 0.5)
        return TrainingResult(0.5, 1, 0.0)


def with_search(**changes: int | str | bool) -> str:
    """The experiment's text with other values in its last table."""
    values = (SEARCH | changes).items()
    lines = [f"{k} = {str(v).lower() if isinstance(v, bool) else repr(v)}" for k, v in values]
    return "\n".join([EXPERIMENT, "[search]", *lines])


def write_experiment(folder: Path, text: str | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "space.toml").write_text(TINY_SPACE)
    (folder / "experiment.toml").write_text(with_search() if text is None else text)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_experiment(tmp_path / "tiny")


def stub_experiment(folder: Path, **failures: type[BaseException]) -> Experiment:
    """The folder's experiment without real training; `t2=KeyboardInterrupt` fails the second."""
    loaded = Experiment.load(folder, "cpu")
    numbered = {int(name.removeprefix("t")): error for name, error in failures.items()}
    task = StubTask(loaded.task.data, loaded.task.training, "cpu", failures=numbered)
    return replace(loaded, task=task)


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_experiment(tmp_path_factory.mktemp("study") / "tiny")
    run(stub_experiment(folder))
    return folder


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> Path:
    """A folder whose search is finished."""
    return shutil.copytree(finished_once, tmp_path / "tiny")


def ignore(study: optuna.Study, trial: FrozenTrial) -> None:
    pass


def run(experiment: Experiment) -> list[FrozenTrial]:
    """Open, run, and give the trials as a new process would read them."""
    Worker(open_study(experiment), experiment, ignore).work()
    return stored_trials(experiment.folder)


def stored_trials(folder: Path) -> list[FrozenTrial]:
    return stored_study(folder).trials


def count(trials: list[FrozenTrial], state: TrialState) -> int:
    """How many trials have this state, those left out that repeat an earlier one."""
    return sum(t.state == state and "duplicate_of" not in t.user_attrs for t in trials)


# -- budget and resuming ----------------------------------------------------------------------


def test_a_real_run_stores_its_trials(folder: Path) -> None:
    (folder / "experiment.toml").write_text(with_search(trained_trials=1))
    experiment = Experiment.load(folder, "cpu")
    trials = run(experiment)
    assert (folder / "study.db").is_file()
    assert num_trained(trials) == 1
    last = trials[-1]
    assert last.state == TrialState.COMPLETE
    assert 0 <= last.value <= 1
    assert last.user_attrs["erf_trained"] > 0


def test_the_budget_counts_trained_candidates_only(folder: Path) -> None:
    seen: list[int] = []
    experiment = stub_experiment(folder)
    study = open_study(experiment)
    Worker(study, experiment, lambda _, trial: seen.append(trial.number)).work()
    trials = stored_trials(folder)
    assert count(trials, TrialState.COMPLETE) == 2
    assert count(trials, TrialState.PRUNED) > 0
    assert trials[-1].state == TrialState.COMPLETE
    assert seen == list(range(len(trials)))
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert study.study_name == "tiny"


def test_the_search_ends_at_the_largest_number_of_trials(folder: Path) -> None:
    (folder / "experiment.toml").write_text(with_search(max_trials=4, trained_trials=9))
    trials = run(stub_experiment(folder))
    assert len(trials) == 4
    assert num_trained(trials) < 9


def test_a_finished_search_adds_nothing(finished: Path) -> None:
    before = stored_trials(finished)
    again = stub_experiment(finished)
    assert is_finished(open_study(again).trials, again)
    assert run(again) == before


def test_a_larger_budget_goes_on_with_other_candidates(finished: Path) -> None:
    before = stored_trials(finished)
    (finished / "experiment.toml").write_text(with_search(trained_trials=4))
    after = run(stub_experiment(finished))
    assert after[: len(before)] == before
    assert count(after, TrialState.COMPLETE) == 4
    added = [trial.params for trial in after[len(before) :]]
    assert added[:2] != [trial.params for trial in before[:2]]


def test_the_same_seed_proposes_the_same_candidates(tmp_path: Path) -> None:
    proposed = []
    for number, seed in enumerate((0, 0, 1)):
        text = with_search(max_trials=3, trained_trials=3, seed=seed)
        folder = write_experiment(tmp_path / str(number), text)
        proposed.append([trial.params for trial in run(stub_experiment(folder))])
    assert proposed[0] == proposed[1]
    assert proposed[0] != proposed[2]


def test_an_interrupt_keeps_finished_trials(folder: Path) -> None:
    (folder / "experiment.toml").write_text(with_search(trained_trials=3))
    with pytest.raises(KeyboardInterrupt):
        run(stub_experiment(folder, t2=KeyboardInterrupt))
    before = stored_trials(folder)
    assert count(before, TrialState.COMPLETE) == 1
    *finished, interrupted, waiting = before
    assert all(trial.state.is_finished() for trial in finished)
    assert interrupted.state == TrialState.FAIL
    assert waiting.state == TrialState.WAITING
    after = run(stub_experiment(folder))
    assert after[: len(before) - 1] == before[:-1]
    resumed = after[waiting.number]
    assert (resumed.state, resumed.params) == (TrialState.COMPLETE, interrupted.params)
    assert resumed.user_attrs["retry_of"] == interrupted.number
    assert count(after, TrialState.COMPLETE) == 3


def test_an_interrupted_training_does_not_use_up_the_budget(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(stub_experiment(folder, t2=KeyboardInterrupt))
    assert num_trained(stored_trials(folder)) == 1
    after = run(stub_experiment(folder))
    assert count(after, TrialState.COMPLETE) == 2


def test_a_loss_that_is_not_finite_does_not_end_the_search(folder: Path) -> None:
    trials = run(stub_experiment(folder, t1=FloatingPointError))
    first = next(trial for trial in trials if trial.state != TrialState.PRUNED)
    assert first.state == TrialState.FAIL
    assert first.user_attrs["rejected_by"] == "training"
    assert count(trials, TrialState.COMPLETE) >= 1


def test_a_trial_that_a_killed_process_left_running_has_failed(folder: Path) -> None:
    experiment = stub_experiment(folder)
    left = open_study(experiment).ask()
    assert stored_trials(folder)[0].state == TrialState.RUNNING
    reopened = open_study(experiment)
    assert reopened.trials[left.number].state == TrialState.FAIL
    Worker(reopened, experiment, ignore).work()
    assert count(stored_trials(folder), TrialState.COMPLETE) == 2


@pytest.mark.parametrize(
    ("sampler", "pruner", "kinds"),
    [
        ("tpe", "median", ("TPESampler", "MedianPruner")),
        ("random", "hyperband", ("RandomSampler", "Hyperband")),
        ("nsgaii", "successive_halving", ("NSGAIISampler", "SuccessiveHalving")),
        ("tpe", "none", ("TPESampler", "NopPruner")),
        ("gp", "none", ("GPSampler", "NopPruner")),
    ],
)
def test_sampler_and_pruner_are_those_of_the_file(
    folder: Path, sampler: str, pruner: str, kinds: tuple[str, str]
) -> None:
    (folder / "experiment.toml").write_text(with_search(sampler=sampler, pruner=pruner))
    study = open_study(Experiment.load(folder, "cpu"))
    assert (type(study.sampler).__name__, type(study.pruner).__name__) == kinds


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"trained_trials": 200}, "descriptors"),
        ({"trained_trials": 201}, "tpe"),
        ({"pruner": "hyperband"}, "tpe"),
        ({"objectives": ("score", "params_m")}, "tpe"),
        ({"feasible_only": False}, "tpe"),
        ({"sampler": "random"}, "random"),
    ],
)
def test_which_sampler_is_chosen(settings: dict[str, Any], name: str) -> None:
    assert SearchConfig(**settings).chosen_sampler == name


def test_by_default_only_candidates_that_fit_are_proposed(folder: Path) -> None:
    (folder / "experiment.toml").write_text(with_search(feasible_only=True, sampler="tpe"))
    experiment = stub_experiment(folder)
    study = open_study(experiment)
    assert str(study.sampler) == "RFSampler(TPESampler)"
    Worker(study, experiment, ignore).work()
    trials = stored_trials(folder)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2
    assert SearchConfig().feasible_only


@pytest.mark.parametrize("feasible_only", [True, False])
def test_a_search_in_descriptors(folder: Path, feasible_only: bool) -> None:
    settings = with_search(feasible_only=feasible_only, sampler="descriptors", trained_trials=4)
    (folder / "experiment.toml").write_text(settings)
    experiment = stub_experiment(folder)
    study = open_study(experiment)
    assert str(study.sampler) == "RFSampler(descriptors)"
    Worker(study, experiment, ignore).work()
    states = [trial.state for trial in stored_trials(folder)]
    assert states.count(TrialState.COMPLETE) == 4
    assert feasible_only == (set(states) == {TrialState.COMPLETE})


def test_the_search_ends_when_every_candidate_that_fits_was_tried(folder: Path) -> None:
    (folder / "experiment.toml").write_text(with_search(feasible_only=True, trained_trials=40))
    experiment = stub_experiment(folder, t2=KeyboardInterrupt, t3=FloatingPointError)
    with pytest.raises(KeyboardInterrupt):
        run(experiment)
    trials = run(experiment)
    fitting = [a for a in experiment.space if experiment.constraint.is_feasible(a)]
    tried = [t for t in trials if t.state != TrialState.FAIL or "rejected_by" in t.user_attrs]
    assert len({t.user_attrs["architecture"] for t in tried}) == len(tried) == len(fitting)
    assert len(trials) == len(fitting) + 1  # The interrupted one was tried again.


def test_a_sampler_whose_package_is_missing_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ImportError("Tried to import 'scipy' but failed.")

    monkeypatch.setattr("rfsearch.search._search_methods.GPSampler", missing)
    (folder / "experiment.toml").write_text(with_search(sampler="gp"))
    with pytest.raises(ValueError, match="sampler: 'gp' cannot be used: Tried to import 'scipy'"):
        open_study(Experiment.load(folder, "cpu"))


# -- whose database it is ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("max_size = 6", "max_size = 7", "target"),
        ("epochs = 1", "epochs = 2", "training"),
        ("num_train = 32", "num_train = 33", "data"),
    ],
)
def test_trials_of_another_experiment_are_refused(
    folder: Path, old: str, new: str, key: str
) -> None:
    open_study(stub_experiment(folder))
    (folder / "experiment.toml").write_text(with_search().replace(old, new))
    with pytest.raises(ValueError, match=f"another experiment, whose {key} differ") as error:
        open_study(Experiment.load(folder, "cpu"))
    assert str(folder / "study.db") in str(error.value)
    assert "\n" not in str(error.value)


def test_trials_of_another_space_are_refused(folder: Path) -> None:
    open_study(stub_experiment(folder))
    (folder / "space.toml").write_text(TINY_SPACE.replace("depth = [1, 2, 3]", "depth = [1, 2]"))
    with pytest.raises(ValueError, match="another experiment, whose space differ"):
        open_study(Experiment.load(folder, "cpu"))


def test_question_and_search_may_change_between_runs(folder: Path) -> None:
    open_study(stub_experiment(folder))
    (folder / "experiment.toml").write_text('question = "Why?"\n' + with_search(seed=7))
    assert open_study(Experiment.load(folder, "cpu")).trials == []


def test_the_database_of_another_study_is_refused(tmp_path: Path, folder: Path) -> None:
    open_study(stub_experiment(folder))
    other = write_experiment(tmp_path / "other")
    for file in folder.glob("study.db*"):
        shutil.copy(file, other / file.name)
    with pytest.raises(ValueError, match=r"holds the study 'tiny', not 'other'") as error:
        open_study(Experiment.load(other, "cpu"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("format_number", [None, 99])
def test_trials_of_another_version_are_refused(folder: Path, format_number: int | None) -> None:
    study = open_study(stub_experiment(folder))
    study.set_user_attr("rfsearch_format", format_number)
    refusal = pytest.raises(
        ValueError, match=f"another version of rfsearch .format {format_number}"
    )
    with refusal as error:
        open_study(Experiment.load(folder, "cpu"))
    assert "\n" not in str(error.value)


def test_workers_of_one_study_draw_differently(folder: Path) -> None:
    experiment = stub_experiment(folder)
    alone = [open_study(experiment) for _ in range(2)]
    several = open_study(experiment, alone=False)
    draws = [
        study.sampler.sample_independent(
            study, study.ask()._cached_frozen_trial, "x", FloatDistribution(0, 1)
        )
        for study in (*alone, several)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_trials_that_no_experiment_made_are_refused(folder: Path) -> None:
    study = optuna.create_study(study_name="tiny", storage=open_storage(storage_url(folder)))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(ValueError, match="holds trials that no experiment made"):
        open_study(Experiment.load(folder, "cpu"))


def test_a_file_that_is_no_database_is_refused_and_kept(folder: Path) -> None:
    content = b"My diary. " * 100
    (folder / "study.db").write_bytes(content)
    with pytest.raises(ValueError, match=r"study\.db: not a usable Optuna database") as error:
        open_study(Experiment.load(folder, "cpu"))
    assert "\n" not in str(error.value)
    assert (folder / "study.db").read_bytes() == content


def test_a_database_of_another_optuna_is_refused(folder: Path) -> None:
    open_study(stub_experiment(folder))
    with sqlite3.connect(folder / "study.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v9.9.9.z'")
    connection.close()
    with pytest.raises(ValueError, match=r"study\.db: not a usable Optuna database") as error:
        open_study(Experiment.load(folder, "cpu"))
    assert "\n" not in str(error.value)


# -- one process at a time --------------------------------------------------------------------


def test_a_second_search_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    # The lock belongs to the open file, so a second one in this process is like another process.
    refusal = pytest.raises(ValueError, match=f"process {os.getpid()} is searching here")
    with exclusive(tmp_path):
        with refusal as error, exclusive(tmp_path):
            pass
        assert str(error.value).startswith(f"{tmp_path}: ")
    with exclusive(tmp_path):
        assert (tmp_path / "run.lock").read_text() == str(os.getpid())


def _is_refused(folder: Path) -> bool:
    try:
        with exclusive(folder):
            return False
    except ValueError:
        return True


#: Takes the lock of the file in the first argument; exit code 1 if somebody has it.
TAKE_LOCK = """
import fcntl, sys
try:
    fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(1)
"""


def test_the_lock_holds_against_other_processes(tmp_path: Path) -> None:
    take = [sys.executable, "-c", TAKE_LOCK, str(tmp_path / "run.lock")]
    with exclusive(tmp_path):
        assert subprocess.run(take, check=False).returncode == 1
    assert subprocess.run(take, check=False).returncode == 0


def test_workers_share_a_folder_but_not_with_a_search_of_its_own(tmp_path: Path) -> None:
    with together(tmp_path):
        with together(tmp_path):
            assert _is_refused(tmp_path)
        assert _is_refused(tmp_path)
    refusal = pytest.raises(ValueError, match="is searching here")
    with exclusive(tmp_path), refusal, together(tmp_path):
        pass


def test_the_lock_is_freed_by_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^boom$"), exclusive(tmp_path):
        raise RuntimeError("boom")
    assert not _is_refused(tmp_path)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    # A folder in the file's place stops the administrator too, unlike missing permissions.
    (tmp_path / "run.lock").mkdir()
    with (
        pytest.raises(ValueError, match="results cannot be written here") as error,
        exclusive(tmp_path),
    ):
        pass
    assert str(error.value).startswith(f"{tmp_path}: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    refusal = pytest.raises(ValueError, match=r"results cannot be written here \(Permission")
    with refusal, exclusive(tmp_path):
        pass


# -- a search that was killed -----------------------------------------------------------------


def killed_owner(folder: Path) -> int:
    """A process that has had the folder for itself, and is no more."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    (folder / "run.lock").write_text(str(process.pid))
    return process.pid


def test_the_workers_of_a_killed_search_are_waited_for(folder: Path) -> None:
    owner = killed_owner(folder)
    left = threading.Event()

    def work() -> None:
        with together(folder):
            left.wait(60)

    worker = threading.Thread(target=work)
    worker.start()
    while not list(folder.glob("run.lock")):
        time.sleep(0.01)
    time.sleep(0.05)
    threading.Timer(0.3, left.set).start()
    with (
        pytest.warns(UserWarning, match=rf"process {owner} was killed here; waiting"),
        exclusive(folder, wait=60),
    ):
        assert (folder / "run.lock").read_text() == str(os.getpid())
    worker.join()
    assert (folder / "run.lock").read_text() == ""


def test_other_workers_are_not_waited_for_for_ever(folder: Path) -> None:
    killed_owner(folder)
    refused = pytest.raises(ValueError, match="another process is searching here")
    with together(folder), pytest.warns(UserWarning, match="waiting"), refused:
        exclusive(folder, wait=0.1).__enter__()


def test_a_search_shares_its_folder_with_its_workers_alone(folder: Path) -> None:
    with exclusive(folder) as share:
        with pytest.raises(ValueError, match="is searching here"):
            together(folder).__enter__()
        share()
        with together(folder):
            pass
        with pytest.raises(ValueError, match=f"process {os.getpid()} is searching here"):
            exclusive(folder, wait=60).__enter__()
