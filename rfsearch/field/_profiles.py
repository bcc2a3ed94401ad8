"""Profiles of squared gradients, taken back from the output units of a layer to its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rfsearch.field.receptive_field import ReceptiveField

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile of squared gradients, `(size, size)`, whose first pixel lies at `start`."""

    values: NDArray[np.float64]
    start: int


def spread(
    grid: Profile, field: ReceptiveField, shares: tuple[float, ...], dilation: int
) -> Profile:
    """Pull a profile back through one window: zeros between samples, then the taps."""
    values = grid.values
    if len(shares) == field.stride == 1:
        return Profile(values, grid.start + field.start)
    even = len(set(shares)) == 1
    for _ in range(2):  # Each pass handles the first axis and then swaps the axes.
        spaced = (len(values) - 1) * field.stride + 1
        spread = np.zeros((spaced + field.size - 1, values.shape[1]))
        for tap, share in zip(range(0, field.size, dilation), shares, strict=True):
            spread[tap : tap + spaced : field.stride] += values if even else share * values
        values = np.ascontiguousarray(spread.T)
    if even:
        values *= shares[0] ** 2
    return Profile(values, grid.start * field.stride + field.start)


def gather(grid: Profile, phases: list[dict[int, float]], gain: float) -> Profile:
    """Pull a profile back through an upsampling."""
    values, factor = grid.values, len(phases)
    rows = range(grid.start, grid.start + len(values))
    looked_at = [
        (row // factor + tap, index, share / gain)
        for index, row in enumerate(rows)
        for tap, share in phases[row % factor].items()
    ]
    start = min(unit for unit, _, _ in looked_at)
    matrix = np.zeros((max(unit for unit, _, _ in looked_at) - start + 1, len(values)))
    for unit, index, share in looked_at:
        matrix[unit - start, index] += share
    return Profile(matrix @ values @ matrix.T, start)


def mix(grids: list[Profile], weights: list[float]) -> Profile:
    """Weighted sum of profiles, each at its own place."""
    start = min(grid.start for grid in grids)
    end = max(grid.start + len(grid.values) for grid in grids)
    mixed = np.zeros((end - start, end - start))
    for grid, weight in zip(grids, weights, strict=True):
        place = slice(grid.start - start, grid.start - start + len(grid.values))
        mixed[place, place] += weight * grid.values
    return Profile(mixed, start)
