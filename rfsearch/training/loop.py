"""The one training loop, for all tasks and budgets, on CPU and CUDA."""

from __future__ import annotations

import inspect
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from timm.optim import create_optimizer_v2, get_optimizer_class
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3

from rfsearch.data.device_images import network_format
from rfsearch.data.device_memory import Gradients
from rfsearch.data.loading_errors import loading_errors
from rfsearch.training._batches import TrainingBatches
from rfsearch.training.checkpoints import Epoch, TrainingProgress, TrainingState, weights_of
from rfsearch.training.scores import ScaleScores

if TYPE_CHECKING:
    from torch import nn

    from rfsearch.training.checkpoints import Checkpoint
    from rfsearch.training.config import TrainingConfig
    from rfsearch.training.scores import Scores
    from rfsearch.training.task import Task

#: Steps of the learning-rate schedule; a budget in seconds has no number of updates of its own.
_TICKS = 10_000


class TrainingResult(NamedTuple):
    """What training gave.

    Attributes:
        score: The task's metric on the validation images: after the last epoch, or the best one
            where the best weights are kept.
        epochs: Epochs begun; the last one may be incomplete.
        seconds: Time of training and validation.
        by_scale: The score of small, medium and large objects.
        ap50: Average precision at an overlap of 50 %, for detection.
        halved: Whether the batches did not fit into memory and were halved, gradients added up.
        history: The epochs, those before an interruption included; the first is number 0, before
            training, where the best weights are kept.
    """

    score: float
    epochs: int
    seconds: float
    by_scale: ScaleScores = ScaleScores()
    ap50: float = math.nan
    halved: bool = False
    history: tuple[Epoch, ...] = ()

    @property
    def best(self) -> Epoch:
        """The first epoch with the highest score."""
        return _best(self.history)


