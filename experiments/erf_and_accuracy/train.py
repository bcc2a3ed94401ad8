"""Train every candidate of a space on objects of three sizes, without any gate.

Run: python train.py NAME [--seeds 0 1] [--sides 18 26 36] [--only-table], where NAME is one of
`trained.SPACES`. Trials go to `study.db` in the space's folder, and what is there already is not
trained again. All of them are then written to `../trained_tables/NAME.csv.gz`.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.pruners import NopPruner
from optuna.trial import TrialState
from trained import SPACES, folder_of, row_of, storage_of, trials_of, write

import rfsearch as rfs
from rfsearch.training.task import Task

#: Sides of a digit's image in px; its tight box is about 0.7 of that.
IMAGE_SIDES = (26, 36, 18)


def study_name(side: int, seed: int) -> str:
    return f"side {side}, seed {seed}"


def rows(name: str) -> Iterator[dict[str, object]]:
    """All trainings of a space, with the sides of the digits and of their tight boxes in px.

    Studies that are not finished yet are left out: searches would miss what is missing.
    """
    size = rfs.SearchSpace.load(folder_of(name) / "space.toml").size
    for study, trials in sorted(trials_of(folder_of(name)).items()):
        if len(trials) < size:
            continue
        side, seed = map(int, study.removeprefix("side ").split(", seed "))
        object_size = float(np.median(object_sizes(side)))
        given = {"side": side, "object_size": object_size, "seed": seed}
        yield from (given | row_of(trial) for trial in trials)


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


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=SPACES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--sides", type=int, nargs="+", default=IMAGE_SIDES)
    parser.add_argument("--only-table", action="store_true")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if not options.only_table:
        for seed, side in itertools.product(options.seeds, options.sides):
            train_all(folder_of(options.name), side, seed)
    write(options.name, pd.DataFrame(rows(options.name)))
