"""Tables and figure.png from the trainings in results.csv. Run: python figure.py"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from networks import WHOLE

import rfsearch as rfs
from rfsearch.basics.palette import BLUE, LIGHT_GREY, SERIES, VERMILLION
from rfsearch.target.target import ERF_PER_OBJECT

HERE = Path(__file__).parent
#: Ten classes.
CHANCE = 0.1
#: 95 % of the objects are smaller, in px.
LARGEST = 14
SIZES = ["ratio", "erf_expected", "erf_weights", "erf_before", "erf_after"]


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Each network that every seed trained: means over seeds."""
    columns = ["score", "flops_ratio", "cpu_seconds", *SIZES, "sigma_after_per_before"]
    groups = frame[frame["way"].isin(("fixed", "from scratch"))].groupby(["way", "name"])
    ends = groups["score"].agg(["size", "min", "max"])
    return groups[columns].mean().join(ends).sort_values("score")


def read() -> pd.DataFrame:
    """All trainings, with ratios to the largest object and to before."""
    frame = pd.read_csv(HERE / "results.csv")
    left_out = frame["changed"].str.contains('skip": true')
    frame["kept"] = frame["stages"] - left_out  # A draw may leave out one more.
    frame["ratio"] = frame["erf_expected"] / LARGEST
    frame["sigma_after_per_before"] = frame["sigma_after"] / frame["sigma_before"]
    return frame


def draw(frame: pd.DataFrame) -> Figure:
    """Accuracy of each network, accuracy against ERF, and how much fine-tuning changes it."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    names, *others = figure.subplots(1, 3, width_ratios=[1.2, 1, 1])
    draw_names(names, frame)
    others[0].axvspan(*ERF_PER_OBJECT, color="0.9", label="default range")
    labels = {"score": "accuracy", "sigma_after_per_before": "sigma, fine-tuned over before"}
    for axes, (column, label) in zip(others, labels.items(), strict=True):
        draw_ratios(axes, frame[frame["way"] != "from scratch"], column)
        axes.set(xscale="log", xlabel="expected ERF / largest object", ylabel=label)
        axes.set_xticks([1, 3, 10, 30], ["1", "3", "10", "30"])
        axes.minorticks_off()
    others[1].axhline(1, color="black", linewidth=0.8)
    others[0].legend(fontsize="x-small")
    return figure


def draw_names(axes: Axes, frame: pd.DataFrame) -> None:
    """Each training of what was not drawn, and the means of the pretrained ones."""
    means = frame[frame["way"] == "fixed"].groupby("name")["score"].mean().sort_values()
    axes.barh(means.index, means, color=LIGHT_GREY)
    for way, colour, marker in (("fixed", BLUE, "o"), ("from scratch", VERMILLION, "x")):
        part = frame[frame["way"] == way]
        label = "pretrained" if way == "fixed" else way
        axes.plot(part["score"], part["name"], marker, color=colour, label=label, markersize=5)
    axes.axvline(CHANCE, color="black", linewidth=0.8)
    axes.set_xlabel("accuracy (line: chance)")
    axes.legend(fontsize="small", loc="lower right")


def draw_ratios(axes: Axes, frame: pd.DataFrame, column: str) -> None:
    """A number of each training against its ERF; what was drawn at random is hollow."""
    for (kept, part), colour, marker in zip(frame.groupby("kept"), SERIES, "vos^D", strict=False):
        name = "whole" if kept == WHOLE else f"{kept} stages"
        for is_fixed, fill in ((True, "full"), (False, "none")):
            some = part[(part["way"] == "fixed") == is_fixed]
            label = name if is_fixed else None
            style = {"color": colour, "fillstyle": fill, "alpha": 0.8, "label": label}
            axes.plot(some["ratio"], some[column], marker, **style)


if __name__ == "__main__":
    trainings = read()
    print(summary(trainings).round(3).to_string())
    drawn = trainings[trainings["way"].isin(("random", "with gates"))]
    print(drawn[["seed", "way", "kept", "flops_ratio", *SIZES, "score"]].to_string(index=False))
    for stages, part in trainings[trainings["way"] == "fixed"].groupby("stages"):
        print(stages, "stages:", rfs.rank_correlation(part["ratio"], part["score"]))
    draw(trainings).savefig(HERE / "figure.png", dpi=110)
