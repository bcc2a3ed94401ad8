"""The output unit whose effective receptive field is measured, and where it lies in the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rfsearch.erf_map import Center
from rfsearch.erf_read import NoMapError, Read
from rfsearch.receptive_field import ReceptiveField
from rfsearch.timm_models import input_channels
from rfsearch.trace import trace_receptive_field
from rfsearch.trace_call import dependence_of
from rfsearch.trace_result import TracedMap
from rfsearch.unit_grid import Interval


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


def find_unit(
    model: nn.Module, size: tuple[int, int], read: Read, *, level: str | None, layer: str | None
) -> Unit:
    """The unit in the middle of the map that `read` returns.

    The field of a model's own level is taken from its method `receptive_fields`, where it has
    one; any other is traced, and so are those of a model that says that it `upsamples`, whose
    units see intervals of different sizes. Then it is the unit nearest to the middle that sees
    what unit 0 does: as the expected ERF has it.

    Raises:
        ValueError: If the map has no place in the image, or cannot be traced.
    """
    known = getattr(model, "receptive_fields", None)
    if known is None or layer is not None or getattr(model, "upsamples", False):
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
    unit = _in_plane(layout, traced) or _in_sequence(layout, traced)
    if unit is None:
        raise ValueError(
            f"The map must have one dimension for the height and one for the width, but {what} "
            f"{layout.shape} has not."
        )
    return unit


def _in_plane(layout: _Layout, traced: TracedMap) -> Unit | None:
    """The middle of a map, whichever dimension its channels are; None if it is no map."""
    if len(layout.height) != 1 or len(layout.width) != 1 or layout.height == layout.width:
        return None
    (height,), (width,) = layout.height, layout.width
    if 0 in (height, width):
        return None
    middle = {
        dim: layout.shape[dim] // 2 // period * period
        for dim, period in zip((height, width), traced.periods, strict=True)
    }
    window = traced.interval((middle[height], middle[width]))
    index = tuple(middle.get(dim, slice(None)) for dim in range(1, len(layout.shape)))
    return Unit(index, window.height, window.width)


def _in_sequence(layout: _Layout, traced: TracedMap) -> Unit | None:
    """The middle token of `(batch, tokens, channels)`, row by row behind tokens for no place.

    As the tokens in front shift the others, the field is centred on the token's own patch.
    """
    if layout.height != {1} or layout.width != {1}:
        return None
    rows, columns = (
        pixels // stride for pixels, stride in zip(traced.input_size, traced.stride, strict=True)
    )
    in_front = layout.shape[1] - rows * columns
    if in_front < 0:
        return None
    row, column = rows // 2, columns // 2
    first = traced.interval((0, 0))
    spans = []
    for axis, unit, stride in zip(first, (row, column), traced.stride, strict=True):
        start = round(unit * stride + (stride - axis.size) / 2)
        spans.append(Interval(start, start + axis.size))
    return Unit((in_front + row * columns + column, slice(None)), *spans)


def _interval(field: ReceptiveField, unit: int) -> Interval:
    start = field.start + unit * field.stride
    return Interval(start, start + field.size)


@torch.no_grad()
def _output_shape(model: nn.Module, size: tuple[int, int], read: Read) -> torch.Size:
    like = next(model.parameters(), torch.empty(0))
    images = torch.zeros(1, input_channels(model), *size, device=like.device, dtype=like.dtype)
    return read(model, images).shape