def train(
    model: nn.Module,
    task: Task,
    *,
    report: Callable[[Epoch], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> TrainingResult:
    """Train a network in place: afterwards it has the weights that the score is of.

    Where weights are averaged, the averaged ones are judged and kept. Where the best are kept,
    those of before the first epoch count, too.

    The same network, seed, images, device and versions give the same scores bit for bit on a CPU
    with the same number of threads, in one go or with interruptions: all that is random in an
    epoch is drawn from the seed and the epoch, and the global random numbers are left as they
    were. On CUDA all of that is the same, but some kernels add up in any order, and so scores may
    differ by rounding. A budget in seconds ends when it ends.

    A batch that does not fit into memory is halved, and so are those after it; the gradients of
    the halves add up to those of the batch (`rfsearch.data.device_memory.Gradients`).

    The host looks at what the device has computed at the end of each epoch only, so that the
    device need not wait for it.

    Args:
        model: A network that the task knows how to use.
        task: What to learn, how to judge it, the budget and the device.
        report: Called after each epoch that was trained. An exception it raises ends the
            training.
        checkpoint: Written after each epoch; if there is one already, training goes on from it,
            and `report` is called for its epochs first.

    Raises:
        FloatingPointError: If the loss is not finite.
        LoadingError: If images cannot be read, or what reads them has ended.
        torch.OutOfMemoryError: If halves of batches do not fit into memory either.
        ValueError: If the checkpoint cannot be gone on from, and has an identity.
    """
    run = _Run(model, task)
    with loading_errors():
        if checkpoint is not None and checkpoint.load(run.state, task.training_device):
            run.go_on()
            for epoch in run.history:
                if epoch.number and report is not None:
                    report(epoch)
        elif task.training.keep_best:
            run.note(0, math.nan)
        while run.share < 1:
            number = run.epochs + 1
            run.note(number, run.train_epoch(number))
            if checkpoint is not None:
                checkpoint.save(run.state)
            if report is not None:
                report(run.history[-1])
        return run.end()


class _Run:
    """One training on its way."""

    def __init__(self, model: nn.Module, task: Task) -> None:
        self.start = time.perf_counter()
        self.task, self.config, self.device = task, task.training, task.training_device
        model.to(self.device).to(memory_format=network_format(model, self.device))
        optimizer = create_optimizer_v2(
            model,
            opt=self.config.optimizer,
            lr=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
            **_fused(self.config.optimizer, self.device),
        )
        self.scheduler = _scheduler(optimizer, self.config)
        self.batches = TrainingBatches(task.num_images, self.config, self.device)
        self.gradients = Gradients(task)
        decay = self.config.ema_decay
        self.average = ModelEmaV3(model, decay=decay, use_warmup=True) if decay else None
        averaged = None if self.average is None else self.average.module
        self.state = TrainingState(model, optimizer, averaged)
        if self.config.keep_best:
            self.state.best = weights_of(model)
        self.share = 0.0
        self.scores: Scores | None = None

    @property
    def history(self) -> tuple[Epoch, ...]:
        return self.state.progress.history

    @property
    def epochs(self) -> int:
        """How many have been begun."""
        return self.history[-1].number if self.history else 0

    def go_on(self) -> None:
        """Take over what the state says of the training before an interruption."""
        done = self.state.progress
        self.share, self.batches.updates = done.share, done.updates
        self.start -= done.seconds

    def train_epoch(self, number: int) -> float:
        """Train once on all images, or until the budget is used up; gives the mean loss."""
        model, optimizer = self.state.model, self.state.optimizer
        model.train()
        total, before = torch.zeros((), device=self.device), self.batches.updates
        with _seeded(self.batches.seed(number), self.device):
            for batch in self.task.load(self.batches.epoch(number)):
                if self.scheduler is not None:
                    self.scheduler.step_update(round(self.share * _TICKS))
                optimizer.zero_grad()
                total += self.gradients.add(model, self.task.examples(batch))
                optimizer.step()
                self.share = self.batches.progress(time.perf_counter() - self.start)
                if self.average is not None:
                    self.average.update(model, step=self.batches.updates)
                if self.share >= 1:
                    break
        if not math.isfinite(float(total)):
            raise FloatingPointError(f"The training loss is {float(total)} in epoch {number}.")
        return float(total) / (self.batches.updates - before)

    def note(self, number: int, loss: float) -> None:
        """Judge the weights after an epoch, and keep them if they are the best so far."""
        averaged = self.state.averaged
        judged = self.state.model if averaged is None else averaged
        self.scores = _evaluate(judged, self.task)
        history = (*self.history, Epoch(number, loss, self.scores.value))
        self.state.progress = TrainingProgress(
            history=history,
            updates=self.batches.updates,
            share=self.share,
            seconds=time.perf_counter() - self.start,
        )
        if self.config.keep_best and _best(history) is history[-1]:
            self.state.best = {n: value.cpu().clone() for n, value in weights_of(judged).items()}

    def end(self) -> TrainingResult:
        """Leave the weights in the model that are kept, and say what they are worth."""
        model, last = self.state.model, self.history[-1]
        if self.state.best is not None:
            model.load_state_dict(self.state.best)
        elif self.state.averaged is not None:
            model.load_state_dict(self.state.averaged.state_dict())
        # A checkpoint has the value alone.
        is_known = self.state.best is None or _best(self.history) is last
        scores = self.scores if is_known and self.scores else _evaluate(model, self.task)
        seconds = time.perf_counter() - self.start
        return TrainingResult(
            scores.value,
            self.epochs,
            seconds,
            scores.by_scale,
            scores.ap50,
            self.gradients.halved,
            self.history,
        )


def _best(history: tuple[Epoch, ...]) -> Epoch:
    return max(history, key=lambda one: one.score)


def _scheduler(optimizer: torch.optim.Optimizer, config: TrainingConfig) -> Any:
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched=config.scheduler,
        num_epochs=100,
        updates_per_epoch=_TICKS // 100,
        warmup_epochs=round(100 * config.warmup),
        warmup_lr=config.learning_rate / 100,
        step_on_epochs=False,
    )
    return scheduler


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Random numbers from this seed inside, and those of before afterwards."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002  # others use it
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


def _evaluate(model: nn.Module, task: Task) -> Scores:
    model.eval()
    with torch.inference_mode():
        return task.evaluate(model)


def _fused(optimizer: str, device: torch.device) -> dict[str, Any]:
    """On CUDA, one kernel for all weights where the optimiser has one."""
    kind = get_optimizer_class(optimizer, bind_defaults=False)
    if device.type == "cuda" and "fused" in inspect.signature(kind).parameters:
        return {"fused": True}
    return {}
