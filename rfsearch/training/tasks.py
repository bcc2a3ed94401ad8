"""What candidates are trained for: data, head, metric and budget in one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar, cast

import torch

from rfsearch.data.datasets import DetectionData, ImageData, SegmentationData, TaskData
from rfsearch.data.device_images import Normalizer, bytes_per_activation
from rfsearch.data.loading_errors import loading_errors
from rfsearch.network.model import build_model
from rfsearch.trace.timm_network import TimmNetwork
from rfsearch.training.classification import ClassificationLesson
from rfsearch.training.config import TrainingConfig
from rfsearch.training.detection import DetectionLesson
from rfsearch.training.heads import HEADS
from rfsearch.training.segmentation import SegmentationLesson
from rfsearch.training.task_erf import measure_on
from rfsearch.training.training import Lesson, TrainingResult, train

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rfsearch.measure.erf import MeasuredERF
    from rfsearch.network.architecture import Architecture
    from rfsearch.training._level_maps import Backbone
    from rfsearch.training.checkpoints import Checkpoint

Report = Callable[[int, float], None]
Data = TypeVar("Data", ImageData, SegmentationData, DetectionData)


class Task(Protocol):
    """What an objective needs to know of a task."""

    @property
    def data(self) -> TaskData:
        """The images."""

    @property
    def name(self) -> str:
        """What is learned, a name in `rfsearch.training.heads.HEADS`."""

    @property
    def metric(self) -> str:
        """Name of the score that is maximised."""

    @property
    def training(self) -> TrainingConfig:
        """Budget and optimiser."""

    @property
    def in_chans(self) -> int:
        """Channels of an image."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of an image in px."""

    @property
    def batch_size(self) -> int:
        """Images of an update."""

    @property
    def training_device(self) -> torch.device:
        """Where candidates are trained."""

    @property
    def erf_images(self) -> Tensor:
        """Normalised validation images that ERFs are measured on."""

    def training_memory(self, architecture: Architecture) -> float:
        """Estimated memory of an update, in MiB (`Architecture.training_memory`)."""

    def build(self, candidate: Architecture | str) -> nn.Module:
        """The network with the task's head, with weights that depend on the seed alone.

        Args:
            candidate: An architecture, or the name of a model in timm.
        """

    def train(
        self, model: nn.Module, report: Report | None = None, checkpoint: Checkpoint | None = None
    ) -> TrainingResult:
        """Train the network in place; `report` gets the number and score of each epoch.

        The checkpoint is written after each epoch, and training goes on from it if there is one.
        """

    def measure_erf(self, model: nn.Module, level: str | None = None) -> MeasuredERF:
        """ERF of a map that the head reads, by default the last."""


