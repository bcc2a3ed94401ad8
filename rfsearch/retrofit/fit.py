"""Which changes of a trained network fit, the fewest first.

Each decision alone is tried. Of several at once, what each of them does alone says what to expect
of all, in octaves: what comes nearest to the ranges so is traced, which decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from typing import TYPE_CHECKING, Any, NamedTuple

from rfsearch.space.budget import Budget
from rfsearch.space.constraint import RFConstraint

if TYPE_CHECKING:
    from rfsearch.field.receptive_field import ReceptiveField
    from rfsearch.retrofit.space import RetrofitSpace
    from rfsearch.space.verdict import Verdict
    from rfsearch.target.target import ScaleTarget
    from rfsearch.trace.result import TracedModel

#: Decisions that are changed at once, at most.
MOST_CHANGES = 4
#: Networks that are traced for each number of changes above one.
_TRACED = 8
#: One decision and the value that it is changed to.
Step = tuple[str, Any]


class Judged(NamedTuple):
    """A changed network, and what gates say of it.

    Attributes:
        steps: The decisions that are not as given, with their values.
        changes: What they change, by layer.
        traced: The trace of the changed network.
        verdicts: Of each gate.
    """

    steps: tuple[Step, ...]
    changes: dict[str, dict[str, Any]]
    traced: TracedModel
    verdicts: tuple[Verdict, ...]

    @property
    def fits(self) -> bool:
        """Whether it passes all gates in closed form."""
        return all(verdict.passes for verdict in self.verdicts)

    @property
    def misfit(self) -> float:
        """By how many octaves all gates that it fails are missed."""
        return sum(max(0.0, verdict.octaves) for verdict in self.verdicts)

    @property
    def flops(self) -> int:
        """Floating-point operations for one image."""
        return self.traced.cost().flops

    @property
    def memory(self) -> float:
        """Estimated memory of an update, in MiB, with as many images as a budget assumes."""
        return self.traced.training_memory(Budget().batch_size)

    @property
    def in_words(self) -> str:
        """The decisions that are not as given."""
        return "; ".join(_words(name, value) for name, value in self.steps) or "as given"

    def levels(self) -> Iterator[tuple[str, str | None, ReceptiveField, int]]:
        """Level, axis (where axes differ), theoretical field and expected ERF size in px."""
        traced = self.traced
        for axis in traced.axes if traced.axes_differ else (None,):
            for level, field in traced.receptive_fields(axis).items():
                yield level, axis, field, traced.expected_erf(level, axis=axis).size


@dataclass(frozen=True)
class Fitting:
    """What was found.

    Attributes:
        given: The network as it is.
        found: Changes that fit, the fewest first and then the cheapest; none where it fits as it
            is. None is changed in more than another one that fits.
        nearest: What comes nearest, where nothing fits.
        num_traced: How many networks were traced.
        out_of_reach: Of each gate that nothing passed that was traced, what came nearest to it.
    """

    given: Judged
    found: tuple[Judged, ...]
    nearest: Judged
    num_traced: int
    out_of_reach: tuple[Verdict, ...]


def constraint_for(
    space: RetrofitSpace, target: ScaleTarget, max_flops_ratio: float | None = None
) -> RFConstraint:
    """What a trained network must fulfil: the gates of a target, and a bound on its cost.

    Args:
        space: What can be changed.
        target: The objects.
        max_flops_ratio: Most FLOPs, in those of the network as it is given.

    Raises:
        ValueError: If the network as it is given cannot be judged.
    """
    if max_flops_ratio is None:
        return RFConstraint(target)
    given = space.candidate(space.given)
    assert given is not None
    return RFConstraint(
        target, budget=Budget(max_flops_g=max_flops_ratio * given.cost().flops / 1e9)
    )


def fit(space: RetrofitSpace, constraint: RFConstraint, wanted: int = 5) -> Fitting:
    """Find the changes that fit, the fewest first.

    Args:
        space: What can be changed.
        constraint: Which receptive fields and costs fit.
        wanted: After so many, no more decisions are changed at once.

    Raises:
        ValueError: If a gate cannot be judged.
    """
    return _Search(space, constraint).fitting(wanted)


class _Search:
    """Tries changes of more and more decisions at once."""

    def __init__(self, space: RetrofitSpace, constraint: RFConstraint) -> None:
        self._space, self._constraint = space, constraint
        self._judged: list[Judged] = []
        given = self._judge(())
        assert given is not None
        self._given = given

    def fitting(self, wanted: int) -> Fitting:
        number = 1
        while len(self._found) < wanted and number <= MOST_CHANGES and not self._given.fits:
            for steps in self._tried(number):
                self._judge(steps)
            number += 1
        every = sorted(self._judged, key=_order)
        nearest = min(every, key=lambda one: one.misfit)
        return Fitting(
            self._given,
            tuple(self._found),
            nearest,
            len(every),
            () if nearest.fits else tuple(_nearest_verdicts(every)),
        )

    @property
    def _found(self) -> list[Judged]:
        return sorted((one for one in self._judged if one.fits and one.steps), key=_order)

    def _judge(self, steps: tuple[Step, ...]) -> Judged | None:
        params = self._space.given | dict(steps)
        traced = self._space.candidate(params)
        if traced is None:
            return None
        verdicts = self._constraint.verdicts(traced, self._space.input_size)
        judged = Judged(steps, self._space.changes(params), traced, tuple(verdicts))
        same = any(one.changes == judged.changes for one in self._judged)
        if not same:
            self._judged.append(judged)
        return judged

    def _tried(self, number: int) -> list[tuple[Step, ...]]:
        """So many decisions at once, those that promise most first."""
        every = list(self._minimal(number))
        if number == 1:
            return every
        expected = {steps: self._expected(steps) for steps in every}
        return sorted(every, key=expected.__getitem__)[:_TRACED]

    def _minimal(self, number: int) -> Iterator[tuple[Step, ...]]:
        """All changes of so many decisions of which no part fits."""
        found = [set(one.steps) for one in self._found]
        choices = [
            [(name, value) for value in values[1:]]
            for name, values in self._space.choices().items()
        ]
        for decisions in combinations(choices, number):
            for steps in product(*decisions):
                if not any(part <= set(steps) for part in found):
                    yield steps

    def _expected(self, steps: Sequence[Step]) -> tuple[float, float]:
        """By how many octaves changes are expected to miss, and what they cost."""
        misfit = 0.0
        for gate, verdict in self._sizes.items():
            octaves = sum(self._effects[step].get(gate, math.inf) for step in steps)
            if octaves == math.inf:  # Nothing is known of one of them.
                misfit = math.inf
            elif verdict.size > 0:
                misfit += max(0.0, verdict.allowed.violation(verdict.size * 2**octaves))
        return misfit, sum(self._effects[step].get("", math.inf) for step in steps)

    @cached_property
    def _sizes(self) -> Mapping[str, Verdict]:
        return {verdict.gate: verdict for verdict in self._given.verdicts}

    @cached_property
    def _effects(self) -> dict[Step, dict[str, float]]:
        """What each choice does alone, in octaves, by gate; to the costs under no name."""
        effects: dict[Step, dict[str, float]] = {
            (name, value): {}
            for name, values in self._space.choices().items()
            for value in values[1:]
        }
        for one in self._judged:
            if len(one.steps) == 1:
                effects[one.steps[0]] = {
                    verdict.gate: math.log2(verdict.size / self._sizes[verdict.gate].size)
                    for verdict in one.verdicts
                    if verdict.size > 0 and self._sizes[verdict.gate].size > 0
                } | {"": math.log2(one.flops / self._given.flops)}
        return effects


def _words(name: str, value: Any) -> str:
    place, _, what = name.rpartition(".")
    if what == "stride":
        return f"{place} {value}"
    return f"{place} left out" if what == "skip" else f"{place} {what} x{value:g}"


def _order(one: Judged) -> tuple[int, float]:
    return len(one.steps), one.flops


def _nearest_verdicts(every: Sequence[Judged]) -> Iterator[Verdict]:
    """Of each gate that none passes, what comes nearest to it."""
    for verdict in every[0].verdicts:
        of_gate = [v for one in every for v in one.verdicts if v.gate == verdict.gate]
        best = min(of_gate, key=lambda one: one.octaves)
        if not best.passes:
            yield best
