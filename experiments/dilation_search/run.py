"""What does a search of dilations alone find, against one of all that makes a receptive field?

Every candidate of `space.toml` and of `../search_cost` has to be trained
(`../erf_and_accuracy/train.py dilations`, `centred`), so that searches are replayed. Prints a
table and draws figure.png. Run: python run.py [SEARCHES]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from matplotlib.figure import Figure

import rfsearch as rfs
from rfsearch.basics.palette import BLUE, VERMILLION
from rfsearch.target.target import ERF_PER_OBJECT, MAX_GRIDDING

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "search_cost"))
import replay  # noqa: E402  # from the folder above
from trained import trained  # noqa: E402

#: Of the digits, in px.
SIDE = 26
IMAGE_SIZE = (48, 48)
#: Distinct candidates that each search trains.
TRAININGS = 20
#: Table of each space, and the ways to search it.
WAYS = {
    "dilations": ("dilations", ("TPE", "RFSampler(GP)")),
    "all choices": ("centred", ("TPE", "RFSampler(GP)")),
}

Row = tuple[str, int, float, float, float]


def constraints(given: rfs.Architecture) -> tuple[rfs.RFConstraint, rfs.RFConstraint]:
    """The default rule, and its theoretical range alone, at no more than the given cost."""
    flops = given.cost(IMAGE_SIZE, in_chans=1, num_classes=10).flops
    budget = rfs.Budget(max_flops_g=flops / 1e9, input_size=IMAGE_SIZE, in_chans=1, num_classes=10)
    target = replay.target_of(SIDE)
    whole = rfs.RFConstraint(target, budget=budget, measured=False)
    theory = rfs.RFConstraint(target, effective=None, max_gridding=None, budget=budget)
    return whole, theory


def tables(name: str) -> list[dict[rfs.Architecture, tuple[float, float]]]:
    """Accuracies and operations, for each seed of the trainings."""
    seeds = sorted(trained(name).query("side == @SIDE")["seed"].unique())
    return [replay.load_table(name, SIDE, seed) for seed in seeds]


def rows(searches: int, given: rfs.Architecture) -> list[Row]:
    """For each way: candidates, what is found in 5 and in 20 trainings, and 10^12 operations."""
    found = []
    whole, theory = constraints(given)
    for name, (table, ways) in WAYS.items():
        space, known = replay.space_of(table), tables(table)
        for way in ways:
            method = replay.methods(space, whole, theory)[way]
            curves = [
                replay.search(space, method, of_seed, seed)
                for of_seed in known
                for seed in range(searches)
            ]
            best = [np.median([c.after(n) for c in curves]) for n in (5, TRAININGS)]
            spent = float(np.median([c.gflops[-1] for c in curves])) / 1000
            count = space.feasible(whole).count if "RFSampler" in way else space.size
            found.append((f"{name}: {way}", count, *map(float, best), spent))
    return found


def given_network() -> rfs.Architecture:
    """The network whose dilations are searched, with none."""
    space = replay.space_of("dilations")
    return min(space, key=lambda arch: arch.receptive_field().size)


def draw(means: dict[rfs.Architecture, float], given: rfs.Architecture) -> None:
    """Accuracy of all patterns of dilations against their expected ERF over the largest object."""
    largest = replay.target_of(SIDE).max_size
    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(*ERF_PER_OBJECT, color="0.9", label="default range")
    for gaps, fill, label in ((False, BLUE, "few gaps"), (True, "none", "many gaps")):
        some = [arch for arch in means if (arch.coverage().gridding > MAX_GRIDDING) == gaps]
        ratios = [arch.expected_erf().size / largest for arch in some]
        values = [means[arch] for arch in some]
        axes.plot(ratios, values, "o", color=BLUE, markerfacecolor=fill, label=label)
    place = given.expected_erf().size / largest
    axes.plot(place, means[given], "*", color=VERMILLION, markersize=14, label="no dilation")
    axes.set(xlabel="expected ERF / largest object", ylabel="accuracy")
    axes.legend(fontsize="small")
    figure.savefig(HERE / "figure.png", dpi=120)


def main(searches: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    replay.TRAININGS = TRAININGS
    given, known = given_network(), tables("dilations")
    means = {arch: float(np.mean([table[arch][0] for table in known])) for arch in known[0]}
    best = max(means.values())
    print(f"digits of {SIDE} px; given: ERF of {given.expected_erf().size:g} px, ", end="")
    print(f"accuracy {means[given]:.3f}; best of all {len(means)} dilations: {best:.3f}")
    draw(means, given)
    columns = ["searched", "candidates", "best of 5", f"best of {TRAININGS}", "TFLOPs"]
    print(pd.DataFrame(rows(searches, given), columns=columns).round(3).to_string(index=False))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
