"""How a network is trained: budget, optimiser, regularisation and variations of images."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from rfsearch.basics.limits import MAX_SIDE, BatchSize, Epochs, Seconds, Seed, Steps
from rfsearch.basics.validation import FrozenData
from rfsearch.network.network_folder import CLASSIFICATION

Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
#: Times the largest weight decay, it does not overflow in float32.
LearningRate = Annotated[float, Field(gt=0, le=1e30)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]


class TrainingConfig(FrozenData):
    """How a network is trained: briefly in a search, or to convergence.

    Attributes:
        epochs: Most passes over the training images; 5 where no limit is given. Training ends at
            whichever limit comes first, and the learning rate goes through its schedule on the
            way there.
        steps: Most updates. The last epoch may be incomplete; it is judged like the others.
        seconds: Time limit for training, validation included.
        batch_size: Images per update.
        optimizer: A name known to `timm.optim.create_optimizer_v2`.
        learning_rate: Highest learning rate.
        learned_rate: Learning rate of weights that are learned already (`[space] retrofit`), as a
            share of that of new ones.
        weight_decay: Of the weights; normalisation and biases have none.
        scheduler: A name known to `timm.scheduler.create_scheduler_v2`, but not `"plateau"`.
        warmup: Share of the budget over which the learning rate rises to its highest.
        ema_decay: Decay of averaged weights per update, approached as the training goes on: they
            are what is judged and kept. 0 is off.
        keep_best: Whether the weights with the best score are kept, those before the first epoch
            included, instead of the last.
        horizontal_flip: Probability of mirroring a training image with its truth; 0.5 where left
            and right mean nothing.
        max_shift: Farthest that a training image moves in px, along either axis and in either
            direction, as if it were padded with the mean colour and cropped at random.
        min_scale: Smallest share of an image's area in a random crop, which is enlarged to the
            whole; 1 is off. It enlarges objects, too, which the receptive field is fitted to.
            This and the options below are for classifiers only.
        color_jitter: Strength of random changes of brightness, contrast and saturation.
        auto_augment: torchvision's `TrivialAugmentWide`, `RandAugment` or, for `"imagenet"`,
            `AutoAugment`.
        mixup: Alpha of mixup; 0 is off. Of mixup and cutmix, one is chosen for each batch.
        cutmix: Alpha of cutmix; 0 is off.
        label_smoothing: Share of a label that is spread over all classes.
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
    learning_rate: LearningRate = 0.008
    learned_rate: Share = 0.1
    weight_decay: NotNegative = 0.01
    scheduler: str = "cosine"
    warmup: BelowOne = 0.2
    ema_decay: BelowOne = 0.0
    keep_best: bool = False
    horizontal_flip: Share = 0.0
    max_shift: Annotated[int, Field(ge=0, le=MAX_SIDE)] = 0
    min_scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    color_jitter: Share = 0.0
    auto_augment: Literal["none", "trivial", "rand", "imagenet"] = "none"
    mixup: NotNegative = 0.0
    cutmix: NotNegative = 0.0
    label_smoothing: Share = 0.0
    loader_workers: Annotated[int, Field(ge=0, le=256)] | None = None
    seed: Seed = 0

    @model_validator(mode="before")
    @classmethod
    def _epochs_unless_limited(cls, values: Any) -> Any:
        """A default beside another limit could not be taken away: TOML has no null."""
        if isinstance(values, dict) and not values.keys() & set(_LIMITS):
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

    def refuse_classifier_options(self, task: str) -> None:
        """Check that nothing is asked for that only classifiers have.

        Raises:
            ValueError: If something is; it names what, and the task.
        """
        for name in _CLASSIFIER_OPTIONS:
            off, given = type(self).model_fields[name].default, getattr(self, name)
            if given != off:
                raise ValueError(
                    f"training: `{name}` must be {off!r} for {task}, since it is for classifiers "
                    f"only, but got {given!r}."
                )


_LIMITS = ("epochs", "steps", "seconds")
_CLASSIFIER_OPTIONS = (
    "min_scale", "color_jitter", "auto_augment", "mixup", "cutmix", "label_smoothing",
)  # fmt: skip
_TO_CONVERGENCE: dict[str, Any] = {
    "learning_rate": 0.002,
    "weight_decay": 0.05,
    "warmup": 0.05,
    "ema_decay": 0.9998,
    "keep_best": True,
}
# Without crops, classifiers of few images soon know them by heart.
_CLASSIFIER_TO_CONVERGENCE = {"min_scale": 0.8, "mixup": 0.2, "label_smoothing": 0.1}


def to_convergence(task: str, given: dict[str, Any]) -> dict[str, Any]:
    """The values of a `TrainingConfig` for a long training, but for those that are given.

    Args:
        task: What is learned.
        given: Some of the values; without a limit among them there are 100 epochs.
    """
    values = _TO_CONVERGENCE | ({} if given.keys() & set(_LIMITS) else {"epochs": 100})
    if task == CLASSIFICATION:
        values |= _CLASSIFIER_TO_CONVERGENCE
    return values | given
