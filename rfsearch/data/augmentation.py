"""Random variations of training images, a whole batch at a time on the device that has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

import torch

if TYPE_CHECKING:
    from torch import Tensor


class Variation(NamedTuple):
    """How each image of a batch is varied.

    Attributes:
        mirrored: Whether left and right change places, `(images,)`, bool; None for no image.
        shifts: Then, how far it moves down and right in px, `(images, 2)`, int64; None for no
            image.
    """

    mirrored: Tensor | None = None
    shifts: Tensor | None = None

    @classmethod
    def draw(
        cls, number: int, horizontal_flip: float, max_shift: int, generator: torch.Generator
    ) -> Self:
        """Random variations of some images.

        Args:
            number: Of the images.
            horizontal_flip: Probability of mirroring an image.
            max_shift: Farthest that an image moves in px, along either axis and in either
                direction.
            generator: On the CPU, so that all devices see the same images.
        """
        mirrored = shifts = None
        if horizontal_flip:
            mirrored = torch.rand(number, generator=generator) < horizontal_flip
        if max_shift:
            shifts = torch.randint(-max_shift, max_shift + 1, (number, 2), generator=generator)
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
            for shift, dim in zip(self.shifts.unbind(1), (-2, -1), strict=True):
                values = _moved(values, _per_image(shift, values), dim, fill)
        return values

    def chunk(self, number: int) -> list[Variation]:
        """Those of so many parts of a batch."""
        parts = [[None] * number if part is None else part.chunk(number) for part in self]
        return [Variation(*both) for both in zip(*parts, strict=True)]


UNVARIED = Variation()


class Batch(NamedTuple):
    """Some training images.

    Attributes:
        chosen: Their numbers on the device, `(images,)`, int64.
        numbers: The same for the host, which waits for no device to learn them.
        variation: How they are varied.
        pixels: `(images, channels, height, width)`, uint8, on the device; None where the device
            has all images.
        masks: `(images, height, width)`, uint8, on the device; None there too, or without any.
    """

    chosen: Tensor
    numbers: tuple[int, ...]
    variation: Variation = UNVARIED
    pixels: Tensor | None = None
    masks: Tensor | None = None

    @property
    def size(self) -> int:
        """How many images there are."""
        return len(self.numbers)

    def halves(self) -> list[Batch]:
        """The first half, which may be one image larger, and the second."""
        middle = (self.size + 1) // 2
        numbers = (self.numbers[:middle], self.numbers[middle:])
        pixels, masks = (
            (None, None) if values is None else values.chunk(2)
            for values in (self.pixels, self.masks)
        )
        variations = self.variation.chunk(2)
        both = zip(self.chosen.chunk(2), numbers, variations, pixels, masks, strict=True)
        return [Batch(*half) for half in both]


def _per_image(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _moved(values: Tensor, shift: Tensor, dim: int, fill: float) -> Tensor:
    side = values.shape[dim]
    places = torch.arange(side, device=values.device)
    source = places.reshape(-1, *[1] * (-dim - 1)) - shift
    moved = torch.take_along_dim(values, source.clamp(0, side - 1), dim)
    return moved.masked_fill((source < 0) | (source >= side), fill)
