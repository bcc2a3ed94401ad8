"""A convolutional network of timm in the place of a searched one: a fixed baseline."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from rfsearch.models.resolve import resolve_model
from rfsearch.models.timm_models import create_model
from rfsearch.trace.costs import DatalessRun
from rfsearch.trace.trace import trace_receptive_field

if TYPE_CHECKING:
    from torch import Tensor

    from rfsearch.field.receptive_field import ReceptiveField
    from rfsearch.trace.result import TracedModel

#: Side in px of the image that is traced: a multiple of all strides that occur.
_TRACED_SIZE = 256


class TimmNetwork(nn.Module):
    """What tasks need of a network, from a model that timm knows, with random weights.

    Args:
        name: The model's name in timm.
        in_chans: Channels of an image.
        num_classes: Outputs of the classifier; 0 leaves the pooled features.

    Attributes:
        name: The model's name in timm.
        num_features: Channels of the last map.

    Raises:
        ValueError: If timm knows no such model, or it does not end in a map whose receptive field
            can be traced.
    """

    def __init__(self, name: str, in_chans: int, num_classes: int) -> None:
        super().__init__()
        self.name = name
        # No common class of timm's models says what they all have.
        self.network = cast("Any", create_model(name, in_chans=in_chans, num_classes=num_classes))
        self.num_features: int = self.network.num_features
        field = self._traced.output
        if field.height != field.width or field.shape[1] != self.num_features:
            raise ValueError(
                f"A baseline must end in a map with equal receptive fields along both axes, but "
                f"the features of {name!r} are {field.shape}, with {field.height} and "
                f"{field.width}."
            )

    @cached_property
    def _traced(self) -> TracedModel:
        return trace_receptive_field(
            self.network, _TRACED_SIZE, forward=lambda net, x: cast("Any", net).forward_features(x)
        )

    @property
    def global_layers(self) -> tuple[str, ...]:
        """Layers in front of the last map that mix the whole image."""
        return self._traced.global_layers

    def receptive_fields(self) -> dict[str, ReceptiveField]:
        """Theoretical receptive field of the last map, in px."""
        return {"output": self._traced.output.height}

    @property
    def input_multiple(self) -> int:
        """What height and width of an image must be a multiple of, in px."""
        return 1

    def cost(self, input_size: tuple[int, int], in_chans: int) -> tuple[int, int]:
        """Parameters, and FLOPs for one image of `(height, width)` px."""
        model = resolve_model(self.network, input_size, in_chans=in_chans)
        twin = model.twin()
        run = DatalessRun(twin, model.images_without_data(twin), None)
        return run.parameters, run.flops

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map, `(batch, num_features, height / stride, width / stride)`."""
        features: Tensor = self.network.forward_features(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Class scores `(batch, num_classes)` of images `(batch, in_chans, height, width)`."""
        scores: Tensor = self.network(x)
        return scores
