from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from rfsearch.analysis.statistics import (
    _spearman,
    mean_interval,
    rank_correlation,
    resample_counts,
    trend,
)

numbers = st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=5, max_size=30)


@given(numbers, st.integers(0, 99))
def test_resamples_have_the_correlation_that_scipy_finds(
    pairs: list[tuple[int, int]], seed: int
) -> None:
    x, y = np.array(pairs, dtype=float).T
    counts = resample_counts(len(x), 3, seed)
    for row, found in zip(counts.astype(int), _spearman(x, y, counts), strict=True):
        resample = [np.repeat(side, row) for side in (x, y)]
        if min(np.ptp(side) for side in resample) == 0:
            assert np.isnan(found)
        else:
            assert found == pytest.approx(spearmanr(*resample).statistic, abs=1e-9)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    truth = 6 / np.pi * np.arcsin(0.5 / 2)  # Spearman's rho of a normal pair with Pearson's 0.5.
    hits = 0
    for _ in range(100):
        x = rng.normal(size=60)
        y = 0.5 * x + np.sqrt(0.75) * rng.normal(size=60)
        found = rank_correlation(x, y)
        hits += found.low <= truth <= found.high
    assert 85 <= hits <= 100


def test_missing_numbers_are_left_out() -> None:
    x = pd.Series([1, 2, 3, None, 5, 6, 7], dtype="Float64")
    y = pd.Series([7, 6, 5, 4, 3, 2, None], dtype="Float64")
    found = rank_correlation(x, y)
    assert (found.rho, found.points, found.is_clear) == (-1, 5, True)


@pytest.mark.parametrize(("x", "y"), [([1, 2, 3, 4], [1, 2, 3, 4]), ([1] * 9, range(9)), ([], [])])
def test_nothing_is_said_of_too_little(x: list[float], y: list[float]) -> None:
    found = rank_correlation(x, y)
    assert np.isnan([found.rho, found.low, found.high]).all()
    assert not found.is_clear
    assert str(found) == f"not known ({len(x)} candidates)"


def test_a_trend_of_a_line_is_the_line() -> None:
    x = np.linspace(0, 10, 50)
    found = trend(x, 3 * x - 2)
    assert found["mean"].to_numpy() == pytest.approx(3 * found["x"].to_numpy() - 2)
    assert (found["low"] - 1e-9 <= found["mean"]).all()
    assert (found["mean"] <= found["high"] + 1e-9).all()


def test_the_band_covers_a_peak_where_it_is() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 10, 300)
    found = trend(x, 1 - ((x - 6) / 5) ** 2 + rng.normal(scale=0.2, size=300))
    peak = found.loc[found["mean"].idxmax()]
    assert 5 < peak["x"] < 7
    assert 0 < (found["high"] - found["low"]).max() < 0.3


@pytest.mark.parametrize("x", [[1, 2, 3], [2, 2, 2, 2, 2, 2]])
def test_there_is_no_trend_of_too_little(x: list[float]) -> None:
    assert trend(x, x).empty


def test_interval_of_a_mean() -> None:
    low, high = mean_interval([1, 2, 3, np.nan])
    assert 1 <= low < 2 < high <= 3
    assert np.isnan(mean_interval([1])).all()


def test_the_same_numbers_give_the_same_interval() -> None:
    x = np.arange(20) % 7
    assert rank_correlation(x, x**2 % 5) == rank_correlation(x, x**2 % 5)
