from __future__ import annotations

import math

import numpy as np
import pytest

from rfsearch.field._row_profile import RowProfile
from rfsearch.field.erf_map import Center, ErfMap


def row(values: np.ndarray, center: float) -> RowProfile:
    return RowProfile(np.arange(len(values)) - center, values / values.sum())


@pytest.mark.parametrize("center", [60.0, 60.5])
@pytest.mark.parametrize("sigma", [1.0, 7.0, 15.0])
def test_a_gaussian_is_found_again(sigma: float, center: float) -> None:
    profile = row(np.exp(-(((np.arange(121) - center) / sigma) ** 2) / 2), center)
    assert profile.gaussian.sigma == pytest.approx(sigma, rel=1e-3)
    assert profile.gaussian.r_squared == pytest.approx(1, abs=1e-6)
    assert profile.sigma == pytest.approx(sigma, rel=1e-3)
    assert profile.kurtosis == pytest.approx(3, rel=1e-2)


@pytest.mark.parametrize("width", [5, 8])
def test_a_box_is_no_gaussian(width: int) -> None:
    profile = row(np.ones(width), (width - 1) / 2)
    assert profile.kurtosis == pytest.approx(0.6 * (3 * width**2 - 7) / (width**2 - 1))
    assert profile.gaussian.r_squared < 0.5


def test_a_peak_with_long_tails_is_no_gaussian() -> None:
    offsets = np.arange(-60.0, 61)
    profile = row(np.exp(-np.abs(offsets) / 6), 60)
    assert profile.kurtosis > 5  # 6 for an endless one.
    assert 0.8 < profile.gaussian.r_squared < 0.98


def test_two_pixels_are_too_few() -> None:
    with pytest.raises(ValueError, match="a row of at least 3 pixels with a gradient"):
        _ = row(np.array([0.0, 1, 1, 0]), 1.5).gaussian
    assert math.isnan(row(np.array([0.0, 1, 0]), 1).kurtosis)


def test_a_maps_row_is_that_of_its_centre() -> None:
    values = np.arange(20.0).reshape(4, 5)
    on, between = (ErfMap(values, values, Center(y, 3), 4).row_profile for y in (2.0, 1.5))
    assert on.offsets.tolist() == between.offsets.tolist() == [-3, -2, -1, 0, 1]
    assert on.values.tolist() == pytest.approx((values[2] / values[2].sum()).tolist())
    assert between.values.tolist() == pytest.approx((values[1:3].sum(0) / 95).tolist())
