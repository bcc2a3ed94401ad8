"""The sampler of any discrete space with Optuna's bases, and under its conformance suite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
    SingleOnlySamplerTestCase,
)
from optuna.trial import TrialState

from rfsearch.feasible.fold import Fold
from rfsearch.feasible.sampler import FeasibleSampler

#: Servings of food, whose weights must not exceed a backpack's.
WEIGHTS = {"bread": 0.5, "cheese": 0.25, "water": 1.0}
BACKPACK: dict[str, BaseDistribution] = {
    "bread": IntDistribution(0, 6),
    "cheese": FloatDistribution(0.0, 2.0, step=0.1),
    "water": CategoricalDistribution([0, 1, 2, 3]),
    "cooker": CategoricalDistribution(["gas", "none"]),
    "gas": IntDistribution(1, 4),
}


def grams(name: str, value: Any) -> int:
    return round(1000 * WEIGHTS[name] * value)


def pack(left: int, name: str, value: Any) -> Any:
    if name == "cooker":
        return (left - 300, value) if left >= 300 or value == "none" else None
    if isinstance(left, tuple):  # Without a cooker, gas makes no difference.
        return left if left[1] == "none" or left[0] >= 100 * value else None
    return left - grams(name, value) if left >= grams(name, value) else None


FOLD = Fold(3000, pack)
BASES: dict[str, Callable[[], BaseSampler | None]] = {
    "tpe": lambda: optuna.samplers.TPESampler(seed=0, n_startup_trials=5),
    "gp": lambda: optuna.samplers.GPSampler(seed=0, n_startup_trials=6),
    "cmaes": lambda: optuna.samplers.CmaEsSampler(
        seed=0, n_startup_trials=3, warn_independent_sampling=False
    ),
    "nsgaii": lambda: optuna.samplers.NSGAIISampler(seed=0, population_size=5),
    "random": lambda: optuna.samplers.RandomSampler(seed=0),
    "none": lambda: None,
}
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    return {
        "bread": trial.suggest_int("bread", 0, 6),
        "cheese": trial.suggest_float("cheese", 0, 2, step=0.1),
        "water": trial.suggest_categorical("water", [0, 1, 2, 3]),
        "cooker": trial.suggest_categorical("cooker", ["gas", "none"]),
        "gas": trial.suggest_int("gas", 1, 4),
    }


def value(trial: optuna.Trial) -> float:
    """A user's objective, with a parameter of their own."""
    params = suggest(trial)
    return float(params["bread"] + params["cheese"] + trial.suggest_float("spice", 0, 1))


def own(params: dict[str, Any]) -> dict[str, Any]:
    return {name: params[name] for name in BACKPACK}


@pytest.mark.parametrize("name", BASES)
def test_every_proposal_fits_and_is_new(name: str) -> None:
    studies = []
    for _ in range(2):
        sampler = FeasibleSampler(BACKPACK, FOLD, BASES[name](), seed=0, n_startup_trials=3)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.optimize(value, n_trials=10)
        assert all(trial.state == TrialState.COMPLETE for trial in study.trials)
        assert all(sampler.feasible.contains(own(trial.params)) for trial in study.trials)
        members = {tuple(own(trial.params).values()) for trial in study.trials}
        assert len(members) == len(study.trials)
        assert len({trial.params["spice"] for trial in study.trials}) > 3
        studies.append([trial.params for trial in study.trials])
    assert studies[0] == studies[1]  # The same seed gives the same proposals.


def test_predicates_of_large_spaces() -> None:
    distributions: dict[str, BaseDistribution] = {f"x{n}": IntDistribution(0, 9) for n in range(9)}

    def fits(params: dict[str, Any]) -> bool:
        return sum(params.values()) % 5 == 0

    sampler = FeasibleSampler(
        distributions, fits=fits, base=optuna.samplers.TPESampler(seed=0), seed=0
    )
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: sum(t.suggest_int(name, 0, 9) for name in distributions), n_trials=25)
    assert all(fits(trial.params) for trial in study.trials)
    assert not sampler.feasible.is_exact
    assert study.best_value < 20


def test_nothing_fits() -> None:
    sampler = FeasibleSampler(BACKPACK, Fold(3000, pack, lambda left: False))
    assert sampler.feasible.count == 0
    with pytest.raises(ValueError, match=r"No parameters fit: the set is empty\."):
        suggest(optuna.create_study(sampler=sampler).ask())


