from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState, create_trial
from studies import open_study
from test_study import StubTask, stored_trials, with_search, write_experiment

from rfsearch.network.model import SearchedNetwork
from rfsearch.search.experiment import Experiment
from rfsearch.storage.recovery import LOSSES, MAX_RETRIES, RETRY_OF, SIGN, end_lost
from rfsearch.training.checkpoints import Checkpoint, Checkpoints
from rfsearch.training.loop import TrainingResult
from rfsearch.workers.worker import Worker

Act = Callable[[int], None]


@dataclass(frozen=True)
class ActingTask(StubTask):
    """Does something in the middle of a training, whose number it gives, from 1."""

    act: Act = print

    def train(
        self,
        model: SearchedNetwork,
        report: Callable[[int, float], None] | None = None,
        checkpoint: Checkpoint | None = None,
        after_batch: Callable[[], None] | None = None,
    ) -> TrainingResult:
        assert checkpoint is not None
        checkpoint.folder.mkdir(parents=True, exist_ok=True)
        self.started.append(model.architecture.fingerprint)
        self.act(len(self.started))
        assert report is not None
        report(1, 0.5)
        return TrainingResult(0.5, 1, 0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    text = with_search(feasible_only=True, trained_trials=3)
    return write_experiment(tmp_path / "tiny", text)


def acting(folder: Path, act: Act) -> Experiment:
    loaded = Experiment.load(folder, "cpu")
    task = ActingTask(loaded.task.data, loaded.task.training, "cpu", act=act)
    return replace(loaded, task=task)


def states(trials: list[FrozenTrial]) -> list[str]:
    return [trial.state.name for trial in trials]


def checkpoints(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("checkpoints/*/*")]


def test_every_trial_is_signed_and_leaves_no_checkpoint(folder: Path) -> None:
    experiment = acting(folder, lambda _: None)
    Worker(open_study(experiment), experiment).work()
    trials = stored_trials(folder)
    assert states(trials) == ["COMPLETE"] * 3
    assert all(SIGN in trial.user_attrs for trial in trials)
    assert checkpoints(folder) == []


def test_an_interrupted_trial_is_handed_back_with_its_checkpoint(folder: Path) -> None:
    def interrupt(number: int) -> None:
        if number == 2:
            raise KeyboardInterrupt

    experiment = acting(folder, interrupt)
    with pytest.raises(KeyboardInterrupt):
        Worker(open_study(experiment), experiment).work()
    assert states(stored_trials(folder)) == ["COMPLETE", "FAIL", "WAITING"]
    assert checkpoints(folder) == ["trial-1"]
    Worker(open_study(experiment), experiment).work()
    trials = stored_trials(folder)
    assert states(trials) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert trials[2].params == trials[1].params
    assert trials[2].user_attrs[LOSSES] == 0
    assert trials[2].constraints.keys() == trials[0].constraints.keys()
    assert checkpoints(folder) == []


def test_a_trial_that_others_took_for_lost_is_given_up_and_the_work_goes_on(folder: Path) -> None:
    experiment = acting(folder, lambda number: lose(number))
    study = open_study(experiment)

    def lose(number: int) -> None:
        if number == 1:
            end_lost(study, study.trials[0])

    Worker(study, experiment).work()
    trials = stored_trials(folder)
    assert states(trials) == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    assert trials[1].user_attrs[RETRY_OF] == 0
    assert trials[1].params == trials[0].params


def test_trials_of_a_killed_run_are_tried_again(folder: Path) -> None:
    experiment = acting(folder, lambda _: None)
    study = open_study(experiment)
    killed = study.ask()
    architecture = experiment.space.suggest(killed)
    Worker(open_study(experiment), experiment).work()
    trials = stored_trials(folder)
    assert states(trials) == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    assert architecture.fingerprint == experiment.space.from_params(trials[1].params).fingerprint


def test_a_candidate_that_kills_its_workers_is_given_up(folder: Path) -> None:
    experiment = acting(folder, lambda _: None)
    for _ in range(MAX_RETRIES + 1):
        experiment.space.suggest(open_study(experiment).ask())
    Worker(open_study(experiment), experiment).work()
    trials = stored_trials(folder)
    assert states(trials) == ["FAIL"] * (MAX_RETRIES + 1) + ["COMPLETE"] * 3
    assert trials[0].params not in [trial.params for trial in trials[MAX_RETRIES + 1 :]]


def test_checkpoints_of_candidates_that_are_not_tried_again_are_removed(folder: Path) -> None:
    experiment = acting(folder, lambda _: None)
    mine = Checkpoints(experiment.checkpoints, "tiny")
    others = Checkpoints(experiment.checkpoints, "another").of(0).folder
    others.mkdir(parents=True)
    for losses in range(MAX_RETRIES + 1):
        experiment.space.suggest(open_study(experiment).ask())
        mine.of(0).folder.mkdir(parents=True, exist_ok=True)
        open_study(experiment)
        assert mine.of(0).folder.exists() == (losses < MAX_RETRIES)
    # Of a worker that was killed after its trial had ended.
    study = open_study(experiment)
    study.tell(study.ask(), 0.5)
    mine.of(MAX_RETRIES + 1).folder.mkdir()
    Worker(open_study(experiment, alone=False), experiment).work()
    assert list(folder.glob("checkpoints/*/*")) == [others]


def test_a_bug_fails_its_trial_and_keeps_its_traceback(folder: Path) -> None:
    def fail(_: int) -> None:
        raise RuntimeError("boom")

    experiment = acting(folder, fail)
    with pytest.raises(RuntimeError, match=r"^boom$"):
        Worker(open_study(experiment), experiment).work()
    assert states(stored_trials(folder)) == ["FAIL"]


def test_workers_together_train_no_more_than_the_budget(folder: Path) -> None:
    seen: list[str] = []

    def others_begin(number: int) -> None:
        """While this worker trains, another one takes the last two places, and a third none."""
        if number == 1:
            for _ in range(2):
                experiment.space.suggest(second.ask())
            seen.append(next_step_of(second))

    experiment = acting(folder, others_begin)
    study, second = open_study(experiment), open_study(experiment, alone=False)

    def next_step_of(study: optuna.Study) -> str:
        from rfsearch.search.stopping import next_step

        return next_step(study.trials, experiment).name

    worker = Worker(study, experiment, on_trial=lambda study, trial: finish(second))

    def finish(second: optuna.Study) -> None:
        for trial in second.get_trials(states=(TrialState.RUNNING,)):
            second.tell(trial.number, state=TrialState.FAIL)

    worker.work()
    assert seen == ["WAIT"]
    assert states(stored_trials(folder)).count("COMPLETE") == 3


def test_the_second_of_two_that_began_at_once_steps_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = acting(folder, lambda _: None)
    study, other = open_study(experiment), open_study(experiment, alone=False)
    ask, begun = study.ask, list[Any]()

    def late() -> optuna.Trial:
        if len(study.trials) == 2:  # One place is left, and another worker takes it first.
            begun.append(other.ask())
        elif begun and study.trials[2].state == TrialState.RUNNING:
            other.tell(begun[0], state=TrialState.FAIL)
        return ask()

    monkeypatch.setattr(study, "ask", late)
    worker = Worker(study, experiment)
    steps = []

    def wait(_: float) -> None:
        steps.append(other.tell(begun[0], state=TrialState.FAIL))

    # The worker's own waiting alone: other modules sleep too.
    monkeypatch.setattr("rfsearch.workers.worker.time", SimpleNamespace(sleep=wait))
    worker.work()
    assert states(stored_trials(folder)) == ["COMPLETE", "COMPLETE", "FAIL", "FAIL", "COMPLETE"]
    assert len(steps) == 1


def test_a_retry_that_came_too_late_is_ended(folder: Path) -> None:
    experiment = acting(folder, lambda number: retry_late(number))
    study = open_study(experiment)

    def retry_late(number: int) -> None:
        if number == 3:  # The budget's last: nobody will have a place for what is put back now.
            study.enqueue_trial(study.trials[0].params, user_attrs={RETRY_OF: 0, LOSSES: 1})

    Worker(study, experiment).work()
    assert states(stored_trials(folder)) == ["COMPLETE"] * 3 + ["FAIL"]


# -- what a trial costs beside its funnel -----------------------------------------------------


def statements_of_a_trial(folder: Path, stored: int) -> int:
    """The most SQL statements of one trial, in a study that holds so many already."""
    new = 4
    write_experiment(
        folder, with_search(feasible_only=True, sampler="tpe", trained_trials=stored + new)
    )
    widths = f"width = {list(range(4, 64))}\nkernel_size = [3, 5]"
    text = (folder / "space.toml").read_text()
    (folder / "space.toml").write_text(text.replace("width = 4\nkernel_size = [3, 5]", widths))
    experiment = acting(folder, lambda _: None)
    study, space = open_study(experiment), experiment.space
    distributions = space.distributions()
    for index in range(stored):
        params = space.to_params(space[index])
        study.add_trial(
            create_trial(
                value=0.1,
                params={name: params[name] for name in distributions},
                distributions=distributions,
                user_attrs={"train_seconds": 1.0},
            )
        )
    counts = [0]

    def count(*_: object) -> None:
        counts[-1] += 1

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", count)
    try:
        Worker(study, experiment, lambda *_: counts.append(0)).work()
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", count)
    assert len(counts) == new + 1
    return max(counts[:new])


def test_statements_of_a_trial_are_few_however_many_are_stored(tmp_path: Path) -> None:
    few, many = (statements_of_a_trial(tmp_path / str(n), stored=n) for n in (1, 31))
    assert few < 200
    assert many < few + 30  # Not one for each trial that is stored.
