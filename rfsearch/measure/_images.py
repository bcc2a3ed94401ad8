"""The images that an effective receptive field is measured on, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rfsearch.basics.axes import AXIS_NAMES, by_x
from rfsearch.basics.limits import MAX_AMOUNT
from rfsearch.measure.image_files import read_folder
from rfsearch.models.resolved import ResolvedModel

#: Pixels in one pass through the network, to bound the memory.
_PIXELS_PER_PASS = 2**20
#: Pixels and images that batch statistics are taken from, whichever is more.
_PIXELS_TO_CALIBRATE, _IMAGES_TO_CALIBRATE = 2**19, 8


@dataclass(frozen=True, eq=False)
class ErfImages:
    """Given images, or white noise that is drawn when it is asked for.

    Attributes:
        given: Normalised images `(images, channels, *input_size)`; None for noise.
        shape: `(channels, *input_size)` of an image.
        count: How many images there are at most.
        seed: Of the noise.
    """

    given: Tensor | None
    shape: tuple[int, ...]
    count: int
    seed: int

    def batches(self, largest: int | None = None) -> Iterator[Tensor]:
        """All images, `largest` or fewer at a time; the same at every call."""
        return self._split(self.count, largest or self.count)

    def to_calibrate(self) -> Iterator[Tensor]:
        """The first images, enough of them for batch statistics."""
        wanted = max(_IMAGES_TO_CALIBRATE, _PIXELS_TO_CALIBRATE // self._pixels)
        return self._split(min(self.count, wanted), self.count)

    @property
    def _pixels(self) -> int:
        return math.prod(self.shape[1:])

    def _split(self, count: int, largest: int) -> Iterator[Tensor]:
        # Images of many channels are larger than the maps that pixels stand for.
        pixels = self._pixels * max(3, self.shape[0]) // 3
        step = min(largest, max(1, _PIXELS_PER_PASS // pixels))
        generator = torch.Generator().manual_seed(self.seed)
        for first in range(0, count, step):
            stop = min(count, first + step)
            if self.given is not None:
                yield self.given[first:stop]
            else:
                # One by one, so that the batches do not change the noise.
                noise = (torch.randn(self.shape, generator=generator) for _ in range(first, stop))
                yield torch.stack(list(noise))


def gather(
    model: ResolvedModel, images: Tensor | str | Path | None, num_images: int, seed: int
) -> ErfImages:
    """The images that a user means.

    Images of a folder are normalised as a timm model states, or to mean 0 and standard deviation
    1 per channel.

    Raises:
        ValueError: If they do not fit the model or its size, or cannot be read.
    """
    size = model.input_size
    if not 1 <= num_images <= MAX_AMOUNT:
        raise ValueError(f"`1 <= num_images <= {MAX_AMOUNT:,}` must hold, but got {num_images}.")
    if images is None:
        return ErfImages(None, (model.in_chans, *size), num_images, seed)
    if not isinstance(images, Tensor):
        if len(size) != 2:
            raise ValueError(
                f"{images}: files are images of two axes, but {model.name} takes inputs of "
                f"{by_x(size)}: give a tensor, or nothing for noise."
            )
        read = read_folder(images, (size[0], size[1]), model.in_chans, num_images)
        images = _normalised(read, getattr(model.module, "pretrained_cfg", None) or {})
    if images.ndim != 2 + len(size) or not len(images):
        raise ValueError(
            f"`images` must be (images, channels, {', '.join(AXIS_NAMES[len(size)])}) with at "
            f"least one image, but got {tuple(images.shape)}."
        )
    if tuple(images.shape[2:]) != size:
        raise ValueError(
            f"`images` must be {by_x(size)} px as `input_size` says, "
            f"but got {by_x(images.shape[2:])} px."
        )
    return ErfImages(images, (model.in_chans, *size), len(images), seed)


def _normalised(images: Tensor, stated: dict[str, Any]) -> Tensor:
    """Images from 0 to 1 as the model takes them."""
    mean, std = (torch.tensor(stated.get(key) or ()) for key in ("mean", "std"))
    if not len(mean) == len(std) == images.shape[1]:
        mean, std = images.mean(dim=(0, 2, 3)), images.std(dim=(0, 2, 3)).clamp_min(1 / 255)
    return (images - mean[:, None, None]) / std[:, None, None]
