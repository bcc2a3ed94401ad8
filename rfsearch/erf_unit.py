"""The output unit whose effective receptive field is measured, and where it lies in the image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rfsearch.erf_map import Center
from rfsearch.receptive_field import ReceptiveField
from rfsearch.timm_models import input_channels, nearest
from rfsearch.trace import trace_receptive_field
from rfsearch.trace_call import dependence_of
from rfsearch.trace_grid import Interval
from rfsearch.trace_layers import named_tensors

#: Runs a module on images and returns the tensor to look at.
Read = Callable[[nn.Module, Tensor], Tensor]


@dataclass(frozen=True)
class Unit:
    """The unit in the middle of a map, and what of the input it can see.

    Attributes:
        index: Where its channels lie in the map's tensor, behind the batch.
        rows: Theoretical receptive field along the height, in px; negative is padding.
        columns: The same along the width.
    """

    index: tuple[int | slice, ...]
    rows: Interval
    columns: Interval

    @property
    def center(self) -> Center:
        """Centre of its theoretical receptive field, in pixels of the input."""
        return Center(*((axis.start + axis.stop - 1) / 2 for axis in (self.rows, self.columns)))

    @property
    def theoretical_size(self) -> int:
        """Side of its theoretical receptive field in px, the longer one."""
        return max(self.rows.size, self.columns.size)

    def clipped(self, size: tuple[int, int]) -> float:
        """Share of its theoretical receptive field's area outside an input of `size` px."""
        inside = 1.0
        for axis, pixels in zip((self.rows, self.columns), size, strict=True):
            inside *= max(0, min(pixels, axis.stop) - max(0, axis.start)) / axis.size
        return 1 - inside


class NoMapError(ValueError):
    """There is no map to look at, whatever the model computes."""


def output_map(model: nn.Module, images: Tensor, level: str | None = None) -> Tensor:
    """The map of a level: the model's features, without the head.

    Args:
        model: A module with `forward_features`, or one to call.
        images: `(batch, channels, height, width)`.
        level: Key of a mapping or number in a sequence of maps, where the model returns several.

    Raises:
        ValueError: If there is no such level, or the output is not a map.
    """
    forward = getattr(model, "forward_features", model)
    outputs = dict(named_tensors(forward(images)))
    if list(outputs) == [""]:
        output = outputs[""]
    else:
        if level is None and len(outputs) == 1:
            level = next(iter(outputs))
        if level not in outputs:
            raise NoMapError(f"`level` must be one of {', '.join(outputs)}, but got {level!r}.")
        output = outputs[level]
    if output.ndim != 4:
        raise NoMapError(
            "The model's output must be a map (batch, channels, height, width), "
            f"but got {tuple(output.shape)}; remove its pooling and classifier, "
            "or name a `layer` before them."
        )
    return output


class _Reached(BaseException):  # not an error: it leaves the model's forward
    """The layer has run; what follows it need not."""


def layer_map(model: nn.Module, images: Tensor, layer: str) -> Tensor:
    """What a layer returns the first time it runs; the model is left there.

    Raises:
        ValueError: If the layer does not run, or returns no map.
    """
    caught: list[object] = []

    def catch(module: nn.Module, inputs: object, output: object) -> None:
        caught.append(output)
        raise _Reached

    handle = model.get_submodule(layer).register_forward_hook(catch)
    try:
        with suppress(_Reached):
            model(images)
    finally:
        handle.remove()
    if not caught:
        raise NoMapError(f"`layer` must be used by the model, but `{layer}` is never called.")
    output = caught[0]
    if not isinstance(output, Tensor) or output.ndim != 4:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise NoMapError(
            f"`layer` must return a map (batch, channels, height, width), but `{layer}` returns "
            f"{got}."
        )
    return output


