"""What a traced tensor depends on, and one traced operation as its handler sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import zip_longest
from math import prod
from typing import Any, NamedTuple

from torch import Tensor

from rfsearch.field.unit_grid import Grid
from rfsearch.tape.invocation import Invocation
from rfsearch.tape.operation import Located
from rfsearch.trace import _layout as layout
from rfsearch.trace import _positions as positions
from rfsearch.trace._layout import Source

#: Name of the attribute that holds a `Record` on a traced tensor.
_RECORD = "_rfsearch_record"
#: Name of the attribute that holds the data of a constant without data.
_VALUE = "_rfsearch_value"


class Pooled(NamedTuple):
    """The units that a tensor without a location was computed from.

    Attributes:
        grid: What these units see.
        units: How many there are along the axis.
    """

    grid: Grid
    units: int


class Axis(NamedTuple):
    """Dependence on one axis of the input: on sources that lie somewhere, or on pooled units.

    Attributes:
        sources: What lies somewhere.
        pooled: The units of what lies nowhere any more.
        is_flat: Whether the input has a single pixel along it, of which nothing can be mixed.
    """

    sources: tuple[Source, ...] = ()
    pooled: Pooled | None = None
    is_flat: bool = False


class Dependence(NamedTuple):
    """What a tensor depends on.

    Attributes:
        axes: Dependence along each axis of the input; none of what does not depend on it.
        is_global: Whether anything before it mixed the whole extent of an axis.
        refusal: Why it cannot be followed, if it cannot; the axes are empty then.
    """

    axes: tuple[Axis, ...] = ()
    is_global: bool = False
    refusal: str | None = None

    def each(self, change: Callable[[Source], Source | None]) -> Dependence:
        """Change all sources; one that becomes None has no location any more."""
        return self._replace(axes=tuple(_each(axis, change, self) for axis in self.axes))

    @property
    def located(self) -> Located:
        """Dimensions along which units of each axis lie."""
        return Located(
            frozenset(dim for source in axis.sources for dim in layout.located(source))
            for axis in self.axes
        )

    @property
    def sources(self) -> list[Source]:
        """All that lies somewhere, of all axes."""
        return [source for axis in self.axes for source in axis.sources]

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether the layouts are those of a tensor of this shape."""
        return all(
            len(source.dims) == len(shape)
            and all(s is None or s.length == n for s, n in zip(source.dims, shape, strict=True))
            for source in self.sources
        )


@dataclass(slots=True)
class Record:
    """What is known of a traced tensor.

    Attributes:
        dependence: None for a constant.
        parent: The tensor that it is a view of.
        seen: The parent's dependence when the view was made.
        call: The operation that made the view.
        number: Which of its outputs the view is.
    """

    dependence: Dependence | None = None
    parent: Tensor | None = None
    seen: Dependence | None = None
    call: Call | None = None
    number: int = 0


def record_of(value: Any) -> Record | None:
    """The record of a traced tensor; None for anything else."""
    return getattr(value, _RECORD, None) if isinstance(value, Tensor) else None


def attach(tensor: Tensor, record: Record) -> None:
    """Remember the record of a tensor."""
    setattr(tensor, _RECORD, record)


def dependence_of(value: Any) -> Dependence | None:
    """What a tensor depends on; None for constants and for anything else."""
    record = record_of(value)
    return None if record is None else record.dependence


def value_of(tensor: Tensor) -> Tensor | None:
    """A constant with its data; None for one without, or what depends on the input."""
    return getattr(tensor, _VALUE, None) if tensor.is_meta else tensor


def set_value(tensor: Tensor, value: Tensor | None) -> None:
    """Remember the data of a constant that has none itself."""
    setattr(tensor, _VALUE, value)


def located(tensor: Tensor) -> Located:
    """Dimensions of a traced tensor along which units of each axis lie."""
    dependence = dependence_of(tensor)
    return Located() if dependence is None else dependence.located


def base_of(tensor: Tensor) -> Tensor | None:
    """The tensor that another one is a view of, if it is one."""
    record = record_of(tensor)
    return None if record is None else record.parent


