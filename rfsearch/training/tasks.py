"""The tasks by their names, and by the data that is for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rfsearch.data.datasets import DetectionData, ImageData, SegmentationData
from rfsearch.training.classification import ClassificationTask
from rfsearch.training.detection import DetectionTask
from rfsearch.training.segmentation import SegmentationTask

if TYPE_CHECKING:
    import torch

    from rfsearch.data.datasets import TaskData
    from rfsearch.training.config import TrainingConfig
    from rfsearch.training.task import Head, Task

_BY_DATA: dict[type, Any] = {
    ImageData: ClassificationTask,
    SegmentationData: SegmentationTask,
    DetectionData: DetectionTask,
}
#: What each task puts on the searched network, by the task's name.
HEADS: dict[str, Head] = {task.name: task.head for task in _BY_DATA.values()}


def task_for(
    data: TaskData,
    training: TrainingConfig,
    device: torch.device | str | None = None,
    **options: Any,
) -> Task:
    """The task that the data is for; the options are those of `Task`."""
    task: Task = _BY_DATA[type(data)](data, training, device, **options)
    return task
