"""Which images each update trains on, and how they are varied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from rfsearch.data.augmentation import Batch, Variation

if TYPE_CHECKING:
    from rfsearch.training.config import TrainingConfig


class TrainingBatches:
    """Shuffled full batches, and how much of the budget they have used.

    Args:
        num_images: Images to train on.
        config: Budget, batch size and variations.
        device: Where the batches are used.
        axes: How many an image has.
    """

    def __init__(
        self, num_images: int, config: TrainingConfig, device: torch.device, axes: int = 2
    ) -> None:
        self.config = config
        self.device = device
        self.num_images = num_images
        self.axes = axes
        self.batch_size = min(config.batch_size, num_images)
        self.updates = 0

    def seed(self, epoch: int) -> int:
        """Of all that is random in an epoch."""
        return self.config.seed * 100_003 + epoch

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch, numbered from 1."""
        generator = torch.Generator().manual_seed(self.seed(number))
        order = torch.randperm(self.num_images, generator=generator)
        # A last batch of one image would have no statistics to normalise with.
        count = self.num_images // self.batch_size
        order = order[: count * self.batch_size]
        variation = Variation.draw(
            len(order),
            self.config.horizontal_flip,
            self.config.max_shift,
            generator,
            self.axes,
        )
        seeds = torch.randint(2**32, (len(order),), generator=generator)
        # To the device as a whole: a copy for each batch would make the host wait for it.
        for chosen, numbers, varied, of_images in zip(
            order.to(self.device).split(self.batch_size),
            order.split(self.batch_size),
            variation.to(self.device).split(self.batch_size, count),
            seeds.split(self.batch_size),
            strict=True,
        ):
            yield Batch(chosen, tuple(numbers.tolist()), varied, tuple(of_images.tolist()))

    def progress(self, seconds: float) -> float:
        """Count an update; gives the share of the budget used, after so many seconds."""
        self.updates += 1
        used = 0.0
        if self.config.epochs is not None:
            per_epoch = self.config.updates_per_epoch(self.num_images)
            used = self.updates / (per_epoch * self.config.epochs)
        if self.config.steps is not None:
            used = max(used, self.updates / self.config.steps)
        if self.config.seconds is not None:
            used = max(used, seconds / self.config.seconds)
        return used
