"""How rejected trials end, and that every sampler learns from it what it can."""

from __future__ import annotations

from collections.abc import Callable

import optuna
import pytest
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FrozenTrial, TrialState

from rfsearch.search.rejection import end_rejected
from rfsearch.search.sampler import RFSampler
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.space import SearchSpace

TOY = SearchSpace.load("toy")
#: 7 of the 108 candidates fit.
CONSTRAINT = RFConstraint(theoretical=(35, None), effective=None)
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def search(sampler: BaseSampler, num_trials: int) -> list[FrozenTrial]:
    study = optuna.create_study(sampler=sampler, direction="maximize")

    def objective(trial: optuna.Trial) -> float:
        architecture = TOY.suggest(trial)
        try:
            CONSTRAINT.check(trial, architecture)
        except optuna.TrialPruned:
            return end_rejected(trial)
        return 1.0 + architecture.stages[0].depth

    study.optimize(objective, n_trials=num_trials)
    return study.trials


def share_that_fits(trials: list[FrozenTrial]) -> float:
    return sum("rejected_by" not in trial.user_attrs for trial in trials) / len(trials)


def test_the_share_that_fits_by_chance() -> None:
    assert TOY.feasible(CONSTRAINT).fraction == pytest.approx(7 / 108)


@pytest.mark.parametrize(
    ("make", "num_trials"),
    [
        (lambda: TPESampler(seed=0), 60),
        (lambda: NSGAIISampler(seed=0, population_size=10), 120),
        (lambda: NSGAIIISampler(seed=0, population_size=10), 120),
        (lambda: GPSampler(seed=0), 36),
    ],
    ids=["tpe", "nsgaii", "nsgaiii", "gp"],
)
def test_the_sampler_learns_from_rejected_trials(
    make: Callable[[], BaseSampler], num_trials: int
) -> None:
    last = search(make(), num_trials)[-num_trials // 3 :]
    assert share_that_fits(last) >= 0.3  # five times as many as by chance


@pytest.mark.parametrize(
    ("make", "state"),
    [
        (lambda: TPESampler(seed=0), TrialState.PRUNED),
        (lambda: RandomSampler(seed=0), TrialState.PRUNED),
        (lambda: QMCSampler(seed=0, warn_asynchronous_seeding=False), TrialState.PRUNED),
        (lambda: CmaEsSampler(seed=0), TrialState.PRUNED),
        (lambda: GPSampler(seed=0), TrialState.COMPLETE),
        (lambda: NSGAIISampler(seed=0), TrialState.COMPLETE),
        (lambda: NSGAIIISampler(seed=0), TrialState.COMPLETE),
        (lambda: RFSampler(TOY, CONSTRAINT, NSGAIISampler(seed=0)), TrialState.COMPLETE),
        (lambda: RFSampler(TOY, CONSTRAINT, TPESampler(seed=0)), TrialState.PRUNED),
    ],
    ids=["tpe", "random", "qmc", "cmaes", "gp", "nsgaii", "nsgaiii", "rf nsgaii", "rf tpe"],
)
@pytest.mark.filterwarnings("ignore:Constraints have been set, but CmaEsSampler")
def test_state_of_a_rejected_trial(make: Callable[[], BaseSampler], state: TrialState) -> None:
    study = optuna.create_study(sampler=make(), direction="maximize")
    misfit, member = TOY[0], TOY.feasible(CONSTRAINT).nearest(TOY.to_params(TOY[0]))
    assert member is not None
    for params in (member, TOY.to_params(misfit)):
        study.enqueue_trial(params)

    def objective(trial: optuna.Trial) -> float:
        try:
            CONSTRAINT.check(trial, TOY.suggest(trial))
        except optuna.TrialPruned:
            return end_rejected(trial)
        return 3.0

    study.optimize(objective, n_trials=2)
    fitting, rejected = study.trials
    assert fitting.state == TrialState.COMPLETE
    assert rejected.state == state
    assert rejected.constraints["trf_octaves"] > 0
    assert study.best_trial.number == fitting.number
    if state == TrialState.COMPLETE:
        assert rejected.value == 3.0  # The stand-in: the median of what fits.
    else:
        assert "lower bound of 35 px" in rejected.user_attrs["reason"]


def test_the_stand_in_before_anything_fits() -> None:
    (trial,) = search(NSGAIISampler(seed=0), 1)
    assert trial.user_attrs["rejected_by"] == "theoretical"
    assert trial.value == 0.0
