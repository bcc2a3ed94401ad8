"""Three ways to train the same network on the same images, for `run.py`."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from timm.data import create_loader
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import AverageMeter
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

import rfsearch as rfs
from rfsearch.data.device_images import autocast, memory_format, network_format
from rfsearch.training.classification import ClassificationTask
from rfsearch.training.scores import Scores


class Spent(NamedTuple):
    """Seconds on the clock, and of all processors in this process and its ended children."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Spent:
        return cls(time.perf_counter(), sum(os.times()[:4]))

    def since(self, start: Spent) -> Spent:
        return Spent(self.wall - start.wall, self.cpu - start.cpu)


class Race:
    """One training; validation, which is the same for all, is not timed.

    Args:
        data: Images of one channel.
        config: Budget and optimiser.
        device: Where to train.
        workers: Processes that load images, where there is a loader.
    """

    def __init__(
        self,
        data: rfs.ImageData,
        config: rfs.TrainingConfig,
        device: torch.device,
        workers: int,
    ) -> None:
        self.data, self.config, self.device, self.workers = data, config, device, workers
        self.task = _Untimed(data, config, device, race=self)
        _ = self.task.train_images, self.task.valid_images  # Their way to the device is no race.
        self.mean = float(self.task.normalize.mean)
        self.std = float(self.task.normalize.std)
        self.paused = Spent(0.0, 0.0)

    @contextmanager
    def pause(self) -> Iterator[None]:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        start = Spent.now()
        yield
        spent = Spent.now().since(start)
        self.paused = Spent(*(a + b for a, b in zip(self.paused, spent, strict=True)))

    def evaluate(self, model: nn.Module) -> Scores:
        with torch.inference_mode():
            return self.task.evaluate(model.eval())

    def run(self, train_it: Callable[[Race, nn.Module], float], model: nn.Module) -> Any:
        """Train; gives the accuracy and what was spent, the end of loaders' processes included."""
        self.paused, start = Spent(0.0, 0.0), Spent.now()
        accuracy = train_it(self, model.to(self.device))
        gc.collect()  # Ends the loaders' processes, whose time counts only then.
        spent = Spent.now().since(start)
        return accuracy, Spent(spent.wall - self.paused.wall, spent.cpu - self.paused.cpu)


@dataclass(frozen=True)
class _Untimed(ClassificationTask):
    """Our task, whose validation is not timed."""

    race: Race | None = None

    def evaluate(self, model: nn.Module) -> Scores:
        assert self.race is not None
        with self.race.pause():
            return super().evaluate(model)


def ours(race: Race, model: nn.Module) -> float:
    """`rfsearch.training.loop.train` as it comes."""
    return race.task.train(model).score


class Tensors(Dataset[Any]):
    """Images normalised one at a time, as in PyTorch's tutorials."""

    def __init__(self, race: Race) -> None:
        self.images, self.labels = race.data.train_images, race.data.train_labels
        self.transform = v2.Compose(
            [
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([race.mean / 255], [race.std / 255]),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> Any:
        return self.transform(self.images[number]), self.labels[number]


class Pictures(Dataset[Any]):
    """PIL images, as timm's loaders expect them."""

    transform: Any = None

    def __init__(self, race: Race) -> None:
        self.images = [Image.fromarray(image[0].numpy()) for image in race.data.train_images]
        self.labels = race.data.train_labels.tolist()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> Any:
        return self.transform(self.images[number]), self.labels[number]


def plain(race: Race, model: nn.Module) -> float:
    """The loop of PyTorch's tutorials: a DataLoader, `.to(device)`, the loss summed as a float."""
    loader = DataLoader(
        Tensors(race),
        batch_size=race.config.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=race.workers,
        persistent_workers=race.workers > 0,
        pin_memory=race.device.type == "cuda",
    )

    def step(images: Any, labels: Any, optimizer: torch.optim.Optimizer) -> float:
        images, labels = images.to(race.device), labels.to(race.device)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return _loop(race, model, loader, step)


def timm_style(race: Race, model: nn.Module, layout: torch.memory_format | None = None) -> float:
    """timm's loader, which normalises batches on the device, and the step of its `train.py`.

    With bfloat16 on CUDA, as ours; with channels last there, or if `layout` says so.
    """
    layout = layout or memory_format(race.device)
    side = race.data.image_size[0]
    loader = create_loader(
        Pictures(race),
        input_size=(1, side, side),
        batch_size=race.config.batch_size,
        is_training=True,
        no_aug=True,
        mean=(race.mean / 255,),
        std=(race.std / 255,),
        num_workers=race.workers,
        persistent_workers=race.workers > 0,
        pin_memory=race.device.type == "cuda",
        device=race.device,
    )
    model.to(memory_format=layout)
    losses = AverageMeter()

    def step(images: Any, labels: Any, optimizer: torch.optim.Optimizer) -> float:
        images = images.contiguous(memory_format=layout)
        with autocast(race.device):
            loss = F.cross_entropy(model(images), labels)
        losses.update(loss.item(), len(images))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return losses.avg

    return _loop(race, model, loader, step)


def _loop(
    race: Race, model: nn.Module, loader: Iterable[Any], step: Callable[..., float]
) -> float:
    """Epochs with our optimiser and schedule."""
    config, updates = race.config, 0
    total = (config.epochs or 1) * (len(race.data.train_images) // config.batch_size)
    optimizer = create_optimizer_v2(
        model, opt=config.optimizer, lr=config.learning_rate, weight_decay=config.weight_decay
    )
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched=config.scheduler,
        num_epochs=100,
        updates_per_epoch=100,
        warmup_epochs=round(100 * config.warmup),
        warmup_lr=config.learning_rate / 100,
        step_on_epochs=False,
    )
    score = 0.0
    for _ in range(config.epochs or 1):
        model.train()
        for images, labels in loader:
            scheduler.step_update(round(updates / total * 10_000))
            step(images, labels, optimizer)
            updates += 1
        score = race.evaluate(model).value
    return score


def timm_in_our_layout(race: Race, model: nn.Module) -> float:
    """timm's loop with the memory format of ours, which it has an option for."""
    return timm_style(race, model, network_format(model, race.device))


CONTENDERS: dict[str, Callable[[Race, nn.Module], float]] = {
    "ours": ours,
    "timm": timm_style,
    "timm, our layout": timm_in_our_layout,
    "plain": plain,
}
