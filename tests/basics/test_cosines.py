"""Symmetric maps against convolving them as they are."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rfsearch.basics.cosines import from_middle, on_each_axis, products, summed, waves, waves_back

#: Halves of symmetric rows, and whether they have a place in the middle.
HALVES = arrays(float, st.integers(1, 4), elements=st.floats(0.1, 1))
ROWS = st.tuples(HALVES, st.booleans())


def whole(half: np.ndarray, is_odd: bool) -> np.ndarray:
    return np.concatenate([half[::-1], half[1 if is_odd else 0 :]])


@settings(max_examples=50, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=3), st.integers(1, 3))
def test_products_of_transforms_are_convolutions(
    rows: list[tuple[np.ndarray, bool]], spacing: int
) -> None:
    spaced = []
    for half, is_odd in rows:
        row = whole(half, is_odd)
        spaced.append(np.zeros((len(row) - 1) * spacing + 1))
        spaced[-1][::spacing] = row
    direct = reduce(np.convolve, spaced)
    period = len(direct) + len(direct) % 2
    power = np.ones(period // 2 + 1)
    for half, is_odd in rows:
        power *= half @ waves(len(half), is_odd, spacing, period)
    found = power @ waves_back(len(direct), period)
    np.testing.assert_allclose(found, from_middle(direct), atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.data(), st.integers(1, 3))
def test_products_add_up_to_the_map(data: st.DataObject, axes: int) -> None:
    sides = [data.draw(st.integers(1, 5)) for _ in range(axes)]
    total = np.zeros(sides)
    for _ in range(data.draw(st.integers(1, 3))):
        factors = [data.draw(arrays(float, side, elements=st.floats(0.1, 1))) for side in sides]
        extent = tuple(slice(data.draw(st.integers(1, side))) for side in sides)
        total[extent] += reduce(np.multiply.outer, factors)[extent]
    terms = products(total)
    rows = [np.array(along) for along in zip(*terms, strict=True)]
    np.testing.assert_allclose(summed(np.ones(len(terms)), rows), total, atol=1e-9)


def test_terms_of_different_extent_are_told_apart() -> None:
    narrow, wide = np.array([1.0, 0, 0]), np.array([0.5, 0.25, 0.25])
    total = 0.25 * np.outer(narrow, narrow) + 0.75 * np.outer(wide, wide)
    for factors, factor in zip(products(total), (wide, narrow), strict=True):
        for each in factors:
            np.testing.assert_allclose(each / each.sum(), factor, atol=1e-12)


def test_each_axis_has_its_matrix() -> None:
    values, matrices = np.ones((2, 3)), [np.ones((2, 4)), np.ones((3, 5))]
    np.testing.assert_array_equal(on_each_axis(values, matrices), np.full((4, 5), 6.0))


@pytest.mark.parametrize("axis", [0, 1])
def test_what_is_not_symmetric_has_no_half(axis: int) -> None:
    values = np.ones((3, 3))
    values[(1, 0) if axis else (0, 1)] = 2
    assert from_middle(values) is None
