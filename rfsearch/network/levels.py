"""How the levels of a pyramid share a range of object sizes; `rfsearch.target` has the rule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

Bounds = tuple[float, float]


def split_range(
    low: float, high: float, strides: Mapping[str, int], meant: Bounds, reach: Bounds
) -> dict[str, Bounds]:
    """The part of each level of the sizes from `low` to `high` px.

    Args:
        low: Smallest size in px.
        high: Largest size in px.
        strides: Stride of each level in px, by name.
        meant: Smallest and largest size that a level is meant for, in strides.
        reach: Smallest and largest size that a level can serve, in strides.

    Returns:
        Smallest and largest size in px by the names of the levels that have a part, the finest
        first.

    Raises:
        ValueError: If strides are not positive and different, or no level serves some sizes.

    >>> split_range(10, 100, {"fine": 4, "coarse": 8}, (4, 8), (2, 16))
    {'fine': (10, 32.0), 'coarse': (32.0, 100)}
    """
    served = served_ranges(strides, meant, reach)
    if gaps := _gaps(low, high, list(served.values())):
        raise ValueError(_unserved(gaps, strides, served, reach))
    parts = {name: (max(low, start), min(high, end)) for name, (start, end) in served.items()}
    if low == high:
        return dict([next(part for part in parts.items() if part[1] == (low, high))])
    return {name: (start, end) for name, (start, end) in parts.items() if start < end}


def served_ranges(strides: Mapping[str, int], meant: Bounds, reach: Bounds) -> dict[str, Bounds]:
    """The sizes in px that each level serves, the finest first; neighbours meet if they can.

    Raises:
        ValueError: If there is no level, or strides are not positive and different.

    >>> served_ranges({"P2": 4, "P3": 8, "P6": 128}, (4, 8), (2, 16))
    {'P2': (8, 32.0), 'P3': (32.0, 128), 'P6': (256, 2048)}
    """
    ordered = dict(sorted(strides.items(), key=lambda level: level[1]))
    if not ordered or min(ordered.values()) <= 0 or len(set(ordered.values())) < len(ordered):
        raise ValueError(
            f"`strides` must be positive and different for each level, but got {dict(strides)}."
        )
    starts, ends = [reach[0] * min(ordered.values())], []
    for fine, coarse in pairwise(ordered.values()):
        end, start = reach[1] * fine, reach[0] * coarse
        if start <= end:
            middle = math.sqrt(meant[1] * fine * meant[0] * coarse)
            end = start = min(max(middle, start), end)
        ends.append(end)
        starts.append(start)
    ends.append(reach[1] * max(ordered.values()))
    return dict(zip(ordered, zip(starts, ends, strict=True), strict=True))


def _gaps(low: float, high: float, served: list[Bounds]) -> list[Bounds]:
    """The parts of the sizes that lie between or outside the ranges that are served."""
    edges = [0.0, *(edge for bounds in served for edge in bounds), math.inf]
    outside = zip(edges[::2], edges[1::2], strict=True)
    gaps = [(max(low, start), min(high, end)) for start, end in outside]
    return [
        (start, end)
        for start, end in gaps
        if start < end or (start == end == low == high and not _is_served(low, served))
    ]


def _is_served(size: float, served: list[Bounds]) -> bool:
    return any(start <= size <= end for start, end in served)


def _unserved(
    gaps: list[Bounds], strides: Mapping[str, int], served: Mapping[str, Bounds], reach: Bounds
) -> str:
    sizes = " and ".join(f"{start:g} to {end:g} px" for start, end in gaps)
    levels = ", ".join(
        f"{name} (stride {strides[name]} px: {start:g} to {end:g} px)"
        for name, (start, end) in served.items()
    )
    remedies = {_remedy(gap, served, reach): None for gap in gaps}
    return f"No level serves objects of {sizes}; the levels are {levels}. {' '.join(remedies)}"


def _remedy(gap: Bounds, served: Mapping[str, Bounds], reach: Bounds) -> str:
    start, end = gap
    smallest = min(low for low, _ in served.values())
    if end > smallest:
        # A power of two whose middle is as near as can be to that of the gap.
        middle = math.sqrt(start * end / (reach[0] * reach[1]))
        return f"Add a level of stride {2 ** max(0, round(math.log2(middle)))} px."
    if start < reach[0]:
        return f"Enlarge the input: even a stride of 1 px serves objects from {reach[0]:g} px on."
    return f"Add a level of stride {2 ** math.floor(math.log2(start / reach[0]))} px."
