"""Train every candidate of a folder's `space.toml` on objects of three sizes, without any gate.

Run: python train.py FOLDER [--seeds 0 1] [--sides 18 26 36]. The trials go to `study.db` in the
folder, and what is there already is not trained again.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.pruners import NopPruner
from optuna.trial import FrozenTrial, TrialState

import rfsearch as rfs
from rfsearch.search.study import storage_url
from rfsearch.storage.retrying_storage import RetryingStorage
from rfsearch.storage.storage import open_storage
from rfsearch.training.task import Task

#: Sides of a digit's image in px; its tight box is about 0.7 of that.
IMAGE_SIDES = (26, 36, 18)


def storage_of(folder: Path) -> RetryingStorage:
    """The database of a folder's studies; whoever opens it closes it."""
    return open_storage(storage_url(folder.resolve()))


def study_name(side: int, seed: int) -> str:
    return f"side {side}, seed {seed}"


def trained_seeds(folder: Path) -> dict[int, list[int]]:
    """Seeds with which a folder's candidates were trained, for each size of the digits."""
    found: dict[int, list[int]] = defaultdict(list)
    with storage_of(folder) as storage:
        names = optuna.get_all_study_names(storage)
    for name in names:
        side, seed = name.removeprefix("side ").split(", seed ")
        found[int(side)].append(int(seed))
    return {side: sorted(seeds) for side, seeds in sorted(found.items())}


def trained(folder: Path, side: int, seed: int) -> list[FrozenTrial]:
    """The trainings of one study."""
    with storage_of(folder) as storage:
        study = optuna.load_study(study_name=study_name(side, seed), storage=storage)
        return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def mean_accuracies(folder: Path, side: int) -> dict[str, float]:
    """Mean over the seeds, for each architecture as JSON."""
    found: dict[str, list[float]] = defaultdict(list)
    for seed in trained_seeds(folder)[side]:
        for trial in trained(folder, side, seed):
            found[trial.user_attrs["architecture"]].append(trial.values[0])
    return {architecture: float(np.mean(values)) for architecture, values in found.items()}


def object_sizes(side: int) -> NDArray[np.float64]:
    """Sides of the tight boxes of digits whose image has this side, all in px."""
    sizes = rfs.digit_scenes(object_size=side, num_train=1000, num_valid=1).object_sizes
    assert sizes is not None
    return np.asarray(sizes)


def target_of(side: int) -> rfs.ScaleTarget:
    return rfs.ScaleTarget.from_sizes(object_sizes(side))


def train_all(folder: Path, side: int, seed: int) -> None:
    """One study: all candidates of the space, on objects of one size."""
    data = rfs.digit_scenes(object_size=side, num_train=4000, num_valid=1000, seed=seed)
    task = rfs.ClassificationTask(data, rfs.TrainingConfig(epochs=4, seed=seed))
    train_missing(folder, study_name(side, seed), task)


def train_missing(folder: Path, name: str, task: Task) -> None:
    """Train what a study has not trained yet of the space in its folder, without any gate."""
    space = rfs.SearchSpace.load(folder / "space.toml")
    everything = rfs.RFConstraint(theoretical=None, effective=None)
    with storage_of(folder) as storage:
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize",
            pruner=NopPruner(),
            load_if_exists=True,
        )
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        done = {trial.user_attrs["architecture"] for trial in trials}
        for architecture in space:
            if json.dumps(architecture.to_dict()) not in done:
                study.enqueue_trial(space.to_params(architecture))
                study.optimize(rfs.Objective(space, everything, task), n_trials=1)


def trained_table(
    folder: Path, train: Callable[[int], None], table: Callable[[list[int]], pd.DataFrame]
) -> pd.DataFrame:
    """All trainings of a folder, `trained.csv`; trained first, unless `--only-draw` is given.

    Args:
        folder: Whose trainings.
        train: Trains what has not been trained yet with a seed.
        table: All trainings with some seeds.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only-draw", action="store_true")
    options = parser.parse_args()
    if not options.only_draw:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        for seed in options.seeds:
            train(seed)
        table(options.seeds).to_csv(folder / "trained.csv", index=False)
    return pd.read_csv(folder / "trained.csv")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--sides", type=int, nargs="+", default=IMAGE_SIDES)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for seed, side in itertools.product(options.seeds, options.sides):
        train_all(options.folder, side, seed)
