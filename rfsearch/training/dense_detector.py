"""A detector that can be exported: all its boxes, of which the best are chosen afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torchvision.models.detection.image_list import ImageList

if TYPE_CHECKING:
    from torch import Tensor
    from torchvision.models.detection import FCOS


class DenseDetector(nn.Module):
    """The boxes and scores of every unit, which have the same number for all images.

    What comes after, the choice of the best boxes among those that overlap, depends on their
    values and is left to the caller: `rfsearch.export._model_card.BEST_BOXES` is what the detector
    itself does (Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", 2019), which
    looks at no more than the 1,000 best scores of each map.

    Args:
        detector: A model from `rfsearch.training.detection.detector`.
        input_size: `(height, width)` of the images in px.
    """

    anchors: Tensor

    def __init__(self, detector: FCOS, input_size: tuple[int, int]) -> None:
        super().__init__()
        self.maps, self.head = detector.backbone, detector.head
        self.decode = detector.box_coder.decode
        height, width = input_size
        images = torch.zeros(1, detector.backbone.network.in_chans, height, width)
        with torch.inference_mode():
            maps = list(self.maps.eval()(images).values())
            (anchors,) = detector.anchor_generator(ImageList(images, [input_size]), maps)
        self.register_buffer("anchors", anchors.clone())
        self.register_buffer("corner", torch.tensor([width, height, width, height]))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Detect objects.

        Args:
            images: Normalised, `(batch, channels, height, width)`.

        Returns:
            Left, top, right and bottom of a box in px for each unit, `(batch, units, 4)`, and its
            score for each class from 0 to 1, `(batch, units, classes)`.
        """
        found = self.head(list(self.maps(images).values()))
        scores = (found["cls_logits"].sigmoid() * found["bbox_ctrness"].sigmoid()).sqrt()
        boxes = self.decode(found["bbox_regression"], self.anchors)
        return boxes.clamp_min(0).minimum(self.corner), scores
