from __future__ import annotations

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.pruners import BasePruner, HyperbandPruner, SuccessiveHalvingPruner
from optuna.pruners._successive_halving import _is_trial_promotable_to_next_rung
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from rfsearch.search.rungs import Hyperband, SuccessiveHalving
from rfsearch.storage.recovery import RETRY_OF, RUNGS, end_lost
from rfsearch.training.config import TrainingConfig

DIRECTIONS = (StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE)


def new_study(pruner: BasePruner) -> optuna.Study:
    return optuna.create_study(direction="maximize", pruner=pruner, study_name="rungs")


def begun(study: optuna.Study) -> optuna.Trial:
    trial = study.ask()
    trial.suggest_int("depth", 1, 9)
    return trial


def stopped_at(trial: optuna.Trial, *values: float) -> int | None:
    """The epoch after which the pruner stops a training with these values."""
    for epoch, value in enumerate(values, start=1):
        trial.report(value, epoch)
        if trial.should_prune():
            return epoch
    return None


def frozen(study: optuna.Study, number: int) -> FrozenTrial:
    return study.get_trials(deepcopy=False)[number]


def rung_values(study: optuna.Study, rung: int) -> list[float]:
    key = f"completed_rung_{rung}"
    return [t.system_attrs[key] for t in study.trials if key in t.system_attrs]


@pytest.mark.parametrize(
    ("epochs", "rungs"), [(1, [1]), (4, [1, 3]), (30, [1, 3, 9, 27]), (100, [3, 9, 27, 81])]
)
def test_the_rungs_fit_the_number_of_epochs(epochs: int, rungs: list[int]) -> None:
    study = new_study(SuccessiveHalving(epochs))
    trial, reached = begun(study), []
    for epoch in range(1, epochs + 1):
        trial.report(0.5, epoch)
        assert not trial.should_prune()
        if f"completed_rung_{len(reached)}" in frozen(study, 0).system_attrs:
            reached.append(epoch)
    assert reached == rungs


def test_one_in_three_goes_on_at_each_rung() -> None:
    study = new_study(SuccessiveHalving(9))
    stops = [stopped_at(begun(study), *[value / 10] * 9) for value in range(9, 0, -1)]
    assert stops == [None] + [1] * 8


@pytest.mark.parametrize("kind", [SuccessiveHalving, Hyperband])
def test_a_retry_is_counted_once_at_each_rung(kind: type[BasePruner]) -> None:
    study = new_study(kind(9))  # type: ignore[call-arg]
    assert stopped_at(begun(study), 0.1, 0.2, 0.3, 0.4) is None
    once = [rung_values(study, rung) for rung in range(3)]
    assert [0.3] in once
    end_lost(study, frozen(study, 0))
    assert stopped_at(begun(study), 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9) is None
    twice = [rung_values(study, rung) for rung in range(3)]
    new = once.index([])
    assert (twice[:new], twice[new]) == (once[:new], [0.9])
    end_lost(study, frozen(study, 1))
    assert study.trials[2].user_attrs[RUNGS] == new + 1


@pytest.mark.parametrize("number", range(12))
def test_a_retry_stays_in_its_bracket(number: int) -> None:
    ours, theirs = Hyperband(27), HyperbandPruner(1, 27, 3)
    study = new_study(ours)
    for pruner in (ours, theirs):
        pruner._try_initialization(study)
    first = optuna.trial.create_trial(state=TrialState.RUNNING)
    retry = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs={RETRY_OF: number})
    first.number, retry.number = number, 100
    bracket = theirs._get_bracket_id(study, first)
    assert ours._get_bracket_id(study, first) == ours._get_bracket_id(study, retry) == bracket
    assert (first.number, retry.number) == (number, 100)


def test_first_trials_are_stopped_as_optuna_would() -> None:
    ours = new_study(SuccessiveHalving(9))
    theirs = new_study(SuccessiveHalvingPruner(min_resource=1, reduction_factor=3))
    curves = [(0.1 * (n * 7 % 10), 0.2, 0.1 * (n * 3 % 10), 0.5) for n in range(20)]
    stops = [[stopped_at(begun(study), *curve) for curve in curves] for study in (ours, theirs)]
    assert stops[0] == stops[1]
    assert {1, 3} <= set(stops[0])


def stopped_trial(*curve: float) -> FrozenTrial:
    """A trial that was stopped at the rung after its last epoch, 1 or 3."""
    values = dict(enumerate(curve, start=1))
    noted = {
        f"completed_rung_{rung}": values[epoch]
        for rung, epoch in enumerate((1, 3)[: 1 + len(curve) // 3])
    }
    return create_trial(state=TrialState.PRUNED, intermediate_values=values, system_attrs=noted)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.sampled_from(DIRECTIONS))
def test_who_may_pass_is_who_would_be_let_pass_by_optuna(
    scores: list[int], direction: StudyDirection
) -> None:
    study = optuna.create_study(direction=direction.name.lower())
    study.add_trials([stopped_trial(score) for score in scores])
    worst = -99.0 if direction == StudyDirection.MAXIMIZE else 99.0
    standings = SuccessiveHalving(9).stopped(study)
    assert len(standings) == len(scores)
    for standing in standings:
        value = standing.trial.intermediate_values[1]
        for more in range(standing.missing + 1):
            rivals = [*map(float, scores), *[worst] * more]
            passes = _is_trial_promotable_to_next_rung(value, rivals, 3, direction)
            assert passes == (more == standing.missing)


def test_those_that_came_far_are_first_and_of_these_the_best() -> None:
    study = new_study(SuccessiveHalving(9))
    study.add_trials([stopped_trial(0.8), stopped_trial(0.1, 0.2, 0.3), stopped_trial(0.9)])
    found = SuccessiveHalving(9).stopped(study)
    assert [standing.trial.number for standing in found] == [1, 2, 0]
    assert [(standing.better, standing.compared) for standing in found] == [(0, 1), (0, 3), (1, 3)]


def test_a_whole_training_has_a_result() -> None:
    study = new_study(SuccessiveHalving(3))
    stops = [stopped_at(begun(study), *curve) for curve in [(0.1, 0.2, 0.9), (0.2, 0.3, 0.4)]]
    assert stops == [None, None]
    assert rung_values(study, 1) == [0.9, 0.4]


@pytest.mark.parametrize(
    ("limits", "epochs"),
    [
        ({"epochs": 5}, 5),
        ({"steps": 6}, 3),
        ({"steps": 7}, 4),
        ({"steps": 7, "epochs": 2}, 2),
        ({"seconds": 9}, None),
    ],
)
def test_the_number_of_epochs_is_known_of_every_budget_but_time(
    limits: dict[str, int], epochs: int | None
) -> None:
    assert TrainingConfig(batch_size=32, **limits).max_epochs(70) == epochs
