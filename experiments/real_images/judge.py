"""Does the default rule keep the best networks on real images? Tables and the figure.

Run after `train_all.py`: python judge.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from train_all import max_size

import rfsearch as rfs
from rfsearch.target.target import ERF_PER_OBJECT, MAX_GRIDDING

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "search_cost"))
from rules import RULES, Table, compare  # noqa: E402  # from the folder beside
from trained import storage_of  # noqa: E402  # from the folder that `train_all` looks in

SCORES = {"trees": "average precision", "nuclei": "mean intersection over union"}
SHARES = (0, 0.5, 0.75, 1, 1.5, 2, 3, 4, 8)


def candidates(name: str) -> pd.DataFrame:
    """One row per candidate: its ratio, gaps, cost and score, the mean over the seeds."""
    parts = []
    with storage_of(HERE) as storage:
        names = optuna.get_all_study_names(storage)
        for one in (one for one in names if one.startswith(f"{name},")):
            study = optuna.load_study(study_name=one, storage=storage)
            frame = rfs.trials_dataframe(study)
            frame["architecture"] = [t.user_attrs.get("architecture") for t in study.trials]
            parts.append(frame[frame["state"] == "COMPLETE"])
    together = pd.concat(parts).groupby("architecture")
    found = together.agg(
        erf=("erf_expected", "first"),
        stride=("output_stride", "first"),
        flops=("flops_g", "first"),
        score=("value", "mean"),
        deviation=("value", "std"),
        seeds=("value", "size"),
    ).reset_index()
    found = found[found["seeds"] == found["seeds"].max()]
    found["ratio"] = found["erf"] / max_size(name)
    found["gaps"] = found["architecture"].map(gridding)
    return found


def gridding(architecture: str) -> float:
    return rfs.Architecture.from_dict(json.loads(architecture)).coverage().gridding


def table(name: str, found: pd.DataFrame) -> Table:
    columns = (found[key].to_numpy(float) for key in ("ratio", "gaps", "score"))
    return Table(name, *columns)


def draw(axes: Axes, name: str, found: pd.DataFrame) -> None:
    low, high = ERF_PER_OBJECT
    axes.axvspan(low, high, color="0.92", label="default rule")
    for (stride, colour), (few, face) in [
        (a, b)
        for a in zip(sorted(found["stride"].unique()), ("C0", "C1"), strict=True)
        for b in ((True, "full"), (False, "none"))
    ]:
        part = found[(found["stride"] == stride) & ((found["gaps"] <= MAX_GRIDDING) == few)]
        axes.plot(
            part["ratio"], part["score"], "o", color=colour, fillstyle=face, markersize=4,
            label=f"step of {stride} px" + ("" if few else ", gaps"),
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_xticks([0.25, 0.5, 1, 2, 4], ["¼", "½", "1", "2", "4"])
    axes.set_xlabel("expected ERF over the largest object")
    axes.set_ylabel(SCORES[name])
    axes.set_title(f"{name}: objects up to {max_size(name):.0f} px", fontsize=10)


def main() -> None:
    figure = Figure(figsize=(9, 4), layout="constrained")
    known = []
    for axes, name in zip(figure.subplots(1, 2), SCORES, strict=True):
        found = candidates(name)
        draw(axes, name, found)
        known += [
            table(name, found),
            *(table(f"{name}, step {s}", part) for s, part in found.groupby("stride")),
        ]
        error = found["deviation"].mean() / np.sqrt(found["seeds"].max())
        print(f"{name}: {len(found)} candidates, {found['seeds'].max()} seeds, error {error:.4f}")
        bins = pd.cut(found["ratio"], list(SHARES))
        shown = found.groupby(bins, observed=True)["score"].agg(["size", "mean", "max"])
        print(shown.round(3).to_string())
        ranks = found[["ratio", "flops", "stride", "gaps", "score"]].corr("spearman")["score"]
        print(ranks.round(2).to_string(), end="\n\n")
    for most in (1, MAX_GRIDDING):
        print(compare(known, [(*rule, most) for rule in RULES]).T.to_string(), end="\n\n")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside lower center", ncols=5)
    figure.savefig(HERE / "figure.png", dpi=120)


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    main()
