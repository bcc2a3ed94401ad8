"""Folds against enumeration: the oracle makes every combination of values and asks each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from rfsearch.feasible import fold as fold_module
from rfsearch.feasible.choices import choices_of
from rfsearch.feasible.discrete_set import DiscreteSet
from rfsearch.feasible.fold import Fold
from rfsearch.feasible.path_set import NoneFoundError

Params = dict[str, Any]
Distributions = dict[str, BaseDistribution]

WEIGHTS = {"tent": 5, "rope": 2, "lamp": 1, "food": 3}


def pack(left: int, name: str, number: int) -> int | None:
    weight = WEIGHTS[name] * number
    return left - weight if weight <= left else None


def multiply(size: int, name: str, stride: int) -> int | None:
    return size // stride if size % stride == 0 else None


def remember_kind(state: Any, name: str, value: Any) -> Any:
    """A choice of kind that makes the other parameters irrelevant, or not."""
    if name == "kind":
        return ("big", 0) if value else ("small", 0)
    kind, total = state
    return (kind, (total + int(value * 4)) % 5) if kind == "big" else state


NUMBERS: Distributions = {name: IntDistribution(0, 3) for name in WEIGHTS}
STRIDES: Distributions = {f"stride{n}": CategoricalDistribution([1, 2, 3, 4]) for n in range(4)}
MIXED: Distributions = {
    "kind": CategoricalDistribution([True, False]),
    "rate": FloatDistribution(0.25, 1.0, step=0.25),
    "size": IntDistribution(1, 4, log=True),
    "width": IntDistribution(8, 16, step=4),
    "only": CategoricalDistribution([1]),
}
CASES: dict[str, tuple[Distributions, Fold]] = {
    "knapsack": (NUMBERS, Fold(10, pack)),
    "an exact knapsack": (NUMBERS, Fold(10, pack, lambda left: left == 0)),
    "strides must divide": (STRIDES, Fold(36, multiply, lambda size: size <= 9)),
    "conditional": (MIXED, Fold(None, remember_kind, lambda state: state[1] in (0, 3))),
    "nothing": (NUMBERS, Fold(10, pack, lambda left: left > 10)),
    "everything": (NUMBERS, Fold((), lambda state, name, value: state)),
}


def enumerated(distributions: Distributions, fold: Fold) -> list[Params]:
    """All that fits, by asking each combination of values."""
    choices = choices_of(distributions)
    found = []
    for values in product(*choices.values()):
        state: Any = fold.start
        for name, value in zip(choices, values, strict=True):
            state = fold.step(state, name, value)
            if state is None:
                break
        else:
            if fold.accept(state):
                found.append(dict(zip(choices, values, strict=True)))
    return found


def change(distributions: Distributions, wanted: Params, member: Params) -> tuple[int, int]:
    """Number and total size of changes, by definition."""
    number = size = 0
    for name, options in choices_of(distributions).items():
        if name in wanted and wanted[name] != member[name]:
            number += 1
            if all(isinstance(option, int | float) for option in options):
                ranks = sorted(options)
                size += abs(ranks.index(wanted[name]) - ranks.index(member[name]))
            else:
                size += 1
    return number, size


def key(params: Params) -> tuple[Any, ...]:
    return tuple(params.values())


@st.composite
def cases(draw: st.DrawFn) -> tuple[Distributions, Fold]:
    """A small space, and a table that says where each value leads from each state."""
    kinds = st.one_of(
        st.lists(
            st.sampled_from(["a", "b", None, 1, 2.5]), min_size=1, max_size=4, unique=True
        ).map(CategoricalDistribution),
        st.tuples(st.integers(-3, 3), st.integers(0, 4), st.integers(1, 3)).map(
            lambda t: IntDistribution(t[0], t[0] + t[1] * t[2], step=t[2])
        ),
        st.tuples(st.integers(-3, 3), st.integers(0, 3)).map(
            lambda t: FloatDistribution(t[0] / 10, (t[0] + t[1]) / 10, step=0.1)
        ),
    )
    distributions = {name: draw(kinds) for name in "abcd"[: draw(st.integers(1, 4))]}
    num_states = draw(st.integers(1, 4))
    seed = draw(st.integers(0, 2**32 - 1))
    impossible = draw(st.sampled_from([0.0, 0.2, 0.6]))
    rng = np.random.default_rng(seed)
    table: dict[Any, int | None] = {}
    for name, options in choices_of(distributions).items():
        for state, value in product(range(num_states), options):
            leads = rng.random() >= impossible
            table[state, name, value] = int(rng.integers(num_states)) if leads else None
    good = set(range(draw(st.integers(0, num_states))))
    return distributions, Fold(0, lambda s, n, v: table[s, n, v], lambda state: state in good)


def assert_agrees(distributions: Distributions, fold: Fold, seed: int) -> None:
    """Every question, against enumeration."""
    feasible, members = DiscreteSet(distributions, fold), enumerated(distributions, fold)
    choices, rng = choices_of(distributions), np.random.default_rng(seed)
    assert feasible.is_exact
    assert feasible.count == len(members)
    assert feasible.is_empty() == (not members)
    assert feasible.size == len(list(product(*choices.values())))
    assert feasible.fraction == len(members) / feasible.size
    for _ in range(5):
        proposal = {name: options[rng.integers(len(options))] for name, options in choices.items()}
        assert feasible.contains(proposal) == (proposal in members)
        fixed = [name for name in choices if rng.random() < 0.3]
        for kept in ([], fixed):
            free = [m for m in members if all(m[name] == proposal[name] for name in kept)]
            found = feasible.nearest(proposal, kept)
            assert (found is None) == (not free)
            if found is not None:
                assert found in free
                least = min(change(distributions, proposal, member) for member in free)
                assert change(distributions, proposal, found) == least
        partial = {name: proposal[name] for name in choices if rng.random() < 0.5}
        agreeing = [m for m in members if all(m[n] == v for n, v in partial.items())]
        for name in choices.keys() - partial.keys():
            values = {member[name] for member in agreeing}
            assert feasible.allowed(partial, name) == tuple(
                v for v in choices[name] if v in values
            )
    if members:
        assert all(feasible.sample_params(rng) in members for _ in range(5))
        seen: set[Any] = set()
        for _ in members[:20]:
            nearest = feasible.nearest({}, avoid=lambda params: key(params) in seen)
            assert nearest in members
            seen.add(key(nearest))
        assert len(seen) == min(20, len(members))
    else:
        with pytest.raises(NoneFoundError, match="No parameters fit: the set is empty"):
            feasible.sample_params(rng)


@pytest.mark.parametrize("name", CASES)
def test_every_question_is_answered_as_by_enumeration(name: str) -> None:
    assert_agrees(*CASES[name], seed=0)


@given(cases(), st.integers(0, 1000))
@settings(max_examples=150)
def test_random_spaces_and_folds(case: tuple[Distributions, Fold], seed: int) -> None:
    assert_agrees(*case, seed=seed)


@pytest.mark.parametrize("name", ["knapsack", "strides must divide", "conditional"])
def test_samples_are_uniform(name: str) -> None:
    distributions, fold = CASES[name]
    feasible, members = DiscreteSet(distributions, fold), enumerated(distributions, fold)
    rng, draws = np.random.default_rng(0), 30 * len(members)
    drawn = Counter(key(feasible.sample_params(rng)) for _ in range(draws))
    assert set(drawn) == {key(member) for member in members}
    expected = draws / len(members)
    statistic = sum((number - expected) ** 2 / expected for number in drawn.values())
    # Chi-square has a mean of n - 1 and a variance of 2 (n - 1).
    freedom = len(members) - 1
    assert abs(statistic - freedom) < 4 * (2 * freedom) ** 0.5


def test_states_that_are_equal_merge() -> None:
    distributions = {f"x{n}": IntDistribution(0, 9) for n in range(40)}
    feasible = DiscreteSet(distributions, Fold(0, lambda s, name, v: s + v, lambda s: s == 180))
    assert max(len(layer.first) - 1 for layer in feasible._paths.layers) <= 9 * 39 + 1
    # The middle coefficient of (1 + z + ... + z^9)^40, by multiplying polynomials of integers.
    coefficients = [1]
    for _ in range(40):
        longer = [0] * (len(coefficients) + 9)
        for power, coefficient in enumerate(coefficients):
            for value in range(10):
                longer[power + value] += coefficient
        coefficients = longer
    assert feasible.count == coefficients[180] > 2**63
    assert str(feasible) == f"{feasible.count:,} of {10**40:,} fit"
    assert sum(feasible.sample_params(np.random.default_rng(0)).values()) == 180


def test_decimal_steps_are_what_they_say() -> None:
    feasible = DiscreteSet(
        {"x": FloatDistribution(0.0, 0.5, step=0.1)}, Fold((), lambda s, n, v: (v,))
    )
    assert feasible.choices() == {"x": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)}
    assert feasible.contains({"x": 3 * 0.1})
    assert feasible.nearest({"x": 3 * 0.1}) == {"x": 0.3}
    assert not feasible.contains({"x": 0.31})


def test_parameters_with_one_choice_may_be_left_out() -> None:
    feasible = DiscreteSet(*CASES["conditional"])
    member = feasible.sample_params(np.random.default_rng(0))
    assert feasible.contains({name: member[name] for name in member if name != "only"})


# -- mistakes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distribution", "message"),
    [
        (FloatDistribution(0, 1), r"`x` must be discrete .* but got FloatDistribution\(high=1"),
        (FloatDistribution(0.1, 1, log=True), r"`x` must be discrete"),
        ([1, 2, 3], r"`x` must be discrete .* but got \[1, 2, 3\]"),
        (IntDistribution(0, 10**9), r"`x` may have 100,000 values at most, but has 1,000,000,001"),
        (FloatDistribution(0, 1, step=1e-7), r"`x` may have 100,000 values .* 10,000,001"),
        (CategoricalDistribution([1, True]), r"`x` must differ .* got \(1, True\)"),
        (CategoricalDistribution([float("nan"), 1]), r"`x` must differ .* \(nan, 1\)"),
    ],
)
def test_what_is_not_discrete(distribution: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiscreteSet({"y": IntDistribution(0, 1), "x": distribution}, Fold(0, lambda s, n, v: s))


@pytest.mark.filterwarnings("ignore:Choices for a categorical")
def test_choices_that_cannot_be_hashed() -> None:
    with pytest.raises(ValueError, match=r"Choices of `x` must be hashable, but got \[1\]"):
        DiscreteSet({"x": CategoricalDistribution([[1], 2])}, Fold(0, lambda s, n, v: s))


def test_no_parameters() -> None:
    with pytest.raises(ValueError, match="`distributions` must name at least one parameter"):
        DiscreteSet({}, Fold(0, lambda s, n, v: s))


def test_nothing_says_what_fits() -> None:
    with pytest.raises(ValueError, match="Either a fold or a function `fits`"):
        DiscreteSet(NUMBERS)


def fail(*_: Any) -> Any:
    raise KeyError("lost")


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        (
            Fold(0, lambda s, name, v: fail() if name == "lamp" and v == 2 else s),
            r"`step` for `lamp` = 2 in the state 0 has failed with KeyError: 'lost'\.",
        ),
        (
            Fold(0, lambda s, name, v: v, fail),
            r"`accept` for the state 0 behind `food` = 0 has failed with KeyError",
        ),
        (
            Fold(0, lambda s, name, v: v, lambda s: None),  # type: ignore[arg-type,return-value]
            r"`accept` for the state 0 behind `food` = 0 must give True or False, but gave None",
        ),
        (
            Fold(0, lambda s, name, v: [v]),  # type: ignore[arg-type,return-value]
            r"The state given by `step` for `tent` = 0 in the state 0 must be hashable, .*\[0\]",
        ),
        (
            Fold([], lambda s, name, v: s),  # type: ignore[arg-type]
            r"`start` of a fold must be hashable, such as a number or a tuple, but is \[\]",
        ),
    ],
)
def test_functions_that_fail(fold: Fold, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiscreteSet(NUMBERS, fold)


@pytest.mark.parametrize("limit", ["MAX_STATES", "MAX_EDGES"])
def test_states_that_do_not_merge(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold_module, limit, 1000)
    distributions = {name: IntDistribution(0, 9) for name in "abcdef"}
    remember: Callable[..., Any] = lambda state, name, value: (*state, value)  # noqa: E731
    name = "d" if limit == "MAX_STATES" else "c"
    with pytest.raises(ValueError, match=rf"states of the fold do not merge: `{name}`, with 10"):
        DiscreteSet(distributions, Fold((), remember))


def test_parameters_that_are_not_offered() -> None:
    feasible = DiscreteSet(*CASES["knapsack"])
    assert not feasible.contains(dict.fromkeys(WEIGHTS, 9))
    assert not feasible.contains(dict.fromkeys(WEIGHTS, "0"))
    for ask in (feasible.nearest, feasible.allowed):
        with pytest.raises(ValueError, match=r"`rope` must be one of 0, 1, 2, 3, but got 9\."):
            ask({"rope": 9})
        with pytest.raises(ValueError, match=r"`roop` must be one of the parameters: tent, rope"):
            ask({"roop": 1})
    with pytest.raises(ValueError, match=r"`rope` is missing; the parameters are tent"):
        feasible.contains({"tent": 0})
    with pytest.raises(ValueError, match=r"`roop` must be one of the parameters"):
        feasible.contains(dict.fromkeys(WEIGHTS, 0) | {"roop": 1})
    with pytest.raises(ValueError, match=r"undecided parameter .* but got None"):
        feasible.allowed(dict.fromkeys(WEIGHTS, 0))
