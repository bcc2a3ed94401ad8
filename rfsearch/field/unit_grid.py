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
from typing import NamedTuple

from rfsearch.field.receptive_field import ReceptiveField

#: For each phase of a new unit, the old units that it sees.
Taps = tuple[tuple[int, ...], ...]


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
    """

    step: int
    widest: tuple[Interval, ...]
    narrowest: tuple[Interval, ...]

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
        """Interval of one unit over all paths."""
        return _at(self.widest, self.step, unit)

    def field(self) -> ReceptiveField:
        """The largest interval over a period, as a receptive field.

        Raises:
            ValueError: If the stride is no whole number of px.
        """
        if self.stride.denominator > 1:
            raise ValueError(
                "`stride` must be a whole number of px to be a `ReceptiveField`, but got "
                f"{self.stride}; use `interval(unit)`."
            )
        phase = max(range(self.period), key=lambda unit: self.widest[unit].size)
        stride = int(self.stride)
        start, stop = self.widest[phase]
        return ReceptiveField(start - phase * stride, stop - start, stride)


#: The pixels themselves.
PIXELS = Grid(1, (Interval(0, 1),), (Interval(0, 1),))


@lru_cache(maxsize=4096)
def gather(grid: Grid, taps: Taps, advance: int) -> Grid:
    """Units that each see several units of a grid.

    Args:
        grid: What the old units see.
        taps: Old units that the new units of one period see.
        advance: Old units between a new unit and the one `len(taps)` after it.
    """
    repeats = grid.period // gcd(grid.period, advance)
    rounds = [
        tuple(tap + turn * advance for tap in phase) for turn in range(repeats) for phase in taps
    ]
    step = Fraction(grid.step * advance * repeats, grid.period)
    assert step.denominator == 1
    return _shortest_period(
        Grid(
            int(step),
            tuple(_hull(_at(grid.widest, grid.step, tap) for tap in phase) for phase in rounds),
            tuple(_hull(_at(grid.narrowest, grid.step, tap) for tap in phase) for phase in rounds),
        )
    )


def shift(grid: Grid, units: int) -> Grid:
    """The grid whose unit 0 is unit `units` of this one."""
    return gather(grid, ((units,),), 1) if units else grid


@lru_cache(maxsize=4096)
def join(grid: Grid, other: Grid) -> Grid:
    """Units that see what the same unit of either grid sees.

    Raises:
        ValueError: If the strides differ, so that the units drift apart.
    """
    if grid == other:
        return grid
    if grid.stride != other.stride:
        raise ValueError(
            "Branches that meet must have equal strides, but got "
            f"{float(grid.stride):g} and {float(other.stride):g} px; "
            "an input size divisible by 64 or 128 px may align them"
        )
    period = lcm(grid.period, other.period)
    one, two = _over(grid, period), _over(other, period)
    return _shortest_period(
        Grid(
            one.step,
            tuple(_hull(pair) for pair in zip(one.widest, two.widest, strict=True)),
            tuple(_narrower(*pair) for pair in zip(one.narrowest, two.narrowest, strict=True)),
        )
    )


def is_constant(grid: Grid, offsets: Sequence[int], units: Sequence[int]) -> bool:
    """Whether all `units` see the same after any of the `offsets`."""
    return all(
        _at(values, grid.step, unit + offset) == _at(values, grid.step, unit)
        for values in (grid.widest, grid.narrowest)
        for unit in units
        for offset in offsets
    )


def _at(values: tuple[Interval, ...], step: int, unit: int) -> Interval:
    turns, phase = divmod(unit, len(values))
    start, stop = values[phase]
    if start == stop:
        return EMPTY
    return Interval(start + turns * step, stop + turns * step)


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
        grid.step * period // grid.period,
        tuple(_at(grid.widest, grid.step, unit) for unit in range(period)),
        tuple(_at(grid.narrowest, grid.step, unit) for unit in range(period)),
    )


def _shortest_period(grid: Grid) -> Grid:
    period = grid.period
    for divisor in range(1, period):
        if period % divisor or grid.step * divisor % period:
            continue
        step = grid.step * divisor // period
        short = Grid(step, grid.widest[:divisor], grid.narrowest[:divisor])
        if _over(short, period) == grid:
            return short
    return grid
