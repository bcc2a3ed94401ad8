"""A network that is not built from an architecture: one of timm, or a module of the user's own."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from timm.layers import ClassifierHead
from torch import nn

from rfsearch.models.resolve import resolve_model
from rfsearch.models.timm_models import create_model
from rfsearch.trace.costs import DatalessRun
from rfsearch.trace.layers import named_tensors
from rfsearch.trace.trace import trace_receptive_field

if TYPE_CHECKING:
    from torch import Tensor

    from rfsearch.field.receptive_field import ReceptiveField
    from rfsearch.trace.result import TracedModel
    from rfsearch.trace.traced_map import TracedMap

#: Side in px of the image that a model of timm is traced at: a multiple of all strides that occur.
_TRACED_SIZE = (256, 256)


class TracedNetwork(nn.Module):
    """What tasks need of a network, from any module that gives maps.

    Args:
        network: Gives one map, or several in a mapping or a sequence; or has `forward_features`
            that does, as models of timm have.
        in_chans: Channels of an image.
        num_classes: Outputs of the classifier; 0 leaves the pooled features. A network with
            `reset_classifier`, as timm's have, keeps its own head; any other gets the average
            over the coarsest map and a linear layer.
        input_size: `(height, width)` in px of the image that is traced.
        name: What to call it in errors; None is the name of its class.

    Attributes:
        network: The module.
        num_features: Channels of each map.

    Raises:
        ValueError: If it does not give maps that are alike in channels, and whose receptive
            fields can be traced and are alike along both axes.
    """

    def __init__(
        self,
        network: nn.Module,
        in_chans: int,
        num_classes: int,
        input_size: tuple[int, ...] = _TRACED_SIZE,
        name: str | None = None,
    ) -> None:
        super().__init__()
        # No common class says what timm's models have.
        self.network = cast("Any", network)
        self._traced_at = (in_chans, input_size)
        maps, name = self.traced.outputs, name or type(network).__name__
        for one in maps.values():
            _check_map(name, one)
        channels = sorted({one.shape[1] for one in maps.values()})
        if len(channels) != 1:
            raise ValueError(
                f"All maps that {name} gives must have the same number of channels, but they have "
                f"{' and '.join(map(str, channels))}."
            )
        self.num_features: int = channels[0]
        self.head: nn.Module | None = None
        if not hasattr(network, "reset_classifier"):
            self.head = ClassifierHead(self.num_features, num_classes)
        elif num_classes != getattr(network, "num_classes", None):
            self.network.reset_classifier(num_classes)

    @cached_property
    def traced(self) -> TracedModel:
        """The trace of the network up to its maps.

        Raises:
            ValueError: If it cannot be traced.
        """
        in_chans, input_size = self._traced_at
        return trace_receptive_field(self.network, input_size, in_chans=in_chans, forward=_maps_of)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the input's axes."""
        return self.traced.axes

    def receptive_fields(self, axis: str | None = None) -> dict[str, ReceptiveField]:
        """Theoretical receptive field of each map, in px, the finest first.

        Args:
            axis: Name of the axis, as for `Architecture.receptive_field`.
        """
        return self.traced.receptive_fields(axis)

    @cached_property
    def input_multiple(self) -> int:
        """What height and width of an image must be a multiple of, in px.

        Not every network asks for it, but none refuses it.
        """
        return max(self.traced.period)

    def cost(self, input_size: tuple[int, ...], in_chans: int) -> tuple[int, int]:
        """Parameters, and FLOPs for one image of `(height, width)` px."""
        model = resolve_model(self.network, input_size, in_chans=in_chans)
        twin = model.twin()
        run = DatalessRun(twin, model.images_without_data(twin), None)
        return run.parameters, run.flops

    def forward_features(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """The map `(batch, num_features, height / stride, width / stride)`, or several by name."""
        maps = dict(named_tensors(_maps_of(self.network, x)))
        if len(maps) == 1:
            return next(iter(maps.values()))
        return {level: maps[level] for level in self.traced.levels}

    def forward(self, x: Tensor) -> Tensor:
        """Class scores `(batch, num_classes)` of images `(batch, in_chans, height, width)`."""
        if self.head is None:
            scores: Tensor = self.network(x)
            return scores
        features = self.forward_features(x)
        last = features if not isinstance(features, dict) else list(features.values())[-1]
        return cast("Tensor", self.head(last))


def timm_network(name: str, in_chans: int, num_classes: int) -> TracedNetwork:
    """A model that timm knows, with random weights.

    Args:
        name: The model's name in timm.
        in_chans: Channels of an image.
        num_classes: Outputs of the classifier; 0 leaves the pooled features.

    Raises:
        ValueError: If timm knows no such model, or as for `TracedNetwork`.
    """
    network = create_model(name, in_chans=in_chans, num_classes=num_classes)
    return TracedNetwork(network, in_chans, num_classes, name=name)


def _maps_of(network: Any, x: Any) -> Any:
    return getattr(network, "forward_features", network)(x)


def _check_map(name: str, one: TracedMap) -> None:
    if len(one.shape) != 4 or one.height != one.width:
        raise ValueError(
            f"{name} must give maps (batch, channels, height, width) with equal receptive fields "
            f"along both axes, for a task to put its own head on, but `{one.name}` is {one.shape},"
            f" with {one.height} and {one.width}; leave out its pooling and classifier."
        )