def reader(model: nn.Module, layer: str | None, level: str | None) -> Read:
    """How to get the map to look at: a layer's by its name, or the model's own.

    Raises:
        ValueError: If the model has no such layer, or both a layer and a level are named.
    """
    if layer is None:
        return lambda module, images: output_map(module, images, level)
    if level is not None:
        raise ValueError(
            f"`layer` and `level` must not be given both, but got {layer!r} and {level!r}."
        )
    names = [name for name, _ in model.named_modules() if name]
    if layer not in names:
        near = nearest(layer, names) or f"; its layers begin with {', '.join(names[:3])}"
        raise ValueError(
            f"`layer` must be the name of one of the model's, but got {layer!r}{near}."
        )
    return lambda module, images: layer_map(module, images, layer)


def find_unit(
    model: nn.Module, size: tuple[int, int], read: Read, *, level: str | None, layer: str | None
) -> Unit:
    """The unit in the middle of the map that `read` returns.

    The field of a model's own level is taken from its method `receptive_fields`, where it has
    one; any other is traced.

    Raises:
        ValueError: If the map has no place in the image, or cannot be traced.
    """
    known = getattr(model, "receptive_fields", None)
    if known is None or layer is not None:
        return _traced_unit(model, size, read, f"layer `{layer}`" if layer else "the output")
    fields: Mapping[str, ReceptiveField] = known()
    rows, columns = (pixels // 2 for pixels in _output_shape(model, size, read)[2:])
    field = fields[level] if level is not None else list(fields.values())[-1]
    return Unit((slice(None), rows, columns), _interval(field, rows), _interval(field, columns))


class _Layout(NamedTuple):
    """A map's shape, and its dimensions that run along each axis of the image."""

    shape: tuple[int, ...]
    height: set[int]
    width: set[int]

    @property
    def is_planar(self) -> bool:
        """Whether one dimension runs along the height, and another along the width."""
        return len(self.height) == len(self.width) == 1 and self.height != self.width


def _traced_unit(model: nn.Module, size: tuple[int, int], read: Read, what: str) -> Unit:
    layouts: list[_Layout] = []

    def forward(module: nn.Module, images: Tensor) -> Tensor:
        output = read(module, images)
        dependence = dependence_of(output)
        if dependence is not None:
            dims = (
                {dim for source in axis.sources for dim, span in enumerate(source.dims) if span}
                for axis in (dependence.height, dependence.width)
            )
            layouts.append(_Layout(tuple(output.shape), *dims))
        return output

    try:
        channels = input_channels(model)
        traced = trace_receptive_field(model, size, in_chans=channels, forward=forward).output
    except ValueError as error:
        # The tracer takes what the reading of the map complains about for the model's own.
        if isinstance(error.__cause__, NoMapError):
            raise error.__cause__ from None
        raise
    layout = layouts[-1]
    if not layout.height and not layout.width:
        raise ValueError(
            f"The units must have a place in the image, but those of {what} do not: it comes after"
            " a pooling over the whole input. Name a `layer` before it."
        )
    if not layout.is_planar or 0 in layout.height | layout.width:
        raise ValueError(
            f"The map must have one dimension for the height and one for the width, but {what} "
            f"{layout.shape} has not."
        )
    (height,), (width,) = layout.height, layout.width
    middle = {dim: layout.shape[dim] // 2 for dim in (height, width)}
    index = tuple(middle.get(dim, slice(None)) for dim in range(1, len(layout.shape)))
    window = traced.interval((middle[height], middle[width]))
    return Unit(index, window.height, window.width)


def _interval(field: ReceptiveField, unit: int) -> Interval:
    start = field.start + unit * field.stride
    return Interval(start, start + field.size)


@torch.no_grad()
def _output_shape(model: nn.Module, size: tuple[int, int], read: Read) -> torch.Size:
    like = next(model.parameters(), torch.empty(0))
    images = torch.zeros(1, input_channels(model), *size, device=like.device, dtype=like.dtype)
    return read(model, images).shape
