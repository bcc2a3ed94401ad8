"""Distribution of a random network's units, carried forward layer by layer.

The inputs are taken as white noise and the units of a normalised layer as normally distributed.
What a shortcut carries is not: it is a rectifier's output, and its sum with a branch is skewed.
So its distribution is kept, as nodes of a quadrature, and the branch widens it.

Units at different positions are correlated only through overlapping poolings: with independent
zero-mean weights the expected covariance of a convolution's outputs at two positions is that of
its inputs at the same distance, which starts at zero. Correlations are taken as separable: they
are kept along each axis, of those that are alike once (`rfsearch.field.expression.Alike`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from rfsearch.basics.axes import Alike

    Array = NDArray[np.float64]


class Mixture(NamedTuple):
    """A distribution as a mixture of normal ones of equal width."""

    centers: Array
    weights: Array
    deviation: float

    def widened(self, shift: float, variance: float) -> Mixture:
        """The distribution after something independent and normal has been added."""
        return Mixture(self.centers + shift, self.weights, math.sqrt(self.deviation**2 + variance))


@dataclass(frozen=True, slots=True, eq=False)
class Rectifier:
    """The last rectifier in front of some units, seen from their values.

    A unit's gradient goes back through one rectifier: its own, that of the winner of a
    max-pooling, or those of the taps of an average-pooling, each with its share. Where that
    rectifier is open, `values + offset` are nodes of the unit's distribution.

    Attributes:
        values: Values behind the open rectifier.
        weights: Probability of each.
        below: Probability that a unit is at most this value.
        closed: Probability that the rectifier is closed, so that the value behind it is 0.
        offset: What other units add to the value on average.
        jitter: Variance of what they add.
    """

    values: Array
    weights: Array
    below: Array
    closed: float
    offset: float = 0.0
    jitter: float = 0.0

    def mixture(self) -> Mixture:
        """The distribution of the units."""
        return Mixture(
            np.append(self.values, 0.0) + self.offset,
            np.append(self.weights, self.closed),
            math.sqrt(self.jitter),
        )


#: Correlations by distance, along each axis.
Neighbours = tuple[tuple[float, ...], ...]


class Units(NamedTuple):
    """Moments, over positions and images, of a layer's units.

    Attributes:
        mean: Mean.
        variance: Centred variance.
        rectifier: The rectifier whose outputs these are, directly or through poolings.
        mixture: Their distribution, where it is neither normal nor a rectifier's.
        neighbours: For each axis, the correlation with the unit 1, 2, ... positions away along
            it; empty where there is none along any.
        between: Variance of the mean between channels, which only a batch normalisation removes.
    """

    mean: float
    variance: float
    rectifier: Rectifier | None = None
    mixture: Mixture | None = None
    neighbours: Neighbours = ()
    between: float = 0.0


def if_any(neighbours: Iterable[tuple[float, ...]]) -> Neighbours:
    """Correlations along each axis, or nothing where there are none along any."""
    found = tuple(neighbours)
    return found if any(found) else ()


#: Network inputs are taken as normalised: mean 0, variance 1.
INPUT = Units(mean=0.0, variance=1.0)


def convolved(units: Units, strides: Sequence[int]) -> Units:
    """Moments behind a convolution, on a scale on which the variance is that of its inputs.

    Args:
        units: Its inputs.
        strides: Of the convolution along each axis.
    """
    pairs = zip(units.neighbours, strides, strict=False)  # Of inputs without any there is no pair.
    return Units(
        0.0,
        units.variance,
        neighbours=if_any(along[stride - 1 :: stride] for along, stride in pairs),
        between=units.mean**2 + units.between,
    )


def moved(units: Units, factor: float, shift: float) -> Units:
    """Moments of the units times a positive factor, plus a shift."""
    rectifier, mixture = units.rectifier, units.mixture
    return Units(
        factor * units.mean + shift,
        factor**2 * units.variance,
        rectifier
        and replace(
            rectifier,
            values=factor * rectifier.values,
            offset=factor * rectifier.offset + shift,
            jitter=factor**2 * rectifier.jitter,
        ),
        mixture
        and Mixture(factor * mixture.centers + shift, mixture.weights, factor * mixture.deviation),
        units.neighbours,
        factor**2 * units.between,
    )


def normalised(units: Units) -> Units:
    """Moments behind a batch normalisation."""
    factor = units.variance**-0.5
    return moved(units, factor, -factor * units.mean)._replace(mean=0.0, variance=1.0, between=0.0)


def layer_normalised(units: Units) -> Units:
    """Moments behind a normalisation of the channels at each position."""
    power = units.variance + units.between
    return Units(
        0.0, units.variance / power, neighbours=units.neighbours, between=units.between / power
    )


def attended(units: Units) -> Units:
    """Moments behind self-attention: averages over so many positions that they hardly differ."""
    return Units(0.0, 0.0, between=units.mean**2 + units.between)


def joined(parts: Sequence[tuple[Units, float]]) -> Units:
    """Moments of units joined along the channels, each with its share of them."""
    total = sum(share for _, share in parts)
    shares = [(units, share / total) for units, share in parts]
    mean = sum(share * units.mean for units, share in shares)
    variance = sum(share * units.variance for units, share in shares)
    between = sum(share * (units.between + (units.mean - mean) ** 2) for units, share in shares)
    neighbours = _mixed([(share * units.variance, units) for units, share in shares], variance)
    widest = max(shares, key=lambda pair: pair[1])[0]
    rectifier = widest.rectifier if all(units.rectifier for units, _ in shares) else None
    return Units(mean, variance, rectifier, neighbours=neighbours, between=between)


def _mixed(parts: Sequence[tuple[float, Units]], variance: float) -> Neighbours:
    """Correlations of what parts make together, each with its variance of it all."""
    weights = [weight / variance for weight, _ in parts]
    axes = zip_longest(*(units.neighbours for _, units in parts), fillvalue=())
    return if_any(
        tuple(
            sum(weight * c for weight, c in zip(weights, at, strict=True))
            for at in zip_longest(*along, fillvalue=0.0)
        )
        for along in axes
    )


def resized(units: Units, phases: Sequence[Sequence[Mapping[int, float]]], axes: Alike) -> Units:
    """Moments behind an upsampling of uncorrelated units, over all phases.

    Args:
        units: What is upsampled.
        phases: Along each of `axes`, the weights of the units that each of the new units looks
            at, for as many new units as there are to an old one.
        axes: Those of the map.
    """
    alike, neighbours = 1.0, []
    for along, number in zip(phases, axes, strict=True):
        shared = [_overlap(along, distance) for distance in range(2 * len(along))]
        alike *= shared[0] ** number
        neighbours.append(tuple(each / shared[0] for each in shared[1:] if each > 0))
    return Units(
        units.mean,
        units.variance * alike,
        units.rectifier if alike == 1 else None,  # A mean is not cut by one rectifier.
        neighbours=if_any(neighbours),
        between=units.between,
    )


def _overlap(phases: Sequence[Mapping[int, float]], distance: int) -> float:
    """Mean product, along an axis, of the weights that new units so far apart share."""
    total = 0.0
    for phase, weights in enumerate(phases):
        turns, other = divmod(phase + distance, len(phases))
        total += sum(w * weights.get(tap + turns, 0.0) for tap, w in phases[other].items())
    return total / len(phases)


def added(branches: Sequence[Units], shortcut: Units | None) -> Units:
    """Moments of the sum of branches, one of which may be an identity shortcut."""
    mean = sum(units.mean for units in branches)
    variance = sum(units.variance for units in branches)
    neighbours = _mixed([(units.variance, units) for units in branches], variance)
    mixture = None
    if shortcut is not None:
        before = shortcut.rectifier.mixture() if shortcut.rectifier else shortcut.mixture
        mixture = before and before.widened(mean - shortcut.mean, variance - shortcut.variance)
    between = sum(units.between for units in branches)
    return Units(mean, variance, mixture=mixture, neighbours=neighbours, between=between)
