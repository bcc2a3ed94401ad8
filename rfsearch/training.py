"""One short training loop for all tasks, on CPU and CUDA."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Protocol, Self

import torch
from pydantic import Field, model_validator
from timm.optim import create_optimizer_v2, get_optimizer_class
from timm.scheduler import create_scheduler_v2

from rfsearch.checkpoints import TrainingProgress
from rfsearch.device_images import network_format
from rfsearch.device_memory import Gradients, Learnable
from rfsearch.limits import MAX_SIDE, BatchSize, Epochs, Seconds, Seed, Steps
from rfsearch.scale_scores import ScaleScores
from rfsearch.training_batches import TrainingBatches
from rfsearch.validation import FrozenData

if TYPE_CHECKING:
    from torch import nn

    from rfsearch.augmentation import Batch
    from rfsearch.checkpoints import Checkpoint

#: Steps of the learning-rate schedule; a budget in seconds has no number of updates of its own.
_TICKS = 10_000


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


class Scores(NamedTuple):
    """What validation gave.

    Attributes:
        value: What a study maximises.
        by_scale: The score of small, medium and large objects.
        ap50: Average precision at an overlap of 50 %, for detection.
    """

    value: float
    by_scale: ScaleScores = ScaleScores()
    ap50: float = math.nan


class TrainingResult(NamedTuple):
    """What training gave.

    Attributes:
        score: The task's metric on the validation images after the last epoch.
        epochs: Epochs begun; the last one may be incomplete.
        seconds: Time of training and validation.
        by_scale: The score of small, medium and large objects.
        ap50: Average precision at an overlap of 50 %, for detection.
        halved: Whether the batches did not fit into memory and were halved, gradients added up.
    """

    score: float
    epochs: int
    seconds: float
    by_scale: ScaleScores = ScaleScores()
    ap50: float = math.nan
    halved: bool = False


class Lesson(Learnable, Protocol):
    """What differs between tasks: images with their truth, a loss and a metric."""

    @property
    def num_images(self) -> int:
        """How many images there are to train on."""

    def load(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """Bring the images of training batches to the device, where they are not yet."""

    def evaluate(self, model: nn.Module) -> Scores:
        """Scores of the model on the validation images."""


def train(
    model: nn.Module,
    lesson: Lesson,
    config: TrainingConfig,
    *,
    device: torch.device,
    report: Callable[[int, float], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> TrainingResult:
    """Train a network briefly, in place.

    The same network, seed, images, device and versions give the same scores bit for bit on a CPU
    with the same number of threads: what is random in the network (dropout) is drawn from the
    seed too, and the global random numbers are left as they were. On CUDA all of that is the
    same, but some kernels add up in any order, and so scores may differ by rounding. A budget in
    seconds ends when it ends.

    A batch that does not fit into memory is halved, and so are those after it; the gradients of
    the halves add up to those of the batch (`rfsearch.device_memory.Gradients`).

    The host looks at what the device has computed at the end of each epoch only, so that the
    device need not wait for it.

    Args:
        model: A network that the lesson knows how to use.
        lesson: What to learn, and how to judge it.
        config: Budget and optimiser.
        device: Where to train; the lesson's images are there or come there.
        report: Called after each epoch with its number, from 1, and the validation score. An
            exception it raises ends the training.
        checkpoint: Written after each epoch; if there is one already, training goes on from it,
            and `report` is called for its epochs first.

    Raises:
        FloatingPointError: If the loss is not finite.
        torch.OutOfMemoryError: If halves of batches do not fit into memory either.
    """
    start = time.perf_counter()
    model.to(device).to(memory_format=network_format(model, device))
    optimizer = create_optimizer_v2(
        model,
        opt=config.optimizer,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        **_fused(config.optimizer, device),
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
    batches, gradients = TrainingBatches(lesson.num_images, config, device), Gradients(lesson)
    progress, history = 0.0, list[float]()
    scores: Scores | None = None
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
        with _seeded(batches.seed(epoch), device):
            for batch in lesson.load(batches.epoch(epoch)):
                if scheduler is not None:
                    scheduler.step_update(round(progress * _TICKS))
                optimizer.zero_grad()
                total += gradients.add(model, batch)
                optimizer.step()
                progress = batches.progress(time.perf_counter() - start)
                if progress >= 1:
                    break
        if not math.isfinite(float(total)):
            raise FloatingPointError(f"The training loss is {float(total)} in epoch {epoch}.")
        scores = _evaluate(model, lesson)
        history.append(scores.value)
        if checkpoint is not None:
            seconds = time.perf_counter() - start
            done = TrainingProgress(
                scores=tuple(history), updates=batches.updates, share=progress, seconds=seconds
            )
            checkpoint.save(model, optimizer, done)
        if report is not None:
            report(epoch, scores.value)
    if scores is None:  # All epochs were done before; a checkpoint has the value alone.
        scores = _evaluate(model, lesson)
    seconds = time.perf_counter() - start
    return TrainingResult(
        scores.value, len(history), seconds, scores.by_scale, scores.ap50, gradients.halved
    )


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Random numbers from this seed inside, and those of before afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _evaluate(model: nn.Module, lesson: Lesson) -> Scores:
    model.eval()
    with torch.inference_mode():
        return lesson.evaluate(model)


def _fused(optimizer: str, device: torch.device) -> dict[str, Any]:
    """On CUDA, one kernel for all weights where the optimiser has one."""
    kind = get_optimizer_class(optimizer, bind_defaults=False)
    if device.type == "cuda" and "fused" in inspect.signature(kind).parameters:
        return {"fused": True}
    return {}
