"""The sampler with every base that Optuna has, and under Optuna's own conformance suite."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
    SingleOnlySamplerTestCase,
)
from optuna.trial import FrozenTrial, TrialState

from rfsearch.network.architecture import Architecture
from rfsearch.search.sampler import RFSampler
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.space import SearchSpace
from rfsearch.target.target import ScaleTarget

SPACE = SearchSpace.load("residual")
CONSTRAINT = RFConstraint(theoretical=(31, 61), effective=None)
TOY = SearchSpace.load("toy")
TOY_CONSTRAINT = RFConstraint(theoretical=(20, 30), effective=(12, 40))
STRIDES = SearchSpace.model_validate(
    {
        "stem": {"stride": [1, 2], "width": 8},
        "stages": [
            {
                "block": "plain",
                "depth": [1, 3],
                "stride": [1, 2],
                "width": 8,
                "kernel_size": [3, 5],
            }
        ],
    }
)
BASES: dict[str, Callable[[], BaseSampler]] = {
    "tpe": lambda: optuna.samplers.TPESampler(seed=0, n_startup_trials=5),
    "gp": lambda: optuna.samplers.GPSampler(seed=0, n_startup_trials=6),
    "nsgaii": lambda: optuna.samplers.NSGAIISampler(seed=0, population_size=5),
    "nsgaiii": lambda: optuna.samplers.NSGAIIISampler(seed=0, population_size=5),
    "cmaes": lambda: optuna.samplers.CmaEsSampler(
        seed=0, n_startup_trials=3, warn_independent_sampling=False
    ),
    "qmc": lambda: optuna.samplers.QMCSampler(
        seed=0, warn_asynchronous_seeding=False, warn_independent_sampling=False
    ),
    "random": lambda: optuna.samplers.RandomSampler(seed=0),
}
pytestmark = [
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
    # It need not use them: no proposal violates one.
    pytest.mark.filterwarnings("ignore:Constraints have been set, but CmaEsSampler"),
]


def rf_sampler(base: BaseSampler | None = None, **options: Any) -> RFSampler:
    return RFSampler(SPACE, CONSTRAINT, base, seed=0, **options)


def search(sampler: BaseSampler, num_trials: int = 9, rate: bool = True) -> optuna.Study:
    """A user's study, with a parameter of their own, whose value prefers few channels."""
    study = optuna.create_study(sampler=sampler)

    def objective(trial: optuna.Trial) -> float:
        architecture = SPACE.suggest(trial)
        CONSTRAINT.check(trial, architecture)
        learning_rate = trial.suggest_float("learning_rate", 1e-4, 1e-1) if rate else 0.0
        return architecture.num_features + learning_rate

    study.optimize(objective, n_trials=num_trials)
    return study


def members(study: optuna.Study) -> list[Architecture]:
    return [SPACE.from_params(trial.params) for trial in study.trials]


# -- every base ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BASES)
def test_every_proposal_fits_and_is_new(name: str) -> None:
    study = search(rf_sampler(BASES[name](), n_startup_trials=3))
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)
    assert len(set(members(study))) == len(study.trials)
    rates = [trial.params["learning_rate"] for trial in study.trials]
    assert len(set(rates)) > 3


