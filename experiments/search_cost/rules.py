"""Which rule saves most, and what does it lose? Ranges of the ERF, gaps, strides, skipped units.

A candidate's accuracy is its mean over seeds; good is the best twentieth of a table. Draws without
repetition from `fit` candidates of which `good` are good meet the first after
(fit + 1) / (good + 1) trainings on average: a rule saves the ratio of that without and with it.

Run: python rules.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rfsearch.analysis.statistics import rank_correlation
from rfsearch.target.target import ERF_PER_OBJECT, MAX_GRIDDING

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "erf_and_accuracy"))
from train import target_of  # noqa: E402  # from the folder beside
from trained import tables, trained  # noqa: E402

#: ERF over the largest object, from and to.
RULES = (
    (1, 2), (1, 3), (1, 3.5), (1, 4), (0.75, 3), (1.25, 2.5), (1.25, 3), (1.25, 3.5),
    (1.5, 3), (1.5, 3.5), (1.5, 4), (2, 4),
)  # fmt: skip
#: Largest share of the receptive field's pixels that is never touched.
GAPS = (0, 0.05, 0.1, 0.2, 0.4, 1)
#: Fewest units across the smallest object, and largest share of a map's units that are skipped.
UNITS = (0, 1, 2, 3, 4, 6)
SKIPPED = (0, 0.25, 0.5, 1)


@dataclass(frozen=True)
class Table:
    """All candidates of a space, trained for objects of one size.

    Attributes:
        name: Of the space, and the side of the digits in px.
        ratios: Expected ERF over the largest object, one for each candidate.
        gaps: Share of the receptive field's pixels that are never touched, alike.
        accuracies: Mean over seeds, alike.
        units: Units of the map across the smallest object, alike.
        skipped: Share of a map's units that nothing reads, alike.
    """

    name: str
    ratios: NDArray[np.float64]
    gaps: NDArray[np.float64]
    accuracies: NDArray[np.float64]
    units: NDArray[np.float64] | float = np.inf
    skipped: NDArray[np.float64] | float = 0.0

    def judge(
        self, low: float, high: float, most: float, units: float = 0, skipped: float = 1
    ) -> tuple[float, float]:
        """How many times fewer trainings it takes to a good candidate; and the best one's loss."""
        fit = self._fit(low, high, most) & (self.units >= units) & (self.skipped <= skipped)
        num_good = max(2, round(0.05 * len(fit)))
        bar = np.sort(self.accuracies)[-num_good]
        left = np.count_nonzero(self.accuracies[fit] >= bar)
        freely = (len(fit) + 1) / (num_good + 1)
        saved = freely * (left + 1) / (np.count_nonzero(fit) + 1) if left else 0.0
        return saved, self.accuracies.max() - self.accuracies[fit].max(initial=0)

    def units_and_accuracy(self) -> str:
        """Rank correlation of units across an object with accuracy, of what fits by default."""
        fit = self._fit(*ERF_PER_OBJECT, MAX_GRIDDING)
        return str(
            rank_correlation(np.broadcast_to(self.units, len(fit))[fit], self.accuracies[fit])
        )

    def _fit(self, low: float, high: float, most: float) -> NDArray[np.bool_]:
        return (self.ratios >= low) & (self.ratios <= high) & (self.gaps <= most)


def by_size(name: str) -> Iterator[Table]:
    """A space's candidates, for each size of the digits."""
    for side, frame in trained(name).groupby("side"):
        columns = ["erf_expected", "gridding", "score", "output_stride", "skipped"]
        means = frame.groupby("architecture", sort=False)[columns].mean()
        sizes, gaps, accuracies, strides, skipped = means.to_numpy().T
        target = target_of(side)
        ratios, units = sizes / target.max_size, target.min_size / strides
        yield Table(f"{name}, {side} px", ratios, gaps, accuracies, units, skipped)


def compare(known: list[Table], rules: Sequence[tuple[float, ...]]) -> pd.DataFrame:
    """For each rule, the arguments of `Table.judge`, and table: the saving, and any loss."""
    rows = []
    for rule in rules:
        judged = [table.judge(*rule) for table in known]
        cells = {
            table.name: f"{saved:.1f}" + (f" (-{lost:.3f})" if lost > 0 else "")
            for table, (saved, lost) in zip(known, judged, strict=True)
        }
        savings = np.array([saved for saved, _ in judged])
        mean = np.exp(np.log(savings).mean()) if savings.all() else np.nan
        names = ("", " to ", ", gaps ", ", units ", ", skipped ")
        text = "".join(f"{name}{bound:g}" for name, bound in zip(names, rule, strict=False))
        rows.append({"ERF / object": text, **cells, "mean": f"{mean:.2f}"})
    return pd.DataFrame(rows).set_index("ERF / object")


if __name__ == "__main__":
    every = [table for name in tables() for table in by_size(name)]
    shares = {
        table.name: f"{np.mean((table.ratios >= 1) & (table.ratios <= ERF_PER_OBJECT[1])):.0%} of "
        f"{len(table.ratios)} fit"
        for table in every
    }
    print(pd.Series(shares).to_string(), end="\n\n")
    units = {table.name: table.units_and_accuracy() for table in every}
    print(pd.Series(units, name="units across an object and accuracy").to_string(), end="\n\n")
    for most in (1, MAX_GRIDDING):
        print(compare(every, [(*rule, most) for rule in RULES]).T.to_string(), end="\n\n")
    for bounds in (
        [(*ERF_PER_OBJECT, most) for most in GAPS],
        [(*ERF_PER_OBJECT, MAX_GRIDDING, units) for units in UNITS],
        [(*ERF_PER_OBJECT, MAX_GRIDDING, 0, skipped) for skipped in SKIPPED],
    ):
        print(compare(every, bounds).T.to_string(), end="\n\n")
