"""What each task puts on the searched network."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from rfsearch.network.network_folder import CLASSIFICATION
from rfsearch.network.timm_entry import CLASSIFIER
from rfsearch.training.dense_detector import DenseDetector
from rfsearch.training.detection import detector
from rfsearch.training.segmentation import SegmentationNetwork

if TYPE_CHECKING:
    from torch import nn

    from rfsearch.training._level_maps import Backbone


class Head(NamedTuple):
    """How a task uses a searched network.

    Attributes:
        place: Where that is in the whole network; empty where it is the whole.
        build: Makes the whole network, of that and the number of classes.
        export: Makes what a file can hold of the whole network, for images of a size.
        outputs: What that gives.
        classifier: What the weights that belong to single classes begin with, in the whole.
        level: Which of several maps the fields are told of: the first or the last.
    """

    place: str
    build: Callable[[Backbone, int], nn.Module]
    export: Callable[[Any, tuple[int, int]], nn.Module]
    outputs: tuple[str, ...]
    classifier: str
    level: int = -1


def _classifier(network: Backbone, num_classes: int) -> nn.Module:
    """The searched network has a head of its own, which it is built with."""
    return network


def _as_it_is(network: nn.Module, input_size: tuple[int, int]) -> nn.Module:
    return network


#: By task.
HEADS = {
    CLASSIFICATION: Head("", _classifier, _as_it_is, ("scores",), CLASSIFIER),
    # Its head reads the finest map.
    "segmentation": Head("backbone", SegmentationNetwork, _as_it_is, ("scores",), "head.", 0),
    "detection": Head(
        "backbone.network",
        detector,
        DenseDetector,
        ("boxes", "scores"),
        "head.classification_head.cls_logits.",
    ),
}
