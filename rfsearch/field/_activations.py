"""What a smooth activation or a gate does to the distribution of a random network's units."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial.hermite import hermgauss

from rfsearch.field.moments import Units

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: Of the quadrature.
_ORDER = 24


@lru_cache(maxsize=1024)
def _activated(kind: str, mean: float, variance: float, between: float) -> tuple[Units, float]:
    nodes, weights = hermgauss(_ORDER)
    nodes, weights = math.sqrt(2) * nodes, weights / weights.sum()
    # One row for each channel's own mean, one column for each deviation from it.
    values = mean + math.sqrt(between) * nodes[:, None] + math.sqrt(variance) * nodes[None, :]
    value, slope = _ACTIVATIONS[kind](values)
    means, squares = value @ weights, value**2 @ weights
    first = float(weights @ means)
    within = float(weights @ (squares - means**2))
    gain = float(weights @ slope**2 @ weights)
    return Units(first, within, between=float(weights @ means**2) - first**2), gain


def activated(units: Units, kind: str) -> tuple[Units, float]:
    """Moments behind a smooth activation, and its mean squared slope, for normal units."""
    out, gain = _activated(kind, units.mean, units.variance, units.between)
    return out._replace(neighbours=units.neighbours), gain


def gated(units: Units, kind: str) -> tuple[Units, float]:
    """Moments behind a gate, and its mean squared factor.

    A gate's two layers have independent weights, so that the logits of its factors have a mean of
    zero. Global context normalises the inner layer; squeeze-and-excite sees the channels' means.
    """
    pooled = 1.0 if kind == "gc" else units.mean**2 + units.between
    nodes, weights = hermgauss(_ORDER)
    factors = 1 / (1 + np.exp(-math.sqrt(pooled / 2) * math.sqrt(2) * nodes))
    power = float(weights @ factors**2 / weights.sum())
    # The mean factor is 1/2, by symmetry.
    between = power * (units.mean**2 + units.between) - (units.mean / 2) ** 2
    behind = Units(
        units.mean / 2, power * units.variance, neighbours=units.neighbours, between=between
    )
    return behind, power


def _gelu(values: Array) -> tuple[Array, Array]:
    below = 0.5 * (1 + np.vectorize(math.erf)(values / math.sqrt(2)))
    density = np.exp(-0.5 * values**2) / math.sqrt(2 * math.pi)
    return values * below, below + values * density


def _silu(values: Array) -> tuple[Array, Array]:
    gate = 1 / (1 + np.exp(-values))
    return values * gate, gate * (1 + values * (1 - gate))


_ACTIVATIONS = {"gelu": _gelu, "silu": _silu}
