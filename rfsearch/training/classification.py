"""Classifying images: cross entropy, and accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torchvision.transforms import v2

from rfsearch.data.augmentation import Examples
from rfsearch.data.datasets import ImageData, is_float
from rfsearch.data.device_images import autocast
from rfsearch.network.network_folder import CLASSIFICATION
from rfsearch.network.timm_entry import CLASSIFIER
from rfsearch.training.scores import ScaleScores, Scores, share_by_scale
from rfsearch.training.task import Head, Task

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rfsearch.data.augmentation import Batch
    from rfsearch.training._level_maps import Backbone

#: Widest and narrowest crop of an image, as a share of its own shape.
_RATIO = (0.9, 1 / 0.9)
_AUTO_AUGMENT = {
    "trivial": v2.TrivialAugmentWide,
    "rand": v2.RandAugment,
    "imagenet": v2.AutoAugment,
}


def _as_it_is(network: Backbone, _: int) -> nn.Module:
    """The searched network has a head of its own, which it is built with."""
    return network


@dataclass(frozen=True)
class ClassificationTask(Task):
    """Classify images, sequences or volumes; the metric is accuracy on the validation images.

    By scale it is the accuracy among the images whose object is small, medium or large, where
    that is known.

    Raises:
        ValueError: If the training asks for a variation that only images have.
    """

    data: ImageData
    name: ClassVar[str] = CLASSIFICATION
    metric: ClassVar[str] = "accuracy"
    head: ClassVar[Head] = Head("", _as_it_is, lambda network, _: network, ("scores",), CLASSIFIER)

    def __post_init__(self) -> None:
        super().__post_init__()
        config, axes = self.training, len(self.input_size)
        variations = {
            "min_scale": config.min_scale < 1,
            "color_jitter": config.color_jitter > 0,
            "auto_augment": config.auto_augment != "none",
            "cutmix": config.cutmix > 0,
        }
        asked = [name for name, is_asked in variations.items() if is_asked]
        kind = "float32" if is_float(self.data.train_images) else "uint8"
        if asked and (axes, kind) != (2, "uint8"):
            raise ValueError(
                f"training: `{asked[0]}` is for images of uint8, which have two axes, but these "
                f"have {axes} and are {kind}."
            )

    def examples(self, batch: Batch) -> Examples:
        """Images with labels; where images are mixed, with the share of each class."""
        images = self.train_images.of(batch, self._transform)
        labels = self._train_labels[batch.chosen]
        if self._mix is None:
            return Examples(images, labels)
        return Examples(*self._mix(images, labels))

    def loss(self, model: nn.Module, examples: Examples) -> Tensor:
        """Cross entropy."""
        with autocast(self.training_device):
            scores = model(examples.images).float()
            smoothing = self.training.label_smoothing
            return F.cross_entropy(scores, examples.truth, label_smoothing=smoothing)

    def evaluate(self, model: nn.Module) -> Scores:
        """Accuracy on the validation images.

        Raises:
            ValueError: If there is no image.
        """
        if not len(self.valid_images):
            raise ValueError("There must be at least one image to evaluate, but there is none.")
        truth = self.data.valid_labels.to(self.training_device)
        predicted = torch.empty_like(truth)
        for part in self.valid_images.batches(4 * self.training.batch_size):
            with autocast(self.training_device):
                predicted[part.place] = model(part.images).argmax(dim=1)
        right = predicted == truth
        return Scores(float(right.float().mean()), self._by_scale(right))

    def _by_scale(self, right: Tensor) -> ScaleScores:
        if self.data.valid_sizes is None:
            return ScaleScores()
        return share_by_scale(right.cpu().numpy(), self.data.valid_sizes)

    @cached_property
    def _train_labels(self) -> Tensor:
        return self.data.train_labels.to(self.training_device)

    @cached_property
    def _transform(self) -> Callable[[Tensor], Tensor] | None:
        """What is done to each image alone; None for nothing."""
        config, steps = self.training, list[v2.Transform]()
        if config.min_scale < 1:
            scale = (config.min_scale, 1.0)
            steps.append(v2.RandomResizedCrop(self.input_size, scale, _RATIO))
        if config.color_jitter:
            steps.append(v2.ColorJitter(*[config.color_jitter] * 3))
        if config.auto_augment != "none":
            # What moves in has the mean colour.
            fill = self.normalize.mean.flatten().tolist()
            steps.append(_AUTO_AUGMENT[config.auto_augment](fill=fill))
        return v2.Compose(steps) if steps else None

    @cached_property
    def _mix(self) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
        """What mixes images and their labels; None for nothing."""
        kinds = {v2.MixUp: self.training.mixup, v2.CutMix: self.training.cutmix}
        mixes = [
            kind(alpha=alpha, num_classes=self.num_classes)
            for kind, alpha in kinds.items()
            if alpha
        ]
        return v2.RandomChoice(mixes) if mixes else None
