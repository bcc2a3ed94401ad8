"""Finding objects: torchvision's FCOS on a searched network, and COCO's metric."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.image_list import ImageList

from rfsearch.data.augmentation import Examples
from rfsearch.data.datasets import DetectionData
from rfsearch.data.device_images import autocast
from rfsearch.target.target import OBJECT_PER_STRIDE
from rfsearch.training._level_maps import level_maps
from rfsearch.training.dense_detector import DenseDetector
from rfsearch.training.scores import ScaleScores, Scores
from rfsearch.training.task import Head, Task

if TYPE_CHECKING:
    from torch import Tensor

    from rfsearch.data.augmentation import Batch
    from rfsearch.data.datasets import Boxes
    from rfsearch.field.receptive_field import ReceptiveField
    from rfsearch.training._level_maps import Backbone

#: Channels of the head, the same for all candidates; a multiple of its 32 normalisation groups.
HEAD_WIDTH = 64
#: 3x3 convolutions of the head before its last. Each of them widens the field by two strides, so
#: the four of the published head would see far more than the map whose field is searched for.
HEAD_CONVS = 1
#: Side of a unit's anchor in strides. torchvision's FCOS gives an object to the level where its
#: farthest side is 4 to 8 anchors from the unit, so these are the objects of 4 to 8 strides that
#: `ScaleTarget.split` gives to that level.
ANCHOR_SIDE = OBJECT_PER_STRIDE[0] / 8
#: Distance from a unit to the sides of its box before training, in anchors. From torchvision's 0,
#: where the rectifier behind it begins, some networks never learn a box.
FIRST_DISTANCE = 1 / ANCHOR_SIDE
#: Below torchvision's 0.2: after a brief training few scores are that high, and COCO's metric
#: looks at the 100 best detections of an image whatever their scores.
SCORE_THRESHOLD = 0.05
#: Overlap above which the box with the lower score is left out; torchvision's.
NMS_THRESHOLD = 0.6
#: Most boxes of an image; COCO's metric looks at no more.
MAX_BOXES = 100


class _Maps(nn.Module):
    """The network's maps in float32, projected to the head's width."""

    def __init__(self, network: Backbone, out_channels: int) -> None:
        super().__init__()
        self.network = network
        self.out_channels = out_channels
        self.project = nn.Conv2d(network.num_features, out_channels, kernel_size=1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        with autocast(images.device):
            maps = level_maps(self.network, images)
            return OrderedDict((k, self.project(values).float()) for k, values in maps.items())


class _Ready(nn.Module):
    """Stands for torchvision's resizing and normalising, which the images do not need."""

    def forward(self, images: Tensor, targets: Any = None) -> tuple[ImageList, Any]:
        return ImageList(images, [tuple(images.shape[-2:])] * len(images)), targets

    def postprocess(self, detections: Any, *sizes: Any) -> Any:
        return detections


class _Anchors(AnchorGenerator):  # type: ignore[misc]  # torchvision has no types
    """One anchor per unit, around the centre of the unit's receptive field."""

    def __init__(self, fields: Mapping[str, ReceptiveField]) -> None:
        sides = tuple((ANCHOR_SIDE * field.stride,) for field in fields.values())
        super().__init__(sides, ((1.0,),) * len(fields))
        self.fields = tuple(fields.values())

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        anchors = [
            _level_anchors(field, values)
            for field, values in zip(self.fields, feature_maps, strict=True)
        ]
        return [torch.cat(anchors)] * len(image_list.image_sizes)


def _level_anchors(field: ReceptiveField, values: Tensor) -> Tensor:
    """Left, top, right and bottom of each unit's anchor in px, row by row."""
    # Of an image that is enlarged, they may be fractions, which tensors do not know.
    stride, center = float(field.stride), float(field.center)
    y, x = (
        # The middle of pixel 0 lies half a pixel from the image's edge.
        torch.arange(units, device=values.device) * stride + center + 0.5
        for units in values.shape[-2:]
    )
    centers = torch.cartesian_prod(y, x).flip(-1)
    half = ANCHOR_SIDE * stride / 2
    return torch.cat([centers - half, centers + half], dim=1)


