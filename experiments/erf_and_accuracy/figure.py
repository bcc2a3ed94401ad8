"""Tables and figure.png from the trainings of `train.py equal`. Run: python figure.py"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from trained import trained

from rfsearch.analysis.erf_effect import per_object
from rfsearch.analysis.statistics import mean_interval, rank_correlation
from rfsearch.basics.palette import BLUE, PURPLE, VERMILLION
from rfsearch.target.target import ERF_PER_OBJECT

HERE = Path(__file__).parent
#: Edges of the table's bins: ERF size over object size.
RATIOS = (0, 1, 1.5, 2, 3, 4, np.inf)
PREDICTORS = (
    "trf_size",
    *(f"erf_{size}{when}" for size in ("", "sigma_", "half_") for when in ("expected", "trained")),
    "erf_init",
)
STRIDES = {2: ("o", BLUE), 4: ("s", VERMILLION), 8: ("^", PURPLE)}


def trials() -> pd.DataFrame:
    """All trainings; `object_size` is the median side of their objects' tight boxes in px."""
    sizes = trained("equal").groupby("object_size")
    return pd.concat(per_object(part, size) for size, part in sizes)


def by_ratio(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy, with its interval, for each object size and bin of expected ERF ratios."""
    bins = pd.cut(frame["erf_expected_per_object"], RATIOS)
    rows = []
    for (size, ratio), part in frame.groupby([frame["object_size"], bins], observed=True):
        low, high = mean_interval(part["score"])
        rows.append((size, str(ratio), len(part), part["score"].mean(), low, high))
    columns = ["object px", "ERF / object", "trainings", "accuracy", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def correlations(frame: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation of each predictor with accuracy, for all strides and for one."""
    rows = []
    for size, part in frame.groupby("object_size"):
        for strides, same in (("all", part), ("2 px", part[part["output_stride"] == 2])):
            found = {name: str(rank_correlation(same[name], same["score"])) for name in PREDICTORS}
            rows.append({"object px": size, "output stride": strides, **found})
    return pd.DataFrame(rows)


def draw(frame: pd.DataFrame) -> None:
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    groups = frame.groupby("object_size")
    for axes, (size, part) in zip(
        np.ravel(figure.subplots(1, groups.ngroups, sharey=True)), groups, strict=True
    ):
        axes.axvspan(*ERF_PER_OBJECT, color="0.9", label="default range")
        for stride, (marker, color) in STRIDES.items():
            same = part[part["output_stride"] == stride]
            axes.plot(
                same["erf_expected_per_object"],
                same["score"],
                marker,
                color=color,
                label=f"output stride {stride} px",
                alpha=0.7,
            )
        axes.set(xscale="log", title=f"objects of {size:.0f} px", xlabel="expected ERF / object")
        axes.set_xticks([0.5, 1, 2, 4, 8], ["0.5", "1", "2", "4", "8"])
        axes.minorticks_off()
    figure.axes[0].set_ylabel("accuracy")
    figure.axes[0].legend(fontsize="small")
    figure.savefig(HERE / "figure.png", dpi=120)


if __name__ == "__main__":
    results = trials()
    print(by_ratio(results).round(3).to_string(index=False))
    print()
    print(correlations(results).round(2).to_string(index=False))
    draw(results)
