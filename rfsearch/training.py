"""One short training loop for CPU and CUDA."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NamedTuple, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torchmetrics.classification import MulticlassAccuracy

from rfsearch.checkpoints import TrainingProgress
from rfsearch.validation import FrozenData

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rfsearch.checkpoints import Checkpoint
    from rfsearch.sources import ImageData

#: Steps of the learning-rate schedule; a budget in seconds has no number of updates of its own.
_TICKS = 10_000


class TrainingConfig(FrozenData):
    """How a candidate is trained.

    Attributes:
        epochs: Passes over the training images. None where `seconds` is the only limit.
        seconds: Time limit for training, validation included. None where `epochs` is the only
            limit. Training ends at whichever comes first.
        batch_size: Images per update.
        optimizer: A name known to `timm.optim.create_optimizer_v2`.
        learning_rate: Highest learning rate.
        weight_decay: Of the weights; normalisation and biases have none.
        scheduler: A name known to `timm.scheduler.create_scheduler_v2`.
        warmup: Share of the budget over which the learning rate rises to its highest.
        seed: Of weights and of the order of images. The same for all candidates.
    """

    epochs: Annotated[int, Field(ge=1)] | None = 5
    seconds: Annotated[float, Field(gt=0, strict=False)] | None = None
    batch_size: Annotated[int, Field(ge=2)] = 64
    optimizer: str = "adamw"
    learning_rate: Annotated[float, Field(gt=0, strict=False)] = 0.008
    weight_decay: Annotated[float, Field(ge=0, strict=False)] = 0.01
    scheduler: str = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1, strict=False)] = 0.2
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _has_an_end(self) -> Self:
        if self.epochs is None and self.seconds is None:
            raise ValueError("`epochs` or `seconds` must be given, but got neither.")
        return self


class TrainingResult(NamedTuple):
    """What training gave.

    Attributes:
        accuracy: Share of validation images classified right after the last epoch.
        epochs: Epochs begun.
        seconds: Time of training and validation.
    """

    accuracy: float
    epochs: int
    seconds: float


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


def train(
    model: nn.Module,
    data: ImageData,
    config: TrainingConfig,
    *,
    device: torch.device,
    report: Callable[[int, float], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> TrainingResult:
    """Train a classifier briefly, in place.

    On CUDA it computes in bfloat16 where that is safe, with channels last.

    Args:
        model: Maps images `(batch, channels, height, width)` to class scores.
        data: Images; they are moved to the device as a whole.
        config: Budget and optimiser.
        device: Where to train.
        report: Called after each epoch with its number, from 1, and the validation accuracy. An
            exception it raises ends the training.
        checkpoint: Written after each epoch; if there is one already, training goes on from it,
            and `report` is called for its epochs first.

    Raises:
        FloatingPointError: If the loss is not finite.
    """
    start = time.perf_counter()
    model.to(device).to(memory_format=_memory_format(device))
    normalize = Normalizer.of(data.train_images).to(device)
    images, labels = data.train_images.to(device), data.train_labels.to(device)
    valid_images, valid_labels = data.valid_images.to(device), data.valid_labels.to(device)
    optimizer = create_optimizer_v2(
        model, opt=config.optimizer, lr=config.learning_rate, weight_decay=config.weight_decay
    )
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched=config.scheduler,
        num_epochs=100,
        updates_per_epoch=_TICKS // 100,
        warmup_epochs=round(100 * config.warmup),
        warmup_lr=config.learning_rate / 100,
        step_on_epochs=False,
    )
    batches = _Batches(len(images), config)
    progress, history = 0.0, list[float]()
    done = checkpoint.load(model, optimizer, device) if checkpoint is not None else None
    if done is not None:
        progress, history, batches.updates = done.share, list(done.scores), done.updates
        start -= done.seconds
        for number, score in enumerate(history, start=1):
            if report is not None:
                report(number, score)
    while progress < 1:
        epoch = len(history) + 1
        model.train()
        total = torch.zeros((), device=device)
        for chosen in batches.epoch(epoch):
            if scheduler is not None:
                scheduler.step_update(round(progress * _TICKS))
            index = chosen.to(device)
            with _autocast(device):
                scores = model(
                    normalize(images[index]).contiguous(
                        memory_format=_memory_format(images.device)
                    )
                )
                loss = F.cross_entropy(scores.float(), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
            progress = batches.progress(time.perf_counter() - start)
            if progress >= 1:
                break
        if not math.isfinite(float(total)):
            raise FloatingPointError(f"The training loss is {float(total)} in epoch {epoch}.")
        history.append(evaluate(model, valid_images, valid_labels, normalize, config.batch_size))
        if checkpoint is not None:
            seconds = time.perf_counter() - start
            done = TrainingProgress(
                scores=tuple(history), updates=batches.updates, share=progress, seconds=seconds
            )
            checkpoint.save(model, optimizer, done)
        if report is not None:
            report(epoch, history[-1])
    return TrainingResult(history[-1], len(history), time.perf_counter() - start)


class _Batches:
    """Shuffled full batches, and how much of the budget they have used."""

    def __init__(self, num_images: int, config: TrainingConfig) -> None:
        self.config = config
        self.num_images = num_images
        self.batch_size = min(config.batch_size, num_images)
        self.updates = 0

    def epoch(self, number: int) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(self.config.seed * 100_003 + number)
        order = torch.randperm(self.num_images, generator=generator)
        # A last batch of one image would have no statistics to normalise with.
        whole = self.num_images // self.batch_size * self.batch_size
        batches: tuple[Tensor, ...] = order[:whole].split(self.batch_size)
        return batches

    def progress(self, seconds: float) -> float:
        self.updates += 1
        used = 0.0
        if self.config.epochs is not None:
            per_epoch = self.num_images // self.batch_size
            used = self.updates / (per_epoch * self.config.epochs)
        if self.config.seconds is not None:
            used = max(used, seconds / self.config.seconds)
        return used


@torch.inference_mode()
def evaluate(
    model: nn.Module, images: Tensor, labels: Tensor, normalize: Normalizer, batch_size: int = 64
) -> float:
    """Share of uint8 images that the model classifies right.

    Raises:
        ValueError: If there is no image.
    """
    if not len(images):
        raise ValueError("There must be at least one image to evaluate, but there is none.")
    model.eval()
    metric: MulticlassAccuracy | None = None
    for batch, truth in zip(
        images.split(4 * batch_size), labels.split(4 * batch_size), strict=True
    ):
        with _autocast(images.device):
            scores = model(
                normalize(batch).contiguous(memory_format=_memory_format(images.device))
            )
        if metric is None:
            metric = MulticlassAccuracy(scores.shape[1], average="micro").to(images.device)
        metric.update(scores.float(), truth)
    assert metric is not None
    return float(metric.compute())


def _memory_format(device: torch.device) -> torch.memory_format:
    """Channels last on CUDA alone: on a CPU, torch 2.15's oneDNN crashes in the backward pass of a
    strided 1x1 convolution with channels last.
    """
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def _autocast(device: torch.device) -> AbstractContextManager[object]:
    if device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()