@pytest.mark.parametrize("name", BASES)
def test_the_same_seed_gives_the_same_proposals(name: str) -> None:
    first, second = (
        [t.params for t in search(rf_sampler(BASES[name]()), 7).trials] for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize("name", ["tpe", "gp", "nsgaii", "cmaes"])
def test_one_joint_proposal_of_the_base_per_trial(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = BASES[name]()
    calls: list[int] = []
    propose = base.sample_relative

    def counted(study: optuna.Study, trial: FrozenTrial, space: dict[str, Any]) -> dict[str, Any]:
        calls.append(trial.number)
        return propose(study, trial, space)

    monkeypatch.setattr(base, "sample_relative", counted)
    search(rf_sampler(base))
    assert calls == list(range(9))


def test_a_feasible_proposal_is_taken_as_it_is() -> None:
    member = SPACE.feasible(CONSTRAINT).sample(np.random.default_rng(5))
    wanted = SPACE.to_params(member)

    class Wants(optuna.samplers.TPESampler):
        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return SPACE.distributions()

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
            return {name: wanted[name] for name in search_space}

    sampler = rf_sampler(Wants(), n_startup_trials=0)
    study = search(sampler, 3)
    assert members(study)[0] == member
    assert len(set(members(study))) == 3  # The same wish again is moved to a neighbour.


def test_a_grid_over_some_parameters() -> None:
    grid = {"stage1_depth": [1, 2], "stage2_kernel_size": [3, 5]}
    fixed = {n: [SPACE.choices()[n][0]] for n in SPACE.distributions() if n not in grid}
    base = optuna.samplers.GridSampler(grid | fixed, seed=0)
    study = search(rf_sampler(base), num_trials=10, rate=False)
    assert len(study.trials) == 4  # The grid ends the study.
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)
    assert len(set(members(study))) == 4


def test_brute_force_visits_every_candidate_that_fits() -> None:
    feasible = TOY.feasible(TOY_CONSTRAINT)
    base = optuna.samplers.BruteForceSampler(seed=0)
    study = optuna.create_study(sampler=RFSampler(TOY, TOY_CONSTRAINT, base, seed=0))
    seen: list[Architecture] = []

    def objective(trial: optuna.Trial) -> float:
        seen.append(TOY.suggest(trial))
        return 0.0

    study.optimize(objective, n_trials=feasible.count)
    assert all(feasible.contains(architecture) for architecture in seen)
    assert len(set(seen)) == feasible.count


# -- start-up --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["random", "tpe"])
def test_startup_trials_are_uniform_draws(name: str) -> None:
    feasible = TOY.feasible(TOY_CONSTRAINT)
    sampler = RFSampler(TOY, TOY_CONSTRAINT, BASES[name](), seed=3, n_startup_trials=10)
    study = optuna.create_study(sampler=sampler)
    drawn = [TOY.suggest(study.ask()) for _ in range(8)]
    # The draws that the feasible set itself makes from this seed, repeated ones left out.
    rng = np.random.default_rng(3)
    expected: list[Architecture] = []
    while len(expected) < 8:
        candidate = feasible.sample(rng)
        if candidate not in expected:
            expected.append(candidate)
    assert drawn == expected


def test_duplicates_where_the_set_is_used_up() -> None:
    constraint = RFConstraint(theoretical=(43, 44), effective=None)
    count = TOY.feasible(constraint).count
    study = optuna.create_study(sampler=RFSampler(TOY, constraint, seed=0, n_startup_trials=2))
    seen = []
    for _ in range(count + 3):
        trial = study.ask()
        seen.append(TOY.suggest(trial))
        study.tell(trial, 1.0)
    assert len(set(seen)) == count
    assert all(constraint.is_feasible(architecture) for architecture in seen)


# -- several workers, enqueued trials --------------------------------------------------------


def test_workers_on_one_study_do_not_repeat_each_other() -> None:
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(study_name="shared", storage=storage)
    workers = [
        optuna.load_study(
            study_name="shared", storage=storage, sampler=RFSampler(TOY, TOY_CONSTRAINT, seed=0)
        )
        for _ in range(2)
    ]
    # Both have the same seed, and neither has finished its trial when the other begins.
    trials = [worker.ask() for _ in range(4) for worker in workers]
    drawn = [TOY.suggest(trial) for trial in trials]
    assert len(set(drawn)) == 8


def test_parallel_jobs() -> None:
    study = optuna.create_study(sampler=rf_sampler())
    study.optimize(lambda trial: SPACE.suggest(trial).num_features, n_trials=12, n_jobs=2)
    assert all(CONSTRAINT.is_feasible(architecture) for architecture in members(study))


def test_enqueued_parameters_are_kept_and_the_rest_fits() -> None:
    study = optuna.create_study(sampler=rf_sampler())
    study.enqueue_trial({"stage3_depth": 1, "stem_kernel_size": 7})
    architecture = SPACE.suggest(study.ask())
    assert architecture.stages[2].depth == 1
    assert architecture.stem.kernel_size == 7
    assert CONSTRAINT.is_feasible(architecture)


def test_what_waits_to_be_tried_again_is_not_proposed_to_others() -> None:
    feasible = TOY.feasible(TOY_CONSTRAINT)
    fitting = [a for a in TOY if feasible.contains(a)]
    base = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(sampler=RFSampler(TOY, TOY_CONSTRAINT, base, seed=0))
    trials = [study.ask() for _ in fitting[:1]]
    for waiting in fitting[1:]:
        study.enqueue_trial(TOY.to_params(waiting))
    assert [TOY.suggest(trial) for trial in trials] == fitting[:1]


def test_an_enqueued_misfit_is_used_as_it_is() -> None:
    study = optuna.create_study(sampler=rf_sampler())
    misfit = next(a for a in SPACE if not CONSTRAINT.is_feasible(a))
    study.enqueue_trial(SPACE.to_params(misfit))
    trial = study.ask()
    assert SPACE.suggest(trial) == misfit
    with pytest.raises(optuna.TrialPruned, match="lower bound of 31 px"):
        CONSTRAINT.check(trial, misfit)


def test_partially_fixed_sampling() -> None:
    sampler = optuna.samplers.PartialFixedSampler({"stem_kernel_size": 7}, rf_sampler())
    study = search(sampler, 4)
    assert all(trial.params["stem_kernel_size"] == 7 for trial in study.trials)


def test_a_target_that_no_candidate_meets() -> None:
    constraint = RFConstraint(theoretical=(1, 2), effective=None)
    study = optuna.create_study(sampler=RFSampler(TOY, constraint))
    with pytest.raises(ValueError, match="No candidate of the space passes all gates"):
        TOY.suggest(study.ask())


def test_it_says_what_it_is() -> None:
    assert str(rf_sampler()) == "RFSampler(TPESampler)"


# -- Optuna's own suite ----------------------------------------------------------------------


class WithTPE:
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: RFSampler(
            TOY, TOY_CONSTRAINT, optuna.samplers.TPESampler(n_startup_trials=0)
        )


class WithCmaEs:
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: RFSampler(TOY, TOY_CONSTRAINT, BASES["cmaes"](), seed=0)


class WithDescriptors:
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: RFSampler(TOY, TOY_CONSTRAINT, "descriptors", n_startup_trials=1)


class TestBasicWithDescriptors(WithDescriptors, BasicSamplerTestCase):
    pass


class TestMultiObjectiveWithDescriptors(WithDescriptors, MultiObjectiveSamplerTestCase):
    pass


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


def test_descriptors_begin_with_many_units_across_the_objects() -> None:
    """Halvings of the coarsest stride, over the fourth root of operations."""
    constraint = RFConstraint(ScaleTarget(8, 12), theoretical=(15, 99), effective=None)
    study = optuna.create_study(sampler=RFSampler(STRIDES, constraint, "descriptors", seed=0))
    first = STRIDES.suggest(study.ask())
    fitting = [one for one in STRIDES if constraint.is_feasible(one)]
    coarsest = max(one.receptive_field().stride for one in fitting)

    def promise(one: Architecture) -> float:
        return math.log2(coarsest / one.receptive_field().stride) / one.cost(256).flops ** 0.25

    assert promise(first) == max(map(promise, fitting)) > 0
