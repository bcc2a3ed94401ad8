"""Which input units each output unit of a window operation sees, along one axis.

All functions return a `Window`: the taps of one period of output units, and how many input units
later the next period starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor, lcm
from typing import Any, NamedTuple

from rfsearch.field.unit_grid import Taps

#: Resized output units are matched to input units by fractions with denominators up to this.
_MAX_DENOMINATOR = 4096


class Window(NamedTuple):
    """Taps for each output unit of one period; the next period is `advance` input units on."""

    taps: Taps
    advance: int

    def looked_at(self, units: Iterable[int]) -> set[int]:
        """The input units that any of these output units sees.

        >>> sorted(convolution(3, stride=2, padding=1, dilation=1).looked_at([0, 1]))
        [-1, 0, 1, 2, 3]
        """
        period = len(self.taps)
        return {
            tap + unit // period * self.advance
            for unit in units
            for tap in self.taps[unit % period]
        }


#: Each output unit sees its input unit.
POINT = Window(((0,),), 1)


@lru_cache(maxsize=1024)
def convolution(kernel_size: int, stride: int, padding: int, dilation: int) -> Window:
    """Convolution or pooling.

    >>> convolution(3, stride=2, padding=1, dilation=1)
    Window(taps=((-1, 0, 1),), advance=2)
    """
    return Window((tuple(dilation * k - padding for k in range(kernel_size)),), stride)


@lru_cache(maxsize=1024)
def transposed_convolution(kernel_size: int, stride: int, padding: int, dilation: int) -> Window:
    """Transposed convolution: input unit `i` writes to the outputs `i * stride - padding + tap`.

    >>> transposed_convolution(4, stride=2, padding=1, dilation=1)
    Window(taps=((0, -1), (1, 0)), advance=1)
    """
    reached = [
        [unit + padding - dilation * k for k in range(kernel_size)] for unit in range(stride)
    ]
    taps = tuple(tuple(r // stride for r in row if r % stride == 0) for row in reached)
    return Window(taps, 1)


@lru_cache(maxsize=1024)
def adaptive_pooling(length: int, new_length: int) -> Window:
    """Adaptive pooling: output unit `i` sees `floor(i r)` to before `ceil((i + 1) r)`.

    >>> adaptive_pooling(8, 4)
    Window(taps=((0, 1),), advance=2)
    """
    ratio = Fraction(length, new_length)
    bounds = ((floor(unit * ratio), ceil((unit + 1) * ratio)) for unit in range(ratio.denominator))
    return Window(tuple(tuple(range(*bound)) for bound in bounds), ratio.numerator)


def nearest(ratio: Fraction) -> Window:
    """Nearest resizing; `ratio` is the number of input units per output unit.

    >>> nearest(Fraction(1, 2))
    Window(taps=((0,), (0,)), advance=1)
    """
    return _resizing(ratio, lambda unit: [floor(unit * ratio)])


def nearest_exact(ratio: Fraction) -> Window:
    """Nearest resizing between the units' middles."""
    return _resizing(ratio, lambda unit: [floor((unit + Fraction(1, 2)) * ratio)])


def linear(ratio: Fraction) -> Window:
    """Linear interpolation between the units' middles (`align_corners=False`).

    >>> linear(Fraction(1, 2))
    Window(taps=((-1, 0), (0, 1)), advance=1)
    """
    return _resizing(ratio, lambda unit: _neighbours(_middle(unit, ratio), 1))


def cubic(ratio: Fraction) -> Window:
    """Cubic interpolation between the units' middles."""
    return _resizing(ratio, lambda unit: _neighbours(_middle(unit, ratio), 2))


