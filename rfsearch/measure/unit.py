"""The output unit whose effective receptive field is measured, and where it lies in the image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rfsearch.basics.axes import AXIS_NAMES, ByAxis, by_x
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
        position: Its number in the map along each axis, as its row and column.
        stride: Input pixels between neighbouring units of the map along each axis.
        period: Pixels that an image may be cut by along each axis, with the units of all layers
            keeping their places.
    """

    position: tuple[int, ...]
    stride: tuple[Fraction, ...]
    period: tuple[int, ...]


@dataclass(frozen=True)
class Unit:
    """A unit of a map, and what of the input it can see.

    Attributes:
        index: Where its channels lie in the map's tensor, behind the batch.
        field: Theoretical receptive field along each axis, in px; negative is padding.
        place: None where that is not known, or where the unit sees the whole image.
    """

    index: tuple[int | slice, ...]
    field: ByAxis[Interval]
    place: Place | None = None

    @property
    def center(self) -> tuple[float, ...]:
        """Centre of its theoretical receptive field, in pixels of the input."""
        return tuple((axis.start + axis.stop - 1) / 2 for axis in self.field)

    @property
    def theoretical_size(self) -> float:
        """Side of its theoretical receptive field in px, the longest one."""
        return max(axis.size for axis in self.field)

    def clipped(self, size: tuple[int, ...]) -> float:
        """Share of its theoretical receptive field's pixels outside an input of `size` px."""
        return 1 - self._inside(size) / math.prod(axis.size for axis in self.field)

    def covers(self, size: tuple[int, ...]) -> float:
        """Share of the pixels of an input of `size` px that its receptive field takes up."""
        return self._inside(size) / math.prod(size)

    def _inside(self, size: tuple[int, ...]) -> int:
        """Pixels of its theoretical receptive field that lie inside the input."""
        spans = zip(self.field, size, strict=True)
        return math.prod(max(0, min(side, axis.stop) - max(0, axis.start)) for axis, side in spans)


@dataclass(frozen=True)
class UntracedUnit(Unit):
    """A unit of a map that cannot be traced: it may see all of the input.

    Attributes:
        middle: Of what it was found to see.
    """

    middle: tuple[float, ...] = field(kw_only=True)

    @property
    def center(self) -> tuple[float, ...]:
        """The middle of what it was found to see, in pixels of the input."""
        return self.middle

    @property
    def theoretical_size(self) -> float:
        """Not known: NaN."""
        return math.nan

    def clipped(self, size: tuple[int, ...]) -> float:
        """Not known: NaN."""
        return math.nan


