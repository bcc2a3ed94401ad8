"""How much training do samplers need, with and without the receptive field? Replays on tables.

Every candidate was trained (`../trained_tables`), so a search that would train it looks its
accuracy up, and hundreds of searches take minutes. Prints tables and draws figure.png.

Run: python replay.py [SEARCHES]   # of each way, for each seed of the trainings
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import torch
from matplotlib.figure import Figure
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)

import rfsearch as rfs
from rfsearch.basics.palette import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "erf_and_accuracy"))
from train import target_of  # noqa: E402  # from the folder beside
from trained import folder_of, tables, trained  # noqa: E402

#: Spaces whose fields are from too small to too large, or mostly too large.
SPACES = tuple(name for name in ("centred", "too_large") if name in tables())
#: Distinct candidates that a search may train, and trials of any kind that it may make.
TRAININGS = 40
TRIALS = 200
#: Trials in a row that repeat a candidate, after which nothing new is expected.
REPEATS = 20
#: In one training: 4 epochs of 4,000.
IMAGES = 16_000
VALIDATION_IMAGES = 1000
#: Random trials before the sampler inside of `RFSampler` takes over, as `rfsearch run` has it.
STARTUP = 5
#: Fewest units of the map across the smallest object, of a finer rule; the default's is 1.
FINER_UNITS = 4.0
#: Side of the digits, and of those that an earlier search was for.
EARLIER_SIDES = {18: 26, 26: 18, 36: 26}
#: No gate.
EVERYTHING = rfs.RFConstraint(theoretical=None, effective=None)

Earlier = tuple[optuna.Study, rfs.RFConstraint]
#: Name of a space, side of the digits in px, and seed of the trainings.
Trained = tuple[str, int, int]
Check = Callable[[optuna.Trial, rfs.Architecture], None]


@dataclass(frozen=True)
class Method:
    """A way to search: what proposes candidates, and what is asked of them before training."""

    sampler: Callable[[int], BaseSampler]
    check: Check


@dataclass
class SearchCurve:
    """What a search has found after each training."""

    gflops: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)

    def add(self, gflops: float, value: float) -> None:
        self.gflops.append(gflops + (self.gflops[-1] if self.gflops else 0))
        self.best.append(max(value, self.best[-1] if self.best else value))

    def after(self, number: int) -> float:
        """Accuracy after so many trainings; 0 where nothing that fits was found."""
        return self.best[min(number, len(self.best)) - 1] if self.best else 0.0

    def first(self, accuracy: float) -> int | None:
        """Trainings until the accuracy was reached."""
        reached = [number for number, best in enumerate(self.best, 1) if best >= accuracy]
        return reached[0] if reached else None


def nothing(trial: optuna.Trial, architecture: rfs.Architecture) -> None:
    pass


def methods(
    space: rfs.SearchSpace,
    whole: rfs.RFConstraint,
    theory: rfs.RFConstraint,
    earlier: Callable[[int], Earlier] | None = None,
) -> dict[str, Method]:
    """Optuna's samplers with their own defaults, and inside of `RFSampler` with those of a run.

    Args:
        space: The space.
        whole: The default rule.
        theory: Its theoretical range alone.
        earlier: For each seed a search for objects of another size, if there is one.
    """

    def tpe(seed: int) -> BaseSampler:
        return TPESampler(seed=seed)

    def within(constraint: rfs.RFConstraint, base: type[BaseSampler] | None = None) -> Method:
        def sampler(seed: int) -> BaseSampler:
            inner = base(seed=seed, n_startup_trials=STARTUP) if base else "descriptors"
            return rfs.RFSampler(space, constraint, inner, seed=seed, n_startup_trials=STARTUP)

        return Method(sampler, constraint.check)

    def after(seed: int) -> BaseSampler:
        assert earlier is not None
        return rfs.RFSampler(
            space, whole, "descriptors",
            seed=seed, n_startup_trials=STARTUP, earlier=[earlier(seed)],
        )  # fmt: skip

    def prune(trial: optuna.Trial, architecture: rfs.Architecture) -> None:
        if any(verdict.octaves > 0 for verdict in whole.verdicts(architecture)):
            raise optuna.TrialPruned

    finer = replace(whole, min_units=FINER_UNITS)
    return {
        "random": Method(lambda seed: RandomSampler(seed=seed), nothing),
        "TPE": Method(tpe, nothing),
        "TPE, pruned": Method(tpe, prune),
        "TPE, constraints": Method(tpe, whole.check),
        "CMA-ES": Method(lambda seed: CmaEsSampler(seed=seed), nothing),
        "NSGA-II": Method(lambda seed: NSGAIISampler(seed=seed, population_size=10), nothing),
        "GP": Method(lambda seed: GPSampler(seed=seed), nothing),
        "descriptors": within(EVERYTHING),
        "RFSampler(TPE), TRF": within(theory, TPESampler),
        "RFSampler(TPE)": within(whole, TPESampler),
        "RFSampler(GP)": within(whole, GPSampler),
        "RFSampler(descriptors)": within(whole),
        "RFSampler(descriptors), finer": within(finer),
        "RFSampler(descriptors), earlier": Method(after, whole.check),
    }


STYLES = {
    "random": (GREY, ":"),
    "TPE": (BLACK, "-"),
    "TPE, pruned": (ORANGE, "--"),
    "TPE, constraints": (PURPLE, "-."),
    "CMA-ES": (SKY, ":"),
    "NSGA-II": (SKY, "--"),
    "GP": (GREEN, "-"),
    "descriptors": (GREEN, "--"),
    "RFSampler(TPE), TRF": (BLUE, "--"),
    "RFSampler(TPE)": (BLUE, "-"),
    "RFSampler(GP)": (VERMILLION, "-"),
    "RFSampler(descriptors)": (VERMILLION, "--"),
    "RFSampler(descriptors), finer": (VERMILLION, ":"),
    "RFSampler(descriptors), earlier": (PURPLE, "-"),
}


def search(
    space: rfs.SearchSpace,
    method: Method,
    table: dict[rfs.Architecture, tuple[float, float]],
    seed: int,
) -> tuple[optuna.Study, SearchCurve]:
    """Search once; a candidate costs its training when it is proposed first, and nothing later."""
    curve, tried, repeats = SearchCurve(), set(), 0

    def objective(trial: optuna.Trial) -> float:
        nonlocal repeats
        architecture = space.suggest(trial)
        method.check(trial, architecture)
        value, gflops = table[architecture]
        repeats = repeats + 1 if architecture in tried else 0
        if not repeats:
            tried.add(architecture)
            curve.add(gflops, value)
        if len(tried) == TRAININGS or repeats == REPEATS:
            trial.study.stop()
        return value

    study = optuna.create_study(direction="maximize", sampler=method.sampler(seed))
    study.optimize(objective, n_trials=TRIALS)
    return study, curve


def load_table(name: str, side: int, seed: int = 0) -> dict[rfs.Architecture, tuple[float, float]]:
    """Accuracy, and 10^9 operations of a training (three passes over each image)."""
    frame = trained(name).query("side == @side and seed == @seed")
    operations = 3 * IMAGES * frame["flops_g"]
    return dict(
        zip(frame["architecture"], zip(frame["score"], operations, strict=True), strict=True)
    )


@dataclass(frozen=True)
class Searches:
    """Searches of one way on one table.

    Attributes:
        case: Name of the space, and the side of the digits in px.
        training_seed: With which the table's candidates were trained.
        way: How it was searched.
        curves: One for each search.
    """

    case: tuple[str, int]
    training_seed: int
    way: str
    curves: list[SearchCurve]

    def best(self, number: int) -> float:
        """Accuracy after so many trainings, the median of the searches."""
        return float(np.median([curve.after(number) for curve in self.curves]))


def report(
    found: list[Searches], ways: Collection[str] = ("TPE",), error: float | None = None
) -> pd.DataFrame:
    """Trainings and compute to reach what the best of some ways ends with.

    That is the median of its searches, less one standard error of an accuracy, since smaller
    differences are chance. `TPE needs` is the other way round: trainings of plain TPE to reach
    what a way has found after 10. The columns are medians over all searches.

    Args:
        found: The searches on one table, each way once.
        ways: Those that say what is to be reached.
        error: Standard error of a score; by default that of an accuracy.
    """
    by_way = {one.way: one for one in found}
    end = max(by_way[way].best(TRAININGS) for way in ways if way in by_way)
    bar = end - (np.sqrt(end * (1 - end) / VALIDATION_IMAGES) if error is None else error)
    rows = []
    for way, one in by_way.items():
        # A search that never reaches the bar has spent all it had: more would be needed.
        firsts = [curve.first(bar) or np.inf for curve in one.curves]
        compute = [
            curve.gflops[int(first) - 1] if np.isfinite(first) else np.inf
            for curve, first in zip(one.curves, firsts, strict=True)
        ]
        needs = [curve.first(one.best(10)) or np.inf for curve in by_way["TPE"].curves]
        rows.append((
            way, np.isfinite(firsts).mean(), np.median(firsts), np.median(compute),
            one.best(10), np.median(needs),
        ))  # fmt: skip
    columns = ["way", "reached", "trainings", "GFLOPs", "best of 10", "TPE needs"]
    frame = pd.DataFrame(rows, columns=columns)
    spent = frame.loc[frame["way"] == "TPE", "GFLOPs"].iloc[0]
    return frame.assign(bar=bar, times_less=spent / frame["GFLOPs"])


def draw(results: dict[Trained, list[Searches]]) -> None:
    """The best so far of each way, a panel for each table."""
    figure = Figure(figsize=(11, 6.8), layout="constrained")
    panels = np.ravel(figure.subplots(2, -(-len(results) // 2), squeeze=False))
    for axes, ((space, side, seed), found) in zip(panels, results.items(), strict=False):
        for one in found:
            color, line = STYLES[one.way]
            numbers = range(1, max(len(curve.best) for curve in one.curves) + 1)
            best = [np.mean([curve.after(number) for curve in one.curves]) for number in numbers]
            axes.plot(numbers, best, line, color=color, label=one.way)
        axes.set(title=f"{space}, digits of {side} px, seed {seed}", xlabel="trained candidates")
    for axes in panels[:: len(panels) // 2]:
        axes.set_ylabel("best accuracy so far, mean")
    for axes in panels[len(results) :]:
        axes.axis("off")
    lines, names = panels[0].get_legend_handles_labels()
    figure.legend(lines, names, fontsize="small", loc="outside right center")
    figure.savefig(HERE / "figure.png", dpi=120)


def space_of(name: str) -> rfs.SearchSpace:
    return rfs.SearchSpace.load(folder_of(name) / "space.toml")


def constraints(side: int) -> tuple[rfs.RFConstraint, rfs.RFConstraint]:
    """The default rule, as far as it is known before training, and its theoretical range alone."""
    target = target_of(side)
    theory = rfs.RFConstraint(target, effective=None, max_gridding=None)
    return rfs.RFConstraint(target, measured=False), theory


def search_often(case: tuple[str, int], training_seed: int, way: str, number: int) -> Searches:
    """Search one table in one way."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    name, side = case
    space = space_of(name)

    def earlier(seed: int) -> Earlier:
        other = EARLIER_SIDES[side]
        table = load_table(name, other, training_seed)
        everything = replace(EVERYTHING, target=target_of(other))
        plain = rfs.RFSampler(space, everything, "descriptors", seed=seed)
        return search(space, Method(lambda _: plain, everything.check), table, seed)[0], everything

    method = methods(space, *constraints(side), earlier)[way]
    table = load_table(name, side, training_seed)
    curves = [search(space, method, table, seed)[1] for seed in range(number)]
    return Searches((name, side), training_seed, way, curves)


def jobs(number: int) -> Iterator[tuple[tuple[str, int], int, str, int]]:
    for name in SPACES:
        known = set(trained(name)[["side", "seed"]].itertuples(index=False, name=None))
        for side, seed in sorted(known):
            ways = [way for way in STYLES if "earlier" not in way]
            if (EARLIER_SIDES[side], seed) in known:
                ways = list(STYLES)
            yield from (((name, side), seed, way, number) for way in ways)


def main(number: int) -> None:
    with ProcessPoolExecutor() as pool:
        found = list(pool.map(search_often, *zip(*jobs(number), strict=True)))
    results: dict[Trained, list[Searches]] = {}
    for one in found:
        results.setdefault((*one.case, one.training_seed), []).append(one)
    for (name, side, seed), searches in results.items():
        space = space_of(name)
        whole, _ = constraints(side)
        print(f"\n{name}, {side} px, trained with seed {seed}, {whole.ranges()}: ", end="")
        print(f"{space.feasible(whole).count} of {space.size} fit")
        print(report(searches).round(3).to_string(index=False))
        print("to what the best of all ways ends with:")
        print(report(searches, STYLES).round(3).to_string(index=False), flush=True)
    draw(results)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