def antialiased(reach: int) -> Callable[[Fraction], Window]:
    """Resizing with a filter of `reach` units (1 linear, 2 cubic) at the coarser resolution."""

    def window(ratio: Fraction) -> Window:
        scale = max(ratio, Fraction(1))

        def taps(unit: int) -> list[int]:
            middle = (unit + Fraction(1, 2)) * ratio - Fraction(1, 2)
            candidates = range(floor(middle - reach * scale), ceil(middle + reach * scale) + 1)
            return [tap for tap in candidates if has_weight(abs(tap - middle) / scale)]

        return _resizing(ratio, taps)

    def has_weight(offset: Fraction) -> bool:
        # The filter is zero at whole offsets, as it interpolates.
        return offset == 0 or (offset < reach and offset.denominator > 1)

    return window


@lru_cache(maxsize=1024)
def aligned_corners(length: int, new_length: int, reach: int) -> Window:
    """Interpolation with `align_corners=True`: the first and last units keep their places.

    The units between drift against those of a fixed stride, so that each has its own taps: one
    period is the whole map, unless the lengths without their last units are whole multiples.

    >>> aligned_corners(3, 5, reach=1)
    Window(taps=((0,), (0, 1)), advance=1)
    """
    if length == 1 or new_length == 1:
        return Window(((0,),) * new_length, length)
    ratio = Fraction(length - 1, new_length - 1)
    is_regular = 1 in ratio.as_integer_ratio() and new_length % length
    units, advance = ratio.as_integer_ratio()[::-1] if is_regular else (new_length, length)
    return Window(tuple(tuple(_neighbours(u * ratio, reach)) for u in range(units)), advance)


def _resizing(ratio: Fraction, taps: Callable[[int], list[int]]) -> Window:
    return Window(tuple(tuple(taps(u)) for u in range(ratio.denominator)), ratio.numerator)


def _middle(unit: int, ratio: Fraction) -> Fraction:
    half = Fraction(1, 2)
    return (unit + half) * ratio - half


def _neighbours(position: Fraction, reach: int) -> list[int]:
    base = floor(position)
    # On a unit, its neighbours have no weight.
    return [base] if position == base else list(range(base - reach + 1, base + reach + 1))


def resizing_ratio(
    arguments: Mapping[str, Any], axis: int, length: int, new_length: int
) -> Fraction:
    """Input units per output unit, as torch takes it: from a given scale, else from the sizes.

    Args:
        arguments: Of the operation, by name.
        axis: 0 for the height, 1 for the width.
        length: Units before it.
        new_length: Units after it.
    """
    names = [name for name in arguments if name.startswith("scales")]
    scale = arguments[names[axis]] if axis < len(names) else None
    if scale is None and arguments.get("scale_factors"):
        scale = arguments["scale_factors"][axis]
    if scale is None:
        return Fraction(length, new_length)
    return Fraction(1 / scale).limit_denominator(_MAX_DENOMINATOR)


def per_axis(value: Any, count: int) -> list[int]:
    """One number for each axis, of one for all or one for each.

    >>> per_axis(3, 2), per_axis([1, 2], 2)
    ([3, 3], [1, 2])
    """
    values = list(value) if isinstance(value, Sequence) else [value]
    return values * count if len(values) == 1 else values


class Read(NamedTuple):
    """The units of a map that are read along one axis.

    Attributes:
        residues: Numbers of the units that are, of the first `period`.
        period: After how many units it repeats.
    """

    residues: frozenset[int]
    period: int

    @property
    def skipped(self) -> float:
        """Share of the units that nothing reads."""
        return 1 - len(self.residues) / self.period

    def united(self, other: Read) -> Read:
        """What either of two readers reads.

        >>> Read(frozenset({0}), 2).united(Read(frozenset({0}), 3)).skipped  # 1, 5 of 0 to 5
        0.33333333333333337
        """
        period = lcm(self.period, other.period)
        return Read(self._within(period) | other._within(period), period)

    def _within(self, period: int) -> frozenset[int]:
        starts = range(0, period, self.period)
        return frozenset(start + unit for start in starts for unit in self.residues)


#: Every unit is read.
ALL = Read(frozenset({0}), 1)


def read_through(window: Window) -> Read:
    """The units that a window looks at."""
    residues = {tap % window.advance for taps in window.taps for tap in taps}
    return Read(frozenset(residues), window.advance)
