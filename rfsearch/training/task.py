"""What candidates are trained for: data, head, loss, metric and budget in one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

import torch

from rfsearch.data.datasets import TaskData
from rfsearch.data.device_images import Normalizer, bytes_per_activation
from rfsearch.data.streamed_images import images_on
from rfsearch.measure.device import check_device
from rfsearch.models.timm_models import seeded
from rfsearch.network.architecture import Architecture
from rfsearch.network.model import build_model
from rfsearch.network.network_folder import CLASSIFICATION
from rfsearch.retrofit.pretrained import learned
from rfsearch.space.budget import Budget
from rfsearch.training._calibration import calibrate
from rfsearch.training._optimizers import check_names
from rfsearch.training.config import TrainingConfig
from rfsearch.training.loop import TrainingResult, train
from rfsearch.training.task_erf import measure_on
from rfsearch.training.traced_network import TracedNetwork, timm_network

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rfsearch.data.augmentation import Batch, Examples
    from rfsearch.data.datasets import Pixels
    from rfsearch.data.device_images import Images
    from rfsearch.measure.erf import MeasuredERF
    from rfsearch.models.resolve import Built
    from rfsearch.training._level_maps import Backbone
    from rfsearch.training.checkpoints import Checkpoint, Epoch
    from rfsearch.training.scores import Scores

Report = Callable[[int, float], None]


class Head(NamedTuple):
    """How a task uses a searched network.

    Attributes:
        place: Where that is in the whole network; empty where it is the whole.
        build: Makes the whole network, of that and the number of classes.
        export: Makes what a file can hold of the whole network, for images of a size.
        outputs: What that gives.
        classifier: What the weights that belong to single classes begin with, in the whole.
        level: Which of several maps the fields are told of: the first or the last.
    """

    place: str
    build: Callable[[Backbone, int], nn.Module]
    export: Callable[[Any, tuple[int, int]], nn.Module]
    outputs: tuple[str, ...]
    classifier: str
    level: int = -1


@dataclass(frozen=True)
class Task(ABC):
    """Images with their truth, a head, a loss and a metric.

    Attributes:
        data: The images.
        training: Budget, optimiser and variations.
        device: Where to train and measure. None is CUDA where there is a device, else the CPU.
        num_erf_images: Validation images that an ERF is measured on.
        statistics: By what images are normalised; None takes the training images' own.
        name: What is learned.
        metric: Name of the score that is maximised.
        head: What is put on the searched network.
    """

    data: TaskData
    training: TrainingConfig = field(default_factory=TrainingConfig)
    device: torch.device | str | None = None
    num_erf_images: int = 8
    statistics: Normalizer | None = None
    name: ClassVar[str]
    metric: ClassVar[str]
    head: ClassVar[Head]

    def __post_init__(self) -> None:
        check_device(self.device)
        check_names(self.training, self.training_device)
        if self.name != CLASSIFICATION:
            self.training.refuse_classifier_options(self.name)
        shift, side = self.training.max_shift, min(self.input_size)
        if shift >= side:
            raise ValueError(
                f"training: `max_shift < side of the images` must hold, but got {shift} and "
                f"{side}."
            )

    # -- what is known of the data ----------------------------------------------------------------

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
    def num_images(self) -> int:
        """How many images there are to train on."""
        return len(self.data.train_images)

    @property
    def input_size(self) -> tuple[int, ...]:
        """Height and width of an image in px; of other inputs their length along each axis."""
        return self.data.image_size

    @property
    def batch_size(self) -> int:
        """Images of an update; there may be fewer than were asked for."""
        return min(self.training.batch_size, self.num_images)

    @property
    def budget(self) -> Budget:
        """What candidates cost with these images and updates, without the task's own head."""
        return Budget(
            input_size=self.input_size,
            in_chans=self.in_chans,
            num_classes=self.num_classes,
            batch_size=self.batch_size,
            bytes_per_activation=bytes_per_activation(self.training_device),
        )

    # -- images on the device ---------------------------------------------------------------------

    @cached_property
    def normalize(self) -> Normalizer:
        """Normalises images."""
        return self.statistics or Normalizer.of(self.data.train_images)

    @cached_property
    def train_images(self) -> Images:
        """The training images, for the device."""
        return self._on_device(self.data.train_images)

    @cached_property
    def valid_images(self) -> Images:
        """The validation images, for the device."""
        return self._on_device(self.data.valid_images)

    def _on_device(self, pixels: Pixels, masks: Pixels | None = None) -> Images:
        workers = self.training.loader_workers
        return images_on(self.training_device, pixels, self.normalize, workers, masks)

    def load(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """Bring the images of training batches to the device, where they are not yet."""
        return self.train_images.load(batches)

    # -- learning ---------------------------------------------------------------------------------

    @abstractmethod
    def examples(self, batch: Batch) -> Examples:
        """The images of a batch from `load` with their truth, varied; a mask varies with them."""

    @abstractmethod
    def loss(self, model: nn.Module, examples: Examples) -> Tensor:
        """Loss of some images, with gradients."""

    def weight(self, examples: Examples) -> Tensor | int:
        """How many things the loss of these images is a mean over: images."""
        return examples.size

    @abstractmethod
    def evaluate(self, model: nn.Module) -> Scores:
        """Scores of a model in evaluation mode on the validation images."""

    def train(
        self,
        model: nn.Module,
        report: Report | None = None,
        checkpoint: Checkpoint | None = None,
        after_batch: Callable[[], None] | None = None,
    ) -> TrainingResult:
        """Train the network in place, on from the checkpoint if there is one.

        Args:
            model: From `build`.
            report: Called with the number and the score of each epoch.
            checkpoint: Written after each epoch; see `rfsearch.training.loop.train`.
            after_batch: Called after each batch; see there.

        Raises:
            FloatingPointError: If the loss is not finite.
            LoadingError: If images cannot be read, or what reads them has ended.
        """

        def report_epoch(epoch: Epoch) -> None:
            if report is not None:
                report(epoch.number, epoch.score)

        return train(
            model, self, report=report_epoch, checkpoint=checkpoint, after_batch=after_batch
        )

    # -- networks ---------------------------------------------------------------------------------

    def build(self, candidate: Built) -> nn.Module:
        """The network with the task's head, with weights that depend on the seed alone.

        Args:
            candidate: An architecture, or the name of a model in timm; or a module that gives
                maps, which is not copied (see `rfsearch.training.traced_network`).

        Raises:
            ValueError: If a module does not give maps that can be traced.
        """
        model = seeded(lambda: self._network(candidate), self.training.seed)
        model.to(self.training_device)
        if learned(model):
            calibrate(model, self)
        return model

    def _network(self, candidate: Built) -> nn.Module:
        """The network with the task's head, with random weights."""
        scores = 0 if self.head.place else self.num_classes
        network: Backbone
        if isinstance(candidate, str):
            network = timm_network(candidate, self.in_chans, scores)
        elif isinstance(candidate, Architecture):
            network = build_model(candidate, self.in_chans, scores)
        else:
            network = TracedNetwork(candidate, self.in_chans, scores, self.input_size)
        return self.head.build(network, self.num_classes)

    def measure_erf(self, model: nn.Module, level: str | None = None) -> MeasuredERF:
        """Measure the ERF of a map that the head reads, on validation images.

        The images are mirrored at their borders until they cover the receptive field, and all
        networks are judged by the same images; see `rfsearch.training.task_erf`.

        Args:
            model: From `build`.
            level: One of the network's maps, by default the last.
        """
        searched = cast("Backbone", model.get_submodule(self.head.place))
        levels = searched.receptive_fields(searched.axes[0])
        return measure_on(self.erf_images, searched, level or list(levels)[-1], self.training.seed)

    @cached_property
    def erf_images(self) -> Tensor:
        """Normalised validation images that ERFs are measured on."""
        return self.normalize(self.data.valid_images[: self.num_erf_images])
