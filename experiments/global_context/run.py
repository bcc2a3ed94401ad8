"""Train every candidate of `space.toml` on digits beside a fragment, without any gate.

Trials go to `study.db`, and what is there already is not trained again. The table
`../trained_tables/global_context.csv.gz` has a row for each training;
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
from rfsearch.basics import palette

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "erf_and_accuracy"))
from train import train_missing  # noqa: E402  # from the folder above
from trained import of_seeds, table_of  # noqa: E402

#: Of the digits in px, as in the quickstart: 5 and 95 % quantiles of their sides.
TARGET = rfs.ScaleTarget(12, 18)
COLORS = dict(zip(("nothing", "se", "gc", "attention"), palette.SERIES, strict=False))


def train(seed: int) -> None:
    """One study: all candidates."""
    data = rfs.digit_scenes(
        object_size=24, canvas_size=36, coverage=0.1, num_train=3000, num_valid=1000, seed=seed
    )
    config = rfs.TrainingConfig(epochs=3, batch_size=32, seed=seed)
    train_missing(HERE, f"seed {seed}", rfs.ClassificationTask(data, config))


def draw(frame: pd.DataFrame) -> None:
    """Accuracy against the local field, a line for each part that sees the whole image."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.add_subplot()
    for part, color in COLORS.items():
        means = frame[frame["part"] == part].groupby("trf_size")["score"].agg(["mean", "std"])
        axes.errorbar(
            means.index,
            means["mean"],
            means["std"],
            color=color,
            marker="o",
            capsize=3,
            label=part,
        )
    low = TARGET.theoretical[0]
    axes.axvspan(low, frame["trf_size"].max() + 2, color=palette.TARGET, alpha=0.1, label="fits")
    axes.set(xlabel="local theoretical receptive field (px)", ylabel="accuracy")
    axes.legend(title="sees the whole image", loc="lower right")
    figure.savefig(HERE / "figure.png", dpi=120)


def main() -> None:
    frame = table_of("global_context", train, partial(of_seeds, HERE))
    is_attentive = frame["stage3_block"] == "attention"
    gates = frame["stage2_context"].replace("none", "nothing")
    frame = frame.assign(part=gates.where(~is_attentive, "attention"))
    # Attention behind a gate is in the table, and left out of the figure.
    frame = frame[~is_attentive | (frame["stage2_context"] == "none")]
    print(frame.pivot_table("score", "trf_size", "part", aggfunc=["mean", "std"]).round(3))
    draw(frame)


if __name__ == "__main__":
    main()
