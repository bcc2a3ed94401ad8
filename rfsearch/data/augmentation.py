"""Random variations of training images, on the device that has them.

Mirroring and moving images, with what is known of each pixel, is done for a whole batch at a time;
what else torchvision can do to an image, for one image after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch

if TYPE_CHECKING:
    from torch import Tensor


class Variation(NamedTuple):
    """How each image of a batch is varied.

    Attributes:
        mirrored: Whether left and right change places, `(images,)`, bool; None for no image.
        shifts: Then, how far it moves down and right in px, `(images, axes)`, int64; None for no
            image.
    """

    mirrored: Tensor | None = None
    shifts: Tensor | None = None

    @classmethod
    def draw(
        cls,
        number: int,
        horizontal_flip: float,
        max_shift: int,
        generator: torch.Generator,
        axes: int = 2,
    ) -> Self:
        """Random variations of some images.

        Args:
            number: Of the images.
            horizontal_flip: Probability of mirroring an image.
            max_shift: Farthest that an image moves in px, along each axis and in either
                direction.
            generator: On the CPU, so that all devices see the same images.
            axes: How many an image has.
        """
        mirrored = shifts = None
        if horizontal_flip:
            mirrored = torch.rand(number, generator=generator) < horizontal_flip
        if max_shift:
            shifts = torch.randint(-max_shift, max_shift + 1, (number, axes), generator=generator)
        return cls(mirrored, shifts)

    def to(self, device: torch.device) -> Variation:
        """The same on another device."""
        return Variation(*(None if part is None else part.to(device) for part in self))

    def split(self, size: int, number: int) -> list[Variation]:
        """Those of batches of `size`, of which there are `number`."""
        parts = [[None] * number if part is None else part.split(size) for part in self]
        return [Variation(*both) for both in zip(*parts, strict=True)]

    def apply(self, values: Tensor, fill: float) -> Tensor:
        """Vary images, or what is known of each of their pixels.

        Args:
            values: `(images, ..., height, width)`.
            fill: What moves in from outside of the images.
        """
        if self.mirrored is not None:
            mirrored = _per_image(self.mirrored, values)
            values = torch.where(mirrored, values.flip(-1), values)
        if self.shifts is not None:
            for axis, shift in enumerate(self.shifts.unbind(1)):
                dim = axis - self.shifts.shape[1]
                values = _moved(values, _per_image(shift, values), dim, fill)
        return values


UNVARIED = Variation()


class Batch(NamedTuple):
    """Which training images come together, and how they are varied.

    Attributes:
        chosen: Their numbers on the device, `(images,)`, int64.
        numbers: The same for the host, which waits for no device to learn them.
        variation: How they are mirrored and moved.
        seeds: Of what else is done to each image; empty for nothing.
        pixels: `(images, channels, height, width)`, uint8, on the device; None where the device
            has all images.
        masks: `(images, height, width)`, uint8, on the device; None there too, or without any.
    """

    chosen: Tensor
    numbers: tuple[int, ...]
    variation: Variation = UNVARIED
    seeds: tuple[int, ...] = ()
    pixels: Tensor | None = None
    masks: Tensor | None = None


class Examples(NamedTuple):
    """What a network learns from at a time.

    Attributes:
        images: Normalised and varied, `(images, channels, height, width)`.
        truth: What is known of each image, in whatever form the task's loss takes it.
    """

    images: Tensor
    truth: Any

    @property
    def size(self) -> int:
        """How many images there are."""
        return len(self.images)

    def halves(self) -> list[Examples]:
        """The first half, which may be one image larger, and the second."""
        middle = (self.size + 1) // 2
        parts = (slice(middle), slice(middle, None))
        return [Examples(self.images[part], self.truth[part]) for part in parts]


def augment(images: Tensor, seeds: Sequence[int], transform: Callable[[Tensor], Tensor]) -> Tensor:
    """Do something random to each image, which depends on the image and its seed alone.

    Args:
        images: `(images, channels, height, width)`, uint8.
        seeds: One for each image.
        transform: Takes an image to another of a size that is the same for all; it draws from
            torch's random numbers of the CPU, which are as before afterwards.
    """
    found = []
    with torch.random.fork_rng(devices=[]):
        for image, seed in zip(images, seeds, strict=True):
            torch.default_generator.manual_seed(seed)
            found.append(transform(image))
    return torch.stack(found)


def _per_image(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _moved(values: Tensor, shift: Tensor, dim: int, fill: float) -> Tensor:
    side = values.shape[dim]
    places = torch.arange(side, device=values.device)
    source = places.reshape(-1, *[1] * (-dim - 1)) - shift
    moved = torch.take_along_dim(values, source.clamp(0, side - 1), dim)
    return moved.masked_fill((source < 0) | (source >= side), fill)
