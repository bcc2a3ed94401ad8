"""Images on the device that computes, normalised when they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch

from rfsearch.augmentation import UNVARIED

if TYPE_CHECKING:
    from torch import Tensor

    from rfsearch.augmentation import Variation


@dataclass(frozen=True)
class Normalizer:
    """Turns uint8 images into floats with mean 0 and standard deviation 1 per channel."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, images: Tensor) -> Self:
        """Statistics of images `(images, channels, height, width)`."""
        channels = [images[:, c].float() for c in range(images.shape[1])]
        shape = (1, -1, 1, 1)
        mean = torch.stack([channel.mean() for channel in channels]).reshape(shape)
        std = torch.stack([channel.std() for channel in channels]).reshape(shape)
        return cls(mean, std.clamp_min(1.0))

    def to(self, device: torch.device) -> Normalizer:
        """The same statistics on another device."""
        return Normalizer(self.mean.to(device), self.std.to(device))

    def __call__(self, images: Tensor) -> Tensor:
        """Normalised images of the same shape."""
        return (images.float() - self.mean) / self.std


class DeviceImages:
    """uint8 images `(images, channels, height, width)`, moved to the device as a whole."""

    def __init__(self, images: Tensor, normalize: Normalizer, device: torch.device) -> None:
        self.pixels = images.to(device)
        self.normalize = normalize.to(device)

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, index: Tensor | slice, variation: Variation = UNVARIED) -> Tensor:
        """Some of the images, normalised and varied; what moves in has the mean colour."""
        images = variation.apply(self.normalize(self.pixels[index]), fill=0.0)
        return images.contiguous(memory_format=memory_format(images.device))

    def batches(self, size: int) -> Iterator[tuple[slice, Tensor]]:
        """All images in order, normalised, with their places."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield part, self.take(part)


def memory_format(device: torch.device) -> torch.memory_format:
    """Channels last on CUDA alone: on a CPU, torch 2.15's oneDNN crashes in the backward pass of a
    strided 1x1 convolution with channels last.
    """
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """On CUDA, bfloat16 where that is safe."""
    if device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()


def bytes_per_activation(device: torch.device) -> int:
    """Of what `autocast` makes there; some layers, such as layer normalisation, keep to 4."""
    return 2 if device.type == "cuda" else 4
