"""The output unit whose effective receptive field is measured, and where it lies in the image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rfsearch.field.erf_map import Center
from rfsearch.field.receptive_field import ReceptiveField
from rfsearch.field.unit_grid import Interval
from rfsearch.measure.read import NoMapError, Read
from rfsearch.models.resolved import ResolvedModel
from rfsearch.trace.call import dependence_of
from rfsearch.trace.result import TracedModel
from rfsearch.trace.trace import trace_receptive_field
from rfsearch.trace.traced_map import TracedMap


class Place(NamedTuple):
    """Where a unit lies that sees a part of the image alone.

    Attributes:
        position: Its row and column in the map.
        stride: Input pixels between neighbouring units of the map, along `(height, width)`.
        period: Pixels that an image may be cut by, along `(height, width)`, with the units of all
            layers keeping their places.
    """

    position: tuple[int, int]
    stride: tuple[Fraction, Fraction]
    period: tuple[int, int]


@dataclass(frozen=True)
class Unit:
    """A unit of a map, and what of the input it can see.

    Attributes:
        index: Where its channels lie in the map's tensor, behind the batch.
        rows: Theoretical receptive field along the height, in px; negative is padding.
        columns: The same along the width.
        place: None where that is not known, or where the unit sees the whole image.
    """

    index: tuple[int | slice, ...]
    rows: Interval
    columns: Interval
    place: Place | None = None

    @property
    def center(self) -> Center:
        """Centre of its theoretical receptive field, in pixels of the input."""
        return Center(*((axis.start + axis.stop - 1) / 2 for axis in (self.rows, self.columns)))

    @property
    def theoretical_size(self) -> float:
        """Side of its theoretical receptive field in px, the longer one."""
        return max(self.rows.size, self.columns.size)

    def clipped(self, size: tuple[int, int]) -> float:
        """Share of its theoretical receptive field's area outside an input of `size` px."""
        return 1 - self._inside(size) / (self.rows.size * self.columns.size)

    def covers(self, size: tuple[int, int]) -> float:
        """Share of the area of an input of `size` px that its receptive field takes up."""
        return self._inside(size) / math.prod(size)

    def _inside(self, size: tuple[int, int]) -> int:
        """Area of its theoretical receptive field inside the input, in pixels."""
        spans = zip((self.rows, self.columns), size, strict=True)
        return math.prod(max(0, min(side, axis.stop) - max(0, axis.start)) for axis, side in spans)


@dataclass(frozen=True)
class UntracedUnit(Unit):
    """A unit of a map that cannot be traced: it may see all of the input.

    Attributes:
        middle: Of what it was found to see.
    """

    middle: Center = field(kw_only=True)

    @property
    def center(self) -> Center:
        """The middle of what it was found to see, in pixels of the input."""
        return self.middle

    @property
    def theoretical_size(self) -> float:
        """Not known: NaN."""
        return math.nan

    def clipped(self, size: tuple[int, int]) -> float:
        """Not known: NaN."""
        return math.nan


