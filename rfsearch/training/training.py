"""One short training loop for all tasks, on CPU and CUDA."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from timm.optim import create_optimizer_v2, get_optimizer_class
from timm.scheduler import create_scheduler_v2

from rfsearch.data.device_images import network_format
from rfsearch.data.device_memory import Gradients, Learnable
from rfsearch.training._batches import TrainingBatches
from rfsearch.training.checkpoints import TrainingProgress
from rfsearch.training.config import TrainingConfig
from rfsearch.training.scale_scores import ScaleScores

if TYPE_CHECKING:
    from torch import nn

    from rfsearch.data.augmentation import Batch
    from rfsearch.training.checkpoints import Checkpoint

#: Steps of the learning-rate schedule; a budget in seconds has no number of updates of its own.
_TICKS = 10_000


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
    the halves add up to those of the batch (`rfsearch.data.device_memory.Gradients`).

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
