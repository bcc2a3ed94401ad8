from __future__ import annotations

import math
import warnings
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rfsearch.target import (
    ERF_PER_OBJECT,
    MAX_SCALE_RATIO,
    MIN_TRF_PER_OBJECT,
    Range,
    ScaleTarget,
    pixel_range,
)

INF = math.inf


def test_rule() -> None:
    target = ScaleTarget(min_size=24, max_size=40)
    assert target.theoretical == Range(60, INF)
    assert target.effective == Range(40, 120)


def test_rule_follows_the_constants() -> None:
    target = ScaleTarget(10, 20)
    assert target.theoretical == Range(MIN_TRF_PER_OBJECT * 20, INF)
    assert target.effective == Range(ERF_PER_OBJECT[0] * 20, ERF_PER_OBJECT[1] * 20)


def test_rule_looks_at_the_largest_object() -> None:
    assert ScaleTarget(10, 20).effective == ScaleTarget(20, 20).effective


def test_targets_are_frozen_values() -> None:
    target = ScaleTarget(10, 20)
    assert target == ScaleTarget(10, 20)
    assert hash(target) == hash(ScaleTarget(10, 20))
    with pytest.raises(FrozenInstanceError, match="max_size"):
        target.max_size = 30  # type: ignore[misc]  # the mistake that is tested


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 10), (-1, 10), (20, 10), (10, INF), (float("nan"), 10), (10, float("nan"))],
)
def test_impossible_targets(low: float, high: float) -> None:
    with pytest.raises(ValueError, match=r"`0 < min_size <= max_size` must hold .* min_size="):
        ScaleTarget(low, high)


@pytest.mark.parametrize(("low", "high"), [(10, 10), (10, 29), (10, 30), (32, 96)])
def test_one_field_fits_a_ratio_of_three(low: float, high: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ScaleTarget(low, high).advice is None


def test_wide_targets_point_to_pyramids() -> None:
    assert MAX_SCALE_RATIO == 3
    match = (
        r"Objects of 24 to 96 px differ by a factor of 4\.0: above 3, one receptive field cannot "
        r"fit all of them\..*feature pyramid"
    )
    with pytest.warns(UserWarning, match=match) as caught:
        target = ScaleTarget(24, 96)
    assert len(caught) == 1
    assert target.advice == str(caught[0].message)
    assert target.effective == Range(96, 288)


def test_warning_points_at_the_users_line() -> None:
    with pytest.warns(UserWarning, match="pyramid") as caught:
        ScaleTarget(1, 96)
    assert caught[0].filename == __file__


def test_from_sizes() -> None:
    sizes = np.arange(50, 101)
    assert ScaleTarget.from_sizes(sizes, (0.0, 1.0)) == ScaleTarget(50, 100)
    assert ScaleTarget.from_sizes(sizes, (0.1, 0.9)) == ScaleTarget(55, 95)
    assert ScaleTarget.from_sizes(sizes) == ScaleTarget(52.5, 97.5)


def test_from_sizes_of_any_shape_and_order() -> None:
    assert ScaleTarget.from_sizes([[30, 10], [20, 25]], (0, 1)) == ScaleTarget(10, 30)
    assert ScaleTarget.from_sizes([12.5]) == ScaleTarget(12.5, 12.5)


def test_from_wide_sizes_warns() -> None:
    with pytest.warns(UserWarning, match="Objects of 10 to 100 px"):
        ScaleTarget.from_sizes([10, 100], (0, 1))


def test_no_sizes() -> None:
    with pytest.raises(ValueError, match="`sizes` must hold at least one object size"):
        ScaleTarget.from_sizes([])


@pytest.mark.parametrize(("wrong", "text"), [(0, "0"), (-3, "-3"), (INF, "inf"), (np.nan, "nan")])
def test_sizes_that_are_none(wrong: float, text: str) -> None:
    with pytest.raises(ValueError, match=rf"`sizes` must be positive .* but got {text}\.$"):
        ScaleTarget.from_sizes([10, wrong, 20])


@pytest.mark.parametrize("quantiles", [(0.9, 0.1), (-0.1, 0.5), (0.5, 1.1)])
def test_impossible_quantiles(quantiles: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"`0 <= low <= high <= 1` must hold, but got quantiles"):
        ScaleTarget.from_sizes([10, 20], quantiles)


# -- ranges ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "octaves"),
    [(8, 1), (16, 0), (32, -1), (64, 0), (128, 1), (256, 2), (4, 2), (16 * 2**0.5, -0.5)],
)
def test_violation_in_octaves(size: float, octaves: float) -> None:
    assert Range(16, 64).violation(size) == pytest.approx(octaves)


def test_violation_of_open_ranges() -> None:
    assert Range(16, INF).violation(4) == 2
    assert Range(16, INF).violation(1024) == -6
    assert Range(0, 16).violation(4) == -2
    assert Range(0, INF).violation(4) == -INF


@given(st.floats(1, 100), st.floats(1, 4), st.floats(0.5, 1_000))
def test_violation_is_positive_exactly_outside(low: float, ratio: float, size: float) -> None:
    allowed = Range(low, low * ratio)
    assert (allowed.violation(size) <= 0) == (allowed.low <= size <= allowed.high)


@given(st.floats(1, 100), st.floats(1, 4), st.floats(1, 8))
def test_too_small_and_too_large_weigh_the_same(low: float, ratio: float, factor: float) -> None:
    allowed = Range(low, low * ratio)
    small, large = allowed.violation(low / factor), allowed.violation(low * ratio * factor)
    assert small == pytest.approx(large, abs=1e-9)
    assert small == pytest.approx(math.log2(factor), abs=1e-9)


def test_text() -> None:
    assert str(Range(16, 64)) == "16 to 64 px"
    assert str(Range(22.5, INF)) == "at least 22.5 px"


def test_bounds_of_a_user() -> None:
    assert pixel_range((16, 64), "effective") == Range(16, 64)
    assert pixel_range((16, None), "effective") == Range(16, INF)
    assert pixel_range((0, 16), "effective") == Range(0, 16)


@pytest.mark.parametrize("bounds", [(64, 16), (-1, 16), (INF, None), (float("nan"), 3)])
def test_impossible_bounds(bounds: tuple[float, float | None]) -> None:
    with pytest.raises(ValueError, match=r"`0 <= low <= high` must hold for `effective`, but got"):
        pixel_range(bounds, "effective")
