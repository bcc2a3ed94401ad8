"""Train every candidate of a folder's `space.toml` on objects of three sizes, without any gate.

Run: python train.py FOLDER [SEED ...]. The trials go to `study.db` in the folder, and what is
there already is not trained again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import optuna
from optuna.pruners import NopPruner
from optuna.trial import TrialState

import rfsearch as rfs

#: Sides of a digit's image in px; its tight box is about 0.7 of that.
IMAGE_SIDES = (26, 36, 18)


def storage_of(folder: Path) -> str:
    return f"sqlite:///{folder.resolve() / 'study.db'}"


def study_name(side: int, seed: int) -> str:
    return f"side {side}, seed {seed}"


def train_all(folder: Path, side: int, seed: int) -> None:
    """One study: all candidates of the space, on objects of one size."""
    space = rfs.SearchSpace.load(folder / "space.toml")
    data = rfs.digit_scenes(object_size=side, num_train=4000, num_valid=1000, seed=seed)
    task = rfs.ClassificationTask(data, rfs.TrainingConfig(epochs=4, seed=seed))
    everything = rfs.RFConstraint(theoretical=None, effective=None)
    study = optuna.create_study(
        storage=storage_of(folder),
        study_name=study_name(side, seed),
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
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for number in map(int, sys.argv[2:] or ["0"]):
        for image_side in IMAGE_SIDES:
            train_all(Path(sys.argv[1]), image_side, number)
