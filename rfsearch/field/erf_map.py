"""Numbers of an effective receptive field, read off its map.

A map holds how much each input pixel matters to one output unit. `map` is the mean
|gradient| per pixel and `power` the mean squared gradient; both may be on any scale, since every
number here is free of it. Maps have a dimension for each axis of the input, `(height, width)` of
images; distances are in px of the network input.

The ERF *size* is the side of the smallest centred cube (a square in images) that holds 95 % of
the |gradient|. Where axes differ, `sizes` are the sides of the smallest centred box that does so
and whose sides hold equal shares of it along their axes: of a map that is alike along all axes,
the cube.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rfsearch.basics.axes import ByAxis
from rfsearch.field._row_profile import RowProfile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Share of the |gradient| that the canonical ERF size holds.
ERF_SHARE = 0.95
#: Shares of the |gradient| whose squares are reported: those of RepLKNet, and the canonical one.
SQUARE_SHARES = (0.2, 0.3, 0.5, 0.95, 0.99)
#: Of a sum's rounding, so that what is all of it is found.
_SLACK = 1e-12
#: Luo et al. count the pixels above this share of the centre's value: 1 - 95.45 %, which is what
#: a normal distribution holds outside of two standard deviations.
LUO_THRESHOLD = 1 - 0.9545


class AxisERF(NamedTuple):
    """Numbers of an effective receptive field along one axis, in px.

    Attributes:
        size: One of `ErfMap.sizes`.
        sigma: RMS radius of the squared gradient along the axis.
        fwhm: Width of the line through the centre between the outermost pixels at half its
            maximum.
        theoretical_size: Of the theoretical receptive field; NaN where that is not known.
    """

    size: int
    sigma: float
    fwhm: int
    theoretical_size: float


class Center(NamedTuple):
    """A position in a map, in px: half-integers lie between two pixels."""

    y: float
    x: float


@dataclass(frozen=True, eq=False)
class ErfMap:
    """An effective receptive field around the centre of one output unit's receptive field.

    Attributes:
        map: Mean |gradient|, such as `(height, width)`, summing to 1.
        power: Mean squared gradient, of the same shape, summing to 1.
        center: Centre of the unit's theoretical receptive field, in the map's pixels.
        theoretical_size: Longest side of the theoretical receptive field, in px; NaN where that
            is not known, and then so are the numbers that are relative to it.
        theoretical_sizes: Its sides along each axis, in px; none where they are not known.
    """

    map: NDArray[np.float64]
    power: NDArray[np.float64]
    center: tuple[float, ...]
    theoretical_size: float
    theoretical_sizes: tuple[float, ...] = field(default=(), kw_only=True)

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
        return math.sqrt(sum(sigma**2 for sigma in self.sigmas) / len(self.sigmas))

    @property
    def sigmas(self) -> tuple[float, ...]:
        """The same along each axis."""
        offsets = _offsets(self.power, self.center)
        return tuple(
            math.sqrt(_marginal(self.power, axis) @ along**2) for axis, along in enumerate(offsets)
        )

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """ERF size in px along each axis: sides of the smallest box, as the module says."""
        axes = [
            _Axis.of(_marginal(self.map, axis), along)
            for axis, along in enumerate(_offsets(self.map, self.center))
        ]
        shares = sorted({share for axis in axes for share in axis.held})
        target = (ERF_SHARE - _SLACK) * self.map.sum()

        def held(share: float) -> float:
            return float(self.map[tuple(axis.span(axis.reach(share)) for axis in axes)].sum())

        share = shares[bisect_left(shares, target, key=held)]
        return tuple(1 + axis.reach(share) for axis in axes)

    @property
    def fwhm(self) -> int:
        """Width in px of the centre row between the outermost pixels at half its maximum."""
        return self._fwhm(self.map.ndim - 1)

    def _fwhm(self, axis: int) -> int:
        """The same of the line through the centre along an axis."""
        pairs = zip(self.center, self.map.shape, strict=True)
        middle = [min(round(place), pixels - 1) for place, pixels in pairs]
        line = self.map[(*middle[:axis], slice(None), *middle[axis + 1 :])]
        (above,) = np.nonzero(line >= line.max() / 2)
        return int(above[-1] - above[0] + 1)

    @property
    def axes(self) -> dict[str, AxisERF]:
        """Size, sigma and full width at half maximum along each axis, by its name."""
        fields = self.theoretical_sizes or (math.nan,) * self.map.ndim
        widths = map(self._fwhm, range(self.map.ndim))
        numbers = zip(self.sizes, self.sigmas, widths, fields, strict=True)
        return ByAxis(*(AxisERF(*one) for one in numbers)).named

    @property
    def row_profile(self) -> RowProfile:
        """|gradient| along the centre row: the mean of the two rows beside a centre between them.

        Its numbers say how nearly Gaussian the receptive field is.
        """
        values = self.map
        for middle in self.center[:-1]:
            rows = [math.floor(middle), math.ceil(middle)]
            values = values[np.clip(rows, 0, len(values) - 1)].mean(axis=0)
        return RowProfile(_offsets(self.map, self.center)[-1], values / values.sum())

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
        below = self._held[reach - 2] / self._held[-1] if reach >= 2 else 0.0
        held = self._held[reach] / self._held[-1]
        step = min(2, 1 + reach)
        return 1 + reach - step * (held - share) / (held - below) if held > below else 1.0 + reach

    @property
    def luo_count(self) -> int:
        """Pixels above 1 - 95.45 % of the value at the centre: the "2 sigma" count of Luo et al.

        "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks",
        NeurIPS 2016, section 3. The value at the centre is one pixel's (the upper left one of
        those around a centre between pixels), so it needs more images than `size` does.
        """
        place = tuple(
            min(max(math.floor(middle), 0), pixels - 1)
            for middle, pixels in zip(self.center, self.map.shape, strict=True)
        )
        return int(np.count_nonzero(self.map > LUO_THRESHOLD * self.map[place]))

    @property
    def luo_size(self) -> float:
        """Side in px of a square of `luo_count` pixels: the ERF size of Luo et al."""
        return float(self.luo_count ** (1 / self.map.ndim))

    def _repr_svg_(self) -> str | None:
        """The map of an image for notebooks."""
        from rfsearch.basics.notebook import heat_map

        if self.map.ndim != 2:
            return None
        y, x = self.center
        return heat_map(self.map, (y, x), self.size, self.theoretical_size)

    def _reach(self, share: float) -> int:
        """Twice the distance in px to which the smallest square that holds `share` reaches."""
        if not 0 < share <= 1:
            raise ValueError(f"`0 < share <= 1` must hold, but got {share=}.")
        return int(np.searchsorted(self._held, (share - _SLACK) * self._held[-1]))

    @cached_property
    def _held(self) -> NDArray[np.float64]:
        """The |gradient| inside each centred square, by twice the distance to which it reaches.

        That is an integer also where the centre lies between pixels.
        """
        along = [np.rint(2 * np.abs(one)).astype(int) for one in _offsets(self.map, self.center)]
        ring = reduce(np.maximum.outer, along)
        return np.cumsum(np.bincount(ring.ravel(), weights=self.map.ravel()))

    def area_ratio(self, share: float) -> float:
        """Share of the map's area inside `square(share)`: the ratio r of RepLKNet, unlogged.

        Ding et al., "Scaling Up Your Kernels to 31x31", CVPR 2022, table 1.
        """
        return min(1.0, float(self.square(share) ** self.map.ndim) / self.map.size)

    def fraction_above(self, threshold: float = 0.1) -> float:
        """Pixels above `threshold` times the maximum, over pixels in the theoretical field."""
        above = np.count_nonzero(self.map > threshold * self.map.max())
        sides = self.theoretical_sizes or (self.theoretical_size,) * self.map.ndim
        return float(above / math.prod(sides))


class _Axis(NamedTuple):
    """What centred intervals along one axis hold, in the order of their lengths.

    Attributes:
        reaches: Twice the distance in px to which each reaches.
        held: What each holds.
        offsets: Distances of the pixels from the centre, in px.
    """

    reaches: NDArray[np.float64]
    held: NDArray[np.float64]
    offsets: NDArray[np.float64]

    @classmethod
    def of(cls, values: NDArray[np.float64], offsets: NDArray[np.float64]) -> _Axis:
        distances = np.rint(2 * np.abs(offsets))
        reaches, ring = np.unique(distances, return_inverse=True)
        # Axes that are alike hold the same but for rounding.
        held = np.cumsum(np.bincount(ring, weights=values))
        return cls(reaches, np.round(held / held[-1], 12), offsets)

    def reach(self, share: float) -> int:
        """Of the shortest that holds so much; the longest if none does."""
        number = min(int(np.searchsorted(self.held, share)), len(self.held) - 1)
        return int(self.reaches[number])

    def span(self, reach: int) -> slice:
        """Its pixels."""
        (inside,) = np.nonzero(np.rint(2 * np.abs(self.offsets)) <= reach)
        return slice(inside[0], inside[-1] + 1)


def _marginal(grid: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """The sum over all other axes."""
    others = tuple(other for other in range(grid.ndim) if other != axis)
    found: NDArray[np.float64] = grid.sum(axis=others)
    return found


def _offsets(
    grid: NDArray[np.float64], center: tuple[float, ...]
) -> tuple[NDArray[np.float64], ...]:
    """Distances of pixels along each axis from the centre, in px."""
    pairs = zip(grid.shape, center, strict=True)
    return tuple(np.arange(float(pixels)) - middle for pixels, middle in pairs)
