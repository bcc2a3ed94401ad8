"""Intervals of the input that the units of one axis see, on an unbounded grid of units.

Borders are left out: the grid goes on for ever in both directions, as if the image were large
enough. Padding and cropping are shifts then, and a unit in the interior of a large image is
described exactly, whatever the size of the image that is traced.

Units repeat with a period: 1 in most networks, more after up-sampling, where neighbouring units
see intervals of different sizes (their phase), and where windows are cut out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from math import gcd, lcm
from typing import NamedTuple, cast

from rfsearch.field.receptive_field import ReceptiveField

#: For each phase of a new unit, the old units that it sees.
Taps = tuple[tuple[int, ...], ...]


#: Longer common periods of two grids are cut to the units that there are.
_MAX_PERIOD = 4096


class Interval(NamedTuple):
    """Input pixels from `start` to before `stop`, in px. A negative `start` is padding."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of pixels, in px."""
        return self.stop - self.start


#: Interval of a unit that sees nothing: a gap between the taps of a transposed convolution.
EMPTY = Interval(0, 0)


class Grid(NamedTuple):
    """What each unit sees along one axis.

    Attributes:
        step: Input pixels between a unit and the unit one period after it, in px.
        widest: Intervals of the units 0 to `period - 1`, over all paths.
        narrowest: The same over the path that sees least, where paths join.
        first: The unit that these intervals start with, where they are all that there are: units
            without a pattern that could go on. `None` where they go on for ever from unit 0.
    """

    step: int
    widest: tuple[Interval, ...]
    narrowest: tuple[Interval, ...]
    first: int | None = None

    @property
    def period(self) -> int:
        """Number of units after which the sizes of the intervals repeat."""
        return len(self.widest)

    @property
    def stride(self) -> Fraction:
        """Input pixels between neighbouring units, in px; below 1 after super-resolution."""
        return Fraction(self.step, self.period)

    @property
    def smallest(self) -> int:
        """Size of the largest interval over the narrowest paths, in px."""
        return max(interval.size for interval in self.narrowest)

    def interval(self, unit: int) -> Interval:
        """Interval of one unit over all paths; `EMPTY` where there is no such unit."""
        return _at(self, self.widest, unit)

    def field(self) -> ReceptiveField:
        """The largest interval over a period, as a receptive field.

        A stride that is no whole number of px is a `Fraction`, and so is the start then.
        """
        phase = max(range(self.period), key=lambda unit: self.widest[unit].size)
        start, stop = self.widest[phase]
        before = (phase + (self.first or 0)) * self.stride
        return ReceptiveField(_number(start - before), stop - start, _number(self.stride))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the intervals of the units of one period, in px."""
        return tuple(interval.size for interval in self.widest)


#: The pixels themselves.
PIXELS = Grid(1, (Interval(0, 1),), (Interval(0, 1),))


def gather(grid: Grid, taps: Taps, advance: int, units: int | None = None) -> Grid:
    """Units that each see several units of a grid.

    Args:
        grid: What the old units see.
        taps: Old units that the new units of one period see.
        advance: Old units between a new unit and the one `len(taps)` after it.
        units: How many new units there are, from unit 0 on: only where the old ones are all that
            there are.
    """
    if grid.first is None:
        return _gather_forever(grid, taps, advance)
    if units is None:
        units = (grid.first + grid.period) * len(taps) // advance
    rounds = (divmod(unit, len(taps)) for unit in range(units))
    seen = [tuple(tap + turn * advance for tap in taps[phase]) for turn, phase in rounds]
    return tabulate(grid, seen)


def tabulate(grid: Grid, taps: Sequence[Sequence[int]]) -> Grid:
    """A grid of no more units than those that each see several units of another one.

    Args:
        grid: What the old units see.
        taps: Old units that each new unit sees.
    """
    widest = tuple(_hull(_at(grid, grid.widest, tap) for tap in phase) for phase in taps)
    narrowest = tuple(_hull(_at(grid, grid.narrowest, tap) for tap in phase) for phase in taps)
    starts = [interval.start for interval in widest if interval is not EMPTY]
    stride = grid.stride
    if len(starts) > 1:  # On average: they need not advance alike.
        stride = Fraction(abs(starts[-1] - starts[0]), len(starts) - 1)
    return Grid(_number(stride * len(taps)), widest, narrowest, 0)


def go_on(grid: Grid) -> Grid:
    """The grid that goes on for ever as the units of a table do, if these repeat.

    Units at both ends may see less than the pattern: what lies beyond was cut off.
    """
    if grid.first is None:
        return grid
    count = grid.period
    for period in range(1, count // 2 + 1):
        going_on = _pattern(grid, period)
        if going_on is None:
            continue
        alike = [
            _at(going_on, going_on.widest, unit) == grid.widest[unit]
            and _at(going_on, going_on.narrowest, unit) == grid.narrowest[unit]
            for unit in range(count)
        ]
        start = next((u + 1 for u in range(count // 2, -1, -1) if not alike[u]), 0)
        stop = next((u for u in range(count // 2, count) if not alike[u]), count)
        ends = (*range(start), *range(stop, count))
        if stop - start >= max(2 * period, len(ends)) and all(
            _is_within(grid.widest[unit], _at(going_on, going_on.widest, unit)) for unit in ends
        ):
            return shift(going_on, -grid.first)
    return grid


def _pattern(grid: Grid, period: int) -> Grid | None:
    """The pattern of a period of units in the middle of a table, if the next one repeats it."""
    middle = max(0, grid.period // 2 - period)
    step = grid.widest[middle + period].start - grid.widest[middle].start
    repeated = Grid(
        step, grid.widest[middle : middle + period], grid.narrowest[middle : middle + period]
    )
    if step <= 0 or _at(repeated, repeated.widest, period) != grid.widest[middle + period]:
        return None
    return shift(repeated, -middle)


def _is_within(interval: Interval, other: Interval) -> bool:
    return interval is EMPTY or (interval.start >= other.start and interval.stop <= other.stop)


@lru_cache(maxsize=4096)
def _gather_forever(grid: Grid, taps: Taps, advance: int) -> Grid:
    repeats = grid.period // gcd(grid.period, advance)
    rounds = [
        tuple(tap + turn * advance for tap in phase) for turn in range(repeats) for phase in taps
    ]
    step = Fraction(grid.step * advance * repeats, grid.period)
    assert step.denominator == 1
    return _shortest_period(
        Grid(
            int(step),
            tuple(_hull(_at(grid, grid.widest, tap) for tap in phase) for phase in rounds),
            tuple(_hull(_at(grid, grid.narrowest, tap) for tap in phase) for phase in rounds),
        )
    )


def shift(grid: Grid, units: int) -> Grid:
    """The grid whose unit 0 is unit `units` of this one."""
    if grid.first is not None:
        return grid._replace(first=grid.first - units)
    return gather(grid, ((units,),), 1) if units else grid


@lru_cache(maxsize=4096)
def join(grid: Grid, other: Grid, units: int | None = None) -> Grid:
    """Units that see what the same unit of either grid sees.

    Args:
        grid: One grid.
        other: The other.
        units: How many units there are, from unit 0 on. Grids of different strides drift apart:
            each of these units has its own interval then, and the plainer of the strides stays.

    Raises:
        ValueError: If the strides differ and the number of units is not known.
    """
    if grid == other:
        return grid
    period = lcm(grid.period, other.period)
    stride = min(grid.stride, other.stride, key=lambda stride: (stride.denominator, stride))
    is_all = (grid.first, other.first) != (None, None)
    if is_all or grid.stride != other.stride or (units and period > max(units, _MAX_PERIOD)):
        if units is None:
            raise ValueError(
                "Branches that meet must have equal strides, but got "
                f"{grid.stride} and {other.stride} px."
            )
        period = units if is_all else -(-units // stride.denominator) * stride.denominator
    one, two = _over(grid, period), _over(other, period)
    return _shortest_period(
        Grid(
            _number(period * stride),
            tuple(_hull(pair) for pair in zip(one.widest, two.widest, strict=True)),
            tuple(_narrower(*pair) for pair in zip(one.narrowest, two.narrowest, strict=True)),
            0 if is_all else None,
        )
    )


def is_constant(grid: Grid, offsets: Sequence[int], units: Sequence[int]) -> bool:
    """Whether all `units` see the same after any of the `offsets`."""
    return all(
        _at(grid, values, unit + offset) == _at(grid, values, unit)
        for values in (grid.widest, grid.narrowest)
        for unit in units
        for offset in offsets
    )


def _number(value: Fraction) -> int:
    """A whole number where it is one; fractions compare, add and multiply like integers."""
    return int(value) if value.denominator == 1 else cast("int", value)


def _at(grid: Grid, values: tuple[Interval, ...], unit: int) -> Interval:
    if grid.first is not None:
        place = unit - grid.first
        return values[place] if 0 <= place < len(values) else EMPTY
    turns, phase = divmod(unit, len(values))
    start, stop = values[phase]
    if start == stop:
        return EMPTY
    return Interval(start + turns * grid.step, stop + turns * grid.step)


def _hull(intervals: Iterable[Interval]) -> Interval:
    seen = [interval for interval in intervals if interval is not EMPTY]
    if not seen:
        return EMPTY
    return Interval(min(start for start, _ in seen), max(stop for _, stop in seen))


def _narrower(first: Interval, second: Interval) -> Interval:
    # A unit that sees nothing has no path.
    seen = [interval for interval in (first, second) if interval is not EMPTY]
    return min(seen, key=lambda interval: interval.size, default=EMPTY)


def _over(grid: Grid, period: int) -> Grid:
    return Grid(
        _number(grid.stride * period),
        tuple(_at(grid, grid.widest, unit) for unit in range(period)),
        tuple(_at(grid, grid.narrowest, unit) for unit in range(period)),
    )


def _shortest_period(grid: Grid) -> Grid:
    period = grid.period
    if grid.first is not None:
        return grid
    for divisor in range(1, period):
        if period % divisor or grid.step * divisor % period:
            continue
        step = grid.step * divisor // period
        short = Grid(step, grid.widest[:divisor], grid.narrowest[:divisor])
        if _over(short, period) == grid:
            return short
    return grid
