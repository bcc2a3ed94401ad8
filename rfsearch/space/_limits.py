"""Bounds of what the graph of the feasible set carries from decision to decision."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from rfsearch.space._candidates import Candidates
    from rfsearch.space.constraint import RFConstraint


#: Random candidates that tell which bounds on costs matter.
_SAMPLES = 100


class Limits(NamedTuple):
    """Bounds of the carried quantities; an infinite upper bound is none."""

    size: tuple[float, float] = (0, math.inf)
    stride: float = math.inf
    erf: tuple[float, float] = (0, math.inf)
    parameters: float = math.inf
    flops: float = math.inf
    memory: float = math.inf

    @property
    def need_erf(self) -> bool:
        """Whether the variance has to be carried."""
        return self.erf != (0, math.inf)

    @property
    def need_cost(self) -> bool:
        """Whether parameters and operations have to be carried."""
        return min(self.parameters, self.flops, self.memory) < math.inf


def limits_of(constraint: RFConstraint) -> Limits:
    """What a constraint's closed-form gates ask of the carried quantities."""
    ranges = constraint.ranges()
    size, erf = (0.0, math.inf), (0.0, math.inf)
    if "theoretical" in ranges:
        size = ranges["theoretical"][:2]
    if "expected" in ranges:
        erf = ranges["expected"][:2]
        # An ERF is never larger than the theoretical receptive field.
        size = (max(size[0], erf[0]), size[1])
    highs = {gate: allowed.high for gate, allowed in ranges.items()}
    return Limits(
        size=size,
        stride=highs.get("output_stride", math.inf),
        erf=erf,
        parameters=1e6 * highs.get("parameters", math.inf),
        flops=1e9 * highs.get("flops", math.inf),
        memory=2**20 * highs.get("training_memory", math.inf),
    )


def binding(limits: Limits, space: Candidates, constraint: RFConstraint) -> Limits:
    """The limits without those of costs that hardly any candidate exceeds.

    To carry such costs takes time and saves the rejection of few paths, which are checked anyway.
    """
    if not limits.need_cost or constraint.budget is None:
        return limits
    budget, ranges = constraint.budget, constraint.ranges()
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
