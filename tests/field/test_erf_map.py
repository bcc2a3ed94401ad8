from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rfsearch.field.erf_map import Center, ErfMap


def erf_map(values: NDArray[np.float64], center: Center, theoretical_size: int) -> ErfMap:
    squares = values**2
    return ErfMap(values / values.sum(), squares / squares.sum(), center, theoretical_size)


def uniform(side: int, canvas: int, center: Center) -> ErfMap:
    """A uniform square around a centre, on a larger canvas of zeros."""
    values = np.zeros((canvas, canvas))
    top, left = round(center.y - (side - 1) / 2), round(center.x - (side - 1) / 2)
    values[top : top + side, left : left + side] = 1
    return erf_map(values, center, side)


@pytest.mark.parametrize(
    ("side", "center"),
    [(5, Center(10, 10)), (5, Center(7, 12)), (4, Center(9.5, 9.5)), (1, Center(0, 3))],
)
def test_uniform_square(side: int, center: Center) -> None:
    erf = uniform(side, 21, center)
    assert erf.square(1.0) == side
    assert erf.size == side
    assert erf.ratio == 1.0
    assert erf.fwhm == side
    assert erf.sigma == pytest.approx(np.sqrt((side**2 - 1) / 12))
    assert erf.area_ratio(1.0) == pytest.approx(side**2 / 21**2)
    assert erf.fraction_above(0.1) == 1.0


@pytest.mark.parametrize(
    ("share", "side"), [(0.1, 3), (9 / 49, 3), (0.2, 5), (25 / 49, 5), (0.52, 7), (1.0, 7)]
)
def test_square_is_the_smallest_that_holds_the_share(share: float, side: int) -> None:
    assert uniform(7, 21, Center(10, 10)).square(share) == side


def test_square_around_a_centre_between_pixels_has_even_sides() -> None:
    erf = uniform(8, 20, Center(9.5, 9.5))
    assert [erf.square(share) for share in (0.01, 0.2, 0.5, 0.95, 1.0)] == [2, 4, 6, 8, 8]


def test_square_reaches_beyond_the_map() -> None:
    values = np.zeros((9, 9))
    values[0, 8] = 1
    erf = erf_map(values, Center(0, 0), 17)
    assert erf.size == 17
    assert erf.area_ratio(0.95) == 1.0


def test_single_pixel() -> None:
    erf = uniform(1, 9, Center(4, 4))
    assert (erf.size, erf.sigma, erf.fwhm) == (1, 0.0, 1)


def test_sigma_is_about_the_centre_and_not_about_the_mean() -> None:
    values = np.zeros((9, 9))
    values[4, 7] = 1
    # 3 px off along one axis of two.
    assert erf_map(values, Center(4, 4), 9).sigma == pytest.approx(3 / np.sqrt(2))


def test_fwhm_looks_at_the_centre_row() -> None:
    values = np.zeros((5, 9))
    values[2, 2:7] = [1, 2, 4, 2, 1.9]
    values[0] = 100
    assert erf_map(values, Center(2, 4), 9).fwhm == 3


def test_fraction_above_counts_over_the_theoretical_field() -> None:
    values = np.zeros((8, 8))
    values[2, 2:6] = [1.0, 0.5, 0.11, 0.09]
    erf = erf_map(values, Center(4, 4), 6)
    assert erf.fraction_above(0.1) == pytest.approx(3 / 36)
    assert erf.fraction_above(0.4) == pytest.approx(2 / 36)


def test_ratio_is_size_over_theoretical_size() -> None:
    erf = uniform(5, 21, Center(10, 10))
    wider = ErfMap(erf.map, erf.power, erf.center, 20)
    assert wider.ratio == 0.25


def test_non_square_map() -> None:
    values = np.zeros((5, 30))
    values[2, 10:21] = 1
    erf = erf_map(values, Center(2, 15), 11)
    assert erf.size == 11
    assert erf.area_ratio(1.0) == pytest.approx(121 / 150)
    assert erf.sigma == pytest.approx(np.sqrt((11**2 - 1) / 12 / 2))


