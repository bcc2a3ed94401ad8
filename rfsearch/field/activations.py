"""What a smooth activation or a gate does to the distribution of a random network's units."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial.hermite import hermgauss

from rfsearch.field.moments import Units

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: Gauss-Hermite quadrature.
_HERMITE_NODES, _HERMITE_WEIGHTS = hermgauss(24)


#: Of the grid over a channel's values, in standard deviations, and its points: fine enough for
#: functions with kinks.
_REACH, _POINTS = 7.0, 281
#: What a function makes of values, and its slope there.
Function = Callable[["Array"], "tuple[Array, Array]"]


def _normal() -> tuple[Array, Array]:
    nodes = np.linspace(-_REACH, _REACH, _POINTS)
    weights = np.exp(-0.5 * nodes**2)
    return nodes, weights / weights.sum()


_NODES, _WEIGHTS = _normal()


@lru_cache(maxsize=4096)
def _transformed(
    function: Function, mean: float, variance: float, between: float
) -> tuple[Units, float]:
    nodes, weights = _NODES[:, None], _WEIGHTS
    if variance and between:
        # One row for each channel's own mean, one column for each deviation from it.
        nodes = math.sqrt(2) * _HERMITE_NODES[:, None]
        weights = _HERMITE_WEIGHTS / _HERMITE_WEIGHTS.sum()
    elif not between:
        nodes, weights = np.zeros((1, 1)), np.ones(1)
    within, shares = (_NODES, _WEIGHTS) if variance else (np.zeros(1), np.ones(1))
    values = mean + math.sqrt(between) * nodes + math.sqrt(variance) * within
    value, slope = function(values)
    means, squares = value @ shares, value**2 @ shares
    first = float(weights @ means)
    spread = float(weights @ (squares - means**2))
    gain = float(weights @ slope**2 @ shares)
    apart = max(0.0, float(weights @ means**2) - first**2)
    return Units(first, spread if variance else 0.0, between=apart), gain


def transformed(units: Units, function: Function) -> tuple[Units, float]:
    """Moments behind a function of each value, and its mean squared slope, for normal units."""
    out, gain = _transformed(function, units.mean, units.variance, units.between)
    return out._replace(neighbours=units.neighbours), gain


def activated(units: Units, kind: str) -> tuple[Units, float]:
    """Moments behind a smooth activation, and its mean squared slope, for normal units."""
    return transformed(units, FUNCTIONS[kind])


def gated(units: Units, kind: str) -> tuple[Units, float]:
    """Moments behind a gate, and its mean squared factor.

    A gate's two layers have independent weights, so that the logits of its factors have a mean of
    zero. Global context normalises the inner layer; squeeze-and-excite sees the channels' means.
    """
    pooled = 1.0 if kind == "gc" else units.mean**2 + units.between
    logits = math.sqrt(pooled / 2) * math.sqrt(2) * _HERMITE_NODES
    factors = 1 / (1 + np.exp(-logits))
    power = float(_HERMITE_WEIGHTS @ factors**2 / _HERMITE_WEIGHTS.sum())
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


#: Smooth activations by kind.
FUNCTIONS: dict[str, Function] = {"gelu": _gelu, "silu": _silu}
