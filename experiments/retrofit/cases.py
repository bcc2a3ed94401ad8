"""Data, task and recipe of each case."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rfsearch as rfs
from rfsearch.data.datasets import TaskData
from rfsearch.training.task import Task

sys.path.append(str(Path(__file__).parent.parent / "real_images"))
from train_all import data_of  # from the folder beside

#: Validation images that ERFs are measured on.
ERF_IMAGES = 2


@dataclass(frozen=True)
class Case:
    """What networks are fine-tuned for.

    Attributes:
        data: Gives the images that belong to a seed.
        kind: Of the task.
        recipe: Of the trainings, so short that dozens take minutes.
    """

    data: Callable[[int], Any]
    kind: Callable[..., Task]
    recipe: dict[str, Any] = field(default_factory=dict)

    def task(self, seed: int) -> Task:
        """The task with a seed's images."""
        training = rfs.TrainingConfig(learned_rate=0.3, seed=seed, **self.recipe)
        return self.kind(self.data(seed), training, num_erf_images=ERF_IMAGES)


def digits(seed: int) -> TaskData:
    """Scenes of a digit among fragments of others; its tight box is about 0.7 of 18 px."""
    return rfs.digit_scenes(
        object_size=18, canvas_size=48, num_train=2000, num_valid=500, seed=seed
    )


CASES = {
    "digits": Case(digits, rfs.ClassificationTask, {"epochs": 2, "batch_size": 16}),
    "nuclei": Case(
        lambda seed: data_of("nuclei", seed),
        rfs.SegmentationTask,
        {"steps": 80, "batch_size": 4, "horizontal_flip": 0.5},
    ),
    "trees": Case(
        lambda seed: data_of("trees", seed),
        rfs.DetectionTask,
        {"steps": 60, "batch_size": 4, "horizontal_flip": 0.5},
    ),
}
