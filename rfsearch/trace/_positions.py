"""Moving the positions of a tensor: what becomes of a source's layout.

Nothing here changes what a unit sees, only where it lies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

from rfsearch.field.unit_grid import shift
from rfsearch.trace._layout import Factor, Source, Span, canonical, located, without_ones
from rfsearch.trace._tables import rearranged


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


def reshape(source: Source, shape: Sequence[int], new_shape: Sequence[int]) -> Source | None:
    """Redistribute the factors over new dimensions, in the same order.

    The only unit of a map has no location any more where no dimension is left for its axis.

    Raises:
        ValueError: If a new dimension takes a part of a factor that is no divisor of it, and the
            positions are too many to be followed one by one.
    """
    dims = _redistributed(source, shape, new_shape)
    if dims is None:
        # Windows of another size than those before: number the units through.
        source = canonical(source)
        dims = _redistributed(source, shape, new_shape)
    if dims is None:
        return rearranged(source, lambda numbers: numbers.reshape(new_shape), shape)
    if not any(dims) and any(source.dims):
        return None
    return source._replace(dims=dims)


def narrow(source: Source, dim: int, start: int, length: int, step: int = 1) -> Source | None:
    """Keep `length` positions of a dimension; None if they see nothing."""
    span = source.dims[dim]
    if span is None:
        return source
    first = max(start, span.before)
    stop = min(start + (length - 1) * step + 1, span.before + span.inner)
    if first >= stop:
        return None
    before = max(0, span.before - start)
    kept = length - before - max(0, start + length - span.before - span.inner)
    kept = length if step > 1 else kept
    is_joined = step > 1 and (span.before or span.after)
    cut = None if is_joined else _cut(source, dim, first - span.before, kept, step)
    if cut is None:
        places = range(start, start + length * step, step)
        return rearranged(source, lambda numbers: numbers.take(places, dim))
    inner = cut.dims[dim]
    assert inner is not None
    return cut.replace(dim, Span(inner.factors, before, length - before - kept))


def pad(source: Source, dim: int, before: int, after: int) -> Source | None:
    """Pad (or crop, if negative), continuing the grid where neighbours are neighbours in it."""
    span = source.dims[dim]
    if span is None or before == after == 0:
        return source
    if len(span.factors) == 1 and located(source) == [dim]:
        weight = span.factors[0].weight
        grid = shift(source.grid, -(span.before + before) * weight)
        return source.replace(dim, Span((Factor(span.length + before + after, weight),)), grid)
    padded = surround(source, dim, max(0, before), max(0, after))
    kept = span.length + before + after
    return narrow(padded, dim, max(0, -before), kept)


def surround(source: Source, dim: int, before: int, after: int) -> Source:
    """Join positions that see nothing to both ends of a dimension."""
    span = source.dims[dim]
    if span is None:
        return source
    return source.replace(dim, Span(span.factors, span.before + before, span.after + after))


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


def _redistributed(
    source: Source, shape: Sequence[int], new_shape: Sequence[int]
) -> tuple[Span | None, ...] | None:
    items = _items(source.dims, shape)
    dims: list[list[Factor | Span]] = []
    for dim, length in enumerate(new_shape):
        # The first dimension is that of the batch, and takes no axis of one unit.
        is_last = dim > 0 and tuple(new_shape[dim + 1 : dim + 2]) != (1,)
        taken = _take_ones(items, is_last) if length == 1 else _take(items, length)
        if taken is None or _is_mixed(taken):
            return None
        dims.append(taken)
    return tuple(_span(taken) for taken in dims)


def _is_mixed(taken: Sequence[Factor | Span]) -> bool:
    """Whether positions that see nothing would lie among others."""
    several = sum(item.length > 1 for item in taken) > 1
    return several and any(isinstance(item, Span) for item in taken)


def _take_ones(items: list[Factor | Span], is_last: bool) -> list[Factor | Span]:
    """Take a factor of length 1 from the front, or all of them for the last such dimension."""
    ones = 0
    while ones < len(items) and isinstance(items[ones], Factor) and items[ones].length == 1:
        ones += 1
    taken = items[: ones if is_last else min(ones, 1)]
    del items[: len(taken)]
    return taken


def _take(items: list[Factor | Span], length: int) -> list[Factor | Span] | None:
    """Take factors for a dimension of `length` positions from the front; None if none fit."""
    taken: list[Factor | Span] = []
    while length > 1:
        item = items.pop(0)
        if length % item.length == 0 and (isinstance(item, Factor) or length == item.length):
            taken.append(item)
            length //= item.length
        elif isinstance(item, Factor) and item.length % length == 0:
            inner = item.length // length
            taken.append(Factor(length, item.weight * inner))
            items.insert(0, Factor(inner, item.weight))
            length = 1
        else:
            return None
    return taken


def _span(taken: Sequence[Factor | Span]) -> Span | None:
    joined = [item for item in taken if isinstance(item, Span)]
    if joined:
        return joined[0]
    factors = tuple(item for item in _fused(taken) if isinstance(item, Factor))
    return Span(factors) if any(factor.weight for factor in factors) else None


def _cut(source: Source, dim: int, start: int, length: int, step: int) -> Source | None:
    """Keep positions that are whole factors; None if they cut through several."""
    span = source.dims[dim]
    assert span is not None
    if (start, length, step) == (0, span.inner, 1):
        return source.replace(dim, Span(span.factors))
    outer, *rest = without_ones(span.factors)
    inner = prod(factor.length for factor in rest)
    if start % inner == 0 and length % inner == 0 and (step == 1 or inner == 1):
        factors = (Factor(length // inner, outer.weight * step), *rest)
        grid = shift(source.grid, start // inner * outer.weight)
        return source.replace(dim, Span(factors), grid)
    if located(source) == [dim]:
        numbered = canonical(source.replace(dim, Span(span.factors)))
        if numbered.dims != source.dims:
            return _cut(numbered, dim, start, length, step)
    return None
