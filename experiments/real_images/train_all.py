"""Train every candidate of `space.toml` on tree crowns or on cell nuclei, without any gate.

Run: pip install --no-deps deepforest==2.1.0 stardist==0.9.2
     python train_all.py trees|nuclei [--seeds 0 1]
The trials go to `study.db` beside this file, and what is there already is not trained again.
The table `../trained_tables/trees.csv.gz` or `nuclei.csv.gz` has a row for each training.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import optuna

import rfsearch as rfs
from rfsearch.data.datasets import DetectionData, SegmentationData
from rfsearch.data.package_images import nuclei, trees
from rfsearch.data.tiles import AreaTiling
from rfsearch.training.task import Task

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "erf_and_accuracy"))
from train import train_missing  # noqa: E402  # from the folder beside
from trained import of_seeds, write  # noqa: E402


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


#: From what 5 % of the objects are smaller than to what 95 % are, in px.
TARGETS = {"trees": rfs.ScaleTarget(11, 33), "nuclei": rfs.ScaleTarget(13, 30)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=["trees", "nuclei"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for seed in options.seeds:
        task = task_of(options.name, seed)
        train_missing(HERE, f"{options.name}, seed {seed}", task)
    frame = of_seeds(HERE, options.seeds, f"{options.name}, ")
    frame.insert(0, "object_size", float(np.median(data_of(options.name, 0).object_sizes)))
    write(options.name, frame)
