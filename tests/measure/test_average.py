from __future__ import annotations

import math

import numpy as np
import pytest

from rfsearch.basics.axes import ByAxis
from rfsearch.field.erf_map import Center, ErfMap
from rfsearch.field.unit_grid import Interval
from rfsearch.measure._average import Average
from rfsearch.measure.unit import Unit

UNIT = Unit((slice(None), 0, 0), ByAxis(Interval(2, 7), Interval(2, 7)))
RNG = np.random.default_rng(0)
GRADIENTS = RNG.normal(size=(5, 3, 9, 9)) * 10.0 ** RNG.integers(-3, 3, size=(5, 1, 1, 1))


def averaged(*batches: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Average:
    average = Average(UNIT)
    for batch in batches:
        average.add(batch)
    return average


def test_mean_is_that_of_normalised_images() -> None:
    magnitude = np.abs(GRADIENTS).sum(axis=1)
    power = np.square(GRADIENTS).sum(axis=1)
    mean = averaged(GRADIENTS).mean
    np.testing.assert_allclose(
        mean.map, (magnitude / magnitude.sum(axis=(1, 2), keepdims=True)).mean(axis=0)
    )
    np.testing.assert_allclose(
        mean.power, (power / power.sum(axis=(1, 2), keepdims=True)).mean(axis=0)
    )
    assert (mean.center, mean.theoretical_size) == (Center(4, 4), 5)


def test_batches_do_not_matter() -> None:
    whole, parts = averaged(GRADIENTS), averaged(GRADIENTS[:2], GRADIENTS[2:])
    np.testing.assert_array_equal(whole.mean.map, parts.mean.map)
    assert whole.sizes == parts.sizes


def test_standard_error_is_that_of_the_images_sizes() -> None:
    sizes = []
    for gradient in GRADIENTS:
        magnitude = np.abs(gradient).sum(axis=0)
        sizes.append(ErfMap(magnitude, magnitude, Center(4, 4), 5).side_between_pixels())
    error = np.std(sizes, ddof=1) / math.sqrt(len(sizes))
    assert averaged(GRADIENTS).standard_error == pytest.approx(error)


def test_no_standard_error_of_one_image() -> None:
    assert math.isnan(averaged(GRADIENTS[:1]).standard_error)
    assert math.isnan(averaged(GRADIENTS[:1]).standard_error_bound)


@pytest.mark.parametrize(("images", "tenth_percentile"), [(4, 0.584), (8, 2.833), (31, 20.599)])
def test_bound_of_the_standard_error(images: int, tenth_percentile: float) -> None:
    """Against a published table of the chi-squared distribution."""
    average = Average(UNIT, sizes=list(np.random.default_rng(1).normal(size=images)))
    bound = average.standard_error * math.sqrt((images - 1) / tenth_percentile)
    assert average.standard_error_bound == pytest.approx(bound, rel=0.01)


def test_images_without_a_gradient_do_not_count() -> None:
    dead = GRADIENTS.copy()
    dead[1], dead[3] = 0, np.nan
    average = averaged(dead)
    assert len(average.sizes) == 3
    np.testing.assert_allclose(average.mean.map, averaged(GRADIENTS[[0, 2, 4]]).mean.map)


def test_no_gradient_at_all() -> None:
    with pytest.raises(ValueError, match="No gradient reaches the input"):
        _ = averaged(np.zeros((2, 3, 9, 9))).mean


def test_tiny_gradients_do_not_underflow() -> None:
    average = averaged(GRADIENTS[:1] * 1e-200)
    np.testing.assert_allclose(average.mean.power, averaged(GRADIENTS[:1]).mean.power)
