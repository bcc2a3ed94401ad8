"""What a function says fits: by enumeration where there are few, else by walking."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from rfsearch.feasible.discrete_set import DiscreteSet
from rfsearch.feasible.fold import Fold
from rfsearch.feasible.path_set import NoneFoundError

Params = dict[str, Any]

FEW: dict[str, BaseDistribution] = {
    "a": IntDistribution(0, 4),
    "b": CategoricalDistribution(["x", "y", "z"]),
    "c": IntDistribution(1, 9, step=2),
}
#: 10^9 candidates.
MANY: dict[str, BaseDistribution] = {f"x{n}": IntDistribution(0, 9) for n in range(9)}


def has_no_structure(params: Params) -> bool:
    return hash((params["a"], len(params["b"]), ord(params["b"]), params["c"])) % 3 == 0


def is_often_true(params: Params) -> bool:
    return sum(params.values()) % 7 == 0


def is_hardly_ever_true(params: Params) -> bool:
    """One in 100,000, far from most proposals."""
    return all(params[f"x{n}"] == 9 for n in range(5))


def all_of(distributions: dict[str, BaseDistribution]) -> list[Params]:
    choices = DiscreteSet(distributions, Fold((), lambda s, n, v: s)).choices()
    return [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]


def test_few_candidates_are_enumerated() -> None:
    asked: Counter[tuple[Any, ...]] = Counter()

    def fits(params: Params) -> bool:
        asked[tuple(params.values())] += 1
        return has_no_structure(params)

    feasible = DiscreteSet(FEW, fits=fits)
    members = [params for params in all_of(FEW) if has_no_structure(params)]
    assert feasible.is_exact
    assert feasible.count == len(members)
    assert [params for params in all_of(FEW) if feasible.contains(params)] == members
    for name, options in feasible.choices().items():
        assert feasible.allowed({}, name) == tuple(
            value for value in options if any(member[name] == value for member in members)
        )
    rng = np.random.default_rng(0)
    drawn = Counter(tuple(feasible.sample_params(rng).values()) for _ in range(30 * len(members)))
    statistic = sum((number - 30) ** 2 / 30 for number in drawn.values())
    freedom = len(members) - 1
    assert set(drawn) == {tuple(member.values()) for member in members}
    assert abs(statistic - freedom) < 4 * (2 * freedom) ** 0.5
    assert set(asked.values()) == {1}
    assert len(asked) == feasible.size


def test_many_candidates_are_asked_one_by_one() -> None:
    asked: Counter[tuple[Any, ...]] = Counter()

    def fits(params: Params) -> bool:
        asked[tuple(params.values())] += 1
        return is_often_true(params)

    feasible = DiscreteSet(MANY, fits=fits)
    assert not asked
    assert not feasible.is_exact
    assert str(feasible) == "at most 1,000,000,000 of 1,000,000,000 fit"
    assert not feasible.is_empty()
    rng = np.random.default_rng(0)
    assert all(is_often_true(feasible.sample_params(rng)) for _ in range(20))
    low, high = feasible.estimate(rng)
    assert low < 1e9 / 7 < high
    proposal = dict.fromkeys(MANY, 0) | {"x0": 5}
    nearest = feasible.nearest(proposal)
    assert nearest is not None
    assert is_often_true(nearest)
    assert sum(nearest[name] != proposal[name] for name in MANY) == 1
    number = len(asked)
    assert feasible.nearest(proposal) == nearest
    assert len(asked) == number
    assert max(asked.values()) == 1


@given(st.integers(0, 10**6))
@settings(max_examples=20)
def test_nearest_without_a_list_is_that_of_the_list(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = {tuple(params.values()): bool(rng.random() < 0.1) for params in all_of(FEW)}
    listed, asked = (
        DiscreteSet(FEW, fits=lambda params: table[tuple(params.values())], listed=listed)
        for listed in (1000, 0)
    )
    assert asked.count == listed.count  # Few are checked one by one, to be counted.
    for proposal in all_of(FEW)[::7]:
        found, best = asked.nearest(proposal), listed.nearest(proposal)
        assert found is not None
        assert best is not None
        assert listed.contains(found)
        assert listed._cost(proposal, found) == listed._cost(proposal, best)  # There may be ties.


def test_a_walk_from_a_known_member_where_no_near_candidate_fits() -> None:
    feasible = DiscreteSet(MANY, fits=is_hardly_ever_true)
    proposal = dict.fromkeys(MANY, 0) | {"x8": 7}
    assert feasible.nearest(proposal) is None  # None is known.
    with pytest.raises(NoneFoundError, match=r"none was found in 2,000 that might\."):
        feasible.sample_params(np.random.default_rng(0))
    assert feasible.contains(dict.fromkeys(MANY, 9))
    nearest = proposal | dict.fromkeys([f"x{n}" for n in range(5)], 9)
    assert feasible.nearest(proposal) == nearest
    fixed = feasible.nearest(proposal | {"x8": 3, "x7": 2}, fixed=["x8", "x7"])
    assert fixed == nearest | {"x8": 3, "x7": 2}
    assert feasible.nearest(proposal | {"x0": 8}, fixed=["x0"]) is None
    other = feasible.nearest(proposal, avoid=lambda params: params == nearest)
    assert other not in (None, nearest)
    assert feasible.nearest(proposal, avoid=lambda params: True) is None


def test_a_fold_and_a_function() -> None:
    """The fold leaves few candidates, which the function is asked of."""
    fold = Fold(0, lambda total, name, value: total + value, lambda total: total == 80)
    feasible = DiscreteSet(MANY, fold, fits=lambda params: params["x0"] == 9)
    assert feasible.is_exact  # 81 - 80 is spread over 9 parameters.
    assert feasible.count == 8
    assert not feasible.contains(dict.fromkeys(MANY, 9) | {"x0": 8})
    assert not feasible.contains(dict.fromkeys(MANY, 9))


@pytest.mark.parametrize("listed", [0, 1000])
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda params: 1 / 0, r"`fits` for \{'a': 0, 'b': 'x', 'c': 1\} has failed with ZeroDiv"),
        (lambda params: None, r"`fits` for \{'a': 0, .* must give True or False, but gave None"),
    ],
)
def test_functions_that_fail(answer: Any, message: str, listed: int) -> None:
    with pytest.raises(ValueError, match=message):
        DiscreteSet(FEW, fits=answer, listed=listed).nearest({"a": 0, "b": "x", "c": 1})
