"""Training a classifier to convergence on a folder of images, with timm's loaders and mixup."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from timm.data import Mixup
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torchmetrics.classification import MulticlassAccuracy

from rfsearch.data.device_images import autocast

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rfsearch.training.retraining_data import Loaders
    from rfsearch.training.retraining_run import RetrainingConfig


class ClassifierCourse:
    """Images with labels; see `rfsearch.training.retraining_course.Course`.

    Args:
        loaders: The images.
        config: Regularisation.
        device: Where the loaders bring their batches.
    """

    metric = "accuracy"

    def __init__(self, loaders: Loaders, config: RetrainingConfig, device: torch.device) -> None:
        self.loaders, self.device = loaders, device
        self.mix, self.criterion = _mixing(config, len(loaders.class_names))

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name for each class."""
        return self.loaders.class_names

    @cached_property
    def identity(self) -> str:
        """The classes, and the names and labels of the images of both parts."""
        parts = [
            [(Path(path).name, label) for path, label in part.dataset.samples]
            for part in (self.loaders.train, self.loaders.valid)
        ]
        return hashlib.sha256(repr((self.class_names, parts)).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.loaders.train)

    def batches(self, epoch: int) -> Iterable[Any]:
        """Images and labels, varied and in an order that the global random numbers decide."""
        return self.loaders.train  # type: ignore[no-any-return]

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Cross entropy of a batch that is mixed first."""
        images, labels = batch if self.mix is None else self.mix(*batch)
        with autocast(self.device):
            scores = model(images)
        return self.criterion(scores.float(), labels)

    def score(self, model: nn.Module) -> float:
        """Share of the validation images that are classified right."""
        metric = MulticlassAccuracy(len(self.class_names), average="micro").to(self.device)
        for images, labels in self.loaders.valid:
            with autocast(self.device):
                scores = model(images)
            metric.update(scores.float(), labels)
        return float(metric.compute())

    def images(self, number: int) -> Tensor:
        """Normalised validation images, fewer where the first batch has fewer."""
        images: Tensor = next(iter(self.loaders.valid))[0]
        return images[:number]


def _mixing(
    config: RetrainingConfig, num_classes: int
) -> tuple[Mixup | None, Callable[[Tensor, Any], Tensor]]:
    """What mixes images and labels, and the loss that goes with it."""
    if config.mixup == config.cutmix == 0:
        return None, LabelSmoothingCrossEntropy(config.label_smoothing)
    mix = Mixup(
        config.mixup,
        config.cutmix,
        label_smoothing=config.label_smoothing,
        num_classes=num_classes,
    )
    return mix, SoftTargetCrossEntropy()
