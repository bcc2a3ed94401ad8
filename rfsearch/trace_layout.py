"""Where the units of one axis lie in the dimensions of a tensor.

A tensor may spread one axis of the image over several dimensions (windows cut out of a map, tokens
in a row, pixels moved into channels). A `Source` says how: each dimension is a product of factors,
outermost first, as in a mixed-radix number, and the unit at a position is the sum of its digits
times the factors' weights. Moving data is arithmetic on these factors, whatever the image's size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from math import prod
from typing import NamedTuple

from rfsearch.trace_grid import Grid, Taps, gather, is_constant, join, shift

#: Largest number of phases that one dimension is turned into.
_MAX_PHASES = 4096


class Factor(NamedTuple):
    """`length` positions; the unit advances by `weight` from one to the next (0: it stays)."""

    length: int
    weight: int


class Span(NamedTuple):
    """One dimension along which the unit varies: its factors, and positions that see nothing."""

    factors: tuple[Factor, ...]
    before: int = 0
    after: int = 0

    @property
    def inner(self) -> int:
        """Number of positions that see something."""
        return prod(factor.length for factor in self.factors)

    @property
    def length(self) -> int:
        """Number of positions."""
        return self.before + self.inner + self.after


class Source(NamedTuple):
    """A dependence on the input: the layout of the units (`None`: it stays) and what they see."""

    dims: tuple[Span | None, ...]
    grid: Grid

    @property
    def factors(self) -> list[Factor]:
        """All factors along which the unit varies."""
        return [f for span in self.dims if span for f in span.factors if f.weight]

    def replace(self, dim: int, span: Span | None, grid: Grid | None = None) -> Source:
        """The same with another span at `dim`."""
        dims = (*self.dims[:dim], span, *self.dims[dim + 1 :])
        return Source(dims, self.grid if grid is None else grid)


def permute(source: Source, order: Sequence[int]) -> Source:
    """Reorder the dimensions."""
    return source._replace(dims=tuple(source.dims[dim] for dim in order))


def drop(source: Source, dims: Iterable[int]) -> Source:
    """Remove dimensions along which the unit stays."""
    gone = set(dims)
    return source._replace(dims=tuple(s for dim, s in enumerate(source.dims) if dim not in gone))


def insert(source: Source, dim: int, count: int = 1) -> Source:
    """Insert dimensions along which the unit stays."""
    return source._replace(dims=(*source.dims[:dim], *(None,) * count, *source.dims[dim:]))


def reshape(source: Source, shape: Sequence[int], new_shape: Sequence[int]) -> Source:
    """Redistribute the factors over new dimensions, in the same order.

    Raises:
        ValueError: If a new dimension takes a part of a factor that is no divisor of it.
    """
    items = _items(source.dims, shape)
    dims = []
    for length in new_shape:
        taken, items = _take(items, length)
        dims.append(taken)
    # Maps of one unit: their factors have no positions of their own to go to.
    left = [item for item in items if isinstance(item, Factor)]
    if any(factor.weight for factor in left) and dims:
        dims[-1] = [*dims[-1], *left]
    return source._replace(dims=tuple(_span(taken) for taken in dims))


def reduce(source: Source, dims: Iterable[int]) -> Source | None:
    """Let every unit see what all positions along `dims` see; None if they span the whole axis."""
    reduced = {dim for dim in dims if source.dims[dim]}
    if not reduced:
        return source
    inside = [f for dim in reduced for f in _varying(source.dims[dim])]
    outermost = max(source.factors, key=lambda factor: (factor.weight, factor.length))
    if outermost in inside:
        return None
    offsets = tuple(sorted({sum(digits) for digits in product(*map(_digits, inside))}))
    kept = tuple(None if dim in reduced else span for dim, span in enumerate(source.dims))
    return Source(kept, gather(source.grid, (offsets,), 1))


def window(source: Source, dim: int, taps: Taps, advance: int, length: int) -> Source:
    """Slide a window along a dimension; see `rfsearch.trace_grid.gather`.

    Raises:
        ValueError: If the units do not lie one after another along it.
    """
    if source.dims[dim] is None or (taps == ((0,),) and advance == 1):
        return source
    source = canonical(source)
    span = source.dims[dim]
    if span is None or span.factors != (Factor(span.inner, 1),) or _located(source) != [dim]:
        import os
        if os.environ.get('DBG'): print('DBG', dim, source.dims, source.grid.step, source.grid.period, taps)
        raise ValueError("A window slides over positions that are not neighbours in the input")
    grid = gather(shift(source.grid, -span.before), taps, advance)
    return source.replace(dim, Span((Factor(length, 1),)), grid)


def narrow(source: Source, dim: int, start: int, length: int, step: int = 1) -> Source | None:
    """Keep `length` positions of a dimension; None if they see nothing.

    Raises:
        ValueError: If they cut through several factors.
    """
    span = source.dims[dim]
    if span is None:
        return source
    first = max(start, span.before)
    stop = min(start + (length - 1) * step + 1, span.before + span.inner)
    if first >= stop:
        return None
    if step > 1 and (span.before or span.after):
        raise ValueError("A strided slice cuts through joined tensors")
    before = max(0, span.before - start)
    kept = length - before - max(0, start + length - span.before - span.inner)
    kept = length if step > 1 else kept
    cut = _cut(source, dim, first - span.before, kept, step)
    inner = cut.dims[dim]
    assert inner is not None
    return cut.replace(dim, Span(inner.factors, before, length - before - kept))


def pad(source: Source, dim: int, before: int, after: int) -> Source | None:
    """Pad (or crop, if negative) with positions that continue the grid where that is possible."""
    if source.dims[dim] is None or before == after == 0:
        return source
    source = canonical(source)
    span = source.dims[dim]
    assert span is not None
    if span.factors == (Factor(span.inner, 1),) and _located(source) == [dim]:
        grid = shift(source.grid, -span.before - before)
        return source.replace(dim, Span((Factor(span.length + before + after, 1),)), grid)
    if before < 0 or after < 0:
        raise ValueError("Cropping cuts through positions that are not neighbours in the input")
    return surround(source, dim, before, after)


def surround(source: Source, dim: int, before: int, after: int) -> Source:
    """Join positions that see nothing to both ends of a dimension."""
    span = source.dims[dim]
    if span is None:
        return source
    return source.replace(dim, Span(span.factors, span.before + before, span.after + after))


def canonical(source: Source) -> Source:
    """Number the units along their one dimension by its positions, where that is possible."""
    if len(_located(source)) > 1:
        source = _without_idle_factors(source)
    located = _located(source)
    if len(located) != 1:
        return source
    span = source.dims[located[0]]
    assert span is not None
    outer, *rest = _without_ones(span.factors)
    phases = prod(factor.length for factor in rest)
    if not outer.weight or phases > _MAX_PHASES:
        return source
    taps = tuple((sum(digits),) for digits in product(*map(_digits, rest)))
    factors = (Factor(outer.length * phases, 1),)
    grid = gather(source.grid, taps, outer.weight)
    return source.replace(located[0], Span(factors, span.before, span.after), grid)


def compact(source: Source) -> Source:
    """Undo `canonical` where neighbouring positions see the same: rows of tokens."""
    dim, *others = _located(source)
    span = source.dims[dim]
    assert span is not None
    period = source.grid.period
    if others or period == 1 or span.factors != (Factor(span.inner, 1),):
        return source
    for block in range(min(period, span.inner), 1, -1):
        starts = range(0, block * period, block)
        if span.inner % block == 0 and is_constant(source.grid, range(block), starts):
            factors = (Factor(span.inner // block, 1), Factor(block, 0))
            grid = gather(source.grid, ((0,),), block)
            return source.replace(dim, Span(factors, span.before, span.after), grid)
    return source


def merge(sources: Sequence[Source]) -> tuple[Source, ...]:
    """Unite sources that lie alike.

    Raises:
        ValueError: If their strides differ.
    """
    if len(sources) > 1:
        sources = _group(sources)
    if len(sources) > 1:
        # Others are left alone: a token's neighbours in a row are no neighbours in the image.
        places = [_located(source) for source in sources]
        sources = _group(
            [
                canonical(source) if places.count(place) > 1 else source
                for source, place in zip(sources, places, strict=True)
            ]
        )
        sources = [compact(source) for source in sources]
    return tuple(sources)


def resolve(source: Source) -> Grid:
    """What the different units see, one after another, wherever they lie."""
    weight = min(factor.weight for factor in source.factors)
    before = max(span.before for span in source.dims if span) if weight == 1 else 0
    single = len(source.factors) == 1 and len(_located(source)) == 1
    return gather(shift(source.grid, -before if single else 0), ((0,),), weight)


def _group(sources: Sequence[Source]) -> list[Source]:
    grids: dict[tuple[Span | None, ...], Grid] = {}
    for dims, grid in sources:
        grids[dims] = join(grids[dims], grid) if dims in grids else grid
    return [Source(dims, grid) for dims, grid in grids.items()]


def _located(source: Source) -> list[int]:
    return [dim for dim, span in enumerate(source.dims) if span]


def _varying(span: Span | None) -> list[Factor]:
    return [factor for factor in span.factors if factor.weight] if span else []


def _digits(factor: Factor) -> list[int]:
    return [digit * factor.weight for digit in range(factor.length)]


def _without_ones(factors: Iterable[Factor]) -> list[Factor]:
    return [factor for factor in factors if factor != (1, 0)]


def _without_idle_factors(source: Source) -> Source:
    """Set the weight of factors to 0 along which all units see the same."""
    factors = source.factors
    outermost = max(factors, key=lambda factor: (factor.weight, factor.length))
    for dim, span in enumerate(source.dims):
        for place, factor in enumerate(span.factors if span else ()):
            if not factor.weight or factor == outermost:
                continue
            others = [_digits(f)[: source.grid.period] for f in factors if f is not factor]
            units = sorted({sum(digits) for digits in product(*others)})
            if span and is_constant(source.grid, _digits(factor), units):
                kept = list(span.factors)
                kept[place] = Factor(factor.length, 0)
                return _without_idle_factors(source.replace(dim, _span(kept)))
    return source


def _items(dims: Sequence[Span | None], shape: Sequence[int]) -> list[Factor | Span]:
    """All factors in a row; a span with empty positions stays whole."""
    items: list[Factor | Span] = []
    for span, length in zip(dims, shape, strict=True):
        if span is None:
            items.append(Factor(length, 0))
        elif span.before or span.after:
            items.append(span)
        else:
            items.extend(span.factors)
    return _fused(items)


def _fused(items: Iterable[Factor | Span]) -> list[Factor | Span]:
    fused: list[Factor | Span] = []
    for item in items:
        last = fused[-1] if fused else None
        if (
            isinstance(item, Factor)
            and isinstance(last, Factor)
            and min(last.length, item.length) > 1
            and last.weight == item.length * item.weight
        ):
            fused[-1] = Factor(last.length * item.length, item.weight)
        else:
            fused.append(item)
    return fused


def _take(
    items: list[Factor | Span], length: int
) -> tuple[list[Factor | Span], list[Factor | Span]]:
    """Factors for a dimension of `length` positions, and what is left."""
    taken: list[Factor | Span] = []
    rest = list(items)
    if length == 1:
        whole = bool(rest) and isinstance(rest[0], Factor) and rest[0].length == 1
        return (rest[:1], rest[1:]) if whole else ([], rest)
    while length > 1:
        item = rest.pop(0)
        if length % item.length == 0 and (isinstance(item, Factor) or length == item.length):
            taken.append(item)
            length //= item.length
        elif isinstance(item, Factor) and item.length % length == 0:
            inner = item.length // length
            taken.append(Factor(length, item.weight * inner))
            rest.insert(0, Factor(inner, item.weight))
            length = 1
        else:
            raise ValueError("A reshape cuts through positions of the image")
    return taken, rest


def _span(taken: Sequence[Factor | Span]) -> Span | None:
    spans = [item for item in taken if isinstance(item, Span)]
    if spans:
        if any(item.length > 1 for item in taken if item is not spans[0]):
            raise ValueError("A reshape cuts through joined tensors")
        return spans[0]
    factors = tuple(item for item in _fused(taken) if isinstance(item, Factor))
    return Span(factors) if any(factor.weight for factor in factors) else None


def _cut(source: Source, dim: int, start: int, length: int, step: int) -> Source:
    span = source.dims[dim]
    assert span is not None
    if (start, length, step) == (0, span.inner, 1):
        return source.replace(dim, Span(span.factors))
    outer, *rest = _without_ones(span.factors)
    inner = prod(factor.length for factor in rest)
    if start % inner == 0 and length % inner == 0 and (step == 1 or inner == 1):
        factors = (Factor(length // inner, outer.weight * step), *rest)
        grid = shift(source.grid, start // inner * outer.weight)
        return source.replace(dim, Span(factors), grid)
    if _located(source) == [dim]:
        numbered = canonical(source.replace(dim, Span(span.factors)))
        if numbered.dims != source.dims:
            return _cut(numbered, dim, start, length, step)
    raise ValueError("A slice cuts through positions that are not neighbours in the input")
