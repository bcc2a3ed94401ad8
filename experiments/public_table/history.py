"""Does a sampler lose anything that sees an excerpt of a long study? Replays on the public table.

Run: python history.py [--searches 10]
"""

from __future__ import annotations

import argparse

import numpy as np
import optuna
from optuna.samplers import TPESampler
from replay import LAYERS, ROWS, row

import rfsearch as rfs
from rfsearch.feasible import _excerpt

TRIALS = 600
EVERYTHING = rfs.Fold((), lambda state, name, value: state)
#: Trials that TPE sees at most: a quarter of them, or all.
EXCERPTS = (150, TRIALS)
ACCURACIES = np.sort([known["score"] for known in ROWS.values()])[::-1]


def ranks(seed: int, most: int) -> tuple[int, float]:
    """Place of the best network found among all, and the mean place of the last 100 tried."""
    _excerpt.MOST = most
    sampler = rfs.FeasibleSampler(LAYERS, EVERYTHING, TPESampler(seed=seed), seed=seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    found = []
    for _ in range(TRIALS):
        trial = study.ask(LAYERS)
        found.append(row(trial.params)["score"])
        study.tell(trial, found[-1])
    places = np.searchsorted(-ACCURACIES, -np.array(found)) + 1
    return int(places.min()), float(places[-100:].mean())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--searches", type=int, default=10)
    searches = parser.parse_args().searches
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for most in EXCERPTS:
        best, last = np.transpose([ranks(seed, most) for seed in range(searches)])
        for what, places in (("best found", best), ("mean of the last 100", last)):
            middle, low, high = np.median(places), min(places), max(places)
            print(f"sees {most}: {what} {middle:.0f} ({low:.0f} to {high:.0f})", flush=True)


if __name__ == "__main__":
    main()
