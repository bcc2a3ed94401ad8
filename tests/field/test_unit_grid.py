from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rfsearch.field.receptive_field import ReceptiveField, window
from rfsearch.field.unit_grid import EMPTY, PIXELS, Grid, gather, join, shift
from rfsearch.field.windows import convolution, nearest, transposed_convolution


def convolved(grid: Grid, *numbers: int) -> Grid:
    return gather(grid, *convolution(*numbers))


SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 4), st.integers(0, 3), st.integers(1, 3))


@given(st.lists(SHAPES, max_size=5))
def test_stacked_convolutions_follow_the_recurrence(shapes: list[tuple[int, ...]]) -> None:
    grid, expected = PIXELS, ReceptiveField(0, 1, 1)
    for kernel_size, stride, padding, dilation in shapes:
        grid = convolved(grid, kernel_size, stride, padding, dilation)
        expected = expected.then(window(kernel_size, stride, dilation, padding))
    assert grid.field() == expected
    assert grid.period == 1
    assert grid.smallest == expected.size


@given(st.integers(2, 5), st.integers(1, 5), st.integers(-20, 20))
def test_down_after_nearest_up_changes_nothing(factor: int, kernel: int, unit: int) -> None:
    grid = convolved(PIXELS, kernel, 2, 0, 1)
    up = gather(grid, *nearest(Fraction(1, factor)))
    assert up.period == factor
    assert up.interval(unit) == grid.interval(unit // factor)
    assert gather(up, ((0,),), factor) == grid


def test_periods_are_as_short_as_possible() -> None:
    up = gather(convolved(PIXELS, 1, 2, 0, 1), *nearest(Fraction(1, 2)))
    same = gather(up, ((0, 1),), 2)
    assert (same.period, same.step) == (1, 2)


def test_join_takes_the_hull_and_the_narrower_path() -> None:
    left, right = convolved(PIXELS, 3, 1, 2, 1), convolved(PIXELS, 2, 1, 0, 1)
    joined = join(left, right)
    assert joined.widest == ((-2, 2),)
    assert joined.narrowest == ((0, 2),)
    assert join(right, left) == joined


def test_join_of_different_strides() -> None:
    strided = convolved(PIXELS, 3, 2, 1, 1)
    with pytest.raises(ValueError, match=r"equal strides, but got 2 and 1 px\."):
        join(strided, PIXELS)
    # Three units drift apart: each has its own interval.
    joined = join(strided, PIXELS, 3)
    assert [joined.interval(unit) for unit in range(3)] == [(-1, 2), (1, 4), (2, 6)]
    assert joined.stride == 1


def test_units_that_see_nothing() -> None:
    grid = gather(convolved(PIXELS, 3, 3, 0, 1), *transposed_convolution(1, 3, 0, 1))
    assert [grid.interval(unit) for unit in range(4)] == [(0, 3), EMPTY, EMPTY, (3, 6)]
    assert grid.field() == ReceptiveField(0, 3, 1)
    # A path through a unit that sees nothing is no path.
    assert join(grid, PIXELS).smallest == 1


@given(st.integers(-9, 9), st.integers(-9, 9))
def test_shift(units: int, unit: int) -> None:
    grid = gather(convolved(PIXELS, 3, 2, 1, 1), *nearest(Fraction(1, 2)))
    assert shift(grid, units).interval(unit) == grid.interval(unit + units)


def test_more_units_than_pixels() -> None:
    grid = gather(PIXELS, *nearest(Fraction(2, 3)))
    assert grid.field() == (0, 1, Fraction(2, 3))
    assert str(grid.field().stride) == "2/3"