def find_unit(model: ResolvedModel, read: Read, *, level: str | None, layer: str | None) -> Unit:
    """The unit in the middle of the map that `read` returns.

    The field of a model's own level is taken from its method `receptive_fields`, where it has
    one; any other is traced, and so are those of a model that says that it `upsamples`, whose
    units see intervals of different sizes, or that its `axes_differ`. Then it is the unit nearest
    to the middle that sees what unit 0 does: as the expected ERF has it.

    Raises:
        UntracedError: If the map cannot be traced.
        ValueError: If it has no place in the image.
    """
    known = getattr(model.module, "receptive_fields", None)
    many = any(getattr(model.module, name, False) for name in ("upsamples", "axes_differ"))
    if known is None or layer is not None or many:
        return traced_unit(model, read, what=f"layer `{layer}`" if layer else "the output")
    fields: Mapping[str, ReceptiveField] = known()
    # Traced as well, for its place.
    traced = _traced_or_none(model, read)
    if traced is not None and traced.place is not None:
        rows, columns = traced.place.position
    else:
        rows, columns = (pixels // 2 for pixels in output_shape(model, read)[2:])
    level = list(fields)[-1] if level is None else level
    if level not in fields:
        raise NoMapError(f"`level` must be one of {', '.join(fields)}, but got {level!r}.")
    field = fields[level]
    unit = Unit((slice(None), rows, columns), _interval(field, rows), _interval(field, columns))
    if traced is not None and replace(traced, place=None) == unit:
        return traced
    return unit


class _Layout(NamedTuple):
    """A map's shape, and its dimensions that run along each axis of the image."""

    shape: tuple[int, ...]
    height: set[int]
    width: set[int]


def traced_unit(
    model: ResolvedModel,
    read: Read,
    *,
    position: tuple[int, int] | None = None,
    what: str = "the output",
) -> Unit:
    """The unit at a position of the map that `read` returns, with its traced field.

    Args:
        model: Any model.
        read: Returns the map.
        position: Row and column in the map. `None` means the unit in the middle.
        what: What to call the map in an error.

    Raises:
        UntracedError: If the map cannot be traced.
        ValueError: If it has no place in the image or no such position.
    """
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
        traced = trace_receptive_field(model, model.input_size, forward=forward)
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
    unit = _in_plane(layout, traced, position) or _in_sequence(layout, traced.output)
    if unit is None:
        raise ValueError(
            f"The map must have one dimension for the height and one for the width, but {what} "
            f"{layout.shape} has not."
        )
    return unit


def untraced_unit(model: ResolvedModel, read: Read) -> UntracedUnit:
    """The unit in the middle of the map that `read` returns, by the map's shape.

    Its own middle is yet to be found; the image's stands for it.

    Raises:
        ValueError: If the model does not run.
    """
    height, width = model.input_size
    try:
        shape = output_shape(model, read)
    except NoMapError:
        raise
    except Exception as error:  # Whatever a model raises.
        raise model.failure(error) from error
    if len(shape) == 3:
        # A token of a grid with the sides of the image, row by row behind tokens for no place.
        rows = max(1, math.isqrt(shape[1] * height // width))
        columns = shape[1] // rows
        in_front = shape[1] - rows * columns
        index: tuple[int | slice, ...] = (
            in_front + rows // 2 * columns + columns // 2,
            slice(None),
        )
    else:
        index = (slice(None), shape[-2] // 2, shape[-1] // 2)
    middle = Center((height - 1) / 2, (width - 1) / 2)
    return UntracedUnit(index, Interval(0, height), Interval(0, width), middle=middle)


def _traced_or_none(model: ResolvedModel, read: Read) -> Unit | None:
    try:
        return traced_unit(model, read)
    except NoMapError:
        raise
    except ValueError:
        return None


def _in_plane(
    layout: _Layout, traced: TracedModel, position: tuple[int, int] | None
) -> Unit | None:
    """A unit of a map, whichever dimension its channels are; None if it is no map."""
    if len(layout.height) != 1 or len(layout.width) != 1 or layout.height == layout.width:
        return None
    (height,), (width,) = layout.height, layout.width
    if 0 in (height, width):
        return None
    rows, columns = layout.shape[height], layout.shape[width]
    if position is None:
        spans = zip((rows, columns), traced.output.periods, strict=True)
        row, column = (units // 2 // period * period for units, period in spans)
    else:
        row, column = position
    if not (0 <= row < rows and 0 <= column < columns):
        raise ValueError(f"`position` must lie in a map of {rows}x{columns}, but got {position}.")
    window = traced.output.interval((row, column))
    at = {height: row, width: column}
    index = tuple(at.get(dim, slice(None)) for dim in range(1, len(layout.shape)))
    return Unit(index, window.height, window.width, _place((row, column), traced))


def _place(position: tuple[int, int], traced: TracedModel) -> Place | None:
    if traced.output.is_global:
        return None
    try:
        return Place(position, traced.output.stride, traced.period)
    except ValueError:  # Layers that have no period.
        return None


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
    height, width = spans
    return Unit((in_front + row * columns + column, slice(None)), height, width)


def _interval(field: ReceptiveField, unit: int) -> Interval:
    start = field.start + unit * field.stride
    return Interval(start, start + field.size)


@torch.no_grad()
def output_shape(model: ResolvedModel, read: Read) -> torch.Size:
    """Shape of the map that `read` returns for one image; the model runs with its weights."""
    module = model.module
    like = next(module.parameters(), torch.empty(0))
    images = torch.zeros(
        1, model.in_chans, *model.input_size, device=like.device, dtype=like.dtype
    )
    return read(module, images).shape
