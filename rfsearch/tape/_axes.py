"""How the squared gradient of the units along one axis is spread over the units before them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from rfsearch.field.windows import POINT, Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True)
class AxisWindow:
    """A linear operation along one axis, as the squared gradient sees it.

    Attributes:
        window: Which units each unit of a period looks at.
        shares: For each of them, the share of its squared gradient that they get.
    """

    window: Window
    shares: tuple[tuple[float, ...], ...]

    @cached_property
    def gain(self) -> float:
        """Squared gradient that arrives per unit of it that leaves, over all phases."""
        return sum(map(sum, self.shares)) / len(self.shares)

    @cached_property
    def jump(self) -> float:
        """Input units between neighbouring output units."""
        return self.window.advance / len(self.window.taps)

    @cached_property
    def mean(self) -> float:
        """Where a unit looks, less where it lies, in input units: the centre of its shares."""
        return self._moment(1, 0.0)

    @cached_property
    def variance(self) -> float:
        """Variance of that, in input units squared."""
        return self._moment(2, self.mean)

    def _moment(self, power: int, center: float) -> float:
        total = sum(
            share * (tap - phase * self.jump - center) ** power
            for phase, (taps, shares) in enumerate(zip(self.window.taps, self.shares, strict=True))
            for tap, share in zip(taps, shares, strict=True)
        )
        return total / (self.gain * len(self.shares))

    @cached_property
    def weights(self) -> tuple[tuple[tuple[int, float], ...], ...]:
        """The units that each unit of a period looks at, each with its weight."""
        return tuple(
            tuple((tap, math.sqrt(share)) for tap, share in zip(taps, shares, strict=True))
            for taps, shares in zip(self.window.taps, self.shares, strict=True)
        )

    def pull(self, values: Array, start: int) -> tuple[Array, int]:
        """Take a profile, whose rows are units from `start` on, back to the units before them."""
        if self == STAY:
            return values, start
        advance, phases = self.window.advance, len(self.shares)
        looked_at = [
            (tap + unit // phases * advance, row, share)
            for row, unit in enumerate(range(start, start + (len(values) if phases > 1 else 1)))
            for tap, share in zip(
                self.window.taps[unit % phases], self.shares[unit % phases], strict=True
            )
        ]
        first = min(unit for unit, _, _ in looked_at)
        last = max(unit for unit, _, _ in looked_at)
        if phases > 1:
            matrix = np.zeros((last - first + 1, len(values)))
            for unit, row, share in looked_at:
                matrix[unit - first, row] += share
            return matrix @ values, first
        spaced = (len(values) - 1) * advance + 1
        pulled = np.zeros((spaced + last - first, values.shape[1]))
        for unit, _, share in looked_at:
            pulled[unit - first : unit - first + spaced : advance] += share * values
        return pulled, first


#: Each unit looks at its own place.
STAY = AxisWindow(POINT, ((1.0,),))


@lru_cache(maxsize=1024)  # Layers that are alike share what is worked out of their windows.
def even(window: Window, gain: float = 1.0) -> AxisWindow:
    """All taps of a unit get the same; `gain` is what a unit with the usual number passes on."""
    usual = sum(map(len, window.taps)) / len(window.taps)
    return AxisWindow(window, tuple((gain / usual,) * len(taps) for taps in window.taps))


def weighted(window: Window, weights: Sequence[Sequence[float]]) -> AxisWindow:
    """Fixed weights, whose squares are the shares."""
    return AxisWindow(window, tuple(tuple(w * w for w in phase) for phase in weights))


def moved(start: int, step: int = 1) -> AxisWindow:
    """Each unit looks at one unit alone: a slice, a padding."""
    return STAY if (start, step) == (0, 1) else even(Window(((start,),), step))


Kernel = Callable[[float], float]


def interpolated(
    window: Window, ratio: Fraction, kernel: Kernel, scale: float = 1.0, aligned: bool = False
) -> AxisWindow:
    """Resizing by a kernel over the distance between units.

    Args:
        window: Which units each new unit looks at.
        ratio: Old units between two new ones.
        kernel: Weight by distance, in old units.
        scale: By which the kernel is widened.
        aligned: Whether the first and last units keep their places, instead of the middles.
    """
    phases = []
    for unit, taps in enumerate(window.taps):
        middle = float(
            unit * ratio if aligned else (unit + Fraction(1, 2)) * ratio - Fraction(1, 2)
        )
        weights = [kernel(abs(tap - middle) / scale) for tap in taps]
        phases.append([weight / sum(weights) for weight in weights])
    return weighted(window, phases)


def linear(distance: float) -> float:
    """The triangle of linear interpolation."""
    return max(0.0, 1 - distance)


def cubic(slope: float) -> Kernel:
    """Keys' cubic convolution; torch takes a slope of -0.75, and -0.5 with antialiasing."""

    def kernel(x: float) -> float:
        if x <= 1:
            return ((slope + 2) * x - (slope + 3)) * x * x + 1
        return (((x - 5) * x + 8) * x - 4) * slope if x < 2 else 0.0

    return kernel