def find_unit(model: ResolvedModel, read: Read, *, level: str | None, layer: str | None) -> Unit:
    """The unit in the middle of the map that `read` returns.

    The field of a model's own level is taken from its method `receptive_fields`, where it has
    one; any other is traced, and so are those of a model that says that it `upsamples`, whose
    units see intervals of different sizes, as they do where a stride is no whole number of px, or
    that its `axes_differ`. Then it is the unit nearest to the middle that sees what unit 0 does:
    as the expected ERF has it.

    Raises:
        UntracedError: If the map cannot be traced.
        ValueError: If it has no place in the image.
    """
    known = getattr(model.module, "receptive_fields", None)
    many = any(getattr(model.module, name, False) for name in ("upsamples", "axes_differ"))
    if known is None or layer is not None or many:
        return traced_unit(model, read, what=f"layer `{layer}`" if layer else "the output")
    fields: Mapping[str, ReceptiveField] = known()
    if any(one.stride % 1 for one in fields.values()):  # Units lie between pixels.
        return traced_unit(model, read)
    # Traced as well, for its place.
    traced = _traced_or_none(model, read)
    if traced is not None and traced.place is not None:
        position = traced.place.position
    else:
        position = tuple(pixels // 2 for pixels in output_shape(model, read)[2:])
    level = list(fields)[-1] if level is None else level
    if level not in fields:
        raise NoMapError(f"`level` must be one of {', '.join(fields)}, but got {level!r}.")
    seen = ByAxis(*(_interval(fields[level], number) for number in position))
    unit = Unit((slice(None), *position), seen)
    if traced is not None and replace(traced, place=None) == unit:
        return traced
    return unit


class _Layout(NamedTuple):
    """A map's shape, and its dimensions that run along each axis of the input."""

    shape: tuple[int, ...]
    axes: tuple[frozenset[int], ...]


def traced_unit(
    model: ResolvedModel,
    read: Read,
    *,
    position: tuple[int, ...] | None = None,
    what: str = "the output",
) -> Unit:
    """The unit at a position of the map that `read` returns, with its traced field.

    Args:
        model: Any model.
        read: Returns the map.
        position: Number in the map along each axis. `None` means the unit in the middle.
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
            layouts.append(_Layout(tuple(output.shape), dependence.located))
        return output

    try:
        traced = trace_receptive_field(model, model.input_size, forward=forward)
    except ValueError as error:
        # The tracer takes what the reading of the map complains about for the model's own.
        if isinstance(error.__cause__, NoMapError):
            raise error.__cause__ from None
        raise
    layout = layouts[-1]
    if not any(layout.axes):
        raise ValueError(
            f"The units must have a place in the image, but those of {what} do not: it comes after"
            " a pooling over the whole input. Name a `layer` before it."
        )
    unit = _in_plane(layout, traced, position) or _in_sequence(layout, traced.output)
    if unit is None:
        names = " and one for the ".join(AXIS_NAMES[model.num_axes])
        raise ValueError(
            f"The map must have one dimension for the {names}, but {what} {layout.shape} has not."
        )
    return unit


def untraced_unit(model: ResolvedModel, read: Read) -> UntracedUnit:
    """The unit in the middle of the map that `read` returns, by the map's shape.

    Its own middle is yet to be found; the image's stands for it.

    Raises:
        ValueError: If the model does not run.
    """
    size = model.input_size
    try:
        shape = output_shape(model, read)
    except NoMapError:
        raise
    except Exception as error:  # Whatever a model raises.
        raise model.failure(error) from error
    if len(shape) == 3 != 2 + len(size):
        # A token of a grid with the sides of the image, row by row behind tokens for no place.
        index: tuple[int | slice, ...] = (_middle_token(shape[1], size), slice(None))
    else:
        index = (slice(None), *(units // 2 for units in shape[2:]))
    middle = tuple((side - 1) / 2 for side in size)
    return UntracedUnit(index, ByAxis(*(Interval(0, side) for side in size)), middle=middle)


def _middle_token(count: int, size: tuple[int, ...]) -> int:
    """Number of the token in the middle of a grid that has about the shape of the input."""
    sides: list[int] = []
    for axis in range(len(size) - 1):
        left, further = count // math.prod(sides), size[axis:]
        root = (left * size[axis] ** len(further) / math.prod(further)) ** (1 / len(further))
        sides.append(max(1, math.floor(root + 1e-9)))
    sides.append(count // math.prod(sides))
    return count - math.prod(sides) + _number([side // 2 for side in sides], sides)


def _number(position: Sequence[int], sides: Sequence[int]) -> int:
    """Of a position when all are counted row by row."""
    return int(np.ravel_multi_index(tuple(position), tuple(sides)))


def _traced_or_none(model: ResolvedModel, read: Read) -> Unit | None:
    try:
        return traced_unit(model, read)
    except NoMapError:
        raise
    except ValueError:
        return None


def _in_plane(
    layout: _Layout, traced: TracedModel, position: tuple[int, ...] | None
) -> Unit | None:
    """A unit of a map, whichever dimension its channels are; None if it is no map."""
    dims = [dim for along in layout.axes for dim in along]
    # An axis of a single pixel may lie nowhere.
    counts = zip(map(len, layout.axes), traced.input_size, strict=True)
    is_map = all(count == 1 or (count == 0 and pixels == 1) for count, pixels in counts)
    if not is_map or 0 in dims or len(dims) > len({*dims}):
        return None
    sides = [next((layout.shape[dim] for dim in along), 1) for along in layout.axes]
    if position is None:
        spans = zip(sides, traced.output.periods, strict=True)
        position = tuple(units // 2 // period * period for units, period in spans)
    if not all(0 <= place < side for place, side in zip(position, sides, strict=True)):
        raise ValueError(f"`position` must lie in a map of {by_x(sides)}, but got {position}.")
    pairs = zip(layout.axes, position, strict=True)
    at = {dim: place for along, place in pairs for dim in along}
    index = tuple(at.get(dim, slice(None)) for dim in range(1, len(layout.shape)))
    return Unit(index, traced.output.interval(position), _place(position, traced))


def _place(position: tuple[int, ...], traced: TracedModel) -> Place | None:
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
    if any(along != {1} for along in layout.axes):
        return None
    sides = [
        int(pixels // stride)
        for pixels, stride in zip(traced.input_size, traced.stride, strict=True)
    ]
    in_front = layout.shape[1] - math.prod(sides)
    if in_front < 0:
        return None
    position = [side // 2 for side in sides]
    first = traced.interval((0,) * len(sides))
    spans = []
    for axis, unit, stride in zip(first, position, traced.stride, strict=True):
        start = round(unit * stride + (stride - axis.size) / 2)
        spans.append(Interval(start, start + axis.size))
    return Unit((in_front + _number(position, sides), slice(None)), ByAxis(*spans))


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
