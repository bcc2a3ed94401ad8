"""Learning to name the class of every pixel: head, loss and metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torchmetrics.classification import MulticlassJaccardIndex

from rfsearch.datasets import IGNORED
from rfsearch.device_images import autocast
from rfsearch.image_lesson import ImageLesson
from rfsearch.level_maps import level_maps
from rfsearch.scale_scores import ScaleScores, share_by_scale
from rfsearch.training import Scores

if TYPE_CHECKING:
    from torch import Tensor

    from rfsearch.augmentation import Batch
    from rfsearch.datasets import SegmentationData
    from rfsearch.level_maps import Backbone


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


class SegmentationLesson(ImageLesson):
    """Images with a class for every pixel, on a device.

    The score is the mean over the classes of intersection over union, taken over the pixels of
    all validation images. By scale it is the share of objects most of whose pixels (more than
    half) are classified right, where objects are known.
    """

    def __init__(self, data: SegmentationData, device: torch.device, batch_size: int = 64) -> None:
        super().__init__(data, device, batch_size)
        self.train_masks = data.train_masks.to(device)
        self.valid_masks = data.valid_masks.to(device)
        self.instances = data.valid_instances

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross entropy of the pixels of some training images; what moves in has no class."""
        with autocast(self.device):
            scores = model(self.train.of(batch)).float()
        truth = self._truth(batch)
        known = (truth != IGNORED).sum().clamp_min(1)  # No pixel known would give a NaN.
        return F.cross_entropy(scores, truth, ignore_index=IGNORED, reduction="sum") / known

    def weight(self, batch: Batch) -> Tensor:
        """The number of pixels whose class is known."""
        return (self._truth(batch) != IGNORED).sum()

    def _truth(self, batch: Batch) -> Tensor:
        return batch.variation.apply(self.train_masks[batch.chosen], fill=IGNORED).long()

    def evaluate(self, model: nn.Module) -> Scores:
        """Mean intersection over union, and the recall of objects by scale."""
        metric = MulticlassJaccardIndex(self.num_classes, ignore_index=IGNORED).to(self.device)
        predicted = torch.empty_like(self.valid_masks)
        for part, images in self.valid.batches(4 * self.batch_size):
            with autocast(self.device):
                predicted[part] = model(images).argmax(dim=1)
        # Only now, since the metric makes the host wait for the device.
        size = 4 * self.batch_size
        for found, truth in zip(predicted.split(size), self.valid_masks.split(size), strict=True):
            metric.update(found.long(), truth.long())
        return Scores(float(metric.compute()), self._by_scale(predicted == self.valid_masks))

    def _by_scale(self, right: Tensor) -> ScaleScores:
        if self.instances is None:
            return ScaleScores()
        numbers, sizes = self.instances.numbers.numpy(), self.instances.sizes
        pixels = np.bincount(numbers.ravel(), minlength=len(sizes) + 1)[1:]
        found = np.bincount(numbers[right.cpu().numpy()], minlength=len(sizes) + 1)[1:]
        return share_by_scale(2 * found > pixels, sizes)
