"""Tables and figure.png from the trials in `study.db` (see `train.py`). Run: python figure.py"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from matplotlib.figure import Figure
from train import IMAGE_SIDES, object_sizes, storage_of, study_name

import rfsearch as rfs
from rfsearch.analysis.erf_effect import per_object, trained_candidates
from rfsearch.analysis.statistics import mean_interval, rank_correlation
from rfsearch.basics.palette import BLUE, PURPLE, VERMILLION

HERE = Path(__file__).parent
#: Edges of the table's bins: ERF size over object size.
RATIOS = (0, 1, 1.5, 2, 3, 4, np.inf)
PREDICTORS = ("trf_size", "erf_expected", "erf_init", "erf_trained")
STRIDES = {2: ("o", BLUE), 4: ("s", VERMILLION), 8: ("^", PURPLE)}


def trials() -> pd.DataFrame:
    """All trained candidates, with the median side of their objects' tight boxes in px."""
    frames = []
    with storage_of(HERE) as storage:
        known = set(optuna.get_all_study_names(storage))
        for side in sorted(IMAGE_SIDES):
            seed = 0
            while (name := study_name(side, seed)) in known:
                study = optuna.load_study(study_name=name, storage=storage)
                frame = trained_candidates(rfs.trials_dataframe(study))
                object_size = float(np.median(object_sizes(side)))
                frames.append(per_object(frame, object_size).assign(object_size=object_size))
                seed += 1
    return pd.concat(frames, ignore_index=True)


def by_ratio(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy, with its interval, for each object size and bin of expected ERF ratios."""
    bins = pd.cut(frame["erf_expected_per_object"].astype(float), RATIOS)
    rows = []
    for (size, ratio), part in frame.groupby([frame["object_size"], bins], observed=True):
        low, high = mean_interval(part["value"])
        rows.append((size, str(ratio), len(part), part["value"].mean(), low, high))
    columns = ["object px", "ERF / object", "trainings", "accuracy", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def correlations(frame: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation of each predictor with accuracy, for all strides and for one."""
    rows = []
    for size, part in frame.groupby("object_size"):
        for strides, same in (("all", part), ("2 px", part[part["output_stride"] == 2])):
            found = {name: str(rank_correlation(same[name], same["value"])) for name in PREDICTORS}
            rows.append({"object px": size, "output stride": strides, **found})
    return pd.DataFrame(rows)


def draw(frame: pd.DataFrame) -> None:
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    groups = frame.groupby("object_size")
    for axes, (size, part) in zip(
        np.ravel(figure.subplots(1, groups.ngroups, sharey=True)), groups, strict=True
    ):
        axes.axvspan(1, 3, color="0.9", label="default range")
        for stride, (marker, color) in STRIDES.items():
            same = part[part["output_stride"] == stride]
            axes.plot(
                same["erf_expected_per_object"].astype(float),
                same["value"].astype(float),
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
