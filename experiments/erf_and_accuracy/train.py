"""Train every candidate of `space.toml` on objects of three sizes; keep the trials in `study.db`.

Run: python train.py [SEED ...]. It goes on where it was interrupted; `figure.py` reads the trials.
"""

from __future__ import annotations

import sys
from pathlib import Path

import optuna

import rfsearch as rfs

HERE = Path(__file__).parent
STORAGE = f"sqlite:///{HERE / 'study.db'}"
#: Sides of a digit's image in px; its tight box is about 0.7 of that.
IMAGE_SIDES = (18, 26, 36)


def study_name(side: int, seed: int) -> str:
    return f"side {side}, seed {seed}"


def train_all(side: int, seed: int) -> None:
    """One study: all candidates, on objects of one size."""
    space = rfs.SearchSpace.load(HERE / "space.toml")
    data = rfs.digit_scenes(object_size=side, num_train=4000, num_valid=1000, seed=seed)
    task = rfs.ClassificationTask(data, rfs.TrainingConfig(epochs=4, seed=seed))
    everything = rfs.RFConstraint(theoretical=None, effective=None)
    study = optuna.create_study(
        storage=STORAGE,
        study_name=study_name(side, seed),
        direction="maximize",
        pruner=optuna.pruners.NopPruner(),
        load_if_exists=True,
    )
    for architecture in space:
        study.enqueue_trial(space.to_params(architecture), skip_if_exists=True)
    waiting = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,))
    study.optimize(rfs.Objective(space, everything, task), n_trials=len(waiting))


if __name__ == "__main__":
    for number in map(int, sys.argv[1:] or ["0"]):
        for image_side in IMAGE_SIDES:
            train_all(image_side, number)
