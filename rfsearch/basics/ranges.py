"""Ranges of what is judged, and how far a value lies outside, in octaves."""

from __future__ import annotations

import math
from typing import NamedTuple


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
