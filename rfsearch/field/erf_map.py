"""Numbers of an effective receptive field, read off its map.

A map holds how much each input pixel matters to one output unit. `map` is the mean
|gradient| per pixel and `power` the mean squared gradient; both may be on any scale, since every
number here is free of it. Maps are `(height, width)`, distances are in px of the network input.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rfsearch.field._row_profile import RowProfile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Share of the |gradient| that the canonical ERF size holds.
ERF_SHARE = 0.95
#: Shares of the |gradient| whose squares are reported: those of RepLKNet, and the canonical one.
SQUARE_SHARES = (0.2, 0.3, 0.5, 0.95, 0.99)
#: Luo et al. count the pixels above this share of the centre's value: 1 - 95.45 %, which is what
#: a normal distribution holds outside of two standard deviations.
LUO_THRESHOLD = 1 - 0.9545


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
        theoretical_size: Side of the theoretical receptive field, in px; NaN where that is not
            known, and then so are the numbers that are relative to it.
    """

    map: NDArray[np.float64]
    power: NDArray[np.float64]
    center: Center
    theoretical_size: float

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

    @property
    def row_profile(self) -> RowProfile:
        """|gradient| along the centre row: the mean of the two rows beside a centre between them.

        Its numbers say how nearly Gaussian the receptive field is.
        """
        rows = [math.floor(self.center.y), math.ceil(self.center.y)]
        values = self.map[np.clip(rows, 0, len(self.map) - 1)].mean(axis=0)
        return RowProfile(_offsets(self.map, self.center)[1], values / values.sum())

    def square(self, share: float) -> int:
        """Side in px of the smallest centred square that holds `share` of the |gradient|.

        Raises:
            ValueError: If `share` is not in (0, 1].
        """
        return 1 + self._reach(share)

    def squares(self, shares: Sequence[float] = SQUARE_SHARES) -> dict[float, int]:
        """Sides in px of the smallest centred squares that hold each share of the |gradient|.

        Raises:
            ValueError: If a share is not in (0, 1].
        """
        return {share: self.square(share) for share in shares}

    def side_between_pixels(self, share: float = ERF_SHARE) -> float:
        """`square`, interpolated between the sides that pixels allow: what spreads are taken of.

        Raises:
            ValueError: If `share` is not in (0, 1].
        """
        reach = self._reach(share)
        total = self.map.sum()
        below, held = self._held(reach - 2) / total, self._held(reach) / total
        step = min(2, 1 + reach)
        return 1 + reach - step * (held - share) / (held - below) if held > below else 1.0 + reach

    @property
    def luo_count(self) -> int:
        """Pixels above 1 - 95.45 % of the value at the centre: the "2 sigma" count of Luo et al.

        "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks",
        NeurIPS 2016, section 3. The value at the centre is one pixel's (the upper left one of
        those around a centre between pixels), so it needs more images than `size` does.
        """
        row, column = (
            min(max(math.floor(middle), 0), pixels - 1)
            for middle, pixels in zip(self.center, self.map.shape, strict=True)
        )
        return int(np.count_nonzero(self.map > LUO_THRESHOLD * self.map[row, column]))

    @property
    def luo_size(self) -> float:
        """Side in px of a square of `luo_count` pixels: the ERF size of Luo et al."""
        return math.sqrt(self.luo_count)

    def _repr_svg_(self) -> str:
        """The map for notebooks."""
        from rfsearch.basics.notebook import heat_map

        return heat_map(self.map, self.center, self.size, self.theoretical_size)

    def _reach(self, share: float) -> int:
        """Twice the distance in px to which the smallest square that holds `share` reaches."""
        if not 0 < share <= 1:
            raise ValueError(f"`0 < share <= 1` must hold, but got {share=}.")
        y, x = _offsets(self.map, self.center)
        # Sides are 1 + twice a distance, an integer also where the centre lies between pixels.
        largest = round(2 * max(-y[0], y[-1], -x[0], x[-1]))
        # The slack absorbs the rounding of the sums, so that share=1 is found.
        target = (share - 1e-12) * self.map.sum()
        return bisect_left(range(largest + 1), target, key=self._held)

    def _held(self, reach: int) -> float:
        """Sum of the |gradient| not further than half of `reach` from the centre, in px."""
        spans = []
        for offsets in _offsets(self.map, self.center):
            (inside,) = np.nonzero(2 * np.abs(offsets) <= reach)
            if not len(inside):
                return 0.0
            spans.append(slice(inside[0], inside[-1] + 1))
        height, width = spans
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
