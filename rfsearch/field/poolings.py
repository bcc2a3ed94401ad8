"""What a pooling does to the distribution of a random network's units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rfsearch.field.moments import Rectifier, Units, if_any
from rfsearch.field.rectifiers import REACH, rectified

if TYPE_CHECKING:
    from rfsearch.basics.axes import Alike


def pooled(
    units: Units, kind: str, kernel_sizes: Sequence[int], strides: Sequence[int], axes: Alike
) -> Units:
    """Moments of the maximum (`"max"`) or average over a window.

    Averages are even (`"avg"`) or have binomial weights (`"blur"`).

    Args:
        units: What is pooled.
        kind: Of the pooling.
        kernel_sizes: Of the window along each of `axes`.
        strides: The same.
        axes: Those of the map.
    """
    count, alike = 1, 1.0
    neighbours: list[tuple[float, ...]] = []
    known = units.neighbours or ((),) * len(axes)
    for kernel_size, stride, along, number in zip(kernel_sizes, strides, known, axes, strict=True):
        weights = taps_weights(kind, kernel_size)
        shared = [_shared(along, weights, stride * distance) for distance in range(3)]
        count *= kernel_size**number
        alike *= shared[0] ** number
        neighbours.append(tuple(each / shared[0] for each in shared[1:] if each > 0))
    if kind == "max":
        # The common part of equally correlated units moves their maximum, the rest competes.
        common = (count * alike - 1) / (count - 1) if count > 1 else 0.0
        out = _highest(_as_rectifier(units), units, count, common)
    elif kind == "avg":
        out = _averaged(units, count, alike)
    else:
        out = Units(units.mean, units.variance * alike)
    return out._replace(neighbours=if_any(neighbours), between=units.between)


def opened(units: Units, behind: Units) -> float:
    """How much likelier the rectifier of a maximum is open than that of any unit.

    The gradient goes back through the winner's rectifier, which is closed only where all are.

    Args:
        units: What is pooled.
        behind: What the maximum makes of it.
    """
    if units.rectifier is None or behind.rectifier is None:
        return 1.0
    return (1 - behind.rectifier.closed) / (1 - units.rectifier.closed)


def taps_weights(kind: str, taps: int) -> tuple[float, ...]:
    """Weights of an average along an axis, which sum to one; of a maximum as if it were one."""
    return binomial(taps) if kind == "blur" else (1 / taps,) * taps


def binomial(taps: int) -> tuple[float, ...]:
    """Binomial weights that sum to one.

    >>> binomial(3)
    (0.25, 0.5, 0.25)
    """
    return tuple(math.comb(taps - 1, tap) / 2 ** (taps - 1) for tap in range(taps))


def _shared(neighbours: tuple[float, ...], weights: tuple[float, ...], distance: int) -> float:
    """Mean correlation, along an axis, between the taps of two windows that far apart."""
    total = 0.0
    for one, weight in enumerate(weights):
        for two, other in enumerate(weights):
            apart = abs(distance + two - one)
            if apart <= len(neighbours):
                total += weight * other * (neighbours[apart - 1] if apart else 1.0)
    return total


def _as_rectifier(units: Units) -> Rectifier:
    """The units' rectifier; those that none has cut are behind one that is always open."""
    if units.rectifier is not None:
        return units.rectifier
    shift = REACH * math.sqrt(units.variance) - units.mean
    raised = rectified(Units(units.mean + shift, units.variance)).rectifier
    assert raised is not None
    return replace(raised, offset=-shift)


def _averaged(units: Units, count: int, alike: float) -> Units:
    variance = units.variance * alike
    rectifier = units.rectifier and replace(
        units.rectifier,
        values=units.rectifier.values / count,
        offset=(units.rectifier.offset + (count - 1) * units.mean) / count,
        jitter=max(0.0, variance - (units.variance - units.rectifier.jitter) / count**2),
    )
    return Units(units.mean, variance, rectifier)


def _highest(one: Rectifier, units: Units, count: int, common: float) -> Units:
    competing = math.sqrt(1 - common)
    rectifier = replace(
        one,
        values=competing * one.values,
        weights=count * one.below ** (count - 1) * one.weights,
        below=one.below**count,
        closed=one.closed**count,
        offset=competing * one.offset + (1 - competing) * units.mean,
        jitter=one.jitter + common * units.variance,
    )
    mean = float(rectifier.weights @ rectifier.values)
    variance = float(rectifier.weights @ rectifier.values**2) - mean**2 + rectifier.jitter
    kept = rectifier if units.rectifier is not None else None
    return Units(mean + rectifier.offset, variance, kept)
