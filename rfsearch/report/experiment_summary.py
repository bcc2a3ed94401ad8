"""What a study's experiment adds to its summary: the question, images, and measured ERFs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from rfsearch.report.summary import StudySummary
from rfsearch.space.space import SearchSpace

if TYPE_CHECKING:
    import optuna
    from numpy.typing import NDArray

    from rfsearch.search.experiment import Experiment

#: Images to show.
_NUM_IMAGES = 2


def experiment_summary(study: optuna.Study, experiment: Experiment) -> StudySummary:
    """The summary of a study whose experiment is at hand.

    The ERFs of the best, the median and a rejected candidate are measured again, before training,
    as the search did.
    """
    summary, task = StudySummary.of_study(study), experiment.task
    summary = replace(
        summary,
        # Trials of earlier versions do not name their metric.
        frame=summary.frame.assign(metric=summary.frame["metric"].fillna(task.metric)),
        question=experiment.config.question,
        constraint=experiment.constraint,
        space=experiment.space if isinstance(experiment.space, SearchSpace) else None,
        settings=experiment.config.model_dump(mode="json"),
    )
    maps = {
        number: task.measure_erf(task.build(summary.architecture(number)))
        for number in summary.examples.values()
    }
    images = task.data.valid_images
    shown = tuple(_picture(image) for image in images[:_NUM_IMAGES].numpy())
    return replace(summary, maps=maps, images=shown, num_valid=len(images))


def _picture(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image `(channels, height, width)` as `(height, width)` or `(height, width, 3)`."""
    return image.transpose(1, 2, 0) if len(image) == 3 else image[0]
