"""Searches in which the pruner's verdict on a candidate changes."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import optuna
import pandas as pd
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from rich.console import Console
from search_results import add_baseline
from test_study import StubTask, with_search, write_experiment

from rfsearch.analysis.analysis import trials_dataframe
from rfsearch.analysis.erf_effect import whole_candidates
from rfsearch.analysis.savings import gate_savings
from rfsearch.analysis.search_figures import funnel_steps, learning_curves
from rfsearch.network.architecture import Architecture
from rfsearch.network.model import SearchedNetwork
from rfsearch.report.terminal import gate_summary
from rfsearch.search._search_methods import make_pruner, make_sampler
from rfsearch.search.experiment import Experiment
from rfsearch.search.promotion import goes_on, is_second, promote
from rfsearch.search.rungs import SuccessiveHalving
from rfsearch.search.stopping import num_trained
from rfsearch.search.weights import WeightStore
from rfsearch.space.trial_attributes import PROMOTED_FROM
from rfsearch.storage.recovery import LOSSES, end_lost, first_number
from rfsearch.training.checkpoints import Checkpoint
from rfsearch.training.loop import TrainingResult
from rfsearch.training.scores import Scores
from rfsearch.workers.progress import SearchProgress
from rfsearch.workers.worker import Worker

EPOCHS = 9
TRAINED = 12
#: A space of 72 small networks.
SPACE = """
[stem]
kernel_size = [3, 5]
stride = 1
width = 4
[[stages]]
block = "plain"
depth = [1, 2, 3, 4, 5, 6]
width = 4
kernel_size = [3, 5, 7]
stride = [1, 2]
"""
ANYTHING = '[target]\ntheoretical = "off"\neffective = "off"\n'

Act = Callable[[str, int], None]


def _nothing(name: str, epoch: int) -> None:
    pass


@dataclass(frozen=True)
class CurveTask(StubTask):
    """Trains nothing, but keeps checkpoints; each candidate looks worse than those before."""

    epochs: list[tuple[str, int]] = field(default_factory=list)
    act: Act = _nothing

    def train(
        self,
        model: SearchedNetwork,
        report: Callable[[int, float], None] | None = None,
        checkpoint: Checkpoint | None = None,
        after_batch: Callable[[], None] | None = None,
    ) -> TrainingResult:
        assert checkpoint is not None
        assert report is not None
        name = model.architecture.fingerprint
        if name not in self.started:
            self.started.append(name)
        state = checkpoint.file
        scores = json.loads(state.read_text()) if state.exists() else []
        for epoch, score in enumerate(scores, start=1):
            report(epoch, score)
        for epoch in range(len(scores) + 1, EPOCHS + 1):
            self.epochs.append((name, epoch))
            self.act(name, epoch)
            scores.append(0.5 - self.started.index(name) / 100 + epoch / 1000)
            state.parent.mkdir(parents=True, exist_ok=True)
            state.write_text(json.dumps(scores))
            report(epoch, scores[-1])
        return TrainingResult(scores[-1], EPOCHS, 0.0)


def write_search(folder: Path, **changes: int | str | bool) -> Path:
    changes = {"trained_trials": TRAINED, "feasible_only": True, "max_trials": 200} | changes
    text = with_search(**({"pruner": "successive_halving"} | changes))
    text = text.replace("epochs = 1", f"epochs = {EPOCHS}").replace("[target]\n", ANYTHING)
    write_experiment(folder, text)
    (folder / "space.toml").write_text(SPACE)
    return folder


def load(folder: Path, act: Act = _nothing) -> tuple[Experiment, CurveTask]:
    loaded = Experiment.load(folder, "cpu")
    task = CurveTask(loaded.task.data, loaded.task.training, "cpu", act=act)
    return replace(loaded, task=task), task


def new_study(experiment: Experiment) -> optuna.Study:
    """As `open_study` does, but in memory, which is faster.

    Hyperband draws a trial's bracket from the study's name, which Optuna would make up.
    """
    sampler, pruner = make_sampler(experiment, seed=2), make_pruner(experiment)
    return optuna.create_study(
        study_name=experiment.folder.name, direction="maximize", sampler=sampler, pruner=pruner
    )


def work(study: optuna.Study, experiment: Experiment) -> list[FrozenTrial]:
    Worker(study, experiment).work()
    return study.trials


def by_candidate(trials: list[FrozenTrial]) -> dict[int, list[FrozenTrial]]:
    found = defaultdict(list)
    for trial in trials:
        found[first_number(trial)].append(trial)
    return found


def promoted(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if PROMOTED_FROM in trial.user_attrs]


def places(folder: Path) -> set[int]:
    """Numbers of the trials that there are checkpoints of."""
    return {int(path.name.removeprefix("trial-")) for path in folder.glob("checkpoints/*/*")}


class Search(NamedTuple):
    study: optuna.Study
    experiment: Experiment
    trials: list[FrozenTrial]
    epochs: list[tuple[str, int]]
    places: list[set[int]]


def searched(folder: Path) -> Search:
    seen: list[set[int]] = []
    experiment, task = load(folder, lambda name, epoch: seen.append(places(folder)))
    study = new_study(experiment)
    return Search(study, experiment, work(study, experiment), task.epochs, seen)


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Search:
    """A finished search by successive halving."""
    return searched(write_search(tmp_path_factory.mktemp("halved") / "tiny"))


@pytest.fixture(scope="module")
def frame(halved: Search) -> pd.DataFrame:
    return trials_dataframe(halved.study)


# -- what is trained --------------------------------------------------------------------------


def check_every_epoch_once(trials: list[FrozenTrial], epochs: list[tuple[str, int]]) -> None:
    assert len(epochs) == len(set(epochs))
    trained = [trial for trial in trials if "duplicate_of" not in trial.user_attrs]
    groups = by_candidate(trained).values()
    assert len(epochs) == sum(
        max(len(trial.intermediate_values) for trial in group) for group in groups
    )
    assert num_trained(trials) == len({name for name, _ in epochs}) == TRAINED


def test_no_epoch_is_trained_twice(halved: Search) -> None:
    check_every_epoch_once(halved.trials, halved.epochs)
    sources = [trial.user_attrs[PROMOTED_FROM] for trial in promoted(halved.trials)]
    # The second, third and fourth best, as soon as six, nine and twelve were compared.
    assert sources == [1, 2, 3]
    assert [len(trial.intermediate_values) for trial in promoted(halved.trials)] == [3, 3, 3]
    assert len(halved.epochs) == 9 + 3 * 3 + 8


def test_a_promoted_trial_goes_on_from_the_stopped_one(halved: Search) -> None:
    for trial in promoted(halved.trials):
        stopped = halved.trials[trial.user_attrs[PROMOTED_FROM]]
        assert stopped.state == TrialState.PRUNED
        assert stopped.params == trial.params
        assert stopped.intermediate_values.items() < trial.intermediate_values.items()
        for name in ("architecture", "erf_init", "erf_clipped"):
            assert trial.user_attrs.get(name) == stopped.user_attrs.get(name)
        assert trial.constraints == stopped.constraints


def test_hyperband_promotes_within_brackets(tmp_path: Path) -> None:
    found = searched(write_search(tmp_path / "tiny", pruner="hyperband"))
    assert promoted(found.trials)
    check_every_epoch_once(found.trials, found.epochs)


def test_curve_and_weights_are_those_of_an_uninterrupted_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: dict[str, float] = {}

    def judge(model: SearchedNetwork, _: object) -> Scores:
        """Each candidate looks worse than those before it, and the weights show."""
        base = known.setdefault(model.architecture.fingerprint, 1 - len(known) / 100)
        size = float(sum(parameter.detach().abs().sum() for parameter in model.parameters()))
        return Scores(base + size % 1 / 1000)

    monkeypatch.setattr("rfsearch.training._run._evaluate", judge)
    folder = write_search(tmp_path / "tiny", trained_trials=6, keep_weights=9)
    # Rungs after one and three epochs of four, and only one candidate comes to the second.
    text = (folder / "experiment.toml").read_text().replace("epochs = 9", "epochs = 3")
    (folder / "experiment.toml").write_text(text)
    experiment = Experiment.load(folder, "cpu")
    (trial,) = promoted(work(new_study(experiment), experiment))
    assert trial.state == TrialState.COMPLETE
    architecture = Architecture.from_dict(json.loads(trial.user_attrs["architecture"]))
    model, curve = experiment.task.build(architecture), dict[int, float]()
    experiment.task.train(model, curve.__setitem__)
    assert curve == trial.intermediate_values
    weights = WeightStore(folder / "weights", 9).load(trial)
    assert model.state_dict().keys() == weights.keys()
    assert all(bool((tensor == weights[n]).all()) for n, tensor in model.state_dict().items())


def test_a_stopped_candidate_that_is_proposed_again_is_not_trained_again(tmp_path: Path) -> None:
    def propose_again(name: str, epoch: int) -> None:
        if epoch == 1 and task.started[2:] == [name]:
            study.enqueue_trial(study.trials[1].params)

    experiment, task = load(write_search(tmp_path / "tiny"), propose_again)
    study = new_study(experiment)
    trials = work(study, experiment)
    check_every_epoch_once(trials, task.epochs)
    again = trials[3]
    assert again.user_attrs["duplicate_of"] == 1
    assert again.constraints == trials[1].constraints
    frame = trials_dataframe(study)
    assert frame.loc[3, ["state", "value", "rejected_by"]].tolist() == ["PRUNED", pd.NA, pd.NA]
    assert gate_savings(frame)["stopped"].tolist() == [1, TRAINED - 1]
    assert gate_summary(frame).startswith(
        "16 trials: 1 trained to the end, 1 that had been trained before, 11 stopped by the pruner"
    )


def test_promotions_are_trials_too(tmp_path: Path) -> None:
    found = searched(write_search(tmp_path / "tiny", max_trials=TRAINED + 1))
    assert len(found.trials) == TRAINED + 1
    assert len(promoted(found.trials)) == 2
    assert num_trained(found.trials) == TRAINED - 1


# -- what is kept -----------------------------------------------------------------------------


def test_only_checkpoints_that_may_yet_be_needed_are_kept(halved: Search) -> None:
    # Four of twelve may pass the first rung, and each candidate is worse than those before.
    others = [seen - {0, 1, 2, 3} for seen in halved.places]
    assert max(map(len, others)) <= 1
    assert {1, 2, 3} in [seen - {0} for seen in halved.places]
    assert places(halved.experiment.folder) == set()


def test_no_more_checkpoints_are_kept_than_asked_for(tmp_path: Path) -> None:
    found = searched(write_search(tmp_path / "tiny", keep_checkpoints=1))
    assert max(map(len, found.places)) <= 2  # With that of the running trial.
    assert promoted(found.trials)[0].user_attrs[PROMOTED_FROM] == 1


def test_without_checkpoints_nothing_is_promoted(tmp_path: Path) -> None:
    found = searched(write_search(tmp_path / "tiny", keep_checkpoints=0))
    assert promoted(found.trials) == []
    assert max(map(len, found.places)) <= 1


# -- several workers, and some that die -------------------------------------------------------


def is_again(name: str, epoch: int, epochs: list[tuple[str, int]]) -> bool:
    """Whether a promoted trial has just begun with its first new epoch."""
    return epoch == 2 and epochs[-2][0] != name


def test_of_two_promotions_at_once_one_steps_back(tmp_path: Path) -> None:
    def other_worker(name: str, epoch: int) -> None:
        if is_again(name, epoch, task.epochs):
            running = study.get_trials(states=(TrialState.RUNNING,))[0]
            promote(study, study.trials[running.user_attrs[PROMOTED_FROM]])

    experiment, task = load(write_search(tmp_path / "tiny"), other_worker)
    study = new_study(experiment)
    trials = work(study, experiment)
    states = [trial.state.name for trial in promoted(trials)]
    assert states == ["PRUNED", "FAIL"] * 3
    check_every_epoch_once(trials, task.epochs)


def test_two_workers_promote_each_candidate_once(tmp_path: Path) -> None:
    experiment, task = load(write_search(tmp_path / "tiny"))
    study = new_study(experiment)
    studies = [
        optuna.load_study(
            study_name=study.study_name,
            storage=study._storage,
            sampler=make_sampler(experiment, seed=seed),
            pruner=make_pruner(experiment),
        )
        for seed in range(2)
    ]
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(Worker(study, experiment).work) for study in studies]
    assert [job.result() for job in jobs] == [None, None]
    trials = study.trials
    check_every_epoch_once(trials, task.epochs)
    sources = [t.user_attrs[PROMOTED_FROM] for t in promoted(trials) if goes_on(t)]
    assert len(sources) == len(set(sources)) >= 1
    assert places(experiment.folder) == set()


def test_a_promoted_trial_whose_worker_is_killed_is_tried_again(tmp_path: Path) -> None:
    def lose(name: str, epoch: int) -> None:
        if is_again(name, epoch, task.epochs):
            (running,) = study.get_trials(states=(TrialState.RUNNING,))
            if not running.user_attrs[LOSSES]:
                end_lost(study, running)

    experiment, task = load(write_search(tmp_path / "tiny"), lose)
    study = new_study(experiment)
    trials = work(study, experiment)
    states = [trial.state.name for trial in promoted(trials)]
    assert states == ["FAIL", "PRUNED"] * 3
    check_every_epoch_once(trials, task.epochs)


def test_an_interrupted_promotion_is_gone_on_with(tmp_path: Path) -> None:
    def interrupt(name: str, epoch: int) -> None:
        if is_again(name, epoch, task.epochs) and not interrupted:
            interrupted.append(task.epochs.pop())
            raise KeyboardInterrupt

    interrupted: list[tuple[str, int]] = []
    experiment, task = load(write_search(tmp_path / "tiny"), interrupt)
    study = new_study(experiment)
    with pytest.raises(KeyboardInterrupt):
        work(study, experiment)
    trials = work(study, experiment)
    check_every_epoch_once(trials, task.epochs)
    sources = [trial.user_attrs[PROMOTED_FROM] for trial in promoted(trials)]
    assert sources == [1, 1, 2, 3]


def test_a_promotion_that_failed_for_good_is_not_repeated() -> None:
    def trial(number: int, state: TrialState, **attributes: object) -> FrozenTrial:
        made = create_trial(state=state, value=None, user_attrs=attributes)
        made.number = number
        return made

    stopped = trial(0, TrialState.PRUNED)
    lost = trial(1, TrialState.FAIL, promoted_from=0)
    diverged = trial(2, TrialState.FAIL, promoted_from=0, rejected_by="training")
    last = trial(3, TrialState.RUNNING, promoted_from=0)
    assert not is_second(2, [stopped, lost, diverged])
    assert is_second(3, [stopped, lost, diverged, last])


def test_baselines_are_never_promoted() -> None:
    study = optuna.create_study(direction="maximize", pruner=SuccessiveHalving(2))
    add_baseline(study, 0.9)
    assert SuccessiveHalving(2).stopped(study) == []


# -- what is told of it -----------------------------------------------------------------------


def test_the_table_tells_who_goes_on_with_whom(frame: pd.DataFrame) -> None:
    links = frame.dropna(subset=["promoted_from"]).set_index("number")["promoted_from"]
    assert sorted(links) == [1, 2, 3]
    back = frame.dropna(subset=["promoted_to"]).set_index("promoted_to")["number"]
    assert back.to_dict() == links.to_dict()


def test_each_candidate_is_told_of_once(frame: pd.DataFrame) -> None:
    whole = whole_candidates(frame)
    assert len(frame) == TRAINED + 3
    assert len(whole) == TRAINED
    assert whole["train_seconds"].sum() == pytest.approx(frame["train_seconds"].sum())
    assert whole_candidates(whole).equals(whole)
    assert gate_summary(frame) == (
        "15 trials: 1 trained to the end, 11 stopped by the pruner, "
        "3 stopped and later gone on with"
    )
    assert gate_savings(frame)["stopped"].tolist() == [TRAINED - 1]
    assert funnel_steps(frame)[0] == ("proposed", TRAINED)


def test_each_curve_is_drawn_once(halved: Search, frame: pd.DataFrame) -> None:
    (axes,) = learning_curves(halved.study, frame).axes
    assert sorted(len(line.get_xdata()) for line in axes.get_lines()) == [*[1] * 8, 3, 3, 3, 9]


def test_the_progress_counts_each_candidate_once(halved: Search) -> None:
    console = Console(file=StringIO())
    study = optuna.create_study(direction="maximize")
    step_by_step = SearchProgress(console, study, TRAINED)
    for trial in halved.trials:
        step_by_step(study, trial)
    at_once = SearchProgress(console, halved.study, TRAINED)
    for progress in (step_by_step, at_once):
        (task,) = progress.bar.tasks
        assert task.completed == TRAINED
        assert task.description == f"best 0.509, stopped: pruner {TRAINED - 1}"
