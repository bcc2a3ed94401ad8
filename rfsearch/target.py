"""Object scales to see, and the px ranges for receptive fields that follow from them.

The rule, in one place. Let `largest` be the side of the largest object in px:

- ERF size between `ERF_PER_OBJECT[0]` and `ERF_PER_OBJECT[1]` times `largest`;
- theoretical receptive field at least `MIN_TRF_PER_OBJECT` times `largest`.

The constants come from sweeps over receptive fields at equal parameters and equal training on
digits among fragments of digits: accuracy peaked at an ERF of 1.2 to 2.9 tight boxes and fell on
both sides for small objects. They are a start, not a law.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

#: ERF size over the size of the largest object: lowest and highest that fit.
ERF_PER_OBJECT = (1.0, 3.0)
#: Theoretical receptive field over the size of the largest object: lowest that fits.
MIN_TRF_PER_OBJECT = 1.5
#: Largest over smallest object that one receptive field can fit.
MAX_SCALE_RATIO = 3.0


class Range(NamedTuple):
    """Values from `low` to `high`, both included; `high` may be infinite."""

    low: float
    high: float
    unit: str = "px"

    def violation(self, size: float) -> float:
        """How far `size` lies outside, in octaves: log2 of its ratio to the nearest bound.

        Zero or below is inside. Half and twice of what is allowed weigh the same.

        >>> Range(16, 64).violation(8), Range(16, 64).violation(128)
        (1.0, 1.0)
        >>> Range(16, 64).violation(32)
        -1.0
        """
        below = math.log2(self.low / size) if self.low > 0 else -math.inf
        above = math.log2(size / self.high) if self.high < math.inf else -math.inf
        return max(below, above)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"at least {self.low:g} {self.unit}"
        if self.low == 0:
            return f"at most {self.high:g} {self.unit}"
        return f"{self.low:g} to {self.high:g} {self.unit}"


def pixel_range(bounds: tuple[float, float | None], name: str) -> Range:
    """Check bounds given by a user; `None` above means no upper bound.

    Raises:
        ValueError: If `0 <= low <= high` does not hold.
    """
    low, high = float(bounds[0]), math.inf if bounds[1] is None else float(bounds[1])
    if not 0 <= low <= high or low == math.inf:
        raise ValueError(
            f"`0 <= low <= high` must hold for `{name}`, but got ({low:g}, {high:g})."
        )
    return Range(low, high)


@dataclass(frozen=True)
class ScaleTarget:
    """The range of object scales that a network must see.

    A scale is the side of an object's tight box at the network's input resolution, sqrt(width x
    height), in px.

    Attributes:
        min_size: Smallest object, in px.
        max_size: Largest object, in px.

    Raises:
        ValueError: If `0 < min_size <= max_size` does not hold.
    """

    min_size: float
    max_size: float

    def __post_init__(self) -> None:
        if not 0 < self.min_size <= self.max_size < math.inf:
            raise ValueError(
                "`0 < min_size <= max_size` must hold for a target, "
                f"but got min_size={self.min_size:g} and max_size={self.max_size:g}."
            )
        if advice := self.advice:
            warnings.warn(advice, stacklevel=3)

    @classmethod
    def from_sizes(cls, sizes: ArrayLike, quantiles: tuple[float, float] = (0.05, 0.95)) -> Self:
        """Target that spans these quantiles of measured object sizes.

        Args:
            sizes: Sides of tight boxes in px, any shape.
            quantiles: Lower and upper quantile, in [0, 1].

        Raises:
            ValueError: If there are no sizes, or one is not a positive number.
        """
        values = np.asarray(sizes, dtype=float).ravel()
        if not len(values):
            raise ValueError("`sizes` must hold at least one object size, but it is empty.")
        if not (np.isfinite(values) & (values > 0)).all():
            worst = values[~(np.isfinite(values) & (values > 0))][0]
            raise ValueError(f"`sizes` must be positive numbers of px, but got {worst:g}.")
        low, high = quantiles
        if not 0 <= low <= high <= 1:
            raise ValueError(f"`0 <= low <= high <= 1` must hold, but got {quantiles=}.")
        return cls(float(np.quantile(values, low)), float(np.quantile(values, high)))

    @property
    def advice(self) -> str | None:
        """What to know of this target, or None: whether one receptive field can fit all of it."""
        ratio = self.max_size / self.min_size
        if ratio <= MAX_SCALE_RATIO:
            return None
        return (
            f"Objects of {self.min_size:g} to {self.max_size:g} px differ by a factor of "
            f"{ratio:.1f}: above {MAX_SCALE_RATIO:g}, one receptive field cannot fit all of them."
            " The search fits the largest; consider a feature pyramid, whose levels each have a "
            "receptive field and a part of the target of their own."
        )

    @property
    def theoretical(self) -> Range:
        """Theoretical receptive fields that fit, in px."""
        return Range(MIN_TRF_PER_OBJECT * self.max_size, math.inf)

    @property
    def effective(self) -> Range:
        """ERF sizes that fit, in px."""
        low, high = ERF_PER_OBJECT
        return Range(low * self.max_size, high * self.max_size)
