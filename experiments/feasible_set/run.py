"""Is living in the feasible set better than learning to stay out of trouble?

Optuna's samplers on a space of 10^12 candidates of which few have a theoretical receptive field of
24 to 96 px, with a cheap closed-form value in place of training: rejected candidates pruned,
pruned with constraints, ended by `rfsearch.search.rejection`, and never proposed (`RFSampler`).
Then what it costs to set up, to draw, and to screen 1,000 candidates. Prints tables and draws
figure.png beside this file. Run: python experiments/feasible_set/run.py
"""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import optuna
import pandas as pd
from matplotlib.figure import Figure
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

import rfsearch as rfs
from rfsearch.search.rejection import end_rejected
from rfsearch.space.feasible import FeasibleSet

STAGE = {
    "block": ["plain", "basic"],
    "depth": [1, 2, 3, 4, 5, 6],
    "width": 32,
    "stride": [1, 2],
    "kernel_size": [3, 5, 7],
    "dilation": [1, 2, 4],
}
SPACE = rfs.SearchSpace(
    stem={"kernel_size": [3, 5, 7], "stride": [1, 2], "width": 32}, stages=[STAGE] * 5
)
CONSTRAINT = rfs.RFConstraint(theoretical=(24, 96), effective=None)
SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "TPE": lambda seed: TPESampler(seed=seed),
    "GP": lambda seed: GPSampler(seed=seed),
    "NSGA-II": lambda seed: NSGAIISampler(seed=seed, population_size=20),
    "random": lambda seed: RandomSampler(seed=seed),
}
WAYS = ("prune", "constraint + prune", "constraint + ending rule", "RFSampler")


class Search(NamedTuple):
    """What one study did: for each trial, whether it fits, and the best value so far."""

    fits: list[bool]
    best: list[float]
    seconds: float


def value(architecture: rfs.Architecture) -> float:
    """Stand-in for accuracy: an ERF of 40 px in few operations."""
    octaves = math.log2(architecture.expected_erf().size / 40)
    return -(octaves**2) - 0.2 * math.log10(architecture.cost((96, 96)).flops)


def search(sampler: BaseSampler, way: str, num_trials: int, seed: int) -> Search:
    if way == "RFSampler":
        sampler = rfs.RFSampler(SPACE, CONSTRAINT, sampler, seed=seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    fits, best = [], [-math.inf]

    def objective(trial: optuna.Trial) -> float:
        architecture = SPACE.suggest(trial)
        fits.append(CONSTRAINT.is_feasible(architecture))
        if fits[-1]:
            CONSTRAINT.check(trial, architecture)
            best.append(max(best[-1], value(architecture)))
            return value(architecture)
        best.append(best[-1])
        if way == "prune":
            raise optuna.TrialPruned
        try:
            CONSTRAINT.check(trial, architecture)
        except optuna.TrialPruned:
            if way == "constraint + prune":
                raise
            return end_rejected(trial)
        raise AssertionError

    start = time.perf_counter()
    study.optimize(objective, n_trials=num_trials)
    return Search(fits, best[1:], time.perf_counter() - start)


def compare_samplers(num_trials: int, seeds: range) -> pd.DataFrame:
    rows = []
    for name, make in SAMPLERS.items():
        for way in WAYS:
            runs = [search(make(seed), way, num_trials, seed) for seed in seeds]
            row = {
                "sampler": name,
                "rejected trials": way,
                "fit, % of all": 100 * np.mean([run.fits for run in runs]),
                "fit, % of last third": 100
                * np.mean([run.fits[-num_trials // 3 :] for run in runs]),
                "best value": np.mean([run.best[-1] for run in runs]),
                "ms per trial": 1e3 * np.mean([run.seconds for run in runs]) / num_trials,
                "curve": np.mean([run.best for run in runs], axis=0),
            }
            rows.append(row)
            print({k: v for k, v in row.items() if k != "curve"}, flush=True)
    return pd.DataFrame(rows)


def costs(num_draws: int) -> pd.DataFrame:
    """Seconds to set up, to draw, and to screen candidates."""
    rng = np.random.default_rng(0)
    rows = []

    def timed(what: str, unit: str, count: int, run: Callable[[], object]) -> None:
        start = time.perf_counter()
        run()
        rows.append({"what": what, "ms": 1e3 * (time.perf_counter() - start) / count, "per": unit})

    erf = rfs.RFConstraint(rfs.ScaleTarget(12, 24))
    sets = {"TRF": SPACE.feasible(CONSTRAINT), "TRF and expected ERF": SPACE.feasible(erf)}
    for name, feasible in sets.items():
        timed(f"set up, {name}", "space", 1, partial(_draw_all, feasible, 1))
        proposals = [SPACE.to_params(SPACE.sample(rng)) for _ in range(num_draws)]
        timed(f"uniform draw, {name}", "draw", num_draws, partial(_draw_all, feasible, num_draws))
        timed(
            f"nearest to a random proposal, {name}",
            "proposal",
            num_draws,
            partial(_move_all, feasible, proposals),
        )
    drawn = [SPACE.sample(rng) for _ in range(num_draws)]
    timed(
        "screen in closed form, TRF", "candidate", num_draws,
        lambda: [CONSTRAINT.is_feasible(a) for a in drawn],
    )  # fmt: skip
    timed(
        "screen in closed form, TRF and expected ERF", "candidate", num_draws,
        lambda: [erf.is_feasible(a) for a in drawn],
    )  # fmt: skip
    few = drawn[: max(3, num_draws // 20)]
    timed(
        "build and trace", "candidate", len(few),
        lambda: [rfs.trace_receptive_field(rfs.build_model(a), 224) for a in few],
    )  # fmt: skip
    small = [sets["TRF"].sample(rng) for _ in few]
    timed(
        "build and probe with NaN (feasible ones, which are small)", "candidate", len(small),
        lambda: [rfs.probe_receptive_field(rfs.build_model(a).stages, 32) for a in small],
    )  # fmt: skip
    return pd.DataFrame(rows)


def _draw_all(feasible: FeasibleSet, num_draws: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(num_draws):
        feasible.sample(rng)


def _move_all(feasible: FeasibleSet, proposals: list[dict[str, object]]) -> None:
    for proposal in proposals:
        feasible.nearest(proposal)


def draw(frame: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    colors = dict(zip(WAYS, ("#999999", "#E69F00", "#56B4E9", "#0072B2"), strict=True))
    names = frame["sampler"].unique()
    for axes, name in zip(figure.subplots(1, len(names), sharey=True), names, strict=True):
        for row in frame[frame["sampler"] == name].itertuples():
            curve = np.where(np.isfinite(row.curve), row.curve, np.nan)
            axes.plot(np.arange(1, len(curve) + 1), curve, color=colors[row[2]], label=row[2])
        axes.set(title=name, xlabel="trials")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("best value found (mean)")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def main(num_trials: int = 90, num_seeds: int = 3, num_draws: int = 200) -> None:
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    feasible = SPACE.feasible(CONSTRAINT)
    print(f"{SPACE.size:,} candidates, {feasible.count:,} fit: 1 in {1 / feasible.fraction:,.0f}")
    print(costs(num_draws).round(3).to_string(index=False), flush=True)
    frame = compare_samplers(num_trials, range(num_seeds))
    print(frame.drop(columns="curve").round(2).to_string(index=False))
    draw(frame).savefig(Path(__file__).parent / "figure.png", dpi=150)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
