"""Train every candidate of `space.toml` on digits among fragments, without any gate.

Trials go to `study.db`, and what is there already is not trained again. The table
`../trained_tables/deep_fields.csv.gz` has a row for each training;
what is printed and figure.png are made of it.
Run: python run.py [--seeds 0 1 2] [--only-draw]
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

import rfsearch as rfs
from rfsearch.analysis.statistics import rank_correlation
from rfsearch.basics import palette
from rfsearch.target.target import MAX_GRIDDING

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "erf_and_accuracy"))
from train import train_missing  # noqa: E402  # from the folder above
from trained import of_seeds, table_of  # noqa: E402

#: What may predict accuracy.
PREDICTORS = (
    "trf_size", "erf_expected", "erf_sigma_expected", "erf_half_expected",
    "erf_trained", "erf_sigma_trained", "gridding",
)  # fmt: skip


def train(seed: int) -> None:
    """One study: all candidates."""
    data = rfs.digit_scenes(object_size=26, num_train=3000, num_valid=1000, seed=seed)
    config = rfs.TrainingConfig(epochs=4, seed=seed)
    train_missing(HERE, f"seed {seed}", rfs.ClassificationTask(data, config))


def candidates(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each candidate: the mean of its trainings."""
    choices = ["stage1_dilation", "stage2_dilation"]
    return frame.groupby(choices, as_index=False)[["score", *PREDICTORS]].mean()


def within_equal(found: pd.DataFrame, column: str) -> pd.DataFrame:
    """Each number less the mean of the candidates that are equal in a column."""
    numbers = found[["score", *PREDICTORS]]
    apart = numbers - numbers.groupby(found[column]).transform("mean")
    return apart[found.groupby(column)["score"].transform("size") > 1]


def correlations(found: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation of each predictor with accuracy, where few pixels are left untouched."""
    whole = found[found["gridding"] <= MAX_GRIDDING]
    parts = {
        "all": whole,
        "equal TRF": within_equal(whole, "trf_size"),
        "equal first stage": within_equal(whole, "stage1_dilation"),
    }
    rows = {
        name: {
            predictor: str(rank_correlation(part[predictor], part["score"]))
            for predictor in PREDICTORS
            if part[predictor].nunique() > 1
        }
        for name, part in parts.items()
    }
    return pd.DataFrame(rows)


def draw(found: pd.DataFrame) -> None:
    """Accuracy against both fields; a line joins those with the same first stage."""
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    groups = found.sort_values("erf_sigma_expected").groupby("stage1_dilation")
    for (dilation, part), color in zip(groups, palette.SERIES, strict=False):
        few = part["gridding"] <= MAX_GRIDDING
        for axes, column in ((left, "trf_size"), (right, "erf_sigma_expected")):
            means = part.groupby(column)["score"].mean()
            axes.plot(means.index, means, "-", color=color, alpha=0.4)
            for shown, style in ((part[few], "full"), (part[~few], "none")):
                label = str(dilation) if style == "full" else None
                points = (shown[column], shown["score"])
                axes.plot(*points, "o", color=color, fillstyle=style, label=label)
    left.set(xlabel="theoretical receptive field (px)", ylabel="accuracy, mean of three")
    right.set(xlabel="sigma of the expected ERF (px)")
    figure.legend(
        *left.get_legend_handles_labels(), title="first stage", loc="outside right center"
    )
    figure.savefig(HERE / "figure.png", dpi=120)


def main() -> None:
    frame = table_of("deep_fields", train, partial(of_seeds, HERE))
    found = candidates(frame)
    print(found.sort_values("score", ascending=False).round(3).to_string(index=False))
    print(frame.groupby(["stage1_dilation", "stage2_dilation"])["score"].std().mean())
    print(correlations(found).to_string())
    print(found.pivot_table("score", "stage1_dilation", "stage2_dilation").round(2).to_string())
    draw(found)


if __name__ == "__main__":
    main()
