"""Distribution of a random network's units, carried forward layer by layer.

The inputs are taken as white noise and the units of a normalised layer as normally distributed.
What a shortcut carries is not: it is a rectifier's output, and its sum with a branch is skewed.
So its distribution is kept, as nodes of a quadrature, and the branch widens it.

Units at different positions are correlated only through overlapping poolings: with independent
zero-mean weights the expected covariance of a convolution's outputs at two positions is that of
its inputs at the same distance, which starts at zero. Correlations are taken as separable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.polynomial.legendre import leggauss, legint, legval, legvander

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_ORDER = 24
#: Where a density is taken to end, in standard deviations.
_REACH = 6.5


def _quadrature() -> tuple[Array, Array, Array]:
    """Gauss-Legendre nodes and weights on [0, 1], and the integrals from 0 to each node."""
    nodes, weights = leggauss(_ORDER)
    antiderivatives = [legint(unit, lbnd=-1) for unit in np.eye(_ORDER)]
    integrals = np.stack([legval(nodes, each) for each in antiderivatives], axis=1)
    to_coefficients = np.linalg.inv(legvander(nodes, _ORDER - 1))
    return (1 + nodes) / 2, weights / 2, integrals @ to_coefficients / 2


_NODES, _WEIGHTS, _INTEGRALS = _quadrature()


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


class Units(NamedTuple):
    """Moments, over positions and images, of a layer's units.

    Attributes:
        mean: Mean.
        variance: Centred variance.
        rectifier: The rectifier whose outputs these are, directly or through poolings.
        mixture: Their distribution, where it is neither normal nor a rectifier's.
        neighbours: Correlation with the unit 1, 2, ... positions away along an axis.
    """

    mean: float
    variance: float
    rectifier: Rectifier | None = None
    mixture: Mixture | None = None
    neighbours: tuple[float, ...] = ()


#: Network inputs are taken as normalised: mean 0, variance 1.
INPUT = Units(mean=0.0, variance=1.0)


def convolved(units: Units, stride: int) -> Units:
    """Moments behind a convolution, on a scale on which the variance is that of its inputs."""
    return Units(0.0, units.variance, neighbours=units.neighbours[stride - 1 :: stride])


def normalised(units: Units) -> Units:
    """Moments behind a batch normalisation."""
    return Units(0.0, 1.0, neighbours=units.neighbours)


def added(branches: Sequence[Units], shortcut: Units | None) -> Units:
    """Moments of the sum of branches, one of which may be an identity shortcut."""
    mean = sum(units.mean for units in branches)
    variance = sum(units.variance for units in branches)
    covariances = [[units.variance * c for c in units.neighbours] for units in branches]
    neighbours = tuple(sum(c) / variance for c in zip_longest(*covariances, fillvalue=0.0))
    mixture = None
    if shortcut is not None:
        before = shortcut.rectifier.mixture() if shortcut.rectifier else shortcut.mixture
        mixture = before and before.widened(mean - shortcut.mean, variance - shortcut.variance)
    return Units(mean, variance, mixture=mixture, neighbours=neighbours)


def rectified(units: Units) -> Units:
    """Moments of max(0, x)."""
    if units.mixture is None or units.mixture.deviation == 0:
        out = _rectified_normal(units.mean, units.variance)
    else:
        out = _rectified_mixture(units.mixture, units.mean, math.sqrt(units.variance))
    if not units.neighbours:
        return out
    assert out.rectifier is not None
    neighbours = tuple(_kept(c, 1 - out.rectifier.closed) for c in units.neighbours)
    return out._replace(neighbours=neighbours)


def _kept(correlation: float, share_open: float) -> float:
    """Correlation behind a rectifier, between that of a half-open one and all of it.

    Cho and Saul, "Kernel Methods for Deep Learning", NeurIPS 2009, equation 6, centred.
    """
    angle = math.acos(min(1.0, correlation))
    half_open = (math.sin(angle) + correlation * (math.pi - angle) - 1) / (math.pi - 1)
    return half_open + (correlation - half_open) * max(0.0, 2 * share_open - 1)


@lru_cache(maxsize=1024)
def _rectified_normal(mean: float, variance: float) -> Units:
    one = Mixture(np.array([mean]), np.ones(1), math.sqrt(variance))
    return _rectified_mixture(one, mean, one.deviation)


def _rectified_mixture(mixture: Mixture, mean: float, deviation: float) -> Units:
    start = max(mean - _REACH * deviation, 0.0)
    span = max(mean + _REACH * deviation, _REACH * deviation) - start
    values = start + span * _NODES
    scaled = (values[:, None] - mixture.centers) / mixture.deviation
    heights = mixture.weights / (mixture.deviation * math.sqrt(2 * math.pi))
    density = span * np.exp(-0.5 * scaled * scaled) @ heights
    weights = _WEIGHTS * density
    closed = max(0.0, 1 - float(weights.sum()))
    rectifier = Rectifier(values, weights, closed + _INTEGRALS @ density, closed)
    first = float(weights @ values)
    return Units(first, float(weights @ values**2) - first**2, rectifier)


def pooled(units: Units, kind: str, kernel_size: int, stride: int) -> Units:
    """Moments of the maximum (`"max"`) or average (`"avg"`) over a square window."""
    shared = [_shared(units.neighbours, kernel_size, stride * distance) for distance in range(3)]
    count, alike = kernel_size**2, shared[0] ** 2
    neighbours = tuple(each / shared[0] for each in shared[1:] if each > 0)
    if kind == "avg":
        return _averaged(units, count, alike)._replace(neighbours=neighbours)
    # The common part of equally correlated units moves their maximum, the rest competes.
    common = (count * alike - 1) / (count - 1) if count > 1 else 0.0
    return _highest(_as_rectifier(units), units, count, common)._replace(neighbours=neighbours)


def _shared(neighbours: tuple[float, ...], kernel_size: int, distance: int) -> float:
    """Mean correlation, along an axis, between the taps of two windows that far apart."""
    total = 0.0
    for shift in range(1 - kernel_size, kernel_size):
        apart = abs(distance + shift)
        if apart <= len(neighbours):
            correlation = neighbours[apart - 1] if apart else 1.0
            total += (kernel_size - abs(shift)) * correlation
    return total / kernel_size**2


def _as_rectifier(units: Units) -> Rectifier:
    """The units' rectifier; those that none has cut are behind one that is always open."""
    if units.rectifier is not None:
        return units.rectifier
    shift = _REACH * math.sqrt(units.variance) - units.mean
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


def persistence(units: Units, total: Units) -> float:
    """How much likelier a unit's rectifier is open, given that its sum `total` is positive.

    The gradient that an identity shortcut carries has passed the rectifier behind the sum, so the
    rectifier before the shortcut, which has seen nearly the same value, lets more than its usual
    share through. A branch's gradient comes from other positions and channels instead.
    """
    before = units.rectifier
    if before is None:
        return 1.0
    shift = before.offset + total.mean - units.mean
    noise = math.sqrt(2 * (total.variance - units.variance + before.jitter))
    # Twice the probabilities that the sum is positive, given each value.
    stays = [1 + math.erf(value / noise) for value in (before.values + shift).tolist()]
    both = float(before.weights @ stays)
    closed = before.closed * (1 + math.erf(shift / noise))
    return both / (both + closed) / (1 - before.closed)
