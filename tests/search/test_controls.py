"""Candidates that do not fit, trained beside those that do."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from helpers import refusal, rfsearch
from optuna.samplers import GPSampler, NSGAIISampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState
from studies import open_study
from test_objective import CONSTRAINT, SPACE, PrunesAll, stub_task
from test_study import run, stub_experiment, with_search, write_experiment

from rfsearch.analysis.analysis import trials_dataframe
from rfsearch.search import controls
from rfsearch.search.controls import draw_controls, enqueue_controls
from rfsearch.search.objective import Objective
from rfsearch.search.sampler import RFSampler
from rfsearch.search.stopping import num_trained
from rfsearch.space.budget import Budget
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.space import SearchSpace
from rfsearch.space.trial_attributes import CONTROL, CONTROLS
from rfsearch.storage.recovery import end_lost
from rfsearch.target.target import ScaleTarget

TOY = SearchSpace.load("toy")
#: Of the toy space's candidates some are too small, some too large, and some have gaps.
MIDDLE = RFConstraint(theoretical=(14, None), effective=(12, 16), max_gridding=0.1)


def controls_of(trials: list[FrozenTrial]) -> list[dict[str, Any]]:
    return [t.user_attrs[CONTROL] for t in trials if CONTROL in t.user_attrs]


def enqueued(number: int, seed: int = 0, space: SearchSpace = SPACE) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    enqueue_controls(study, space, CONSTRAINT, number, seed=seed)
    return study


# -- which ------------------------------------------------------------------------------------


def test_they_are_all_that_a_gate_of_fields_rejects_each_on_its_side() -> None:
    """By enumeration of a space that is smaller than the number of draws."""
    found, missing = draw_controls(TOY, MIDDLE)
    assert missing == ()
    made = {TOY.from_params(control.params): control.side for control in found}
    assert len(made) == len(found)
    assert made.keys() == {arch for arch in TOY if not MIDDLE.is_feasible(arch)}
    trf, erf = MIDDLE.ranges()["theoretical"], MIDDLE.ranges()["expected"]
    for arch, side in made.items():
        sizes = ((arch.receptive_field().size, trf), (arch.expected_erf().size, erf))
        signs = {
            "smaller" if size < r.low else "larger" for size, r in sizes if r.violation(size) > 0
        }
        assert side in (signs or {"gridding"})


def test_both_sides_and_both_distances_come_first() -> None:
    found, _ = draw_controls(TOY, MIDDLE)
    first = []
    for control in found[:3]:
        verdicts = MIDDLE.verdicts(TOY.from_params(control.params))
        first.append((control.side, max(verdict.octaves for verdict in verdicts) > 1))
    assert first == [("smaller", False), ("larger", True), ("smaller", True)]


def test_what_costs_too_much_is_none() -> None:
    budget = Budget(max_params_m=0.003)
    found, _ = draw_controls(TOY, RFConstraint(ScaleTarget(6, 10), budget=budget))
    assert found
    for control in found:
        assert TOY.from_params(control.params).cost((48, 48), 1).parameters <= 3000


def test_of_many_they_are_as_large_as_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls, "_DRAWS", 200)
    space, constraint = SearchSpace.load("plain"), RFConstraint(ScaleTarget(10, 14))

    def weights(params: dict[str, Any]) -> int:
        return space.from_params(params).cost((64, 64), 3).parameters

    found = [c for c in draw_controls(space, constraint).found if c.side == "larger"][:3]
    fitting, rng = space.feasible(constraint), np.random.default_rng(1)
    typical = np.median([weights(fitting.sample_params(rng)) for _ in range(20)])
    assert all(0.5 < weights(control.params) / typical < 2 for control in found)


def test_seeds_decide_and_more_controls_go_on_from_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls, "_DRAWS", 30)  # Of 108.
    few, more, others = (
        controls_of(enqueued(number, seed, TOY).trials)
        for number, seed in ((2, 0), (4, 0), (4, 1))
    )
    assert few == more[:2]
    assert len(more) == 4
    assert more != others


@pytest.mark.parametrize(
    ("bounds", "missing"),
    [((1, 1000), ("larger",)), ((12, None), ()), ((1, 12), ())],
)
def test_a_side_without_controls_is_named(
    bounds: tuple[float, float | None], missing: tuple[str, ...]
) -> None:
    constraint = RFConstraint(theoretical=bounds, effective=None)
    assert draw_controls(SPACE, constraint).missing == missing


def test_a_space_without_misfits_says_so() -> None:
    study = optuna.create_study()
    enqueue_controls(study, SPACE, RFConstraint(theoretical=(2, 1000), effective=None), 3)
    assert study.trials == []
    about = {"asked": 3, "there_are": 0, "missing": ["smaller", "larger"]}
    assert study.user_attrs[CONTROLS] == about


@pytest.mark.parametrize(
    ("number", "constraint", "line"),
    [
        (-1, CONSTRAINT, "`number` of controls must be 0 or more, but got -1."),
        (1, RFConstraint(theoretical=None, effective=None), "so one of these must be on"),
    ],
)
def test_what_cannot_be_is_refused(number: int, constraint: RFConstraint, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        enqueue_controls(optuna.create_study(), SPACE, constraint, number)


@pytest.mark.parametrize("value", [-1, 2.5, "many", True])
def test_bad_numbers_in_a_file_are_one_line(tmp_path: Path, value: Any) -> None:
    folder = write_experiment(tmp_path / "tiny", with_search(controls=value))
    assert "search, controls: " in refusal(rfsearch("run", folder))


def test_without_a_gate_they_are_refused_in_one_line(tmp_path: Path) -> None:
    text = with_search(controls=1).replace(
        "min_size = 5", 'theoretical = "off"\neffective = "off"'
    )
    text = text.replace("max_size = 6\n", "")
    line = refusal(rfsearch("run", write_experiment(tmp_path / "tiny", text)))
    assert "search: Controls are candidates that" in line


# -- as trials --------------------------------------------------------------------------------


def test_they_are_trained_marked_and_no_part_of_the_study() -> None:
    study = enqueued(3)
    study.pruner = PrunesAll()
    task = stub_task(curves=((0.1, 0.9),))
    study.optimize(Objective(SPACE, CONSTRAINT, task), n_trials=3)
    assert len(task.trained) == 3
    assert not any(map(CONSTRAINT.is_feasible, task.trained))
    for trial, architecture in zip(study.trials, task.trained, strict=True):
        assert (trial.state, trial.params) == (TrialState.PRUNED, {})
        assert trial.intermediate_values == {1: 0.1, 2: 0.9}
        assert SPACE.from_params(trial.user_attrs[CONTROL]["params"]) == architecture
    with pytest.raises(ValueError, match="No trials are completed"):
        study.best_trial  # noqa: B018 - the access is what is tested
    frame = trials_dataframe(study)
    assert frame["control"].dtype == bool
    assert frame["control"].all()
    assert (frame["value"] == 0.9).all()
    assert (frame["feasible"] == False).all()  # noqa: E712 - it may be missing
    assert frame["rejected_by"].isin(["theoretical", "expected", "gridding"]).all()
    assert frame[list(SPACE.distributions())].notna().all(axis=None)
    known = ["trf_size", "erf_expected", "erf_init", "erf_trained", "params_m", "train_seconds"]
    assert frame[known].notna().all(axis=None)


@pytest.mark.parametrize(
    "sampler",
    [
        lambda: RFSampler(SPACE, CONSTRAINT, seed=0, n_startup_trials=3),
        lambda: RFSampler(SPACE, CONSTRAINT, GPSampler(seed=0, n_startup_trials=3), seed=0),
        lambda: RFSampler(SPACE, CONSTRAINT, RandomSampler(seed=0), seed=0),
        lambda: NSGAIISampler(seed=0, population_size=4),
    ],
    ids=["tpe", "gp", "random", "nsgaii"],
)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_samplers_propose_the_same_with_and_without_them(sampler: Any) -> None:
    proposals = []
    for number in (0, 3):
        study = optuna.create_study(direction="maximize", sampler=sampler())
        enqueue_controls(study, SPACE, CONSTRAINT, number)
        study.optimize(Objective(SPACE, CONSTRAINT, stub_task()), n_trials=number)
        if isinstance(study.sampler, NSGAIISampler):  # Nobody tells it what not to draw for.
            study.sampler = sampler()
        study.optimize(Objective(SPACE, CONSTRAINT, stub_task()), n_trials=6)
        proposals.append([trial.params for trial in study.trials if trial.params])
    assert proposals[0] == proposals[1]


# -- in an experiment -------------------------------------------------------------------------


def test_they_use_up_no_budget_and_are_trained_once(tmp_path: Path) -> None:
    text = with_search(controls=3)
    folder = write_experiment(tmp_path / "tiny", text)
    experiment = stub_experiment(folder)
    trials = run(experiment)
    assert num_trained(trials) == experiment.config.search.trained_trials
    assert len(controls_of(trials)) == 3
    assert len(run(stub_experiment(folder))) == len(trials)
    (folder / "experiment.toml").write_text(with_search(controls=4))
    more = controls_of(run(stub_experiment(folder)))
    assert more[:3] == controls_of(trials)
    assert len(more) == 4


def test_one_that_was_interrupted_or_lost_is_trained_again(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path / "tiny", with_search(controls=2))
    with pytest.raises(KeyboardInterrupt):
        run(stub_experiment(folder, t2=KeyboardInterrupt))
    experiment = stub_experiment(folder)
    study = open_study(experiment)
    study.ask()  # A worker that dies.
    end_lost(study, study.trials[-1])
    trials = run(experiment)
    states = Counter(t.state for t in trials if CONTROL in t.user_attrs)
    assert states[TrialState.PRUNED] == 2
    done = controls_of([t for t in trials if t.state == TrialState.PRUNED])
    assert done == [c._asdict() for c in draw_controls(
        experiment.space, experiment.constraint, experiment.config.search.seed
    ).found[:2]]  # fmt: skip


def test_two_workers_that_open_a_study_at_once_train_each_once(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path / "tiny", with_search(controls=2))
    experiment = stub_experiment(folder)
    study = open_study(experiment)
    for trial in study.get_trials():  # As the other one has put them there.
        study.enqueue_trial({}, user_attrs=trial.user_attrs)
    trials = run(experiment)
    done = [t for t in trials if CONTROL in t.user_attrs and t.state == TrialState.PRUNED]
    assert len(done) == 2
    assert controls_of(done)[0] != controls_of(done)[1]
