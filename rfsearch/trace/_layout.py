"""Where the units of one axis lie in the dimensions of a tensor.

A tensor may spread one axis of the image over several dimensions (windows cut out of a map, tokens
in a row, pixels moved into channels). A `Source` says how: each dimension is a product of factors,
outermost first, as in a mixed-radix number, and the unit at a position is the sum of its digits
times the factors' weights. Moving data is arithmetic on these factors, whatever the image's size.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import combinations, product
from math import prod
from typing import NamedTuple

from rfsearch.field.unit_grid import Grid, Taps, gather, go_on, is_constant, join, shift

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
    return Source(kept, gather(source.grid, (offsets,), 1, extent(kept)))


def window(source: Source, dim: int, taps: Taps, advance: int, length: int) -> Source | None:
    """Slide a window along a dimension; see `rfsearch.field.unit_grid.gather`.

    None if the units do not lie one after another along it, as within windows that were cut out.
    """
    if source.dims[dim] is None or (taps == ((0,),) and advance == 1):
        return source
    source = canonical(source)
    span = source.dims[dim]
    if span is None or span.factors != (Factor(span.inner, 1),) or located(source) != [dim]:
        return None
    grid = gather(shift(go_on(source.grid), -span.before), taps, advance, length)
    return source.replace(dim, Span((Factor(length, 1),)), grid)


def canonical(source: Source) -> Source:
    """Number the units along their one dimension by its positions, where that is possible."""
    if len(located(source)) > 1:
        source = _without_idle_factors(source)
    dims = located(source)
    if len(dims) != 1:
        return source
    (dim,) = dims
    span = source.dims[dim]
    assert span is not None
    outer, *rest = without_ones(span.factors)
    phases = prod(factor.length for factor in rest)
    if not outer.weight or phases > _MAX_PHASES:
        return source
    taps = tuple((sum(digits),) for digits in product(*map(_digits, rest)))
    factors = (Factor(outer.length * phases, 1),)
    grid = gather(source.grid, taps, outer.weight, outer.length * phases)
    return source.replace(dim, Span(factors, span.before, span.after), grid)


def merge(sources: Sequence[Source]) -> tuple[Source, ...]:
    """Unite sources that lie alike; others stay apart until a window numbers their units."""
    if len(sources) == 1:
        return tuple(sources)
    grids: dict[tuple[Span | None, ...], Grid] = {}
    for dims, grid in sources:
        grids[dims] = join(grids[dims], grid, extent(dims)) if dims in grids else grid
    return tuple(Source(dims, grid) for dims, grid in grids.items())


class Seam(NamedTuple):
    """A dimension along which different maps lie side by side, and where the next ones start."""

    dim: int
    places: tuple[int, ...]


def seam(sources: Sequence[Source]) -> Seam | None:
    """Where different maps lie at different positions of a dimension, if they do."""
    if len(sources) < 2:
        return None
    for dim in range(len(sources[0].dims)):
        placed = [
            (span.before, span.before + span.inner, _from_position_0(source.grid, span))
            for source in sources
            if (span := source.dims[dim])
        ]
        apart = any(
            (stop <= begin or end <= start) and grid != other
            for (start, stop, grid), (begin, end, other) in combinations(placed, 2)
        )
        if apart:
            places = {0, *(place for start, stop, _ in placed for place in (start, stop))}
            length = next(span.length for source in sources if (span := source.dims[dim]))
            return Seam(dim, tuple(sorted(places - {0, length})))
    return None


def resolve(source: Source, tokens: Collection[int] = ()) -> Grid:
    """What the different units see, one after another, wherever they lie.

    Along a dimension of a map unit 0 is that of position 0, though it may see nothing.

    Args:
        source: What lies somewhere.
        tokens: Dimensions that hold the other axis too. Unit 0 is the first that sees something:
            positions in front of it are tokens for no place, and no rows or columns.
    """
    if not source.factors:
        return gather(source.grid, ((0,),), 1, 1)  # A single unit.
    weight = min(factor.weight for factor in source.factors)
    (dim, *others), before = located(source), 0
    span = source.dims[dim]
    if span and weight == 1 and len(source.factors) == 1 and not others and dim not in tokens:
        before = span.before
    units = -(-(before + extent(source.dims)) // weight)
    return go_on(gather(shift(source.grid, -before), ((0,),), weight, units))


def _from_position_0(grid: Grid, span: Span) -> Grid:
    """The grid whose unit 0 is that which would lie at position 0 of a span."""
    outer, *rest = without_ones(span.factors) or span.factors
    return shift(grid, -(span.before // prod(factor.length for factor in rest)) * outer.weight)


class Outermost(NamedTuple):
    """The dimension that the largest steps along the axis are in, and how many they are."""

    dim: int
    length: int


def outermost(source: Source) -> Outermost:
    """Where the largest steps of a source are."""
    factors = (
        (factor.weight, factor.length, dim)
        for dim, span in enumerate(source.dims)
        if span
        for factor in span.factors
        if factor.weight
    )
    _, length, dim = max(factors)
    return Outermost(dim, length)


def located(source: Source) -> list[int]:
    """Dimensions along which the unit varies."""
    return [dim for dim, span in enumerate(source.dims) if span]


def extent(dims: Iterable[Span | None]) -> int:
    """The number of the last unit that lies somewhere, plus one."""
    return 1 + sum((f.length - 1) * f.weight for s in dims if s for f in s.factors)


def _varying(span: Span | None) -> list[Factor]:
    return [factor for factor in span.factors if factor.weight] if span else []


def _digits(factor: Factor) -> list[int]:
    return [digit * factor.weight for digit in range(factor.length)]


def without_ones(factors: Iterable[Factor]) -> list[Factor]:
    """Factors without those that only hold the place of a dimension of length 1."""
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
                varies = any(kept_factor.weight for kept_factor in kept)
                idle = Span(tuple(kept)) if varies else None
                return _without_idle_factors(source.replace(dim, idle))
    return source
