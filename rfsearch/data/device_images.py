"""Images on the device that computes, normalised when they are needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

import torch
from torch import Tensor, nn

from rfsearch.data.augmentation import augment
from rfsearch.data.datasets import IGNORED, is_float
from rfsearch.data.read_ahead import ReadLater, count_values

if TYPE_CHECKING:
    from rfsearch.data.augmentation import Batch


@dataclass(frozen=True)
class Normalizer:
    """Turns images into floats with mean 0 and standard deviation 1 per channel."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, images: Tensor | ReadLater) -> Self:
        """Statistics of images `(images, channels, ...)`, with any number of axes.

        Those of uint8 are computed from whole numbers, the same wherever the images are.
        """
        axes = [1] * (len(images.shape) - 2)
        if is_float(images):
            values = images.transpose(0, 1).flatten(1).double()
            parts = (values.mean(dim=1), values.std(dim=1))
            mean, std = (one.float().reshape(1, -1, *axes) for one in parts)
            return cls(mean, std.where(std > 0, 1.0))
        counts = count_values(images).double()
        number, values = counts.sum(dim=1, keepdim=True), torch.arange(256)
        mean = (counts * values).sum(dim=1, keepdim=True) / number
        variance = (counts * (values - mean).square()).sum(dim=1, keepdim=True) / (number - 1)
        mean, std = (one.float().reshape(1, -1, *axes) for one in (mean, variance.sqrt()))
        return cls(mean, std.clamp_min(1.0))

    @classmethod
    def from_shares(cls, mean: Sequence[float], std: Sequence[float]) -> Self:
        """Statistics of images from 0 to 1, one number for each channel."""
        return cls(*(255 * torch.tensor(one).reshape(1, -1, 1, 1) for one in (mean, std)))

    def to(self, device: torch.device) -> Normalizer:
        """The same statistics on another device."""
        return Normalizer(self.mean.to(device), self.std.to(device))

    def __call__(self, images: Tensor) -> Tensor:
        """Normalised images of the same shape."""
        return (images.float() - self.mean) / self.std


class ImagePart(NamedTuple):
    """Some of the images, in order.

    Attributes:
        place: Which of them.
        images: Normalised, `(images, channels, height, width)`.
        masks: `(images, height, width)`, uint8; None where there are none.
    """

    place: slice
    images: Tensor
    masks: Tensor | None


class Images(ABC):
    """Images for a device, normalised and varied when they are used there.

    Args:
        normalize: Statistics of the training images.
        device: Where they are used.
    """

    def __init__(self, normalize: Normalizer, device: torch.device) -> None:
        self.normalize = normalize.to(device)
        self.device = device

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def load(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """Bring the images of these batches to the device, where they are not yet."""

    @abstractmethod
    def batches(self, size: int) -> Iterator[ImagePart]:
        """All images in order, normalised, with their places and masks."""

    def of(self, batch: Batch, transform: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The images of a batch from `load`, normalised and varied.

        What moves in has the mean colour.

        Args:
            batch: Which images.
            transform: What else is done to each of them; see `rfsearch.data.augmentation.augment`.
        """
        pixels = self._pixels(batch)
        if transform is not None:
            pixels = augment(pixels, batch.seeds, transform)
        images = self.normalize(pixels)
        return self._ready(batch.variation.apply(images, fill=0.0))

    def masks_of(self, batch: Batch) -> Tensor:
        """The masks of a batch from `load`, varied; what moves in is ignored."""
        return batch.variation.apply(self._masks(batch), fill=IGNORED)

    def _ready(self, images: Tensor) -> Tensor:
        wanted = memory_format(self.device, images.ndim)
        ready = images.contiguous(memory_format=wanted)
        if wanted == torch.channels_last:
            return ready
        # Strides of a single channel may say channels last all the same, and networks go by them.
        return ready.flatten().view(images.shape)

    @abstractmethod
    def _pixels(self, batch: Batch) -> Tensor:
        """`(images, channels, height, width)`, uint8."""

    @abstractmethod
    def _masks(self, batch: Batch) -> Tensor:
        """`(images, height, width)`, uint8."""


class DeviceImages(Images):
    """uint8 images `(images, channels, height, width)`, moved to the device as a whole.

    Args:
        images: The images.
        normalize: Statistics of the training images.
        device: Where to.
        masks: What is known of each pixel, `(images, height, width)`, where that is learned.
    """

    def __init__(
        self,
        images: Tensor,
        normalize: Normalizer,
        device: torch.device,
        masks: Tensor | None = None,
    ) -> None:
        super().__init__(normalize, device)
        self.pixels = images.to(device)
        self.masks = None if masks is None else masks.to(device)

    def __len__(self) -> int:
        return len(self.pixels)

    def load(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """The batches as they are: the device has their images."""
        return batches

    def batches(self, size: int) -> Iterator[ImagePart]:
        """All images in order, normalised, with their places and masks."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            masks = None if self.masks is None else self.masks[part]
            yield ImagePart(part, self._ready(self.normalize(self.pixels[part])), masks)

    def _pixels(self, batch: Batch) -> Tensor:
        return self.pixels[batch.chosen]

    def _masks(self, batch: Batch) -> Tensor:
        assert self.masks is not None, "there are no masks"
        return self.masks[batch.chosen]


def memory_format(device: torch.device, dimensions: int) -> torch.memory_format:
    """Of images, which have 4 dimensions, or of other inputs.

    On a CPU a network's first convolution brings them into its own format.
    """
    is_last = device.type == "cuda" and dimensions == 4
    return torch.channels_last if is_last else torch.contiguous_format


def network_format(model: nn.Module, device: torch.device) -> torch.memory_format:
    """Channels last, in which networks for images train fastest, wherever that is safe.

    On a CPU with several threads, oneDNN (torch 2.14 and 2.15) crashes in the backward pass of a
    strided 1x1 convolution with channels last, so that a network that has one does without.
    """
    is_unsafe = device.type == "cpu" and any(map(_is_strided_1x1, model.modules()))
    has_volumes = any(weights.ndim == 5 for weights in model.parameters())
    return torch.contiguous_format if is_unsafe or has_volumes else torch.channels_last


def _is_strided_1x1(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and any(stride > 1 for stride in module.stride)
    )


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """On CUDA, bfloat16 where that is safe."""
    if device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()


def bytes_per_activation(device: torch.device) -> int:
    """Of what `autocast` makes there; some layers, such as layer normalisation, keep to 4."""
    return 2 if device.type == "cuda" else 4
