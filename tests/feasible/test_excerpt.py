"""What a sampler sees of a long study."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

import rfsearch as rfs
from rfsearch.feasible import _excerpt
from rfsearch.feasible._excerpt import excerpt

DISTRIBUTIONS: dict[str, BaseDistribution] = {
    name: IntDistribution(0, 9) for name in ("first", "second")
}


def study_of(values: Iterable[tuple[float, ...] | None]) -> optuna.Study:
    """A study of finished trials, of which those without values were pruned."""
    values = list(values)
    directions = ["maximize", "minimize"][: len(next(filter(None, values)))]
    study = optuna.create_study(directions=directions)
    rng = np.random.default_rng(0)
    for one in values:
        params = {name: int(rng.integers(10)) for name in DISTRIBUTIONS}
        state = TrialState.PRUNED if one is None else TrialState.COMPLETE
        study.add_trial(
            create_trial(params=params, distributions=DISTRIBUTIONS, values=one, state=state)
        )
    return study


def shown(study: optuna.Study, seed: int = 0) -> list[FrozenTrial]:
    return excerpt(study, np.random.default_rng(seed)).get_trials(deepcopy=False)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_excerpt, "MOST", 50)


def test_a_short_study_is_seen_as_a_whole() -> None:
    study = study_of((float(n),) for n in range(50))
    assert excerpt(study, np.random.default_rng(0)) is study


def test_the_best_the_latest_and_a_random_rest() -> None:
    values = np.random.default_rng(1).permutation(500)
    study = study_of((float(value),) for value in values)
    running = study.ask(DISTRIBUTIONS)
    one, other = ([trial.number for trial in shown(study, seed)] for seed in (0, 1))
    assert len(one) == len(set(one)) == 51
    assert one == sorted(one)
    assert one != other
    for numbers in (one, other):
        assert set(np.argsort(-values)[:10]) | set(range(490, 500)) <= set(numbers)
        assert running.number in numbers
    # The random rest is drawn from all.
    assert np.mean(one) == pytest.approx(250, abs=100)


def test_the_best_of_several_objectives_are_all_ends_of_the_front() -> None:
    angles = np.random.default_rng(2).permutation(np.linspace(0, np.pi / 2, 200))
    radii = np.where(np.arange(200) % 4 == 0, 1.0, 0.5)
    values = [
        (float(r * np.cos(a)), float(-r * np.sin(a))) for r, a in zip(radii, angles, strict=True)
    ]
    numbers = [trial.number for trial in shown(study_of(values))]
    front = [n for n in numbers if radii[n] == 1.0]
    assert len(front) >= 15
    assert min(angles[front]) < 0.3
    assert max(angles[front]) > 1.2


def test_trials_that_keep_a_constraint_are_better() -> None:
    study = study_of((float(n),) for n in range(100))
    for number in range(100):
        trial = study.ask(DISTRIBUTIONS)
        trial.set_constraint("too_dear", 1.0 if number < 40 else -1.0)
        study.tell(trial, 1000.0 - number)
    numbers = {trial.number for trial in shown(study)}
    assert set(range(140, 150)) <= numbers


def test_states_are_told_apart_and_the_study_stays_whole() -> None:
    study = study_of(None if n % 2 else (float(n),) for n in range(200))
    part = excerpt(study, np.random.default_rng(0))
    complete = part.get_trials(states=(TrialState.COMPLETE,))
    assert {trial.state for trial in complete} == {TrialState.COMPLETE}
    assert len(part.get_trials()) == 50
    assert part.directions == study.directions
    assert len(study.get_trials()) == 200
    complete[0].params["first"] = -1  # A copy.
    assert all(trial.params["first"] >= 0 for trial in part.get_trials())


@pytest.mark.parametrize("constant_liar", [False, True])
@pytest.mark.parametrize("directions", [["maximize"], ["maximize", "minimize"]])
def test_a_search_goes_on_with_an_excerpt(directions: list[str], constant_liar: bool) -> None:
    base = TPESampler(seed=0, multivariate=True, constant_liar=constant_liar)
    sampler = rfs.FeasibleSampler(
        DISTRIBUTIONS,
        fits=lambda params: params["first"] + params["second"] <= 15,
        base=base,
        seed=0,
    )
    study = optuna.create_study(directions=directions, sampler=sampler)
    for _ in range(75):
        trial = study.ask(DISTRIBUTIONS)
        first, second = trial.params.values()
        assert first + second <= 15
        study.tell(trial, [float(first * second), float(first)][: len(directions)])
    tried = [tuple(trial.params.values()) for trial in study.trials]
    assert len(set(tried)) == 75  # Of 79 that fit: those that the base does not see count too.