@dataclass(frozen=True)
class _ImageTask(ABC, Generic[Data]):
    """What the tasks have in common.

    Attributes:
        data: The images.
        training: Budget and optimiser.
        device: Where to train and measure. None is CUDA where there is a device, else the CPU.
        num_erf_images: Validation images that an ERF is measured on.
    """

    data: Data
    training: TrainingConfig = field(default_factory=TrainingConfig)
    device: torch.device | str | None = None
    num_erf_images: int = 8
    name: ClassVar[str]

    def __post_init__(self) -> None:
        shift, side = self.training.max_shift, min(self.input_size)
        if shift >= side:
            raise ValueError(
                f"training: `max_shift < side of the images` must hold, but got {shift} and "
                f"{side}."
            )

    @cached_property
    def training_device(self) -> torch.device:
        """The device to train on, CUDA where there is one and nothing else was asked for."""
        if self.device is not None:
            return torch.device(self.device)
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def in_chans(self) -> int:
        """Channels of an image."""
        return self.data.in_chans

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.data.class_names)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of an image in px."""
        return self.data.image_size

    @property
    def batch_size(self) -> int:
        """Images of an update; there may be fewer than were asked for."""
        return min(self.training.batch_size, len(self.data.train_images))

    def training_memory(self, architecture: Architecture) -> float:
        """Estimated memory of an update, in MiB, without the task's own head."""
        return architecture.training_memory(
            self.input_size,
            self.batch_size,
            self.in_chans,
            self.num_classes,
            bytes_per_activation(self.training_device),
        )

    def build(self, candidate: Architecture | str) -> nn.Module:
        """The network with the task's head, with weights that depend on the seed alone.

        Args:
            candidate: An architecture, or the name of a model in timm.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.training.seed)
            model = self._network(candidate)
        return model.to(self.training_device)

    def train(
        self, model: nn.Module, report: Report | None = None, checkpoint: Checkpoint | None = None
    ) -> TrainingResult:
        """Train the network in place, on from the checkpoint if there is one.

        Raises:
            FloatingPointError: If the loss is not finite.
            LoadingError: If images cannot be read, or what reads them has ended.
        """
        with loading_errors():
            return train(
                model,
                self._lesson,
                self.training,
                device=self.training_device,
                report=report,
                checkpoint=checkpoint,
            )

    def measure_erf(self, model: nn.Module, level: str | None = None) -> MeasuredERF:
        """Measure the ERF of a map that the head reads, on validation images.

        The images are mirrored at their borders until they cover the receptive field, and all
        networks are judged by the same images; see `rfsearch.training.task_erf`.

        Args:
            model: From `build`.
            level: One of the network's maps, by default the last.
        """
        searched = self._searched(model)
        levels = searched.receptive_fields()
        return measure_on(self.erf_images, searched, level or list(levels)[-1], self.training.seed)

    @cached_property
    def erf_images(self) -> Tensor:
        """Normalised validation images that ERFs are measured on."""
        normalize = Normalizer.of(self.data.train_images)
        return normalize(self.data.valid_images[: self.num_erf_images])

    @cached_property
    def _lesson(self) -> Lesson:
        return self._make_lesson()

    @property
    def _for_lesson(self) -> tuple[Data, torch.device, int, int | None]:
        """What every lesson is made of."""
        fixed = self.training
        return self.data, self.training_device, fixed.batch_size, fixed.loader_workers

    @abstractmethod
    def _make_lesson(self) -> Lesson:
        """The data on the device, with loss and metric."""

    def _network(self, candidate: Architecture | str) -> nn.Module:
        """The network with the task's head, with random weights."""
        head = HEADS[self.name]
        scores = 0 if head.place else self.num_classes
        if isinstance(candidate, str):
            return head.build(TimmNetwork(candidate, self.in_chans, scores), self.num_classes)
        return head.build(build_model(candidate, self.in_chans, scores), self.num_classes)

    def _searched(self, model: nn.Module) -> Backbone:
        """The part of the model that the candidate describes."""
        return cast("Backbone", model.get_submodule(HEADS[self.name].place))


@dataclass(frozen=True)
class ClassificationTask(_ImageTask[ImageData]):
    """Classify images; the metric is accuracy on the validation images."""

    name: ClassVar[str] = "classification"
    metric: ClassVar[str] = "accuracy"

    def _make_lesson(self) -> Lesson:
        return ClassificationLesson(*self._for_lesson)


@dataclass(frozen=True)
class SegmentationTask(_ImageTask[SegmentationData]):
    """Name the class of every pixel; the metric is the mean intersection over union."""

    name: ClassVar[str] = "segmentation"
    metric: ClassVar[str] = "miou"

    def _make_lesson(self) -> Lesson:
        return SegmentationLesson(*self._for_lesson)


@dataclass(frozen=True)
class DetectionTask(_ImageTask[DetectionData]):
    """Find objects; the metric is COCO's average precision."""

    name: ClassVar[str] = "detection"
    metric: ClassVar[str] = "ap"

    def __post_init__(self) -> None:
        if self.training.max_shift:
            raise ValueError(
                "training: `max_shift` must be 0 for detection, since the border would cut boxes "
                f"to parts that are not their objects, but got {self.training.max_shift}."
            )

    def _make_lesson(self) -> Lesson:
        return DetectionLesson(*self._for_lesson)


def task_for(
    data: TaskData, training: TrainingConfig, device: torch.device | str | None = None
) -> Task:
    """The task that the data is for."""
    match data:
        case ImageData():
            return ClassificationTask(data, training, device)
        case SegmentationData():
            return SegmentationTask(data, training, device)
        case DetectionData():
            return DetectionTask(data, training, device)
