"""What members are expected to be worth by what came of others that are described alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: What was tried in a study: descriptors of each, and scores of which higher is better.
Outcomes = tuple[Sequence[Mapping[str, float]], Sequence[float]]


class Expectation:
    """Learnt from studies whose scores need not have the same scale.

    Args:
        studies: What came of each. Scores are taken in standard deviations of their study.
        expected: A descriptor that scores are expected to go with before any is known.

    Raises:
        ValueError: If no study has two different scores.
    """

    def __init__(self, studies: Sequence[Outcomes], expected: str | None = None) -> None:
        rows: list[Mapping[str, float]] = []
        scores: list[Array] = []
        for described, given in studies:
            values = np.array(given, dtype=float)
            if len(values) and (spread := values.std()) > 0:
                rows += described
                scores.append((values - values.mean()) / spread)
        if not rows:
            raise ValueError("`earlier` trials must have at least two different scores.")
        self._names = tuple(rows[0])
        self._expected = expected
        self._rows = np.array([[row[name] for name in self._names] for row in rows])
        self._scores = np.concatenate(scores)
        self._middle = self._rows.mean(axis=0)
        deviation = self._rows.std(axis=0)
        self._scale = np.where(deviation > 1e-9, deviation, np.inf)  # What tells nothing is 0.

    def of(self, descriptors: Mapping[str, float]) -> float:
        """How good a member is expected to be, in standard deviations of earlier scores."""
        row = np.array([[descriptors[name] for name in self._names]])
        return float(self._process.predict(self._columns(row))[0])

    @cached_property
    def _process(self) -> Any:
        from rfsearch.feasible._surrogate import Surrogate  # Takes a second to load.

        surrogate = Surrogate(len(self._names), 0)
        tried = self._columns(self._rows)
        surrogate.fit(tried, self._scores, tried[:0], np.random.default_rng(0))
        return surrogate

    def _columns(self, rows: Array) -> Array:
        """As the surrogate has them: what is expected before, and all descriptors."""
        scaled = (rows - self._middle) / self._scale
        first = np.zeros(len(rows))
        if self._expected is not None:
            first = scaled[:, self._names.index(self._expected)]
        return np.column_stack([first, scaled])
