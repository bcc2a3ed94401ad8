"""How elongated objects are, and which way they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Longer over shorter side in the median from which on heights and widths are kept apart: below,
#: a square field that fits the longer side is at most twice what the shorter one asks for, which
#: is within the range of ERFs that fit (1 to 3.5 objects).
MARKED = 2.0


class Elongation(NamedTuple):
    """How elongated objects are.

    Attributes:
        median: Longer over shorter side of a tight box, in the median.
        wide: Share of the objects that are wider than high.
        tall: Share of those that are higher than wide.
    """

    median: float
    wide: float
    tall: float

    @property
    def is_marked(self) -> bool:
        """Whether heights and widths are kept apart."""
        return self.median >= MARKED

    def __str__(self) -> str:
        return (
            f"the longer side is {self.median:.1f} times the shorter one in the median; "
            f"{self.wide:.0%} are wide, {self.tall:.0%} tall"
        )


def elongation(heights: NDArray[np.float64], widths: NDArray[np.float64]) -> Elongation:
    """How elongated objects of these heights and widths in px are.

    >>> elongation(np.array([8.0, 8.0, 30.0]), np.array([120.0, 80.0, 30.0]))
    Elongation(median=10.0, wide=0.6666666666666666, tall=0.0)
    """
    longer, shorter = np.maximum(heights, widths), np.minimum(heights, widths)
    return Elongation(
        float(np.median(longer / shorter)),
        float((widths > heights).mean()),
        float((heights > widths).mean()),
    )