@dataclass
class Call(Invocation):
    """One operation.

    Attributes:
        mixes_all: Whether it mixed the whole extent of an axis; set by `reduce` and `mix`.
    """

    mixes_all: bool = field(default=False)

    @property
    def source(self) -> Dependence:
        """Dependence of the first argument."""
        dependence = dependence_of(self.first)
        # Without one, another argument depends on the input.
        return NOTHING if dependence is None else dependence

    def reduce(self, dependence: Dependence, dims: Iterable[int]) -> Dependence:
        """Let all positions along `dims` see what any of them sees; `dims` stay as they are."""
        dims = tuple(dims)
        lost: list[Source] = []

        def change(source: Source) -> Source | None:
            reduced = layout.reduce(source, dims)
            if reduced is None:
                lost.append(source)
            return reduced

        reduced = dependence.each(change)
        wide = [source for axis in dependence.axes if not axis.is_flat for source in axis.sources]
        self.mixes_all |= any(source is one for source in lost for one in wide)
        return reduced

    def mix(self, dependence: Dependence, dims: Iterable[int]) -> Dependence:
        """Add to each position what the others along `dims` see; where that is all, leave it."""
        reduced = self.reduce(dependence, dims)
        if reduced is dependence or reduced == dependence:
            return dependence
        return merge([dependence, reduced], [self.first.shape] * 2)

    def unplaced(self, values: Iterable[Any], ndim: int) -> Dependence:
        """What depends on all elements of tensors, and lies nowhere in `ndim` dimensions."""
        nowhere = (None,) * ndim
        parts = [
            self.reduce(found, range(value.ndim)).each(lambda one: one._replace(dims=nowhere))
            for value in values
            if (found := dependence_of(value)) is not None
        ]
        return merge(parts, [(1,) * ndim] * len(parts)) if parts else NOTHING


NOTHING = Dependence()


def merge(dependences: Sequence[Dependence], shapes: Sequence[Sequence[int]]) -> Dependence:
    """Dependence of an elementwise operation on tensors of these shapes, broadcast.

    Args:
        dependences: Of the tensors that depend on the input; at least one.
        shapes: Theirs, and those of any other tensors after them.

    Raises:
        ValueError: If the branches have different strides.
    """
    first = dependences[0]
    if all(other is first for other in dependences) and len(set(map(tuple, shapes))) == 1:
        return first
    shape = _broadcast_shape(shapes)
    spread = [
        broadcast(dependence, own, shape)
        for dependence, own in zip(dependences, shapes, strict=False)
    ]
    is_global = any(dependence.is_global for dependence in spread)
    # What depends on nothing has no axes.
    along = list(zip_longest(*(dependence.axes for dependence in spread), fillvalue=Axis()))
    return Dependence(tuple(map(_merge_axes, along)), is_global or any(map(_is_spread, along)))


def broadcast(dependence: Dependence, own: Sequence[int], shape: Sequence[int]) -> Dependence:
    """Spread dimensions of length 1 and insert new ones in front.

    A map of a single unit that is spread over several has no location any more.
    """
    missing = len(shape) - len(own)

    def change(source: Source) -> Source | None:
        for span, length, new_length in zip(source.dims, own, shape[missing:], strict=True):
            if span and length != new_length:
                return None
        return positions.insert(source, 0, missing)

    return dependence.each(change)


@lru_cache(maxsize=1024)
def units_of(source: Source) -> int:
    """Number of different units of a source."""
    return prod(factor.length for factor in source.factors)


def _broadcast_shape(shapes: Sequence[Sequence[int]]) -> tuple[int, ...]:
    ndim = max(map(len, shapes))
    padded = [(1,) * (ndim - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(max(lengths) for lengths in zip(*padded, strict=True))


def _is_spread(axes: Sequence[Axis]) -> bool:
    """Whether units all along an axis see the same units: each sees the whole axis then."""
    sources = [source for axis in axes for source in axis.sources]
    is_flat = any(axis.is_flat for axis in axes)
    if is_flat or not sources or max(map(units_of, sources)) == 1:
        return False
    pooled = any(axis.pooled for axis in axes if not axis.sources)
    return pooled or len(_along_the_axis(sources)) < len(sources)


def _along_the_axis(sources: Sequence[Source]) -> Sequence[Source]:
    """Sources without those that stay where the units of the others go all along the axis."""
    if len(sources) == 1 or not any(source.factors for source in sources):
        return sources
    dim, length = layout.outermost(max(sources, key=units_of))
    return [s for s in sources if s.dims[dim]] if length > 1 else sources


def _each(axis: Axis, change: Callable[[Source], Source | None], whole: Dependence) -> Axis:
    if not axis.sources:
        return axis
    changed = [change(source) for source in axis.sources]
    kept = [source for source in changed if source is not None]
    if kept:
        return axis._replace(sources=layout.merge(kept))
    tokens = whole.located.shared
    # What windows saw counts for each of their positions.
    sources = axis.sources
    if not tokens:
        sources = layout.merge([layout.canonical(source) for source in sources])
    pooled = _pool(Pooled(layout.resolve(s, tokens), units_of(s)) for s in sources)
    return axis._replace(sources=(), pooled=pooled)


def _merge_axes(axes: Sequence[Axis]) -> Axis:
    sources = [source for axis in axes for source in axis.sources]
    is_flat = any(axis.is_flat for axis in axes)
    if sources:
        return Axis(layout.merge(_along_the_axis(sources)), None, is_flat)
    return Axis((), _pool(axis.pooled for axis in axes if axis.pooled), is_flat)


def _pool(pooled: Iterable[Pooled | None]) -> Pooled | None:
    """The units that see most: pooled branches need not have equal strides."""
    known = [one for one in pooled if one]
    return max(known, key=lambda one: max(i.size for i in one.grid.widest), default=None)
