"""One score of several objectives, as ParEGO weighs them (Knowles, 2006)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: Share of the largest loss in the score, beside the weighted sum of all.
_AUGMENTED = 0.05


def as_one(values: Array, rng: np.random.Generator | None) -> Array:
    """One score for each row of objectives; weights are random, or equal without `rng`."""
    if values.shape[1] == 1:
        return values[:, 0]
    lowest = values.min(axis=0, initial=np.inf)
    spread = np.maximum(values.max(axis=0, initial=-np.inf) - lowest, 1e-12)
    loss = 1 - (values - lowest) / spread
    count = values.shape[1]
    weights = np.full(count, 1 / count) if rng is None else rng.dirichlet(np.ones(count))
    weighed: Array = weights * loss
    score: Array = -weighed.max(axis=1) - _AUGMENTED * weighed.sum(axis=1)
    return score
