"""Which range of ERF over object saves most, and what does it lose? With and without gaps.

A candidate's accuracy is its mean over seeds; good is the best twentieth of a table. Draws without
repetition from `fit` candidates of which `good` are good meet the first after
(fit + 1) / (good + 1) trainings on average: a rule saves the ratio of that without and with it.

Run: python rules.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray

import rfsearch as rfs
from rfsearch.target.target import ERF_PER_OBJECT, MAX_GRIDDING

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "erf_and_accuracy"))
from train import mean_accuracies, target_of, trained, trained_seeds  # noqa: E402  # from the folder beside

#: Folders of the spaces (`../erf_and_accuracy/train.py` trained all of their candidates).
TABLES = {
    "equal": HERE.parent / "erf_and_accuracy",
    "dilations": HERE.parent / "dilation_search",
    "centred": HERE,
    "too large": HERE / "too_large",
}
#: ERF over the largest object, from and to.
RULES = (
    (1, 2), (1, 3), (1, 3.5), (1, 4), (0.75, 3), (1.25, 2.5), (1.25, 3), (1.25, 3.5),
    (1.5, 3), (1.5, 3.5), (1.5, 4), (2, 4),
)  # fmt: skip
#: Largest share of the receptive field's pixels that is never touched.
GAPS = (0, 0.05, 0.1, 0.2, 0.4, 1)


@dataclass(frozen=True)
class Table:
    """All candidates of a space, trained for objects of one size.

    Attributes:
        name: Of the space, and the side of the digits in px.
        ratios: Expected ERF over the largest object, one for each candidate.
        gaps: Share of the receptive field's pixels that are never touched, alike.
        accuracies: Mean over seeds, alike.
    """

    name: str
    ratios: NDArray[np.float64]
    gaps: NDArray[np.float64]
    accuracies: NDArray[np.float64]

    def judge(self, low: float, high: float, most: float) -> tuple[float, float]:
        """How many times fewer trainings it takes to a good candidate; and the best one's loss."""
        fit = (self.ratios >= low) & (self.ratios <= high) & (self.gaps <= most)
        num_good = max(2, round(0.05 * len(fit)))
        bar = np.sort(self.accuracies)[-num_good]
        left = np.count_nonzero(self.accuracies[fit] >= bar)
        freely = (len(fit) + 1) / (num_good + 1)
        saved = freely * (left + 1) / (np.count_nonzero(fit) + 1) if left else 0.0
        return saved, self.accuracies.max() - self.accuracies[fit].max()


def tables(name: str, folder: Path) -> Iterator[Table]:
    """One for each size of the digits."""
    for side, seeds in trained_seeds(folder).items():
        attributes = [trial.user_attrs for trial in trained(folder, side, seeds[0])]
        ratios = np.array([known["erf_expected"] for known in attributes])
        gaps = np.array([gridding(known["architecture"]) for known in attributes])
        means = mean_accuracies(folder, side)
        accuracies = np.array([means[known["architecture"]] for known in attributes])
        yield Table(f"{name}, {side} px", ratios / target_of(side).max_size, gaps, accuracies)


@cache
def gridding(architecture: str) -> float:
    return rfs.Architecture.from_dict(json.loads(architecture)).coverage().gridding


def compare(known: list[Table], rules: Sequence[tuple[float, float, float]]) -> pd.DataFrame:
    """For each rule and table: the saving, and the loss where there is one."""
    rows = []
    for low, high, most in rules:
        judged = [table.judge(low, high, most) for table in known]
        cells = {
            table.name: f"{saved:.1f}" + (f" (-{lost:.3f})" if lost > 0 else "")
            for table, (saved, lost) in zip(known, judged, strict=True)
        }
        savings = np.array([saved for saved, _ in judged])
        mean = np.exp(np.log(savings).mean()) if savings.all() else np.nan
        rule = f"{low:g} to {high:g}, gaps {most:g}"
        rows.append({"ERF / object": rule, **cells, "mean": f"{mean:.2f}"})
    return pd.DataFrame(rows).set_index("ERF / object")


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trained = [table for name, folder in TABLES.items() for table in tables(name, folder)]
    shares = {
        table.name: f"{np.mean((table.ratios >= 1) & (table.ratios <= 3)):.0%} of "
        f"{len(table.ratios)} fit"
        for table in trained
    }
    print(pd.Series(shares).to_string(), end="\n\n")
    for most in (1, MAX_GRIDDING):
        print(compare(trained, [(*rule, most) for rule in RULES]).T.to_string(), end="\n\n")
    bounds = [(*ERF_PER_OBJECT, most) for most in GAPS]
    print(compare(trained, bounds).T.to_string())
