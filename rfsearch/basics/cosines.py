"""Maps that are symmetric about their middle, as sums of products, and their cosine transforms.

Of such a map what lies from the middle on says all. Its Fourier transform has cosines alone, and
that of a convolution is the product of the transforms. A map that is a sum of products of one
factor for each axis needs to be transformed along each axis only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: What rounding leaves of a map that sums to 1, and what it may break of its symmetry.
NOTHING, _ASYMMETRY = 1e-15, 1e-12


def from_middle(values: Array) -> Array | None:
    """A map from the middle on along each axis; None if it is not symmetric along all of them."""
    for axis in range(values.ndim):
        if np.abs(values - np.flip(values, axis)).max() > _ASYMMETRY:
            return None
    return values[tuple(slice(side // 2, None) for side in values.shape)]


def products(values: Array) -> list[tuple[Array, ...]]:
    """Factors, one for each axis, of products that add up to some values.

    They are found by elimination from the rim inwards, which tells apart the terms of a sum whose
    extents differ.
    """
    if values.ndim == 1:
        return [(values,)]
    rest, found = values.reshape(len(values), -1), []
    while len(left := np.argwhere(np.abs(rest) > NOTHING)):
        row, place = left[-1]
        column = rest[:, place] / rest[row, place]
        factor = np.pad(column, (0, len(values) - len(column)))
        found += [(factor, *others) for others in products(rest[row].reshape(values.shape[1:]))]
        rest = rest[:row] - np.outer(column[:row], rest[row])
    return found


@lru_cache(maxsize=512)
def waves(places: int, is_odd: bool, spacing: int, period: int) -> Array:
    """What transforms places from the middle on, `(places, frequencies)`.

    What lies beside the middle counts twice.

    Args:
        places: How many.
        is_odd: Whether one lies in the middle, not two beside it.
        spacing: How far they are apart.
        period: An even number: that of the transform.
    """
    at = spacing * (np.arange(places) + (0 if is_odd else 0.5))
    found = np.cos(2 * math.pi / period * np.outer(at, np.arange(period // 2 + 1)))
    found[1 if is_odd else 0 :] *= 2
    return found


@lru_cache(maxsize=512)
def waves_back(side: int, period: int) -> Array:
    """What takes a transform back to the places of a side, `(frequencies, places)`."""
    cosines = waves((side + 1) // 2, side % 2 == 1, 1, period)
    found = cosines.T / (period * counted(side))
    found[1:-1] *= 2
    return found


def counted(side: int) -> Array:
    """How often each place of a side counts, from the middle on: beside it twice."""
    found = np.full((side + 1) // 2, 2.0)
    found[: side % 2] = 1
    return found


def on_each_axis(values: Array, matrices: Iterable[Array]) -> Array:
    """Multiply each axis by the matrix in its place."""
    for matrix in matrices:  # The new axis is the last.
        first, *others = values.shape
        values = (values.reshape(first, -1).T @ matrix).reshape(*others, -1)
    return values


def each_with_each(first: Array, other: Array) -> Array:
    """The products of each row of one with each of the other."""
    return (first[:, None] * other).reshape(-1, first.shape[1])


def summed(weights: Array, factors: list[Array]) -> Array:
    """The weighted sum of products of rows, one of each factor along each axis."""
    first, *others = factors
    rest = weights[:, None]
    for rows in others:
        rest = (rest[:, :, None] * rows[:, None]).reshape(len(rows), -1)
    return (first.T @ rest).reshape([rows.shape[1] for rows in factors])
