"""Replay searches on the public table, in choices and in descriptors.

Run: python replay.py [--searches 20] [--ways tpe gp ...]. An hour on one core, most of it
Optuna's Gaussian process.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler

import rfsearch as rfs

TRAININGS = 40
LAYERS = {f"layer{number}": CategoricalDistribution(["0", "1", "2"]) for number in range(1, 9)}
MEANS = rfs.trained_table("public_table").groupby(list(LAYERS)).mean()
ROWS = dict(zip(MEANS.index, MEANS.to_dict("records"), strict=True))


def row(params: dict[str, Any]) -> dict[str, float]:
    return ROWS[tuple(int(params[name]) for name in LAYERS)]


def describe(params: dict[str, Any]) -> dict[str, float]:
    known = row(params)
    logarithms = {
        name: np.log2(known[name]) for name in ("flops_g", "params_m", "trf_size", "erf_sigma")
    }
    return logarithms | {"gridding": known["gridding"], "skipped": known["skipped"]}


def in_descriptors(seed: int, **gates: Any) -> BaseSampler:
    return rfs.FeasibleSampler(LAYERS, describe=describe, base="descriptors", seed=seed, **gates)


def skips_nothing(params: dict[str, Any]) -> bool:
    return row(params)["skipped"] == 0


WAYS: dict[str, Callable[[int], BaseSampler]] = {
    "random": lambda seed: RandomSampler(seed=seed),
    "tpe": lambda seed: TPESampler(seed=seed),
    "gp": lambda seed: GPSampler(seed=seed),
    "descriptors": in_descriptors,
    "no skipped units, tpe": lambda seed: rfs.FeasibleSampler(
        LAYERS, fits=skips_nothing, base=TPESampler(seed=seed), seed=seed
    ),
    "no skipped units, descriptors": lambda seed: in_descriptors(seed, fits=skips_nothing),
}


def best_so_far(sampler: BaseSampler) -> NDArray[np.float64]:
    """Best accuracy after each distinct network."""
    study = optuna.create_study(direction="maximize", sampler=sampler)
    found: dict[tuple[str, ...], float] = {}
    for _ in range(10 * TRAININGS):
        trial = study.ask(LAYERS)
        accuracy = row(trial.params)["score"]
        study.tell(trial, accuracy)
        found[tuple(trial.params.values())] = accuracy
        if len(found) == TRAININGS:
            break
    best = np.maximum.accumulate(list(found.values()))
    return np.pad(best, (0, TRAININGS - len(best)), mode="edge")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--searches", type=int, default=20)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    bar = None
    for way in dict.fromkeys(("tpe", *options.ways)):
        curves = np.array([best_so_far(WAYS[way](seed)) for seed in range(options.searches)])
        bar = np.median(curves[:, -1]) if bar is None else bar
        reached = [int(np.argmax(c >= bar)) + 1 if c[-1] >= bar else np.inf for c in curves]
        after = ", ".join(f"{np.median(curves[:, n - 1]):.2f}" for n in (5, 10, 20, 40))
        share = np.isfinite(reached).mean()
        print(f"{way}: {np.median(reached):g} trainings to {bar:.2f} ({share:.0%}); {after}")


if __name__ == "__main__":
    main()
