"""Profiles of squared gradients, taken back from the output units of a layer to its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rfsearch.field.receptive_field import ReceptiveField


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile of squared gradients over some axes.

    Attributes:
        values: One dimension for each axis.
        starts: Where the first pixel lies along each.
        axes: For each, which of the axes of an expression it is.
    """

    values: NDArray[np.float64]
    starts: tuple[int, ...]
    axes: tuple[int, ...]


class AxisTaps(NamedTuple):
    """What a window does along one axis: where its taps lie, and their shares of the gradient."""

    field: ReceptiveField
    shares: tuple[float, ...]
    dilation: int

    @property
    def is_point(self) -> bool:
        """Whether each unit looks at one unit alone, and the next at the next."""
        return len(self.shares) == self.field.stride == 1


def unit(axes: Sequence[int]) -> Profile:
    """The profile of one output unit over some axes."""
    return Profile(np.ones((1,) * len(axes)), (0,) * len(axes), tuple(axes))


def spread(grid: Profile, windows: Sequence[AxisTaps]) -> Profile:
    """Pull a profile back through a window: zeros between samples, then the taps.

    Args:
        grid: Over the output units.
        windows: Of each of an expression's axes.
    """
    if all(windows[axis].is_point for axis in grid.axes):
        moved = zip(grid.starts, grid.axes, strict=True)
        starts = [start + windows[axis].field.start for start, axis in moved]
        return Profile(grid.values, tuple(starts), grid.axes)
    values, scale, starts = grid.values, 1.0, []
    for start, axis in zip(grid.starts, grid.axes, strict=True):
        field, shares, dilation = windows[axis]
        starts.append(start * field.stride + field.start)
        if not windows[axis].is_point:
            even = len(set(shares)) == 1
            spaced = (len(values) - 1) * field.stride + 1
            spread = np.zeros((spaced + field.size - 1, *values.shape[1:]))
            for tap, share in zip(range(0, field.size, dilation), shares, strict=True):
                spread[tap : tap + spaced : field.stride] += values if even else share * values
            scale *= shares[0] if even else 1.0
            values = spread
        values = _next_axis(values)
    if scale != 1:
        values *= scale
    return Profile(values, tuple(starts), grid.axes)


def _next_axis(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same with the second axis first; after one turn for each axis, as before."""
    return values if values.ndim == 1 else np.ascontiguousarray(np.moveaxis(values, 0, -1))


def gather(grid: Profile, phases: list[dict[int, float]], gain: float) -> Profile:
    """Pull a profile back through an upsampling, the same along all axes."""
    values, starts = grid.values, []
    for first in grid.starts:
        start, matrix = _looked_at(range(first, first + len(values)), phases, gain)
        starts.append(start)
        values = _next_axis(np.tensordot(matrix, values, axes=1))
    return Profile(values, tuple(starts), grid.axes)


def _looked_at(
    rows: range, phases: list[dict[int, float]], gain: float
) -> tuple[int, NDArray[np.float64]]:
    """The first unit that rows of new units look at, and their shares `(old units, rows)`."""
    factor = len(phases)
    found = [
        (row // factor + tap, index, share / gain)
        for index, row in enumerate(rows)
        for tap, share in phases[row % factor].items()
    ]
    start = min(unit for unit, _, _ in found)
    matrix = np.zeros((max(unit for unit, _, _ in found) - start + 1, len(rows)))
    for unit, index, share in found:
        matrix[unit - start, index] += share
    return start, matrix


def mix(grids: list[Profile], weights: list[float]) -> Profile:
    """Weighted sum of profiles, each at its own place."""
    spans = [list(zip(grid.starts, grid.values.shape, strict=True)) for grid in grids]
    starts = [min(start for start, _ in axis) for axis in zip(*spans, strict=True)]
    ends = [max(start + size for start, size in axis) for axis in zip(*spans, strict=True)]
    mixed = np.zeros([end - start for start, end in zip(starts, ends, strict=True)])
    for grid, span, weight in zip(grids, spans, weights, strict=True):
        place = tuple(
            slice(start - first, start - first + size)
            for (start, size), first in zip(span, starts, strict=True)
        )
        mixed[place] += weight * grid.values
    return Profile(mixed, tuple(starts), grids[0].axes)
