"""Does the default rule keep the best networks on real images? Tables and the figure.

Run after `train_all.py`: python judge.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from train_all import TARGETS

import rfsearch as rfs
from rfsearch.target.target import ERF_PER_OBJECT, MAX_GRIDDING

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "search_cost"))
from replay import Searches, methods, report, search  # noqa: E402  # from the folder beside
from rules import RULES, Table, compare  # noqa: E402
from trained import TABLES  # noqa: E402  # from the folder that `train_all` looks in

SCORES = {"trees": "average precision", "nuclei": "mean intersection over union"}
WAYS = ("TPE", "GP", "RFSampler(TPE)", "RFSampler(descriptors)")
SHARES = (0, 0.5, 0.75, 1, 1.5, 2, 3, 4, 8)


def candidates(name: str) -> pd.DataFrame:
    """One row per candidate: its ratio, gaps, cost and score, the mean over the seeds."""
    space = rfs.SearchSpace.load(HERE / "space.toml")
    trainings = rfs.trained_table(name)
    choices = [choice for choice in space.distributions() if choice in trainings]
    found = trainings.groupby(choices, as_index=False).agg(
        erf=("erf_expected", "first"),
        gaps=("gridding", "first"),
        stride=("output_stride", "first"),
        flops=("flops_g", "first"),
        score=("score", "mean"),
        deviation=("score", "std"),
        seeds=("score", "size"),
    )
    found["ratio"] = found["erf"] / TARGETS[name].max_size
    found["architecture"] = [space.from_params(row) for row in found[choices].to_dict("records")]
    return found


def searches(name: str, found: pd.DataFrame, number: int) -> pd.DataFrame:
    """What each way needs to what 40 trainings of TPE find; operations are of one image."""
    space = rfs.SearchSpace.load(HERE / "space.toml")
    whole = rfs.RFConstraint(TARGETS[name], measured=False)
    ways = methods(space, whole, whole)
    known = zip(found["score"], found["flops"], strict=True)
    scores = dict(zip(found["architecture"], known, strict=True))
    curves = {
        way: [search(space, ways[way], scores, seed)[1] for seed in range(number)] for way in WAYS
    }
    searched = [Searches((name, 0), 0, way, found_by) for way, found_by in curves.items()]
    return report(searched, error=error(found))


def error(found: pd.DataFrame) -> float:
    """Standard error of a candidate's mean."""
    return float(found["deviation"].mean() / np.sqrt(found["seeds"].max()))


def table(name: str, found: pd.DataFrame) -> Table:
    columns = (found[key].to_numpy(float) for key in ("ratio", "gaps", "score"))
    units = TARGETS[name.split(",")[0]].min_size / found["stride"].to_numpy(float)
    return Table(name, *columns, units)


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
    axes.set_title(f"{name}: objects up to {TARGETS[name].max_size:.0f} px", fontsize=10)


def main() -> None:
    names = [name for name in SCORES if (TABLES / f"{name}.csv.gz").exists()]
    figure = Figure(figsize=(4.5 * len(names), 4), layout="constrained")
    known = []
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        found = candidates(name)
        draw(axes, name, found)
        known += [
            table(name, found),
            *(table(f"{name}, step {s}", part) for s, part in found.groupby("stride")),
        ]
        seeds = found["seeds"].max()
        print(f"{name}: {len(found)} candidates, {seeds} seeds, error {error(found):.4f}")
        bins = pd.cut(found["ratio"], list(SHARES))
        shown = found.groupby(bins, observed=True)["score"].agg(["size", "mean", "max"])
        print(shown.round(3).to_string())
        ranks = found[["ratio", "flops", "stride", "gaps", "score"]].corr("spearman")["score"]
        print(ranks.round(2).to_string())
        print(f"units and score, what fits: {table(name, found).units_and_accuracy()}\n")
        needed = searches(name, found, 20)
        print(f"{(found['score'] >= needed['bar'].iloc[0]).sum()} candidates reach the bar:")
        print(needed.round(3).to_string(index=False), end="\n\n")
    for most in (1, MAX_GRIDDING):
        print(compare(known, [(*rule, most) for rule in RULES]).T.to_string(), end="\n\n")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside lower center", ncols=3)
    figure.savefig(HERE / "figure.png", dpi=120)


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    main()