@pytest.mark.parametrize("share", [0.0, -0.5, 1.01, float("nan")])
def test_share_outside_of_its_range(share: float) -> None:
    with pytest.raises(ValueError, match=r"`0 < share <= 1` must hold, but got share="):
        uniform(3, 9, Center(4, 4)).square(share)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1), st.floats(0.01, 1))
def test_square_grows_with_the_share(seed: int, one: float, other: float) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 20, size=2)
    center = Center(*(rng.integers(0, 2 * side - 1) / 2 for side in (height, width)))
    erf = erf_map(rng.random((height, width)) + 1e-3, center, 30)
    low, high = sorted((one, other))
    assert 1 <= erf.square(low) <= erf.square(high)
    # The slow way: the mass of every square.
    y, x = np.mgrid[:height, :width]
    reach = np.maximum(abs(y - center.y), abs(x - center.x))
    sides = [side for side in range(1, 60) if erf.map[2 * reach + 1 <= side].sum() >= low - 1e-9]
    assert erf.square(low) == sides[0]


# -- numbers of analytic maps ----------------------------------------------------------------


def normal(sigma: float, canvas: int) -> ErfMap:
    """A normal map, wide enough that nothing is cut off."""
    offsets = np.arange(canvas) - canvas // 2
    profile = np.exp(-(offsets**2) / (2 * sigma**2))
    return erf_map(np.outer(profile, profile), Center(canvas // 2, canvas // 2), canvas)


def test_squares_of_a_normal_map() -> None:
    sigma = 20.0
    squares = normal(sigma, 301).squares()
    assert list(squares) == [0.2, 0.3, 0.5, 0.95, 0.99]
    for share, side in squares.items():
        # Each axis holds the root of the share.
        reach = NormalDist().inv_cdf((1 + math.sqrt(share)) / 2)
        assert side == pytest.approx(2 * reach * sigma, abs=2)


def test_squares_of_a_uniform_map() -> None:
    assert uniform(10, 31, Center(14.5, 14.5)).squares((0.16, 0.36, 1.0)) == {
        0.16: 4,
        0.36: 6,
        1.0: 10,
    }


def test_luos_count_of_a_normal_map() -> None:
    # Above 1 - 95.45 % of the centre: a disc of radius sigma sqrt(2 ln(1 / 0.0455)).
    sigma = 20.0
    erf = normal(sigma, 301)
    area = 2 * math.pi * sigma**2 * math.log(1 / 0.0455)
    assert erf.luo_count == pytest.approx(area, rel=0.01)
    assert erf.luo_size == pytest.approx(math.sqrt(area), rel=0.005)


def test_luos_count_is_relative_to_the_centre() -> None:
    values = np.zeros((5, 5))
    values[2, 2], values[0, :3] = 1.0, (0.046, 0.045, 30.0)
    assert erf_map(values, Center(2, 2), 5).luo_count == 3
    # Between pixels, the one above and to the left is the centre.
    assert erf_map(values, Center(2.5, 2.5), 5).luo_count == 3


@pytest.mark.parametrize(("side", "center"), [(5, Center(10, 10)), (4, Center(9.5, 9.5))])
def test_side_between_pixels_of_a_uniform_map(side: int, center: Center) -> None:
    erf = uniform(side, 21, center)
    inner = (side - 2) ** 2 / side**2
    assert erf.side_between_pixels(0.95) == pytest.approx(
        side - 2 + 2 * (0.95 - inner) / (1 - inner)
    )
    assert erf.side_between_pixels(1.0) == pytest.approx(side)


def test_side_between_pixels_of_a_single_pixel() -> None:
    assert uniform(1, 9, Center(4, 4)).side_between_pixels(0.95) == pytest.approx(0.95)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1))
def test_side_between_pixels_lies_below_the_square(seed: int, share: float) -> None:
    values = np.random.default_rng(seed).random((13, 13)) + 1e-3
    erf = erf_map(values, Center(6, 6), 13)
    assert erf.square(share) - 2 < erf.side_between_pixels(share) <= erf.square(share) + 1e-9
