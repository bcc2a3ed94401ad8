"""How a candidate is trained: budget, optimiser and variations."""

from __future__ import annotations

import math
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from rfsearch.basics.limits import MAX_SIDE, BatchSize, Epochs, Seconds, Seed, Steps
from rfsearch.basics.validation import FrozenData


class TrainingConfig(FrozenData):
    """How a candidate is trained.

    Attributes:
        epochs: Most passes over the training images; 5 where no limit is given. Training ends at
            whichever limit comes first, and the learning rate goes through its schedule on the
            way there.
        steps: Most updates. The last epoch may be incomplete; it is judged like the others.
        seconds: Time limit for training, validation included.
        batch_size: Images per update.
        optimizer: A name known to `timm.optim.create_optimizer_v2`.
        learning_rate: Highest learning rate.
        weight_decay: Of the weights; normalisation and biases have none.
        scheduler: A name known to `timm.scheduler.create_scheduler_v2`.
        warmup: Share of the budget over which the learning rate rises to its highest.
        horizontal_flip: Probability of mirroring a training image with its truth; 0.5 where left
            and right mean nothing.
        max_shift: Farthest that a training image moves in px, along either axis and in either
            direction, as if it were padded with the mean colour and cropped at random.
        loader_workers: Processes that read images which do not fit into memory; by default one
            for each CPU, but at most 4. The scores do not depend on it.
        seed: Of weights, of the order of images and of their variations. The same for all
            candidates.
    """

    epochs: Epochs | None = None
    steps: Steps | None = None
    seconds: Seconds | None = None
    batch_size: BatchSize = 64
    optimizer: str = "adamw"
    learning_rate: Annotated[float, Field(gt=0, strict=False)] = 0.008
    weight_decay: Annotated[float, Field(ge=0, strict=False)] = 0.01
    scheduler: str = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1, strict=False)] = 0.2
    horizontal_flip: Annotated[float, Field(ge=0, le=1, strict=False)] = 0.0
    max_shift: Annotated[int, Field(ge=0, le=MAX_SIDE)] = 0
    loader_workers: Annotated[int, Field(ge=0, le=256)] | None = None
    seed: Seed = 0

    @model_validator(mode="before")
    @classmethod
    def _epochs_unless_limited(cls, values: Any) -> Any:
        """A default beside another limit could not be taken away: TOML has no null."""
        if isinstance(values, dict) and not values.keys() & {"epochs", "steps", "seconds"}:
            return values | {"epochs": 5}
        return values

    @model_validator(mode="after")
    def _has_an_end(self) -> Self:
        if self.epochs is None and self.steps is None and self.seconds is None:
            raise ValueError("`epochs`, `steps` or `seconds` must be given, but got none of them.")
        return self

    def updates_per_epoch(self, num_images: int) -> int:
        """How many whole batches so many training images make; the rest is left out."""
        return num_images // min(self.batch_size, num_images)

    def max_epochs(self, num_images: int) -> int | None:
        """Most epochs that are begun with so many images; None where time is the only limit."""
        limits = [] if self.epochs is None else [self.epochs]
        if self.steps is not None:
            limits.append(math.ceil(self.steps / self.updates_per_epoch(num_images)))
        return min(limits, default=None)
