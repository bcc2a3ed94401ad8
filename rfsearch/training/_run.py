"""A training on its way: updates, averaged weights, judging, and the best weights so far."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from timm.utils import ModelEmaV3

from rfsearch.data.device_images import network_format
from rfsearch.data.device_memory import Gradients, Learnable
from rfsearch.training._batches import TrainingBatches
from rfsearch.training._optimizers import (
    TICKS,
    make_optimizer,
    make_scheduler,
    without_compiling,
)
from rfsearch.training.checkpoints import Epoch, TrainingProgress, TrainingState, weights_of

if TYPE_CHECKING:
    from torch import nn

    from rfsearch.data.augmentation import Batch, Examples
    from rfsearch.training.config import TrainingConfig
    from rfsearch.training.scores import Scores


class Trainable(Learnable, Protocol):
    """What the loop needs to know of a `rfsearch.training.task.Task`."""

    @property
    def training(self) -> TrainingConfig:
        """Budget, optimiser and variations."""

    @property
    def training_device(self) -> torch.device:
        """Where to train."""

    @property
    def num_images(self) -> int:
        """How many images there are to train on."""

    @property
    def input_size(self) -> tuple[int, ...]:
        """Of an image in px, along each axis."""

    def load(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """Bring the images of training batches to the device, where they are not yet."""

    def examples(self, batch: Batch) -> Examples:
        """The images of a loaded batch with their truth, varied."""

    def evaluate(self, model: nn.Module) -> Scores:
        """Scores of a model in evaluation mode on the validation images."""


class Run:
    """One training on its way."""

    def __init__(self, model: nn.Module, task: Trainable) -> None:
        self.start = time.perf_counter()
        self.task, self.config, self.device = task, task.training, task.training_device
        model.to(self.device).to(memory_format=network_format(model, self.device))
        optimizer = make_optimizer(model, self.config, self.device)
        self.scheduler = make_scheduler(optimizer, self.config)
        axes = len(task.input_size)
        self.batches = TrainingBatches(task.num_images, self.config, self.device, axes)
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
        """The epochs so far."""
        return self.state.progress.history

    @property
    def epochs(self) -> int:
        """How many have been begun."""
        return self.history[-1].number if self.history else 0

    @property
    def seconds(self) -> float:
        """Of training and validation so far."""
        return time.perf_counter() - self.start

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
                    self.scheduler.step_update(round(self.share * TICKS))
                optimizer.zero_grad()
                total += self.gradients.add(model, self.task.examples(batch))
                with without_compiling():
                    optimizer.step()
                self.share = self.batches.progress(self.seconds)
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
            seconds=self.seconds,
        )
        if self.config.keep_best and best_of(history) is history[-1]:
            self.state.best = {n: value.cpu().clone() for n, value in weights_of(judged).items()}

    def end(self) -> Scores:
        """Leave the weights in the model that are kept, and say what they are worth."""
        model, best, averaged = self.state.model, self.state.best, self.state.averaged
        if best is not None:
            model.load_state_dict(best)
        elif averaged is not None:
            model.load_state_dict(averaged.state_dict())
        if self.scores is not None and (best is None or best_of(self.history) is self.history[-1]):
            return self.scores
        return _evaluate(model, self.task)  # A checkpoint has the value alone.


def best_of(history: tuple[Epoch, ...]) -> Epoch:
    """The first epoch with the highest score."""
    return max(history, key=lambda one: one.score)


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


def _evaluate(model: nn.Module, task: Trainable) -> Scores:
    model.eval()
    with torch.inference_mode():
        return task.evaluate(model)