def test_brute_force_visits_every_member() -> None:
    base = optuna.samplers.BruteForceSampler(seed=0)
    distributions = {name: IntDistribution(0, 2) for name in "abc"}
    fold = Fold(0, lambda total, name, value: total + value, lambda total: total == 3)
    sampler = FeasibleSampler(distributions, fold, base)
    study = optuna.create_study(sampler=sampler)
    study.optimize(
        lambda trial: sum(trial.suggest_int(name, 0, 2) for name in "abc"),
        n_trials=sampler.feasible.count,
    )
    assert len({tuple(trial.params.values()) for trial in study.trials}) == sampler.feasible.count
    assert {trial.value for trial in study.trials} == {3}


# -- enqueued trials and other samplers ------------------------------------------------------


def study_of(**options: Any) -> optuna.Study:
    return optuna.create_study(sampler=FeasibleSampler(BACKPACK, FOLD, seed=0, **options))


def test_enqueued_parameters_are_kept_and_the_rest_fits() -> None:
    study = study_of()
    study.enqueue_trial({"water": 2, "cheese": 3 * 0.1, "spice": 0.5})
    params = suggest(study.ask())
    assert params["water"] == 2
    assert params["cheese"] == pytest.approx(0.3)
    assert study.sampler.feasible.contains(params)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("enqueued", "message"),
    [
        ({"water": 3, "bread": 1}, r"nothing that fits has \{'bread': 1, 'water': 3\}"),
        (
            {"bread": 6, "cheese": 0.0, "water": 2, "cooker": "none", "gas": 1},
            r"nothing that fits has \{'bread': 6, .*'gas': 1\}",
        ),
        ({"bread": 7}, r"`bread` must be one of 0, 1, 2, 3, 4, 5, 6, but got 7"),
    ],
)
def test_enqueued_trials_that_do_not_fit(enqueued: dict[str, Any], message: str) -> None:
    study = study_of()
    study.enqueue_trial(enqueued)
    with pytest.raises(ValueError, match=f"Trial 0 was enqueued and does not fit: {message}"):
        study.optimize(value, n_trials=2)
    assert study.trials[0].state == TrialState.FAIL
    study.optimize(value, n_trials=1)  # It does not stand in the way.
    assert study.trials[1].state == TrialState.COMPLETE


def test_a_sampler_around_it_that_decides_on_its_own() -> None:
    inner = FeasibleSampler(BACKPACK, FOLD)
    sampler = optuna.samplers.PartialFixedSampler({"water": 3}, inner)
    with pytest.raises(ValueError, match="`water` is decided by a sampler around this one"):
        suggest(optuna.create_study(sampler=sampler).ask())


def test_a_parameter_that_is_suggested_otherwise() -> None:
    trial = study_of().ask()
    with pytest.raises(ValueError, match=r"`bread` must be suggested as IntDistribution\(high=6"):
        trial.suggest_int("bread", 20, 30)


def test_trials_of_a_study_with_other_choices_count_for_nothing() -> None:
    study = study_of()
    other = {"bread": 60, "cheese": 0.0, "water": 0, "cooker": "none", "gas": 1}
    distributions = BACKPACK | {"bread": IntDistribution(0, 60)}
    trial = optuna.trial.create_trial(value=1, params=other, distributions=distributions)
    study.add_trial(trial)
    assert study.sampler.feasible.contains(suggest(study.ask()))  # type: ignore[attr-defined]


def test_neither_a_fold_nor_a_predicate() -> None:
    with pytest.raises(ValueError, match="Either a fold or a function `fits`"):
        FeasibleSampler(BACKPACK)


def test_it_says_what_it_is() -> None:
    base = optuna.samplers.RandomSampler()
    assert str(FeasibleSampler(BACKPACK, FOLD, base)) == "FeasibleSampler(RandomSampler)"


# -- Optuna's own suite ----------------------------------------------------------------------


class WithTPE:
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: FeasibleSampler(
            BACKPACK, FOLD, optuna.samplers.TPESampler(n_startup_trials=0)
        )


class WithCmaEs:
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: FeasibleSampler(BACKPACK, FOLD, BASES["cmaes"](), seed=0)


class TestBasic(WithTPE, BasicSamplerTestCase):
    pass


class TestRelative(WithTPE, RelativeSamplerTestCase):
    pass


class TestMultiObjective(WithTPE, MultiObjectiveSamplerTestCase):
    pass


class TestBasicWithCmaEs(WithCmaEs, BasicSamplerTestCase):
    pass


class TestSingleOnly(WithCmaEs, SingleOnlySamplerTestCase):
    pass
