"""Traced receptive fields of the units of one tensor."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial, reduce
from itertools import pairwise
from typing import Any, NamedTuple, cast

from rfsearch.basics.axes import ByAxis
from rfsearch.field.receptive_field import ReceptiveField
from rfsearch.field.unit_grid import Interval, join
from rfsearch.trace import _layout as layout
from rfsearch.trace._layout import Source
from rfsearch.trace._positions import narrow
from rfsearch.trace.call import Axis, Dependence, Pooled, units_of


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
        is_pooled: Whether it is no map any more, but was computed from all units of one.
        input_size: Sides of the input, in px: `(height, width)` of an image.
    """

    name: str
    shape: tuple[int, ...]
    is_global: bool
    is_pooled: bool
    input_size: tuple[int, ...]
    _axes: ByAxis[Pooled]

    def __repr__(self) -> str:
        """Shape, size and stride in one line."""
        axes = (
            f"{max(one.size for one in pooled.grid.widest)} px {axis} at stride "
            f"{pooled.grid.stride}"
            for axis, pooled in self._axes.named.items()
        )
        seen = " and all of the input" if self.is_global else ""
        return f"TracedMap {self.shape}: {', '.join(axes)}{seen}"

    @property
    def axes(self) -> dict[str, ReceptiveField]:
        """The field along each axis, by its name: `time`, or `height` and `width`, or `depth` too.

        After up-sampling it is that of the phase that sees most. A stride that is no whole number
        of px, as after super-resolution, is a `Fraction`.
        """
        return {name: pooled.grid.field() for name, pooled in self._axes.named.items()}

    @property
    def height(self) -> ReceptiveField:
        """The field along the height, of images and volumes."""
        return self._axes.height.grid.field()

    @property
    def width(self) -> ReceptiveField:
        """The field along the width, as `height`."""
        return self._axes.width.grid.field()

    @property
    def smallest(self) -> ByAxis[int]:
        """Sizes over the paths that see least, in px: shortcuts instead of branches."""
        return ByAxis(*(pooled.grid.smallest for pooled in self._axes))

    @property
    def stride(self) -> ByAxis[Fraction]:
        """Input pixels between neighbouring units along each axis; may be below 1."""
        return ByAxis(*(pooled.grid.stride for pooled in self._axes))

    @property
    def periods(self) -> ByAxis[int]:
        """After how many units along each axis the sizes of their fields repeat."""
        return ByAxis(*(pooled.grid.period for pooled in self._axes))

    @property
    def sizes(self) -> ByAxis[tuple[int, ...]]:
        """Sizes of the fields of the units of one period along each axis, in px."""
        return ByAxis(*(pooled.grid.sizes for pooled in self._axes))

    @property
    def units(self) -> ByAxis[int]:
        """How many units there are along each axis."""
        return ByAxis(*(pooled.units for pooled in self._axes))

    def interval(self, unit: Sequence[int]) -> ByAxis[Interval]:
        """The exact pixels that a unit can see, which has a number along each axis."""
        pairs = zip(self._axes, unit, strict=True)
        return ByAxis(*(pooled.grid.interval(number) for pooled, number in pairs))

    @property
    def clipped(self) -> float:
        """Share of what the unit in the middle sees that lies outside the input."""
        inside = 1.0
        for pooled, pixels in zip(self._axes, self.input_size, strict=True):
            start, stop = pooled.grid.interval(pooled.units // 2)
            inside *= max(0, min(pixels, stop) - max(0, start)) / max(1, stop - start)
        return 1 - inside


def traced_maps(
    name: str, shape: tuple[int, ...], dependence: Dependence, size: tuple[int, ...]
) -> list[TracedMap]:
    """The field of a tensor's units, or of each of several maps that lie side by side in it.

    Empty if it does not depend on all axes of the input.

    Raises:
        ValueError: If it could not be followed, or is a map whose rows or columns are none.
    """
    if dependence.refusal:
        raise ValueError(dependence.refusal)
    parts = []
    for part in _parts(dependence, shape):
        tokens = part.dependence.located.shared
        found = [_units(axis, size, tokens, n) for n, axis in enumerate(part.dependence.axes)]
        axes = ByAxis(*(units for units in found if units is not None))
        if len(axes) == len(size):
            is_pooled = not part.dependence.sources
            parts.append(
                TracedMap(
                    name + part.place, part.shape, dependence.is_global, is_pooled, size, axes
                )
            )
    return parts


class _Part(NamedTuple):
    """A part of a tensor that holds one map: its place as an index, `""` for all."""

    place: str
    shape: tuple[int, ...]
    dependence: Dependence


def _parts(dependence: Dependence, shape: tuple[int, ...]) -> Iterator[_Part]:
    """Parts of a tensor that hold one map each, in order."""
    seam = next(filter(None, (layout.seam(axis.sources) for axis in dependence.axes)), None)
    if seam is None:
        yield _Part("", shape, dependence)
        return
    dim, places = seam
    for start, stop in pairwise((0, *places, shape[dim])):
        cut = dependence.each(partial(narrow, dim=dim, start=start, length=stop - start))
        if any(
            whole.sources and not axis.sources
            for whole, axis in zip(dependence.axes, cut.axes, strict=True)
        ):
            continue  # Constants, such as tokens for no place.
        kept = (*shape[:dim], stop - start, *shape[dim + 1 :])
        place = f"[{':, ' * dim}{start}:{stop}]"
        for part in _parts(cut, kept):
            yield part._replace(place=place + part.place)


def _units(
    axis: Axis, size: tuple[int, ...], tokens: Collection[int], number: int
) -> Pooled | None:
    """The units of a tensor along one axis, or those that were pooled."""
    pooled = axis.pooled
    if axis.sources:
        sources = layout.merge([_of_a_map(source, len(size)) for source in axis.sources])
        units = max(map(units_of, sources))
        grids = (layout.resolve(source, tokens) for source in sources)
        pooled = Pooled(reduce(lambda one, other: join(one, other, units), grids), units)
    if pooled is None or pooled.grid.step:
        return pooled
    # All see the same, as in a single window of attention: they lie evenly all the same.
    grid, units = pooled
    step = Fraction(size[number], units) * grid.period
    return Pooled(grid._replace(step=cast("int", step)), units)


def _of_a_map(source: Source, num_axes: int) -> Source:
    """Number the units of a map by position; each sees what all its channels see."""
    if len(source.dims) != 2 + num_axes:
        return source
    if source.dims[1] and any(source.dims[2:]):
        source = layout.reduce(source, [1]) or source
    source = layout.canonical(source)
    if source.grid.first is not None and len(layout.located(source)) > 1:
        raise ValueError("The rows and columns of a map are not those of the image")
    return source


def columns_of(traced: TracedMap) -> dict[str, Any]:
    """Sizes, strides and places along all axes, as a row of a table."""
    columns: dict[str, Any] = {}
    for axis, pooled in traced._axes.named.items():
        seen = pooled.grid.field()
        columns[axis] = seen.size
        columns[f"{axis}_stride"] = seen.stride
        columns[f"{axis}_start"] = seen.start
        columns[f"{axis}_smallest"] = pooled.grid.smallest
    return {**columns, "is_global": traced.is_global}
