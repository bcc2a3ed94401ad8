"""Train every candidate of `space.toml` on tree crowns or on cell nuclei, without any gate.

Run: pip install --no-deps deepforest==2.1.0 stardist==0.9.2
     python train_all.py trees|nuclei [--seeds 0 1]
The trials go to `study.db` beside this file, and what is there already is not trained again.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import optuna
from optuna.pruners import NopPruner

import rfsearch as rfs
from rfsearch.datasets import DetectionData, SegmentationData
from rfsearch.package_images import nuclei, trees
from rfsearch.tasks import Task
from rfsearch.tiles import AreaTiling

HERE = Path(__file__).parent
STORAGE = f"sqlite:///{HERE / 'study.db'}"


def data_of(name: str, seed: int) -> DetectionData | SegmentationData:
    """Tiles of real images; the seed decides which part of each image validates."""
    if name == "trees":
        return trees(AreaTiling(image_size=128, scale=0.5, valid_share=0.25, seed=seed), 2)
    return nuclei(AreaTiling(image_size=96, valid_share=0.25, seed=seed))


def task_of(name: str, seed: int) -> Task:
    data = data_of(name, seed)
    if isinstance(data, DetectionData):
        training = rfs.TrainingConfig(epochs=12, batch_size=16, horizontal_flip=0.5, seed=seed)
        return rfs.DetectionTask(data, training)
    training = rfs.TrainingConfig(epochs=10, batch_size=8, horizontal_flip=0.5, seed=seed)
    return rfs.SegmentationTask(data, training)


def max_size(name: str) -> float:
    """The largest objects' side in px: 95 % are smaller."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # That no field fits trees of 8 and of 34 px.
        return rfs.ScaleTarget.from_sizes(data_of(name, 0).object_sizes).max_size


def study_of(name: str, seed: int) -> optuna.Study:
    return optuna.create_study(
        storage=STORAGE,
        study_name=f"{name}, seed {seed}",
        direction="maximize",
        pruner=NopPruner(),
        load_if_exists=True,
    )


def train_all(name: str, seed: int) -> None:
    """One study: all candidates of the space."""
    space, task = rfs.SearchSpace.load(HERE / "space.toml"), task_of(name, seed)
    everything = rfs.RFConstraint(theoretical=None, effective=None)
    study = study_of(name, seed)
    done = {trial.user_attrs.get("architecture") for trial in study.get_trials(deepcopy=False)}
    for architecture in space:
        if json.dumps(architecture.to_dict()) not in done:
            study.enqueue_trial(space.to_params(architecture))
            study.optimize(rfs.Objective(space, everything, task), n_trials=1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=["trees", "nuclei"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for seed in options.seeds:
        train_all(options.name, seed)