def detector(network: Backbone, num_classes: int) -> FCOS:
    """FCOS (Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", 2019).

    Args:
        network: The network with one map or several, finest first.
        num_classes: Number of classes; there is none for the background.

    Returns:
        A model that maps images `(batch, channels, height, width)` and, in training, their
        targets to torchvision's losses or detections. Its network is `.backbone.network`.
    """
    head = FCOSHead(HEAD_WIDTH, num_anchors=1, num_classes=num_classes, num_convs=HEAD_CONVS)
    nn.init.constant_(head.regression_head.bbox_reg.bias, FIRST_DISTANCE)
    model = FCOS(
        _Maps(network, HEAD_WIDTH),
        num_classes,
        anchor_generator=_Anchors(network.receptive_fields()),
        head=head,
        score_thresh=SCORE_THRESHOLD,
        nms_thresh=NMS_THRESHOLD,
        detections_per_img=MAX_BOXES,
    )
    model.transform = _Ready()
    return model


@dataclass(frozen=True)
class DetectionTask(Task):
    """Find objects; the metric is COCO's average precision over overlaps of 50 to 95 %.

    By scale it is that of small, medium and large objects. Ignored objects are not learned, and
    detections of them not counted. torchvision's loss makes the host wait for the device in every
    step. It is a mean over units that see an object, of which nobody knows the number beforehand:
    halves of a batch weigh by their images.
    """

    data: DetectionData
    name: ClassVar[str] = "detection"
    metric: ClassVar[str] = "ap"
    head: ClassVar[Head] = Head(
        "backbone.network",
        detector,
        DenseDetector,
        ("boxes", "scores"),
        "head.classification_head.cls_logits.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.training.max_shift:
            raise ValueError(
                "training: `max_shift` must be 0 for detection, since the border would cut boxes "
                f"to parts that are not their objects, but got {self.training.max_shift}."
            )

    def examples(self, batch: Batch) -> Examples:
        """Images with what torchvision calls targets; they may be mirrored, but not shifted."""
        images = self.train_images.of(batch)
        targets = [self._train_targets[number] for number in batch.numbers]
        if batch.variation.mirrored is not None:
            targets = [
                _mirrored(target, mirrored, images.shape[-1])
                for target, mirrored in zip(targets, batch.variation.mirrored, strict=True)
            ]
        return Examples(images, targets)

    def loss(self, model: nn.Module, examples: Examples) -> Tensor:
        """Sum of FCOS's three losses: class, box, centre-ness."""
        losses = model(examples.images, examples.truth)
        return torch.stack(list(losses.values())).sum()

    def evaluate(self, model: nn.Module) -> Scores:
        """Average precision on the validation images."""
        # Loaded here: it takes seconds, for which those who classify need not wait.
        from torchmetrics.detection import MeanAveragePrecision

        metric = MeanAveragePrecision(backend="faster_coco_eval")
        targets = [_to_find(boxes) for boxes in self.data.valid_boxes]
        for part in self.valid_images.batches(self.training.batch_size):
            found = [{k: v.cpu() for k, v in image.items()} for image in model(part.images)]
            metric.update(found, targets[part.place])
        values = {key: float(value) for key, value in metric.compute().items() if key in _KEYS}
        ap, ap50, *by_scale = (math.nan if values[key] < 0 else values[key] for key in _KEYS)
        return Scores(ap, ScaleScores(*by_scale), ap50)

    @cached_property
    def _train_targets(self) -> list[dict[str, Tensor]]:
        return [_to_learn(boxes, self.training_device) for boxes in self.data.train_boxes]


#: Of torchmetrics, which says -1 where there is no object.
_KEYS = ("map", "map_50", "map_small", "map_medium", "map_large")


def _to_learn(boxes: Boxes, device: torch.device) -> dict[str, Tensor]:
    kept = ~boxes.ignored
    return {"boxes": boxes.corners[kept].to(device), "labels": boxes.labels[kept].to(device)}


def _mirrored(target: dict[str, Tensor], mirrored: Tensor, width: int) -> dict[str, Tensor]:
    """The target of an image of that width in px, if it is mirrored."""
    left, top, right, bottom = target["boxes"].unbind(1)
    boxes = torch.stack([width - right, top, width - left, bottom], dim=1)
    return target | {"boxes": torch.where(mirrored, boxes, target["boxes"])}


def _to_find(boxes: Boxes) -> dict[str, Tensor]:
    return {"boxes": boxes.corners, "labels": boxes.labels, "iscrowd": boxes.ignored.long()}
