"""Learning to name the class of every pixel: head, loss and metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torchmetrics.classification import MulticlassJaccardIndex

from rfsearch.data.datasets import IGNORED
from rfsearch.data.device_images import autocast
from rfsearch.training._image_lesson import ImageLesson
from rfsearch.training._level_maps import level_maps
from rfsearch.training.scale_scores import ScaleScores, share_by_scale
from rfsearch.training.training import Scores

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from rfsearch.data.augmentation import Batch
    from rfsearch.data.datasets import Instances, SegmentationData
    from rfsearch.data.device_images import Normalizer
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


class SegmentationLesson(ImageLesson):
    """Images with a class for every pixel, on a device.

    The score is the mean over the classes of intersection over union, taken over the pixels of
    all validation images. By scale it is the share of objects most of whose pixels (more than
    half) are classified right, where objects are known.
    """

    def __init__(
        self,
        data: SegmentationData,
        device: torch.device,
        batch_size: int = 64,
        workers: int | None = None,
        normalize: Normalizer | None = None,
    ) -> None:
        super().__init__(
            data, device, batch_size, workers, (data.train_masks, data.valid_masks), normalize
        )
        self.instances = data.valid_instances

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross entropy of the pixels of some training images; what moves in has no class."""
        with autocast(self.device):
            scores = model(self.train.of(batch)).float()
        truth = self.train.masks_of(batch).long()
        known = (truth != IGNORED).sum().clamp_min(1)  # No pixel known would give a NaN.
        return F.cross_entropy(scores, truth, ignore_index=IGNORED, reduction="sum") / known

    def weight(self, batch: Batch) -> Tensor:
        """The number of pixels whose class is known."""
        return (self.train.masks_of(batch) != IGNORED).sum()

    def evaluate(self, model: nn.Module) -> Scores:
        """Mean intersection over union, and the recall of objects by scale."""
        judge = _Judge(self.num_classes, self.instances, self.device)
        for part in self.valid.batches(4 * self.batch_size):
            with autocast(self.device):
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
