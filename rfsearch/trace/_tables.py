"""Following a source position by position, where factors cannot say what becomes of it.

An array holds the number of the unit at each position; moving data is moving that array. What
comes out is written in factors again where that is possible. Else each position gets a unit of its
own, in a grid that is a table of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import gcd, prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rfsearch.field.unit_grid import Grid, Taps, gather, shift, tabulate
from rfsearch.trace._layout import Factor, Source, Span, located

#: The number of a unit where a position sees nothing.
NOTHING = np.iinfo(np.int64).min
#: Most positions that are moved one by one, and most that get units of their own.
_MAX_MOVED, _MAX_UNITS = 2**24, 2**17

Numbers = NDArray[np.int64]


def rearranged(
    source: Source, move: Callable[[Numbers], Numbers], shape: Sequence[int] | None = None
) -> Source | None:
    """Move the positions of a source; None if those that are left see nothing.

    Args:
        source: What lies somewhere.
        move: Moves an array of the tensor's shape; dimensions along which the unit stays are of
            length 1 in it, unless `shape` is given.
        shape: The tensor's shape, where the positions along all dimensions have to be moved.

    Raises:
        ValueError: If there are too many of them.
    """
    if shape is not None and prod(shape) > _MAX_MOVED:
        raise ValueError("A reshape cuts through positions that are not neighbours in the input")
    numbers = unit_numbers(source)
    moved = move(numbers if shape is None else np.broadcast_to(numbers, shape))
    return _source(moved, source.grid, located(source)[0])


def slide(source: Source, dim: int, taps: Taps, advance: int, length: int) -> Source | None:
    """Slide a window along a dimension beyond whose ends nothing lies."""
    numbers = np.moveaxis(unit_numbers(source), dim, -1)
    old_length, rest = numbers.shape[-1], numbers.shape[:-1]
    # Rows of the same units share their new ones.
    rows, of_row = np.unique(numbers.reshape(-1, old_length), axis=0, return_inverse=True)
    if len(rows) * length > _MAX_UNITS:
        raise ValueError("A window slides over positions that are not neighbours in the input")
    seen = []
    for row in rows:
        for turn, phase in (divmod(unit, len(taps)) for unit in range(length)):
            places = (tap + turn * advance for tap in taps[phase])
            inside = {int(row[place]) for place in places if 0 <= place < old_length}
            seen.append(tuple(inside - {NOTHING}))
    grid = tabulate(source.grid, seen)
    new = of_row.reshape(-1, 1) * length + np.arange(length)
    if _runs_along_rows(grid, len(rows)):
        order = np.arange(len(rows) * length).reshape(len(rows), length).T.ravel()
        grid, new = tabulate(grid, [(int(unit),) for unit in order]), order.argsort()[new]
    new = new.reshape(*rest, length)
    return _source(np.moveaxis(new, -1, dim), grid, dim)


def _runs_along_rows(grid: Grid, rows: int) -> bool:
    """Whether units of a table, row by row, see what lies further apart along a row than across.

    The largest steps along the axis are those of the outermost factor.
    """
    starts = np.ma.masked_array(
        [interval.start for interval in grid.widest],
        [interval.size == 0 for interval in grid.widest],
    ).reshape(rows, -1)
    across, along = (int(np.ma.ptp(starts, axis).filled(0).max()) for axis in (0, 1))
    return along > across


class Unit(NamedTuple):
    """A single unit, unit 0 of a grid, and the positions of a dimension that see it."""

    start: int
    length: int
    grid: Grid


def row(units: Sequence[Unit], dim: int, shape: Sequence[int]) -> Source:
    """Units one after another along a dimension, each with an interval of its own."""
    numbers = np.full(shape[dim], NOTHING)
    for number, (start, length, _) in enumerate(units):
        numbers[start : start + length] = number
    widest = tuple(unit.grid.interval(0) for unit in units)
    narrowest = tuple(unit.grid._replace(widest=unit.grid.narrowest).interval(0) for unit in units)
    # Only their intervals are taken from it, which makes the stride of the table.
    every = Grid(1, widest, narrowest, 0)
    table = tabulate(every, [(number,) for number in range(len(units))])
    along = [-1 if d == dim else 1 for d in range(len(shape))]
    found = _source(numbers.reshape(along), table, dim)
    assert found is not None
    return found


def unit_numbers(source: Source) -> Numbers:
    """The unit at each position, in an array of length 1 where the unit stays."""
    ndim = len(source.dims)
    numbers, outside = np.zeros((1,) * ndim, np.int64), np.zeros((1,) * ndim, bool)
    for dim in located(source):
        span = source.dims[dim]
        assert span is not None
        inner = np.zeros(1, np.int64)
        for factor in span.factors:
            inner = (inner[:, None] + np.arange(factor.length) * factor.weight).ravel()
        ends = (span.before, span.after)
        along = [-1 if d == dim else 1 for d in range(ndim)]
        numbers = numbers + np.pad(inner, ends).reshape(along)
        empty = np.pad(np.zeros(len(inner), bool), ends, constant_values=True)
        outside = outside | empty.reshape(along)
    return np.where(outside, NOTHING, numbers)


def _source(numbers: Numbers, grid: Grid, axis: int) -> Source | None:
    """A source from the unit at each position.

    None if they see nothing, or all the same unit where dimension `axis` does not keep its place.
    """
    shape = numbers.shape
    for dim in range(numbers.ndim):
        if (numbers == numbers.take([0], dim)).all():
            numbers = numbers.take([0], dim)
    if (numbers == NOTHING).all():
        return None
    if numbers.size == 1:
        if shape[axis : axis + 1] != (1,):
            return None
        dims = tuple(Span((Factor(1, 1),)) if d == axis else None for d in range(len(shape)))
        return Source(dims, shift(grid, int(numbers.flat[0])))
    ends = [_ends(numbers, dim) for dim in range(numbers.ndim)]
    inner = numbers[tuple(slice(before, n - after) for before, after, n in ends)]
    first = int(inner.flat[0])
    factors = _factors_along_dims(inner - first) if (inner != NOTHING).all() else None
    if factors is None:
        (grid, factors), first = _renumbered(inner, grid), 0
    spans = (
        Span(own, before, after) if any(f.weight for f in own) or before or after else None
        for own, (before, after, _) in zip(factors, ends, strict=True)
    )
    return Source(tuple(spans), shift(grid, first))


class _Renumbered(NamedTuple):
    """A grid whose units are in an order that factors can say, and the factors of dimensions."""

    grid: Grid
    factors: list[tuple[Factor, ...]]


def _renumbered(numbers: Numbers, grid: Grid) -> _Renumbered:
    """Give units of their own to all positions along the dimensions that are in no order.

    Raises:
        ValueError: If there are too many of them.
    """
    steady = {dim: own for dim in range(numbers.ndim) if (own := _steps(numbers, dim))}
    cut = (slice(1) if dim in steady else slice(None) for dim in range(numbers.ndim))
    table = numbers[tuple(cut)]
    taps = tuple(() if number == NOTHING else (int(number),) for number in table.flat)
    every = [factor for own in steady.values() for factor in own]
    advance = gcd(*(factor.weight for factor in every))
    # The others repeat the table as often as they advance.
    repeats = 1 + sum((f.length - 1) * f.weight // advance for f in every)
    goes_on = advance and grid.first is None
    if len(taps) * (1 if goes_on else repeats) > _MAX_UNITS:
        raise ValueError("Positions of the image are moved in no order that can be followed")
    grid = gather(grid, taps, advance, repeats * len(taps)) if advance else tabulate(grid, taps)
    factors: list[tuple[Factor, ...]] = []
    for dim, length in enumerate(numbers.shape):
        own = steady.get(dim, ())
        if own:
            own = tuple(Factor(f.length, f.weight // advance * len(taps)) for f in own)
        elif length > 1:
            own = (Factor(length, prod(table.shape[dim + 1 :])),)
        factors.append(own)
    return _Renumbered(grid, factors)


def _steps(numbers: Numbers, dim: int) -> tuple[Factor, ...]:
    """The factors of a dimension along which units advance alike at all others; none if not so."""
    is_nothing = numbers == NOTHING
    length = numbers.shape[dim]
    if length == 1 or (is_nothing != is_nothing.take([0], dim)).any():
        return ()
    steps = np.where(is_nothing, 0, numbers - numbers.take([0], dim))
    across = np.moveaxis(steps, dim, 0).reshape(length, -1)
    seen = ~np.moveaxis(is_nothing, dim, 0).reshape(length, -1)[0]
    digits = across[:, seen][:, 0]
    if (across[:, seen] != digits[:, None]).any() or not digits.any():
        return ()
    own = tuple(_factors(digits))
    return () if any(factor.weight < 0 for factor in own) else own


def _ends(numbers: Numbers, dim: int) -> tuple[int, int, int]:
    """How many positions at both ends of a dimension see nothing, and its length."""
    others = tuple(d for d in range(numbers.ndim) if d != dim)
    (seeing,) = (numbers != NOTHING).any(axis=others).nonzero()
    length = numbers.shape[dim]
    return int(seeing[0]), length - 1 - int(seeing[-1]), length


def _factors_along_dims(numbers: Numbers) -> list[tuple[Factor, ...]] | None:
    """Factors of each dimension; None if the numbers are no sum of theirs."""
    total, factors = np.zeros((1,) * numbers.ndim, np.int64), []
    for dim, length in enumerate(numbers.shape):
        along = [-1 if d == dim else 1 for d in range(numbers.ndim)]
        digits = np.moveaxis(numbers, dim, 0).reshape(length, -1)[:, 0]
        total = total + digits.reshape(along)
        own = tuple(_factors(digits)) if length > 1 else ()
        if any(factor.weight < 0 for factor in own):
            return None
        factors.append(own)
    return factors if (total == numbers).all() else None


def _factors(digits: Numbers) -> Iterator[Factor]:
    """Write numbers that start with 0 as a mixed-radix number, outermost factor first.

    Yields a factor of a negative weight where they are none.
    """
    length, weight = len(digits), int(digits[1])
    (breaks,) = (digits != weight * np.arange(length)).nonzero()
    run = int(breaks[0]) if len(breaks) else length
    outer = digits[::run]
    if (
        length % run
        or (digits != np.repeat(outer, run) + weight * (np.arange(length) % run)).any()
    ):
        yield Factor(length, -1)
        return
    if len(outer) > 1:
        yield from _factors(outer)
    yield Factor(run, weight)
