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
#: Of each data set what is scored, the largest object (95 % are smaller, in px), and the score of
#: a network that has learned nothing: one of ten classes, all background, no box.
CASES = {
    "digits": ("accuracy", 14, 0.1),
    "nuclei": ("mean IoU", 30, 0.4),
    "trees": ("mean AP", 34, 0.0),
}
SIZES = ["ratio", "erf_expected", "erf_weights", "erf_before", "erf_after"]
NAMED = ("fixed", "from scratch")


def read() -> pd.DataFrame:
    """All trainings, with ratios to the largest object and to before."""
    frame = pd.read_csv(HERE / "results.csv")
    largest = frame["data"].map({name: size for name, (_, size, _) in CASES.items()})
    left_out = frame["changed"].str.contains('skip": true')
    frame["stages"] -= left_out  # The first draws might leave out one more.
    frame["ratio"] = frame["erf_expected"] / largest
    frame["sigma_after_per_before"] = frame["sigma_after"] / frame["sigma_before"]
    return frame


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Each network with a name: means over seeds."""
    columns = ["score", "flops_ratio", "cpu_seconds", "stride", *SIZES, "sigma_after_per_before"]
    groups = frame[frame["way"].isin(NAMED)].groupby(["way", "name"])
    ends = groups["score"].agg(["size", "min", "max"])
    return groups[columns].mean().join(ends).sort_values("score")


def drawn(frame: pd.DataFrame) -> pd.DataFrame:
    """How the networks of each draw or search turned out."""
    groups = frame[~frame["way"].isin(NAMED)].groupby(["way", "seed"])
    found = groups["score"].agg(["size", "min", "median", "max"])
    found["flops"] = groups["flops_ratio"].sum()
    best = frame.loc[groups["score"].idxmax()].set_index(["way", "seed"])
    return found.join(best[["name", "stages", "changed", "flops_ratio", "ratio", "stride"]])


def draw(frame: pd.DataFrame) -> Figure:
    """A row for each data set: scores, scores against ERF, how much fine-tuning changes it."""
    figure = Figure(figsize=(12, 3.6 * len(CASES)), layout="constrained")
    grid = figure.subplots(len(CASES), 3, width_ratios=[1.2, 1, 1])
    for (names, *others), (data, (score, _, nothing)) in zip(grid, CASES.items(), strict=True):
        part = frame[frame["data"] == data]
        draw_names(names, part)
        names.axvline(nothing, color="black", linewidth=0.8)
        names.set(title=data, xlabel=f"{score} (line: nothing learned)")
        others[0].axvspan(*ERF_PER_OBJECT, color="0.9", label="default range")
        labels = {"score": score, "sigma_after_per_before": "sigma, fine-tuned over before"}
        for axes, (column, label) in zip(others, labels.items(), strict=True):
            draw_ratios(axes, part[part["way"] != "from scratch"], column)
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
    axes.legend(fontsize="small", loc="lower right")


def draw_ratios(axes: Axes, frame: pd.DataFrame, column: str) -> None:
    """A number of each training against its ERF; what was drawn or searched for is hollow."""
    for (stages, part), colour, marker in zip(
        frame.groupby("stages"), SERIES, "vos^", strict=False
    ):
        name = "whole" if stages == WHOLE else f"{stages} stages"
        for is_fixed, fill in ((True, "full"), (False, "none")):
            some = part[(part["way"] == "fixed") == is_fixed]
            label = name if is_fixed else None
            style = {"color": colour, "fillstyle": fill, "alpha": 0.8, "label": label}
            axes.plot(some["ratio"], some[column], marker, **style)


if __name__ == "__main__":
    trainings = read()
    for name, rows in trainings.groupby("data", sort=False):
        print(name, summary(rows).round(3).to_string(), sep="\n")
        print(drawn(rows).round(3).to_string())
        for stages, part in rows[rows["way"] == "fixed"].groupby("stages"):
            print(stages, "stages:", rfs.rank_correlation(part["ratio"], part["score"]))
    draw(trainings).savefig(HERE / "figure.png", dpi=110)
