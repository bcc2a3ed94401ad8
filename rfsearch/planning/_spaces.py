"""A search space whose feasible set is diverse, found by counting those of larger and larger ones.

The spaces differ in stages, depths and dilations: what a receptive field grows with. The one is
taken whose number of candidates that fit is closest to `AIM`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from rfsearch.basics.validation import parse
from rfsearch.planning._sizing import Sizing
from rfsearch.space.budget import Budget
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.space import SearchSpace

#: Fewest and most candidates that fit, and how many are best: a search of tens of trainings has a
#: choice, and its samplers still meet neighbours.
DIVERSITY, AIM = (100, 1_000_000), 10_000
#: Powers of ten from the aim that are close enough to stop.
_CLOSE = 1.3
#: Random members that are checked for an estimate.
_CHECKED = 60
#: Largest strides of several output maps that are tried.
_COARSEST = 32


class Counted(NamedTuple):
    """A space and its feasible set.

    Attributes:
        values: As a file says it.
        space: The same.
        constraint: What has to fit.
        low: Fewest candidates that fit, where they cannot be counted exactly with 95 % certainty.
        high: Most of them.
    """

    values: dict[str, Any]
    space: SearchSpace
    constraint: RFConstraint
    low: float
    high: float

    @property
    def middle(self) -> float:
        """Geometric mean of both."""
        return math.sqrt(self.low * self.high)

    @property
    def is_diverse(self) -> bool:
        """Whether the number is within `DIVERSITY`."""
        return DIVERSITY[0] <= self.low and self.high <= DIVERSITY[1]


def find_space(
    sizing: Sizing, constraint: RFConstraint, budget: Budget, width: int, levels: bool
) -> Counted | None:
    """The best space; None if none is diverse enough.

    Args:
        sizing: What networks have to resolve.
        constraint: Which receptive fields fit.
        budget: Of the images; a bound on the output stride is added for a single map.
        width: Channels of the stem and the first stage.
        levels: Whether to look for a feature pyramid.
    """
    best = None
    for values in _pyramids(sizing, width) if levels else _stacks(sizing, width):
        one = count(values, constraint, budget)
        if not one.is_diverse:
            continue
        if best is None or _distance(one) < _distance(best):
            best = one
        if _distance(best) < _CLOSE:
            return best
    return best


def count(values: dict[str, Any], constraint: RFConstraint, budget: Budget) -> Counted:
    """Count the candidates that fit, or estimate their number."""
    space = as_space(values)
    asked = replace(constraint, budget=budget)
    feasible = space.feasible(asked)
    if feasible.is_exact:
        low, high = float(feasible.count), float(feasible.count)
    else:
        low, high = feasible.estimate(np.random.default_rng(0), _CHECKED)
    return Counted(values, space, asked, low, high)


def widened(values: dict[str, Any], width: int) -> dict[str, Any]:
    """The same space with other widths, of which receptive fields are independent."""
    stages = [
        stage | {"width": _widened(width, number)} for number, stage in enumerate(values["stages"])
    ]
    neck = {"neck": values["neck"] | {"width": 2 * width}} if "neck" in values else {}
    return values | {"stem": values["stem"] | {"width": width}, "stages": stages} | neck


def as_space(values: dict[str, Any]) -> SearchSpace:
    """What a file with these values says."""
    return parse(SearchSpace, values, "space.toml")


def _distance(one: Counted) -> float:
    """How far the number is from what is wanted, in powers of ten."""
    return abs(math.log10(one.middle / AIM))


def _stacks(sizing: Sizing, width: int) -> Iterator[dict[str, Any]]:
    """Stages one after another; most of the field comes from the last two."""
    stem_stride = min(2, sizing.max_output_stride)
    strides = [1] if sizing.max_output_stride <= stem_stride else [1, 2]
    kernels = _kernels(sizing)
    for number in (2, 3, 4):
        for dilations in ([1, 2], [1, 2, 4]):
            for depth in (3, 4, 6):
                stages = [
                    {
                        "block": ["plain", "basic"],
                        "depth": list(range(1, depth + 1)),
                        "width": _widened(width, stage),
                        "stride": strides,
                        "kernel_size": kernels,
                        "dilation": dilations if stage or number == 2 else 1,
                    }
                    for stage in range(number)
                ]
                stem = {"kernel_size": [3, 5], "stride": stem_stride, "width": width}
                yield {"stem": stem, "stages": stages}


def _kernels(sizing: Sizing) -> int | list[Any]:
    """Square ones, and ones along the longer axis of elongated objects."""
    target = sizing.target
    if target.height is None or target.width is None:
        return 3
    return [3, [3, 9] if target.width[1] > target.height[1] else [9, 3]]


def level_strides(sizing: Sizing) -> list[int]:
    """Strides of a pyramid: each level is meant for objects of 4 to 8 strides.

    The finest resolves the smallest objects, the coarsest is meant for the largest.
    """
    finest = max(2, min(sizing.max_output_stride, 4))
    strides = [finest]
    while strides[-1] * 8 < sizing.target.max_size and strides[-1] < _COARSEST:
        strides.append(2 * strides[-1])
    return strides


def _pyramids(sizing: Sizing, width: int) -> Iterator[dict[str, Any]]:
    strides = level_strides(sizing)
    if len(strides) < 2:
        return
    steps = [strides[0] // 2, *[2] * (len(strides) - 1)]
    for depth in (2, 3, 4, 6):
        for dilations in (1, [1, 2]):
            stages = [
                {
                    "block": ["plain", "basic"],
                    "depth": list(range(1, depth + 1)),
                    "width": _widened(width, stage),
                    "stride": step,
                    "kernel_size": [3, 5],
                    "dilation": dilations,
                }
                for stage, step in enumerate(steps)
            ]
            yield {
                "stem": {"kernel_size": [3, 5], "stride": 2, "width": width},
                "stages": stages,
                "neck": {"kind": "fpn", "width": 2 * width, "num_levels": len(strides)},
            }


def _widened(width: int, stage: int) -> int:
    """Half an octave more with every stage, in multiples of 8."""
    return 8 * max(1, round(width * 2 ** ((stage + 1) / 2) / 8))
