"""Exact theoretical receptive fields of any module, by following its operations.

The module runs once on tensors without data; every operation says which of its input's units each
of its output's units sees. Nothing of the size of an image is computed, and no weight is read.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from rfsearch import trace_layout as layout
from rfsearch.receptive_field import ReceptiveField
from rfsearch.trace_call import Axis, Dependence, Pooled, Record, attach, dependence_of, units_of
from rfsearch.trace_grid import PIXELS, Interval, join
from rfsearch.trace_layout import Factor, Source, Span
from rfsearch.trace_mode import (
    LayerRow,
    Layers,
    TracingMode,
    meta_twin,
    named_tensors,
    refuse_stale_views,
    tracing,
)

if TYPE_CHECKING:
    import pandas as pd


class UnitWindow(NamedTuple):
    """The part of the input that one unit sees, in px."""

    height: Interval
    width: Interval


class SmallestSize(NamedTuple):
    """Receptive field sizes over the paths that see least, in px."""

    height: int
    width: int


@dataclass(frozen=True)
class TracedMap:
    """Receptive field of the units of one tensor: an interior unit of a large enough image.

    Where something mixes the whole extent of an axis, `is_global` says so, and the field is the
    local one: as if that were not there. After a global pooling it is that of the pooled units.

    Attributes:
        name: Where it is in the model's output: `"output"`, or the keys that lead to it.
        shape: Shape of the tensor.
        is_global: Whether its units see the whole extent of an axis.
        input_size: `(height, width)` of the input, in px.
    """

    name: str
    shape: tuple[int, ...]
    is_global: bool
    input_size: tuple[int, int]
    _height: Pooled
    _width: Pooled

    @property
    def height(self) -> ReceptiveField:
        """The field along the height; after up-sampling that of the phase that sees most.

        Raises:
            ValueError: If there is more than one unit per input pixel: use `interval`.
        """
        return self._height.grid.field()

    @property
    def width(self) -> ReceptiveField:
        """The field along the width, as `height`."""
        return self._width.grid.field()

    @property
    def smallest(self) -> SmallestSize:
        """Sizes over the paths that see least, in px: shortcuts instead of branches."""
        return SmallestSize(self._height.grid.smallest, self._width.grid.smallest)

    @property
    def stride(self) -> tuple[Fraction, Fraction]:
        """Input pixels between neighbouring units along `(height, width)`; may be below 1."""
        return self._height.grid.stride, self._width.grid.stride

    def interval(self, unit: tuple[int, int]) -> UnitWindow:
        """The exact pixels that the unit at `(row, column)` can see."""
        row, column = unit
        return UnitWindow(self._height.grid.interval(row), self._width.grid.interval(column))

    @property
    def clipped(self) -> float:
        """Share of the area seen by the unit in the middle that lies outside the input."""
        inside = 1.0
        for pooled, pixels in zip((self._height, self._width), self.input_size, strict=True):
            start, stop = pooled.grid.interval(pooled.units // 2)
            inside *= max(0, min(pixels, stop) - max(0, start)) / max(1, stop - start)
        return 1 - inside


@dataclass(frozen=True)
class TracedModel:
    """Receptive fields of a model.

    Attributes:
        outputs: The model's outputs by name, in order.
        global_layers: Names of the layers that mix the whole extent of an axis: attention,
            squeeze-and-excite, global pooling, normalisation over space. The model itself is
            `"(model)"`.
        input_size: `(height, width)` of the input, in px.
    """

    outputs: Mapping[str, TracedMap]
    global_layers: tuple[str, ...]
    input_size: tuple[int, int]
    _rows: tuple[LayerRow, ...]

    @property
    def output(self) -> TracedMap:
        """The only output, or the last of several: the deepest of a pyramid of features."""
        return list(self.outputs.values())[-1]

    @cached_property
    def layers(self) -> pd.DataFrame:
        """One row for each output of each module, in the order in which the modules finished.

        Columns: `name`, `type`, `output_size` (a shape), for both axes `height`, `height_stride`,
        `height_start` and `height_smallest` (px; the same with `width`), and `is_global`.
        """
        import pandas as pd

        found = (_traced_map(row.name, row.shape, row.dependence, (0, 0)) for row in self._rows)
        rows = [
            {"name": row.name, "type": row.type, "output_size": row.shape, **_columns(traced)}
            for row, traced in zip(self._rows, found, strict=True)
            if traced is not None
        ]
        return pd.DataFrame(rows)


def trace_receptive_field(
    model: nn.Module | str,
    input_size: int | tuple[int, int],
    *,
    in_chans: int | None = None,
    forward: Callable[[nn.Module, Tensor], Any] | None = None,
    unknown: Literal["error", "pointwise"] = "error",
) -> TracedModel:
    """Trace the theoretical receptive fields of a model: of its outputs and of all its layers.

    The fields are those of interior units of a large enough image, whatever `input_size` is;
    `clipped` of an output says how much lies outside. Only sizes that the model derives from its
    input (adaptive pooling, resizing to a given size, windows of attention) depend on it.

    Fields are intervals: pixels between dilated taps count. Positions of a tensor are followed
    one by one, channels are not: each is taken to see what any channel at its position sees.
    Batch normalisation is that of evaluation, and dropout is off. What a roll brings round the
    border (shifted windows) is not followed: these models mask it.

    Args:
        model: Any module, which is left exactly as it is found, or the name of a timm model.
        input_size: Side or `(height, width)` of the input, in px.
        in_chans: Channels of the input. `None` means those of the first convolution, or 3.
        forward: Runs the module on images `(1, channels, height, width)`. `None` means to call
            the module.
        unknown: What to do with an operation that is not known: refuse the model, or treat the
            operation as pointwise.

    Raises:
        ValueError: If timm knows no such model, the model does not run at `input_size`, it uses
            an operation that is not known or moves data in a way that cannot be followed, or no
            output depends on the input.
    """
    size = _checked_size(input_size)
    if unknown not in ("error", "pointwise"):
        raise ValueError(f"`unknown` must be one of error, pointwise, but got {unknown!r}.")
    twin = meta_twin(_create(model) if isinstance(model, str) else model)
    layers = Layers(twin)
    mode = TracingMode(layers, pointwise_if_unknown=unknown == "pointwise")
    images = _images(twin, in_chans or _input_channels(twin), size)
    try:
        with tracing(mode):
            output = twin(images) if forward is None else forward(twin, images)
    except Exception as error:
        if mode.refusal is not None:
            raise ValueError(mode.refusal) from None
        place = f" in layer `{layers.current}`" if layers.current else ""
        raise ValueError(
            f"The model must run at an input of {size[0]}x{size[1]} px, but it fails{place}: "
            f"{_one_line(error)}"
        ) from error
    refuse_stale_views(tensor for _, tensor in named_tensors(output))
    outputs = {
        name or "output": traced
        for name, tensor in named_tensors(output)
        if (dependence := dependence_of(tensor)) is not None
        and (traced := _traced_map(name or "output", tuple(tensor.shape), dependence, size))
    }
    if not outputs:
        raise ValueError("The model's output must depend on its input, but no tensor of it does.")
    causes = tuple(name or "(model)" for name in layers.causes)
    return TracedModel(outputs, causes, size, tuple(layers.rows))


def _checked_size(input_size: int | tuple[int, int]) -> tuple[int, int]:
    size = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(
            f"`input_size` must be a side or (height, width) of at least 1 px, but got {input_size}."
        )
    return size


def _create(name: str) -> nn.Module:
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise ValueError(f"`model` must be a name that timm knows, but got {name!r}{hint}.")
    with torch.device("meta"):
        created: nn.Module = timm.create_model(name)
    return created


def _input_channels(model: nn.Module) -> int:
    known = getattr(model, "pretrained_cfg", None) or {}
    if "input_size" in known:
        channels: int = known["input_size"][0]
        return channels
    convolutions = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    first = next(convolutions, None)
    return 3 if first is None else first.in_channels


def _images(model: nn.Module, in_chans: int, size: tuple[int, int]) -> Tensor:
    kinds = (p.dtype for p in model.parameters() if p.is_floating_point())
    images = torch.empty(1, in_chans, *size, device="meta", dtype=next(kinds, torch.float32))
    axes = []
    for dim, length in enumerate(size, 2):
        spans: list[Span | None] = [None] * 4
        spans[dim] = Span((Factor(length, 1),))
        axes.append(Axis((Source(tuple(spans), PIXELS),)))
    attach(images, Record(Dependence(*axes)))
    return images


def _traced_map(
    name: str, shape: tuple[int, ...], dependence: Dependence, size: tuple[int, int]
) -> TracedMap | None:
    height, width = (_units(axis) for axis in (dependence.height, dependence.width))
    if height is None or width is None:
        return None
    return TracedMap(name, shape, dependence.is_global, size, height, width)


def _units(axis: Axis) -> Pooled | None:
    """The units of a tensor along one axis, or those that were pooled."""
    if not axis.sources:
        return axis.pooled
    sources = layout.merge([_of_a_map(source) for source in axis.sources])
    units = max(map(units_of, sources))
    grid, *others = [layout.resolve(source) for source in sources]
    for other in others:
        if other.stride == grid.stride:
            grid = join(grid, other)
    return Pooled(grid, units)


def _of_a_map(source: Source) -> Source:
    """Number the units of a map by position; each sees what all its channels see."""
    if len(source.dims) != 4:
        return source
    if source.dims[1] and (source.dims[2] or source.dims[3]):
        source = layout.reduce(source, [1]) or source
    return layout.canonical(source)


def _columns(traced: TracedMap) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for axis, pooled in (("height", traced._height), ("width", traced._width)):
        grid = pooled.grid
        phase = max(range(grid.period), key=lambda unit: grid.widest[unit].size)
        columns[axis] = grid.widest[phase].size
        columns[f"{axis}_stride"] = float(grid.stride)
        columns[f"{axis}_start"] = float(grid.widest[phase].start - phase * grid.stride)
        columns[f"{axis}_smallest"] = grid.smallest
    return {**columns, "is_global": traced.is_global}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
