"""What candidates are trained for: data, head, metric and budget in one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from rfsearch.erf import MeasuredERF, measure_erf
from rfsearch.model import SearchedNetwork, build_model
from rfsearch.training import Normalizer, TrainingConfig, TrainingResult, train

if TYPE_CHECKING:
    from torch import Tensor

    from rfsearch.architecture import Architecture
    from rfsearch.checkpoints import Checkpoint
    from rfsearch.sources import ImageData

#: Largest side in px of the images that an ERF is measured on; what lies beyond is clipped.
LARGEST_ERF_INPUT = 512


@dataclass(frozen=True)
class ClassificationTask:
    """Classify images; the metric is accuracy on the validation images.

    Attributes:
        data: The images.
        training: Budget and optimiser.
        device: Where to train and measure. None is CUDA where there is a device, else the CPU.
        num_erf_images: Validation images that an ERF is measured on.
    """

    data: ImageData
    training: TrainingConfig = field(default_factory=TrainingConfig)
    device: torch.device | str | None = None
    num_erf_images: int = 8

    @cached_property
    def _device(self) -> torch.device:
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

    def build(self, architecture: Architecture) -> SearchedNetwork:
        """The network, with weights that depend on the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.training.seed)
            model = build_model(architecture, self.in_chans, self.num_classes)
        return model.to(self._device)

    def train(
        self,
        model: SearchedNetwork,
        report: Callable[[int, float], None] | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> TrainingResult:
        """Train the network in place, on from the checkpoint if there is one.

        Raises:
            FloatingPointError: If the loss is not finite.
        """
        return train(
            model,
            self.data,
            self.training,
            device=self._device,
            report=report,
            checkpoint=checkpoint,
        )

    def measure_erf(self, model: SearchedNetwork) -> MeasuredERF:
        """Measure the network's ERF on validation images.

        The images are mirrored at their borders until they cover the receptive field, so that a
        network is judged by what it would see of a large image, not by the size of these. All
        networks are judged by the same images: measuring does not stop before the last.
        """
        receptive_field = model.architecture.receptive_field()
        wanted = receptive_field.size + 2 * receptive_field.stride
        stride = receptive_field.stride
        side = min(-(-wanted // stride) * stride, LARGEST_ERF_INPUT)
        images = mirror(self._erf_images, side)
        return measure_erf(model, side, images, relative_error=None, seed=self.training.seed)

    @cached_property
    def _erf_images(self) -> Tensor:
        normalize = Normalizer.of(self.data.train_images)
        return normalize(self.data.valid_images[: self.num_erf_images])


def mirror(images: Tensor, side: int) -> Tensor:
    """Images `(..., side, side)`: the middle of the plane that mirrored copies fill.

    >>> mirror(torch.arange(3.0).expand(1, 1, 3, 3), 5)[0, 0, 0]
    tensor([0., 0., 1., 2., 2.])
    """
    rows, columns = (_mirrored(pixels, side) for pixels in images.shape[-2:])
    return images[..., rows[:, None], columns]


def _mirrored(pixels: int, side: int) -> Tensor:
    """For each of `side` positions around the middle, the pixel that is seen there."""
    position = np.arange(side) + (pixels - side) // 2
    position %= 2 * pixels
    return torch.from_numpy(np.minimum(position, 2 * pixels - 1 - position))
