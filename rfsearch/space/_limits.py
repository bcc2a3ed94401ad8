"""Bounds of what the graph of the feasible set carries from decision to decision."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rfsearch.basics.axes import AXIS_NAMES

if TYPE_CHECKING:
    from rfsearch.basics.ranges import Range
    from rfsearch.space._candidates import Candidates
    from rfsearch.space.constraint import RFConstraint


#: Random candidates that tell which bounds on costs matter.
_SAMPLES = 100


#: Lowest and highest value.
Bounds = tuple[float, float]
ANY: Bounds = (0.0, math.inf)


class Limits(NamedTuple):
    """Bounds of the carried quantities; an infinite upper bound is none.

    Those of sizes and of ERFs are of each axis that the space tells apart. The least share of a
    field that is touched is not carried, and that of a map that is read need not be.
    """

    size: tuple[Bounds, ...]
    erf: tuple[Bounds, ...]
    stride: float = math.inf
    parameters: float = math.inf
    flops: float = math.inf
    memory: float = math.inf
    touched: float = 0.0
    read: float = 0.0

    @property
    def need_erf(self) -> bool:
        """Whether the variance has to be carried."""
        return any(bounds != ANY for bounds in self.erf)

    def without_erf(self) -> Limits:
        """The same without bounds of ERFs."""
        return self._replace(erf=(ANY,) * len(self.erf))

    @property
    def need_cost(self) -> bool:
        """Whether parameters and operations have to be carried."""
        return min(self.parameters, self.flops, self.memory) < math.inf


def limits_of(constraint: RFConstraint, space: Candidates) -> Limits:
    """What a constraint's closed-form gates ask of the carried quantities."""
    every = [constraint.ranges(axis) for axis in AXIS_NAMES[space.axes]]
    # Axes that the space does not tell apart have to fit all at once.
    ends = list(accumulate(space.alike))
    groups = [every[end - number : end] for end, number in zip(ends, space.alike, strict=True)]
    erf = [_within(group, "expected") for group in groups]
    # An ERF is never larger than the theoretical receptive field.
    size = [
        (max(low, lowest), high)
        for (low, high), (lowest, _) in zip(
            (_within(group, "theoretical") for group in groups), erf, strict=True
        )
    ]
    highs = {gate: allowed.high for gate, allowed in every[0].items()}
    gaps = every[0].get("gridding")
    return Limits(
        size=tuple(size),
        erf=tuple(erf),
        stride=min(highs.get("output_stride", math.inf), _finest(every, space)),
        parameters=1e6 * highs.get("parameters", math.inf),
        flops=1e9 * highs.get("flops", math.inf),
        memory=2**20 * highs.get("training_memory", math.inf),
        touched=gaps.low if gaps else 0.0,
        read=every[0]["skipped"].low if "skipped" in every[0] else 0.0,
    )


def _finest(every: list[dict[str, Range]], space: Candidates) -> float:
    """Largest stride of the only map that leaves units enough along any axis."""
    if has_several_maps(space):
        return math.inf
    return max(
        each["finest_stride"].high if "finest_stride" in each else math.inf for each in every
    )


def has_several_maps(space: Candidates) -> bool:
    """Whether necks on offer give more than one map, or one that is finer than the last stage."""
    necks = [neck for neck in space.neck.outcomes if neck is not None] if space.neck else []
    last = len(space.stages) + 1
    return any(neck.upsamples or len(neck.levels(last)) > 1 for neck in necks)


def _within(ranges: list[dict[str, Range]], gate: str) -> Bounds:
    """The values that a gate lets pass along all of some axes."""
    asked = [each[gate] for each in ranges if gate in each]
    return max((a.low for a in asked), default=0.0), min((a.high for a in asked), default=math.inf)


def binding(limits: Limits, space: Candidates, constraint: RFConstraint) -> Limits:
    """The limits without those of costs that hardly any candidate exceeds.

    To carry such costs takes time and saves the rejection of few paths, which are checked anyway.
    """
    if not limits.need_cost or constraint.budget is None:
        return limits
    budget, ranges = constraint.budget, constraint.budget.ranges()
    exceeded: set[str] = set()
    rng = np.random.default_rng(0)
    for _ in range(_SAMPLES):
        architecture = space.sample(rng)
        if budget.takes(architecture):
            needs = budget.values(architecture)
            exceeded |= {gate for gate in needs if needs[gate] > ranges[gate].high}
    return limits._replace(
        parameters=limits.parameters if "parameters" in exceeded else math.inf,
        flops=limits.flops if "flops" in exceeded else math.inf,
        memory=limits.memory if "training_memory" in exceeded else math.inf,
    )
