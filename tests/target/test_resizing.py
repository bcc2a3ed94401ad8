from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rfsearch.target._resizing import RESIZES, Resize, check_resize, resize_factors

SIDES = st.integers(1, 2000)


def factors(size: tuple[int, int], input_size: tuple[int, int], resize: Resize) -> list[float]:
    return list(resize_factors(np.array([size], float), input_size, resize)[0])


@pytest.mark.parametrize(
    ("resize", "expected"),
    [("none", [1, 1]), ("stretch", [0.5, 0.25]), ("letterbox", [0.25, 0.25]),
     ("shorter", [0.5, 0.5])],
)  # fmt: skip
def test_factors(resize: Resize, expected: list[float]) -> None:
    assert factors((400, 800), (200, 200), resize) == expected


@given(SIDES, SIDES, SIDES, SIDES)
def test_what_fits_where(height: int, width: int, high: int, wide: int) -> None:
    size = np.array([height, width])
    stretched = size * factors((height, width), (high, wide), "stretch")
    inside = size * factors((height, width), (high, wide), "letterbox")
    around = size * factors((height, width), (high, wide), "shorter")
    assert stretched == pytest.approx([high, wide])
    assert (inside <= stretched * (1 + 1e-9)).all()
    assert (around >= stretched * (1 - 1e-9)).all()
    for one in (inside, around):
        # One side fits exactly, and the aspect is kept.
        assert np.isclose(one, stretched).any()
        assert one[0] * width == pytest.approx(one[1] * height)


def test_several_images() -> None:
    sizes = np.array([[100.0, 200.0], [50.0, 25.0]])
    found = resize_factors(sizes, (100, 100), "letterbox")
    assert found.tolist() == [[0.5, 0.5], [2, 2]]


def test_the_default_follows_the_input_size() -> None:
    assert check_resize(None, None) == "none"
    assert check_resize(None, (64, 64)) == "letterbox"
    assert [check_resize(way, (64, 64)) for way in RESIZES] == list(RESIZES)


def test_ways_that_are_none() -> None:
    with pytest.raises(ValueError, match=r"must be one of none, stretch, .*, but got 'crop'"):
        check_resize("crop", (64, 64))
    with pytest.raises(ValueError, match="`input_size` must be given in px for `resize` of 'str"):
        check_resize("stretch", None)
