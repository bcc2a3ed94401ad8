"""Layouts against index arithmetic: every position of a tensor holds the unit that is claimed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rfsearch.field.unit_grid import PIXELS
from rfsearch.trace import _layout as layout
from rfsearch.trace import _positions as positions
from rfsearch.trace import _tables as tables
from rfsearch.trace._layout import Factor, Source, Span

#: A unit that a position does not have.
NONE = -999


def units(source: Source, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The pixel that each position sees; the grid is that of the pixels or a shift of it."""
    total = np.zeros(shape, dtype=np.int64)
    outside = np.zeros(shape, dtype=bool)
    for dim, span in enumerate(source.dims):
        if span is None:
            continue
        inner = np.zeros(1, dtype=np.int64)
        for factor in span.factors:
            digits = np.arange(factor.length) * factor.weight
            inner = (inner[:, None] + digits).ravel()
        ends = (span.before, span.after)
        along = [-1 if d == dim else 1 for d in range(len(shape))]
        total = total + np.pad(inner, ends).reshape(along)
        outside |= np.pad(np.zeros(len(inner), bool), ends, constant_values=True).reshape(along)
    flat = [source.grid.interval(int(unit)).start for unit in total.ravel()]
    return np.where(outside, NONE, np.array(flat).reshape(shape))


def start(*shape: int, dim: int) -> tuple[Source, NDArray[np.int64]]:
    spans: list[Span | None] = [None] * len(shape)
    spans[dim] = Span((Factor(shape[dim], 1),))
    source = Source(tuple(spans), PIXELS)
    return source, units(source, shape)


Step = Callable[[Source, NDArray[np.int64]], tuple[Source | None, NDArray[np.int64]]]


def reshaped(*shape: int) -> Step:
    return lambda s, a: (positions.reshape(s, a.shape, shape), a.reshape(shape))


def permuted(*order: int) -> Step:
    return lambda s, a: (positions.permute(s, order), a.transpose(order))


def sliced(dim: int, first: int, length: int, step: int = 1) -> Step:
    def run(source: Source, array: NDArray[np.int64]) -> tuple[Source | None, NDArray[np.int64]]:
        index = np.arange(first, first + length * step, step)
        return positions.narrow(source, dim, first, length, step), array.take(index, dim)

    return run


def joined(dim: int, before: int, after: int) -> Step:
    def run(source: Source, array: NDArray[np.int64]) -> tuple[Source | None, NDArray[np.int64]]:
        ends = [(before, after) if d == dim else (0, 0) for d in range(array.ndim)]
        padded = np.pad(array, ends, constant_values=NONE)
        return positions.surround(source, dim, before, after), padded

    return run


CHAINS: dict[str, list[Step]] = {
    "windows": [reshaped(2, 3, 4, 5), permuted(1, 0, 2, 3), reshaped(6, 20)],
    "windows and back": [
        reshaped(2, 3, 4, 5),
        permuted(0, 2, 1, 3),
        permuted(0, 2, 1, 3),
        reshaped(2, 12, 5),
    ],
    "windows of another size": [reshaped(2, 3, 4, 5), reshaped(2, 12, 5), reshaped(2, 4, 3, 5)],
    "tokens": [reshaped(2, 60), reshaped(2, 12, 5)],
    "class token": [reshaped(2, 60), joined(1, 1, 0), reshaped(2, 61), sliced(1, 1, 60)],
    "two joined and one cut": [joined(1, 3, 12), sliced(1, 1, 16), sliced(1, 2, 12)],
    "rows of tokens": [reshaped(2, 60), sliced(1, 10, 25), reshaped(2, 5, 5)],
    "every third": [sliced(1, 1, 4, 3)],
    "every second of windows": [reshaped(2, 4, 3, 5), sliced(1, 1, 2, 2), reshaped(12, 5)],
    "within windows": [reshaped(2, 4, 3, 5), sliced(2, 1, 2)],
    "cut through": [reshaped(2, 4, 3, 5), permuted(0, 2, 1, 3), reshaped(2, 10, 6)],
    "cut through and back": [reshaped(6, 20), reshaped(8, 15), reshaped(2, 12, 5)],
    "joined windows cut through": [joined(1, 4, 2), sliced(1, 1, 5, 3), reshaped(2, 25)],
    "a slice across windows": [
        reshaped(2, 4, 3, 5),
        permuted(0, 2, 1, 3),
        reshaped(2, 12, 5),
        sliced(1, 2, 7),
    ],
}


@pytest.mark.parametrize("name", CHAINS)
def test_moves_agree_with_arrays(name: str) -> None:
    source: Source | None
    source, array = start(2, 12, 5, dim=1)
    for step in CHAINS[name]:
        assert source is not None
        source, array = step(source, array)
    assert source is not None
    assert np.array_equal(units(source, array.shape), array)


@given(st.permutations(range(4)), st.permutations((2, 3, 2, 5)))
def test_any_reshape_after_a_permutation(order: list[int], shape: list[int]) -> None:
    source, array = start(4, 15, dim=1)
    source, array = positions.reshape(source, (4, 15), (2, 2, 3, 5)), array.reshape(2, 2, 3, 5)
    source, array = positions.permute(source, order), array.transpose(order)
    with contextlib.suppress(ValueError):  # Not every reshape can be followed.
        moved = positions.reshape(source, array.shape, shape)
        assert np.array_equal(units(moved, tuple(shape)), array.reshape(shape))


def test_what_sees_nothing_is_dropped() -> None:
    source, _ = start(2, 12, 5, dim=1)
    assert positions.narrow(positions.surround(source, 1, 3, 0), 1, 0, 3) is None


def test_padding_continues_the_grid() -> None:
    source, _ = start(2, 12, dim=1)
    padded = positions.pad(source, 1, 2, -3)
    assert padded is not None
    assert units(padded, (2, 11))[0].tolist() == list(range(-2, 9))


def test_reducing_windows_is_local_and_reducing_the_axis_is_not() -> None:
    source, _ = start(12, dim=0)
    windows = positions.reshape(source, (12,), (3, 4))
    local = layout.reduce(windows, [1])
    assert local is not None
    assert [layout.resolve(local).interval(unit) for unit in (0, 1)] == [(0, 4), (4, 8)]
    assert layout.reduce(windows, [0]) is None
    assert layout.reduce(windows, [0, 1]) is None


def test_a_window_does_not_slide_out_of_cut_out_windows() -> None:
    source, _ = start(12, dim=0)
    windows = positions.reshape(source, (12,), (3, 4))
    assert windows is not None
    assert layout.window(windows, 1, ((0,),), 1, 4) == windows
    assert layout.window(windows, 1, ((-1, 0, 1),), 1, 4) is None
    slid = tables.slide(windows, 1, ((-1, 0, 1),), 1, 4)
    assert slid is not None
    numbers = tables.unit_numbers(slid).ravel().tolist()
    assert [slid.grid.interval(number) for number in numbers[4:8]] == [
        (4, 6),
        (4, 7),
        (5, 8),
        (6, 8),
    ]


def test_idle_factors_do_not_stop_a_window() -> None:
    # Windows whose positions were all averaged, laid back into the map.
    source, _ = start(12, dim=0)
    averaged = layout.reduce(positions.reshape(source, (12,), (3, 4)), [1])
    assert averaged is not None
    back = positions.reshape(averaged, (3, 4), (12,))
    slid = layout.window(back, 0, ((-1, 0),), 1, 12)
    assert [slid.grid.interval(unit) for unit in (4, 5)] == [(0, 8), (4, 8)]
