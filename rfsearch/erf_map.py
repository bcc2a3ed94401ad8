"""Numbers of an effective receptive field, read off its map.

A map holds how much each input pixel matters to one output unit. `map` is the mean
|gradient| per pixel and `power` the mean squared gradient; both may be on any scale, since every
number here is free of it. Maps are `(height, width)`, distances are in px of the network input.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Share of the |gradient| that the canonical ERF size holds.
ERF_SHARE = 0.95


class Center(NamedTuple):
    """A position in a map, in px: half-integers lie between two pixels."""

    y: float
    x: float


@dataclass(frozen=True, eq=False)
class ErfMap:
    """An effective receptive field around the centre of one output unit's receptive field.

    Attributes:
        map: Mean |gradient|, `(height, width)`, summing to 1.
        power: Mean squared gradient, `(height, width)`, summing to 1.
        center: Centre of the unit's theoretical receptive field, in the map's pixels.
        theoretical_size: Side of the theoretical receptive field, in px.
    """

    map: NDArray[np.float64]
    power: NDArray[np.float64]
    center: Center
    theoretical_size: int

    @property
    def size(self) -> int:
        """ERF size in px: side of the smallest centred square with 95 % of the |gradient|."""
        return self.square(ERF_SHARE)

    @property
    def ratio(self) -> float:
        """ERF ratio: ERF size over theoretical receptive field size, along one axis."""
        return self.size / self.theoretical_size

    @property
    def sigma(self) -> float:
        """RMS radius per axis of the squared-gradient map about the centre, in px."""
        y, x = _offsets(self.power, self.center)
        variance_y = float(self.power.sum(axis=1) @ y**2)
        variance_x = float(self.power.sum(axis=0) @ x**2)
        return float(np.sqrt((variance_y + variance_x) / 2))

    @property
    def fwhm(self) -> int:
        """Width in px of the centre row between the outermost pixels at half its maximum."""
        row = self.map[min(round(self.center.y), len(self.map) - 1)]
        (above,) = np.nonzero(row >= row.max() / 2)
        return int(above[-1] - above[0] + 1)

    def square(self, share: float) -> int:
        """Side in px of the smallest centred square that holds `share` of the |gradient|.

        Raises:
            ValueError: If `share` is not in (0, 1].
        """
        if not 0 < share <= 1:
            raise ValueError(f"`0 < share <= 1` must hold, but got {share=}.")
        y, x = (2 * np.abs(offsets) for offsets in _offsets(self.map, self.center))
        # Sides are 1 + twice a distance, an integer also where the centre lies between pixels.
        largest = round(max(y[0], y[-1], x[0], x[-1]))
        # The slack absorbs the rounding of the sums, so that share=1 is found.
        target = (share - 1e-12) * self.map.sum()
        return 1 + bisect_left(
            range(largest + 1), target, key=lambda reach: self._held(y <= reach, x <= reach)
        )

    def _held(self, rows: NDArray[np.bool_], columns: NDArray[np.bool_]) -> float:
        """Sum of the |gradient| over some contiguous rows and columns."""
        height, width = (slice(a.argmax(), a.argmax() + a.sum()) for a in (rows, columns))
        return float(self.map[height, width].sum())

    def area_ratio(self, share: float) -> float:
        """Share of the map's area inside `square(share)`: the ratio r of RepLKNet, unlogged.

        Ding et al., "Scaling Up Your Kernels to 31x31", CVPR 2022, table 1.
        """
        return min(1.0, self.square(share) ** 2 / self.map.size)

    def fraction_above(self, threshold: float = 0.1) -> float:
        """Pixels above `threshold` times the maximum, over pixels in the theoretical field."""
        above = np.count_nonzero(self.map > threshold * self.map.max())
        return float(above / self.theoretical_size**2)


def _offsets(
    grid: NDArray[np.float64], center: Center
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances of rows and of columns from the centre, in px."""
    height, width = grid.shape
    return np.arange(float(height)) - center.y, np.arange(float(width)) - center.x
