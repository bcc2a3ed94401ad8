"""What a rectifier does to the distribution of a random network's units."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial.legendre import leggauss, legint, legval, legvander

from rfsearch.field.moments import Mixture, Rectifier, Units

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_ORDER = 24
#: Where a density is taken to end, in standard deviations.
REACH = 6.5


def _quadrature() -> tuple[Array, Array, Array]:
    """Gauss-Legendre nodes and weights on [0, 1], and the integrals from 0 to each node."""
    nodes, weights = leggauss(_ORDER)
    antiderivatives = [legint(unit, lbnd=-1) for unit in np.eye(_ORDER)]
    integrals = np.stack([legval(nodes, each) for each in antiderivatives], axis=1)
    to_coefficients = np.linalg.inv(legvander(nodes, _ORDER - 1))
    return (1 + nodes) / 2, weights / 2, integrals @ to_coefficients / 2


_NODES, _WEIGHTS, _INTEGRALS = _quadrature()


def rectified(units: Units) -> Units:
    """Moments of max(0, x)."""
    if units.mixture is None or units.mixture.deviation == 0:
        out = _rectified_normal(units.mean, units.variance)
    else:
        out = _rectified_mixture(units.mixture, units.mean, math.sqrt(units.variance))
    if not any(units.neighbours):
        return out
    assert out.rectifier is not None
    share_open = 1 - out.rectifier.closed
    neighbours = tuple(tuple(_kept(c, share_open) for c in along) for along in units.neighbours)
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
    start = max(mean - REACH * deviation, 0.0)
    span = max(mean + REACH * deviation, REACH * deviation) - start
    values = start + span * _NODES
    scaled = (values[:, None] - mixture.centers) / mixture.deviation
    heights = mixture.weights / (mixture.deviation * math.sqrt(2 * math.pi))
    density = span * np.exp(-0.5 * scaled * scaled) @ heights
    weights = _WEIGHTS * density
    closed = max(0.0, 1 - float(weights.sum()))
    rectifier = Rectifier(values, weights, closed + _INTEGRALS @ density, closed)
    first = float(weights @ values)
    return Units(first, float(weights @ values**2) - first**2, rectifier)


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
    noise = math.sqrt(2 * max(0.0, total.variance - units.variance + before.jitter))
    if not noise:  # The branches add nothing: the sum is positive where the value was.
        return 1 / (1 - before.closed)
    # Twice the probabilities that the sum is positive, given each value.
    stays = [1 + math.erf(value / noise) for value in (before.values + shift).tolist()]
    both = float(before.weights @ stays)
    closed = before.closed * (1 + math.erf(shift / noise))
    return both / (both + closed) / (1 - before.closed)
