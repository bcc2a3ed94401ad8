"""Traced receptive fields: of the units of one tensor, and of a whole model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, partial, reduce
from itertools import pairwise
from math import lcm
from typing import TYPE_CHECKING, Any, NamedTuple

from rfsearch.field.expected_erf import ExpectedERF
from rfsearch.field.receptive_field import ReceptiveField
from rfsearch.field.unit_grid import Interval, join
from rfsearch.tape.tape import Playing, Tape, TapedGradient
from rfsearch.trace import _layout as layout
from rfsearch.trace._layout import Source
from rfsearch.trace._positions import narrow
from rfsearch.trace.call import Axis, Dependence, Pooled, units_of
from rfsearch.trace.layers import LayerRow

if TYPE_CHECKING:
    import pandas as pd


#: That are described one by one.
_MOST_OUTPUTS = 4


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
        name: Where it is in the model's output: `"output"`, or the keys that lead to it. Where
            several maps lie side by side in one tensor, the index of its own part follows, as in
            `"output[:, 6400:8000]"`: its units are numbered from there.
        shape: Shape of the tensor, or of its part.
        is_global: Whether its units see the whole extent of an axis.
        input_size: `(height, width)` of the input, in px.
    """

    name: str
    shape: tuple[int, ...]
    is_global: bool
    input_size: tuple[int, int]
    _height: Pooled
    _width: Pooled

    def __repr__(self) -> str:
        """Shape, size and stride in one line."""
        fields = zip(("height", "width"), (self._height.grid, self._width.grid), strict=True)
        axes = (
            f"{max(one.size for one in grid.widest)} px {axis} at stride {grid.stride}"
            for axis, grid in fields
        )
        seen = " and all of the input" if self.is_global else ""
        return f"TracedMap {self.shape}: {', '.join(axes)}{seen}"

    @property
    def height(self) -> ReceptiveField:
        """The field along the height; after up-sampling that of the phase that sees most.

        A stride that is no whole number of px, as after super-resolution, is a `Fraction`.
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

    @property
    def periods(self) -> tuple[int, int]:
        """After how many units along `(height, width)` the sizes of their fields repeat."""
        return self._height.grid.period, self._width.grid.period

    @property
    def sizes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Sizes of the fields of the units of one period along `(height, width)`, in px."""
        return self._height.grid.sizes, self._width.grid.sizes

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
        unfollowed: Why, for each output whose field could not be followed.
    """

    outputs: Mapping[str, TracedMap]
    global_layers: tuple[str, ...]
    input_size: tuple[int, int]
    _rows: tuple[LayerRow, ...]
    unfollowed: Mapping[str, str] = field(default_factory=dict)
    _tape: Tape | None = field(default=None, repr=False, compare=False)
    _steps: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)

    def __repr__(self) -> str:
        """A line for each of a few outputs."""
        height, width = self.input_size
        outputs = [f"    {name}: {one!r}" for name, one in self.outputs.items()]
        if len(outputs) > _MOST_OUTPUTS:
            outputs[_MOST_OUTPUTS - 1 :] = [f"    and {len(outputs) - _MOST_OUTPUTS + 1} more"]
        first = f"TracedModel of {height}x{width} px, {len(self._rows)} layers"
        mixing = f", {len(self.global_layers)} of them global" if self.global_layers else ""
        lost = f", {len(self.unfollowed)} outputs not followed" if self.unfollowed else ""
        return "\n".join([f"{first}{mixing}{lost}", *outputs])

    @property
    def output(self) -> TracedMap:
        """The only output, or the last of several: the deepest of a pyramid of features.

        Raises:
            ValueError: If an output could not be followed: take one of `outputs` by its name.
        """
        if self.unfollowed:
            raise ValueError(next(iter(self.unfollowed.values())))
        return list(self.outputs.values())[-1]

    def expected_erf(
        self,
        level: str | None = None,
        *,
        layer: str | None = None,
        weight_powers: Mapping[str, float] | None = None,
    ) -> ExpectedERF:
        """Effective receptive field to expect of a random initialisation.

        Args:
            level: Name of the output. `None` means the last.
            layer: Name of a layer, whose output to look at instead.
            weight_powers: Mean squares of the model's parameters by name. `None` means those of
                a random initialisation, one over the fan-in.

        Raises:
            ValueError: If there is no such output or layer, no rule is known for an operation
                before it, or it has no positions.
        """
        if level is not None and layer is not None:
            raise ValueError("Only one of `level` and `layer` can be given.")
        traced, step = self._output(level) if layer is None else self._layer(layer)
        assert self._tape is not None
        playing = self._played if weight_powers is None else self._tape.play(weight_powers)
        return ExpectedERF(
            TapedGradient(
                playing,
                playing.located(step, traced.name),
                (traced.height, traced.width),
                traced.periods,
            )
        )

    @cached_property
    def _played(self) -> Playing:
        assert self._tape is not None
        return self._tape.play()

    def _output(self, level: str | None) -> tuple[TracedMap, int]:
        name = self.output.name if level is None else level
        if name in self.unfollowed:
            raise ValueError(self.unfollowed[name])
        if name not in self.outputs:
            raise ValueError(
                f"`level` must be one of {', '.join(self.outputs)}, but got {level!r}."
            )
        if name not in self._steps:
            raise ValueError(f"`{name}` is one of several maps in a tensor: name a layer instead.")
        return self.outputs[name], self._steps[name]

    def _layer(self, layer: str) -> tuple[TracedMap, int]:
        row = next((row for row in self._rows if row.name == layer), None)
        if row is None:
            raise ValueError(
                f"`layer` must be one whose output depends on the input, but got {layer!r}."
            )
        maps = traced_maps(row.name, row.shape, row.dependence, self.input_size)
        if len(maps) != 1 or row.step is None:
            raise ValueError(
                f"The output of layer `{layer}` must be one map, but it is {len(maps)}."
            )
        return maps[0], row.step

    @property
    def period(self) -> tuple[int, int]:
        """Pixels along `(height, width)` after which the units of all layers lie as before.

        An image that is cut by whole periods keeps the place of every unit that is left.

        Raises:
            ValueError: If a layer could not be followed, or its units repeat no pattern.
        """
        maps = [*self.outputs.values()]
        for row in self._rows:
            maps += traced_maps(row.name, row.shape, row.dependence, self.input_size)
        if any(axis.grid.first is not None for m in maps for axis in (m._height, m._width)):
            raise ValueError("The units of a layer repeat no pattern.")
        return lcm(*(m._height.grid.step for m in maps)), lcm(*(m._width.grid.step for m in maps))

    @cached_property
    def layers(self) -> pd.DataFrame:
        """One row for each output of each module, in the order in which the modules finished.

        Columns: `name`, `type`, `output_size` (a shape), for both axes `height`, `height_stride`,
        `height_start` and `height_smallest` (px; the same with `width`), and `is_global`. Strides
        that are no whole numbers are `Fraction`s, and so are their starts. A tensor that holds
        several maps side by side has a row for each, and what cannot be followed no numbers.
        """
        import pandas as pd

        rows = []
        for row in self._rows:
            first = {"name": row.name, "type": row.type, "output_size": row.shape}
            maps: list[TracedMap] = []
            with suppress(ValueError):
                maps = traced_maps(row.name, row.shape, row.dependence, self.input_size)
            rows += [first | {"name": one.name} | _columns(one) for one in maps] or [first]
        return pd.DataFrame(rows)


def traced_maps(
    name: str, shape: tuple[int, ...], dependence: Dependence, size: tuple[int, int]
) -> list[TracedMap]:
    """The field of a tensor's units, or of each of several maps that lie side by side in it.

    Empty if it does not depend on both axes of the input.

    Raises:
        ValueError: If it could not be followed, or is a map whose rows or columns are none.
    """
    if dependence.refusal:
        raise ValueError(dependence.refusal)
    parts = []
    for part in _parts(dependence, shape):
        height, width = (_units(axis, part.dependence.tokens) for axis in part.dependence[:2])
        if height is None or width is None:
            continue
        is_global = dependence.is_global
        parts.append(TracedMap(name + part.place, part.shape, is_global, size, height, width))
    return parts


class _Part(NamedTuple):
    """A part of a tensor that holds one map: its place as an index, `""` for all."""

    place: str
    shape: tuple[int, ...]
    dependence: Dependence


def _parts(dependence: Dependence, shape: tuple[int, ...]) -> Iterator[_Part]:
    """Parts of a tensor that hold one map each, in order."""
    seam = next(filter(None, (layout.seam(axis.sources) for axis in dependence[:2])), None)
    if seam is None:
        yield _Part("", shape, dependence)
        return
    dim, places = seam
    for start, stop in pairwise((0, *places, shape[dim])):
        cut = dependence.each(partial(narrow, dim=dim, start=start, length=stop - start))
        if any(
            whole.sources and not axis.sources
            for whole, axis in zip(dependence[:2], cut[:2], strict=True)
        ):
            continue  # Constants, such as tokens for no place.
        kept = (*shape[:dim], stop - start, *shape[dim + 1 :])
        place = f"[{':, ' * dim}{start}:{stop}]"
        for part in _parts(cut, kept):
            yield part._replace(place=place + part.place)


def _units(axis: Axis, tokens: Collection[int]) -> Pooled | None:
    """The units of a tensor along one axis, or those that were pooled."""
    if not axis.sources:
        return axis.pooled
    sources = layout.merge([_of_a_map(source) for source in axis.sources])
    units = max(map(units_of, sources))
    grids = (layout.resolve(source, tokens) for source in sources)
    return Pooled(reduce(lambda one, other: join(one, other, units), grids), units)


def _of_a_map(source: Source) -> Source:
    """Number the units of a map by position; each sees what all its channels see."""
    if len(source.dims) != 4:
        return source
    if source.dims[1] and (source.dims[2] or source.dims[3]):
        source = layout.reduce(source, [1]) or source
    source = layout.canonical(source)
    if source.grid.first is not None and len(layout.located(source)) > 1:
        raise ValueError("The rows and columns of a map are not those of the image")
    return source


def _columns(traced: TracedMap) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for axis, pooled in (("height", traced._height), ("width", traced._width)):
        seen = pooled.grid.field()
        columns[axis] = seen.size
        columns[f"{axis}_stride"] = seen.stride
        columns[f"{axis}_start"] = seen.start
        columns[f"{axis}_smallest"] = pooled.grid.smallest
    return {**columns, "is_global": traced.is_global}
