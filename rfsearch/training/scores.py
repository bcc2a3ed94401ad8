"""What validation gives: a score, and scores by object scale in the bins of COCO's evaluation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Sides in px, at the network's input resolution, where medium and large objects begin.
SCALE_EDGES = (32.0, 96.0)


class ScaleScores(NamedTuple):
    """A score of small (below 32 px), medium (below 96 px) and large objects; NaN for none."""

    small: float = math.nan
    medium: float = math.nan
    large: float = math.nan


class Scores(NamedTuple):
    """What validation gave.

    Attributes:
        value: What a study maximises.
        by_scale: The score of small, medium and large objects.
        ap50: Average precision at an overlap of 50 %, for detection.
    """

    value: float
    by_scale: ScaleScores = ScaleScores()
    ap50: float = math.nan


def share_by_scale(hits: NDArray[np.bool_], sizes: NDArray[np.float64]) -> ScaleScores:
    """Share of hits among the objects of each scale.

    Args:
        hits: Whether each object was got right, `(objects,)`.
        sizes: Side of each object's tight box in px, `(objects,)`.

    >>> share_by_scale(np.array([True, False, True]), np.array([10.0, 31.9, 32.0]))
    ScaleScores(small=0.5, medium=1.0, large=nan)
    """
    bins = np.digitize(sizes, SCALE_EDGES)
    shares = (hits[bins == number] for number in range(len(SCALE_EDGES) + 1))
    return ScaleScores(*(float(part.mean()) if len(part) else math.nan for part in shares))
