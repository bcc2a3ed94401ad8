"""One training to convergence, epoch by epoch, with everything that a checkpoint of it holds."""

from __future__ import annotations

import hashlib
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Annotated, NamedTuple

import safetensors.torch
import torch
from pydantic import Field
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3

from rfsearch.basics.limits import Epochs, Seed
from rfsearch.basics.validation import FrozenData
from rfsearch.data.device_images import network_format
from rfsearch.training.checkpoints import weights_of
from rfsearch.training.retraining_data import LoadingConfig, Share

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rfsearch.training.retraining_course import Course


class RetrainingConfig(FrozenData):
    """How a network is trained to convergence.

    Mixup, cutmix and label smoothing are for classifiers only.

    Attributes:
        epochs: Passes over the training images.
        optimizer: A name known to `timm.optim.create_optimizer_v2`.
        learning_rate: Highest learning rate.
        weight_decay: Of the weights; normalisation and biases have none.
        scheduler: A name known to `timm.scheduler.create_scheduler_v2`.
        warmup: Share of the epochs over which the learning rate rises to its highest.
        mixup: Alpha of mixup; 0 is off.
        cutmix: Alpha of cutmix; 0 is off.
        label_smoothing: Share of a label that is spread over all classes.
        ema_decay: Decay of the averaged weights per update, approached as the training goes on.
        seed: Of the order of images, of their variations and of fresh weights.
        loading: How images are read and varied.
    """

    epochs: Epochs = 100
    optimizer: str = "adamw"
    learning_rate: Annotated[float, Field(gt=0, strict=False)] = 0.002
    weight_decay: Annotated[float, Field(ge=0, strict=False)] = 0.05
    scheduler: str = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1, strict=False)] = 0.05
    mixup: Annotated[float, Field(ge=0, strict=False)] = 0.2
    cutmix: Annotated[float, Field(ge=0, strict=False)] = 0.0
    label_smoothing: Share = 0.1
    ema_decay: Annotated[float, Field(ge=0, lt=1, strict=False)] = 0.9998
    seed: Seed = 0
    loading: LoadingConfig = LoadingConfig()


class EpochResult(NamedTuple):
    """What one epoch gave.

    Attributes:
        epoch: Its number, from 1; 0 is before training.
        loss: Mean training loss; NaN for epoch 0.
        score: On the validation images: accuracy, or the task's metric.
        ema_score: The same with the averaged weights.
    """

    epoch: int
    loss: float
    score: float
    ema_score: float


class Run:
    """A training with everything that a checkpoint holds."""

    def __init__(
        self, model: nn.Module, course: Course, config: RetrainingConfig, device: torch.device
    ) -> None:
        self.device = device
        self.start = _digest(model)
        self.model = model.to(device).to(memory_format=network_format(model, device))
        self.course, self.config = course, config
        self.ema = ModelEmaV3(model, decay=config.ema_decay, use_warmup=True)
        self.optimizer = create_optimizer_v2(
            model, opt=config.optimizer, lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.scheduler, _ = create_scheduler_v2(
            self.optimizer,
            sched=config.scheduler,
            num_epochs=config.epochs,
            warmup_epochs=round(config.warmup * config.epochs),
            warmup_lr=config.learning_rate / 100,
            step_on_epochs=False,
            updates_per_epoch=len(course),
        )
        self.history: list[EpochResult] = []
        self.best_weights: dict[str, Tensor] = {}

    @property
    def best(self) -> EpochResult:
        """The first epoch with the highest score of the averaged weights."""
        return max(self.history, key=lambda one: one.ema_score)

    def train_epoch(self, epoch: int) -> float:
        """Train once on all images; gives the mean loss."""
        self.model.train()
        updates = (epoch - 1) * len(self.course)
        total = torch.zeros((), device=self.device)
        for batch in self.course.batches(epoch):
            if self.scheduler is not None:
                self.scheduler.step_update(updates)
            loss = self.course.loss(self.model, batch)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            updates += 1
            self.ema.update(self.model, step=updates)
            total += loss.detach()
        return float(total) / len(self.course)

    @torch.inference_mode()
    def evaluate(self, model: nn.Module) -> float:
        """The score of a model on the validation images."""
        return self.course.score(model.eval())

    def record(self, result: EpochResult) -> None:
        """Note an epoch, and its averaged weights if they are the best so far."""
        self.history.append(result)
        if self.best is result:
            weights = weights_of(self.ema.module)
            self.best_weights = {name: value.cpu().clone() for name, value in weights.items()}

    def save(self, file: Path) -> None:
        """Write everything that going on needs, at once.

        Raises:
            ValueError: If the disk is full or cannot be written; what was there stays.
        """
        state = {
            "config": self.config.model_dump(mode="json"),
            "course": self.course.identity,
            "start": self.start,
            "history": [list(result) for result in self.history],
            "model": self.model.state_dict(),
            "ema": self.ema.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best_weights": self.best_weights,
        }
        partial = file.with_name(f"{file.name}.partial")
        try:
            torch.save(state, partial)
            partial.replace(file)
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            reason = str(error).splitlines()[0]
            raise ValueError(f"{file}: no checkpoint can be written ({reason}).") from None

    def restore(self, file: Path) -> None:
        """Take over what `save` wrote; it runs no code from the file."""
        try:
            state = torch.load(file, map_location=self.device, weights_only=True)
            mine = (self.config.model_dump(mode="json"), self.course.identity, self.start)
            kinds = ("settings", "images", "first weights")
            for kind, own, other in zip(
                kinds, mine, (state["config"], state["course"], state["start"]), strict=True
            ):
                if own != other:
                    raise ValueError(f"it is that of a training with other {kind}")
            self.model.load_state_dict(state["model"])
            self.ema.module.load_state_dict(state["ema"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.history = [EpochResult(*row) for row in state["history"]]
            self.best_weights = {n: value.cpu() for n, value in state["best_weights"].items()}
        except (EOFError, KeyError, RuntimeError, TypeError, UnpicklingError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(
                f"{file}: cannot be gone on from ({reason}); remove it to start anew."
            ) from None


def _digest(model: nn.Module) -> str:
    """What tells a network's weights from others."""
    return hashlib.sha256(safetensors.torch.save(weights_of(model))).hexdigest()
