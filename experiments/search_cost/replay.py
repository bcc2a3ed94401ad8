"""How much training do samplers need, with and without the receptive field? Replays on tables.

Every candidate of both spaces was trained once (`../erf_and_accuracy/train.py`), so a search that
would train it looks its accuracy up, and hundreds of searches take minutes. Prints tables and
draws figure.png.

Run: python replay.py [SEEDS]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from matplotlib.figure import Figure
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

import rfsearch as rfs
from rfsearch.palette import BLACK, BLUE, GREY, ORANGE, PURPLE, VERMILLION

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "erf_and_accuracy"))
from train import storage_of, study_name, target_of  # noqa: E402  # from the folder beside

#: Folder and sides of digits; fields from too small to too large, or mostly too large.
SPACES = {"centred": (HERE, (18, 26, 36)), "too large": (HERE / "too_large", (18,))}
#: Distinct candidates that a search may train, and trials of any kind that it may make.
TRAININGS = 40
TRIALS = 200
#: In one training: 4 epochs of 4,000.
IMAGES = 16_000
VALIDATION_IMAGES = 1000

Check = Callable[[optuna.Trial, rfs.Architecture], None]


@dataclass(frozen=True)
class Method:
    """A way to search: what proposes candidates, and what is asked of them before training."""

    sampler: Callable[[int], BaseSampler]
    check: Check


@dataclass
class Course:
    """What a search has found after each training."""

    gflops: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)

    def add(self, gflops: float, value: float) -> None:
        self.gflops.append(gflops + (self.gflops[-1] if self.gflops else 0))
        self.best.append(max(value, self.best[-1] if self.best else value))

    def first(self, accuracy: float) -> int | None:
        """Trainings until the accuracy was reached."""
        reached = [number for number, best in enumerate(self.best, 1) if best >= accuracy]
        return reached[0] if reached else None


def nothing(trial: optuna.Trial, architecture: rfs.Architecture) -> None:
    pass


def methods(
    space: rfs.SearchSpace, whole: rfs.RFConstraint, theory: rfs.RFConstraint
) -> dict[str, Method]:
    def tpe(seed: int) -> BaseSampler:
        return TPESampler(seed=seed)

    def prune(trial: optuna.Trial, architecture: rfs.Architecture) -> None:
        if any(verdict.octaves > 0 for verdict in whole.verdicts(architecture)):
            raise optuna.TrialPruned

    return {
        "random": Method(lambda seed: RandomSampler(seed=seed), nothing),
        "TPE": Method(tpe, nothing),
        "TPE, pruned": Method(tpe, prune),
        "TPE, constraints": Method(tpe, whole.check),
        "RFSampler, TRF": Method(
            lambda seed: rfs.RFSampler(space, theory, tpe(seed), seed=seed), nothing
        ),
        "RFSampler, TRF and ERF": Method(
            lambda seed: rfs.RFSampler(space, whole, tpe(seed), seed=seed), nothing
        ),
    }


STYLES = {
    "random": (GREY, ":"),
    "TPE": (BLACK, "-"),
    "TPE, pruned": (ORANGE, "--"),
    "TPE, constraints": (PURPLE, "-."),
    "RFSampler, TRF": (BLUE, "--"),
    "RFSampler, TRF and ERF": (VERMILLION, "-"),
}


def search(
    space: rfs.SearchSpace,
    method: Method,
    table: dict[rfs.Architecture, tuple[float, float]],
    seed: int,
) -> Course:
    """Search once; a candidate costs its training when it is proposed first, and nothing later."""
    course, tried = Course(), set()

    def objective(trial: optuna.Trial) -> float:
        architecture = space.suggest(trial)
        method.check(trial, architecture)
        value, gflops = table[architecture]
        if architecture not in tried:
            tried.add(architecture)
            course.add(gflops, value)
        if len(tried) == TRAININGS:
            trial.study.stop()
        return value

    study = optuna.create_study(direction="maximize", sampler=method.sampler(seed))
    study.optimize(objective, n_trials=TRIALS)
    return course


def load_table(folder: Path, side: int) -> dict[rfs.Architecture, tuple[float, float]]:
    """Accuracy, and 10^9 operations of a training (three passes over each image)."""
    study = optuna.load_study(study_name=study_name(side, 0), storage=storage_of(folder))
    return {
        rfs.Architecture.from_dict(json.loads(trial.user_attrs["architecture"])): (
            trial.values[0],
            3 * IMAGES * trial.user_attrs["flops_g"],
        )
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    }


def report(side: int, courses: dict[str, list[Course]]) -> pd.DataFrame:
    """Trainings and compute to reach what plain TPE ends with (the median of its searches).

    Less one standard error of an accuracy, since smaller differences are chance. `TPE needs` is
    the other way round: trainings of plain TPE to reach what a way has found after 10.
    """
    plain = courses["TPE"]
    best = float(np.median([course.best[-1] for course in plain]))
    bar = best - np.sqrt(best * (1 - best) / VALIDATION_IMAGES)
    rows = []
    for name, found in courses.items():
        firsts = [course.first(bar) for course in found]
        # A search that never reaches the bar has spent all it had, and more would be needed.
        compute = [
            course.gflops[first - 1] if first else np.inf
            for course, first in zip(found, firsts, strict=True)
        ]
        of_ten = float(np.median([course.best[min(9, len(course.best) - 1)] for course in found]))
        rows.append((
            side, bar, name,
            np.mean([first is not None for first in firsts]),
            np.median([first or np.inf for first in firsts]),
            np.median(compute),
            of_ten,
            np.median([course.first(of_ten) or np.inf for course in plain]),
        ))  # fmt: skip
    columns = ["side", "bar", "way", "reached", "trainings", "GFLOPs", "best of 10", "TPE needs"]
    frame = pd.DataFrame(rows, columns=columns)
    spent = frame.loc[frame["way"] == "TPE", "GFLOPs"].iloc[0]
    return frame.assign(times_less=spent / frame["GFLOPs"])


def draw(results: dict[tuple[str, int], dict[str, list[Course]]]) -> None:
    figure = Figure(figsize=(9.5, 6.8), layout="constrained")
    panels = np.ravel(figure.subplots(2, len(results) // 2))
    for axes, ((space, side), courses) in zip(panels, results.items(), strict=True):
        for name, found in courses.items():
            longest = max(len(course.best) for course in found)
            best = [
                course.best + course.best[-1:] * (longest - len(course.best)) for course in found
            ]
            color, line = STYLES[name]
            axes.plot(range(1, longest + 1), np.mean(best, axis=0), line, color=color, label=name)
        axes.set(title=f"{space}, digits of {side} px", xlabel="trained candidates")
    for axes in panels[:: len(results) // 2]:
        axes.set_ylabel("best accuracy so far, mean")
    panels[-1].legend(fontsize="small")
    figure.savefig(HERE / "figure.png", dpi=120)


def compare(folder: Path, side: int, seeds: int) -> dict[str, list[Course]]:
    """Search one space for objects of one size in every way; prints what came of it."""
    space, table = rfs.SearchSpace.load(folder / "space.toml"), load_table(folder, side)
    target = target_of(side)
    whole = rfs.RFConstraint(target, measured=False)
    theory = rfs.RFConstraint(target, effective=None)
    courses = {
        name: [search(space, method, table, seed) for seed in range(seeds)]
        for name, method in methods(space, whole, theory).items()
    }
    fit = space.feasible(whole).count
    print(f"\n{folder.name}, {side} px, {whole.ranges()}: {fit} of {space.size} fit")
    print(report(side, courses).round(3).to_string(index=False), flush=True)
    return courses


def main(seeds: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    draw(
        {
            (name, side): compare(folder, side, seeds)
            for name, (folder, sides) in SPACES.items()
            for side in sides
        }
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
