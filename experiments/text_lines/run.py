"""Train every candidate of `space.toml` on lines of digits, without any gate; then a table.

Trials go to `study.db`, and what is there already is not trained again. The table
`../trained_tables/text_lines.csv.gz` has a row for each training;
what is printed and figure.png are made of it.
Run: python run.py [--seeds 0 1] [--only-draw]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

import rfsearch as rfs
from rfsearch.basics.palette import BLUE, VERMILLION

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "erf_and_accuracy"))
from lines import DIGITS, SIDE, data  # noqa: E402  # from this folder
from train import train_missing  # noqa: E402  # from the folder above
from trained import table_of, trials_of  # noqa: E402

#: Height and width of a line in px.
HEIGHT, WIDTH = SIDE, SIDE * len(DIGITS)
TARGET = rfs.ScaleTarget.apart(height=(HEIGHT, HEIGHT), width=(WIDTH, WIDTH), quiet=True)
#: The range of the ERF alone: no candidate has the theoretical field of 60 px along the width.
CONSTRAINT = rfs.RFConstraint(TARGET, theoretical=None, max_gridding=None)


def train(seed: int) -> None:
    """One study: all candidates."""
    config = rfs.TrainingConfig(epochs=6, seed=seed)
    train_missing(HERE, f"seed {seed}", rfs.ClassificationTask(data(seed), config))


def table(seeds: list[int]) -> pd.DataFrame:
    """All trainings, with the ERF along both axes in px and whether it fits height and width."""
    rows = []
    trials = trials_of(HERE)
    for seed in seeds:
        for trial in trials[f"seed {seed}"]:
            described = json.loads(trial.user_attrs["architecture"])
            architecture = rfs.Architecture.from_dict(described)
            height, width = (architecture.expected_erf(axis=a).size for a in architecture.axes)
            rows.append(
                trial.params
                | {"seed": seed, "score": trial.values[0]}
                | {"flops_g": trial.user_attrs["flops_g"]}
                | {"erf_height": height, "erf_width": width}
                | {"fits": CONSTRAINT.is_feasible(architecture)}
            )
    return pd.DataFrame(rows)


def draw(frame: pd.DataFrame) -> None:
    """Each candidate where its ERF lies along both axes, coloured by accuracy."""
    figure = Figure(figsize=(5.2, 4), layout="constrained")
    axes = figure.add_subplot()
    means = frame.groupby(["erf_height", "erf_width"], as_index=False)["score"].mean()
    dots = axes.scatter(
        means["erf_width"], means["erf_height"], s=160, c=means["score"], cmap="viridis"
    )
    for _, row in means.iterrows():
        axes.annotate(
            f"{row['score']:.2f}",
            (row["erf_width"], row["erf_height"]),
            xytext=(0, 10),
            textcoords="offset points",
            ha="center",
        )
    width, height = (TARGET.along(axis).effective for axis in ("width", "height"))
    axes.axvspan(width.low, width.high, color=BLUE, alpha=0.15, label="fits the width")
    axes.axhspan(height.low, height.high, color=VERMILLION, alpha=0.12, label="fits the height")
    axes.set(xlabel="expected ERF along the width (px)", xlim=(5, 60))
    axes.set(ylabel="expected ERF along the height (px)", ylim=(5, 60))
    axes.legend(loc="upper right")
    figure.colorbar(dots, label="accuracy")
    figure.savefig(HERE / "figure.png", dpi=120)


def main() -> None:
    frame = table_of("text_lines", train, table)
    columns = ["erf_height", "erf_width", "fits"]
    print(frame.groupby(columns)["score"].agg(["mean", "min", "max"]).round(3))
    draw(frame)


if __name__ == "__main__":
    main()
