"""Naming the class of every pixel: head, loss and metric."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from rfsearch.data.augmentation import Examples
from rfsearch.data.datasets import IGNORED, SegmentationData
from rfsearch.data.device_images import autocast
from rfsearch.training._level_maps import level_maps
from rfsearch.training.scores import ScaleScores, Scores, share_by_scale
from rfsearch.training.task import Head, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from rfsearch.data.augmentation import Batch
    from rfsearch.data.datasets import Instances
    from rfsearch.data.device_images import Images
    from rfsearch.training._level_maps import Backbone

#: Pixels of validation images that are compared at a time at least, unless there are fewer.
_MAX_WAITING = 2**27


class SegmentationNetwork(nn.Module):
    """A network whose finest map is turned into a class for every pixel.

    The head is one 1x1 convolution, followed by bilinear interpolation (Long et al., "Fully
    Convolutional Networks for Semantic Segmentation", 2015): it adds nothing to the receptive
    field of the map, which is what is searched for.

    Attributes:
        backbone: The network with one map or several, finest first.
        head: The 1x1 convolution.
    """

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Conv2d(backbone.num_features, num_classes, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores `(batch, classes, height, width)` of images of that height and width."""
        finest = next(iter(level_maps(self.backbone, images).values()))
        return F.interpolate(
            self.head(finest), images.shape[-2:], mode="bilinear", align_corners=False
        )


@dataclass(frozen=True)
class SegmentationTask(Task):
    """Name the class of every pixel; the metric is the mean intersection over union.

    It is the mean over the classes, taken over the pixels of all validation images. By scale the
    score is the share of objects most of whose pixels (more than half) are classified right, where
    objects are known.
    """

    data: SegmentationData
    name: ClassVar[str] = "segmentation"
    metric: ClassVar[str] = "miou"
    #: It reads the finest map.
    head: ClassVar[Head] = Head(
        "backbone", SegmentationNetwork, lambda network, _: network, ("scores",), "head.", 0
    )

    @cached_property
    def train_images(self) -> Images:
        """The training images with their masks, for the device."""
        return self._on_device(self.data.train_images, self.data.train_masks)

    @cached_property
    def valid_images(self) -> Images:
        """The validation images with their masks, for the device."""
        return self._on_device(self.data.valid_images, self.data.valid_masks)

    def examples(self, batch: Batch) -> Examples:
        """Images with masks; what moves in has no class."""
        return Examples(self.train_images.of(batch), self.train_images.masks_of(batch))

    def loss(self, model: nn.Module, examples: Examples) -> Tensor:
        """Cross entropy of the pixels whose class is known."""
        with autocast(self.training_device):
            scores = model(examples.images).float()
        known = self.weight(examples).clamp_min(1)  # No pixel known would give a NaN.
        truth = examples.truth.long()
        return F.cross_entropy(scores, truth, ignore_index=IGNORED, reduction="sum") / known

    def weight(self, examples: Examples) -> Tensor:
        """The number of pixels whose class is known."""
        known: Tensor = examples.truth != IGNORED
        return known.sum()

    def evaluate(self, model: nn.Module) -> Scores:
        """Mean intersection over union, and the recall of objects by scale."""
        judge = _Judge(self.num_classes, self.data.valid_instances, self.training_device)
        for part in self.valid_images.batches(4 * self.training.batch_size):
            with autocast(self.training_device):
                predicted = model(part.images).argmax(dim=1).to(torch.uint8)
            assert part.masks is not None, "there are masks of all images"
            judge.add(part.place, predicted, part.masks)
        return judge.scores()


class _Judge:
    """Compares what was predicted with the truth, some images after the other.

    That makes the host wait for the device, and so is put off until a good many have come.
    """

    def __init__(
        self, num_classes: int, instances: Instances | None, device: torch.device
    ) -> None:
        # Loaded here: it takes seconds, for which those who classify need not wait.
        from torchmetrics.classification import MulticlassJaccardIndex

        self.metric = MulticlassJaccardIndex(num_classes, ignore_index=IGNORED).to(device)
        self.instances = instances
        number = 0 if instances is None else len(instances.sizes)
        #: Pixels of each object, and those of them whose class was predicted right.
        self.pixels, self.right = np.zeros((2, number), np.int64)
        self.waiting: list[tuple[slice, Tensor, Tensor]] = []

    def add(self, place: slice, predicted: Tensor, masks: Tensor) -> None:
        self.waiting.append((place, predicted, masks))
        # On a CPU there is nothing to wait for, and masks that were read hold what the processes
        # share with each other until they are let go.
        held = sum(masks.numel() for *_, masks in self.waiting)
        if masks.device.type == "cpu" or held >= _MAX_WAITING:
            self._compare()

    def scores(self) -> Scores:
        self._compare()
        by_scale = ScaleScores()
        if self.instances is not None:
            by_scale = share_by_scale(2 * self.right > self.pixels, self.instances.sizes)
        return Scores(float(self.metric.compute()), by_scale)

    def _compare(self) -> None:
        for place, predicted, masks in self.waiting:
            self.metric.update(predicted.long(), masks.long())
            if self.instances is not None:
                numbers = self.instances.numbers[place].numpy()
                self.pixels += self._per_object(numbers.ravel())
                self.right += self._per_object(numbers[(predicted == masks).cpu().numpy()])
        self.waiting.clear()

    def _per_object(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        counts: NDArray[np.int64] = np.bincount(numbers, minlength=len(self.pixels) + 1)[1:]
        return counts
