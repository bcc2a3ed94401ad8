"""Rank correlations and smooth trends of small samples, with bootstrap intervals.

Everything is deterministic: the resamples come from a seeded generator, and the same for all
quantities, so that intervals of one table can be compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

#: Resamples behind an interval.
RESAMPLES = 1000
#: Fewest points of which a correlation or a trend is told: with fewer, an interval says nothing.
MIN_POINTS = 5
#: Points drawn for an interval, at most, as long as these resamples are left.
_MOST_DRAWN = 500_000
_FEWEST_RESAMPLES = 100


class RankCorrelation(NamedTuple):
    """Spearman's rank correlation with its bootstrap interval.

    Attributes:
        rho: From -1 to 1; NaN where there are fewer than five points, or one side is constant.
        low: Lower end of the 95 % percentile interval.
        high: Upper end.
        points: Pairs without a missing number.
    """

    rho: float
    low: float
    high: float
    points: int

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        if np.isnan(self.rho):
            return f"not known ({self.points} candidates)"
        return f"{self.rho:+.2f} ({self.low:+.2f} to {self.high:+.2f})"


def rank_correlation(
    x: ArrayLike, y: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> RankCorrelation:
    """Spearman's rank correlation of paired numbers; pairs with a missing number are left out.

    >>> rank_correlation([1, 2, 3, 4, 5, 6], [1, 4, 9, 16, 25, 36])
    RankCorrelation(rho=1.0, low=1.0, high=1.0, points=6)
    """
    pairs = _complete(x, y)
    points = pairs.shape[1]
    if points < MIN_POINTS or (np.ptp(pairs, axis=1) == 0).any():
        return RankCorrelation(np.nan, np.nan, np.nan, points)
    xs, ys = pairs
    (rho,) = _spearman(xs, ys, np.ones((1, points)))
    drawn = _spearman(xs, ys, resample_counts(points, resamples, seed))
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return RankCorrelation(float(rho), float(low), float(high), points)


def trend(
    x: ArrayLike, y: ArrayLike, *, steps: int = 41, resamples: int = 200, seed: int = 0
) -> pd.DataFrame:
    """A smooth mean of y over x, with a bootstrap band around it.

    The mean is a kernel-weighted local line, whose kernel is a normal one as wide as Silverman's
    rule says (0.9 min(std, IQR / 1.34) n^(-1/5), doubled, since the spread of y is not small).

    Args:
        x: Where; only the range between the 2 % and 98 % quantiles is drawn.
        y: What.
        steps: Places.
        resamples: Behind the band.
        seed: Of the resamples.

    Returns:
        Columns `x`, `mean`, `low` and `high` (95 % band); no rows for fewer than five points or
        a constant x.
    """
    xs, ys = _complete(x, y)
    if len(xs) < MIN_POINTS or np.ptp(xs) == 0:
        return pd.DataFrame(columns=["x", "mean", "low", "high"], dtype=float)
    first, last = np.quantile(xs, (0.02, 0.98))
    places = np.linspace(float(first), float(last), steps)
    # Weights from a kernel of this width never vanish between neighbours, so no place is empty.
    width = 2 * max(_silverman(xs), float(np.ptp(xs)) / 20)
    kernel = np.exp(-0.5 * ((places[:, None] - xs) / width) ** 2)
    mean = _local_line(kernel, xs, ys, places, np.ones((1, len(xs))))[0]
    drawn = _local_line(kernel, xs, ys, places, resample_counts(len(xs), resamples, seed))
    low, high = np.nanquantile(drawn, (0.025, 0.975), axis=0)
    return pd.DataFrame({"x": places, "mean": mean, "low": low, "high": high})


def mean_interval(
    values: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """95 % bootstrap interval of a mean; NaN for fewer than two numbers."""
    known = np.asarray(values, dtype=float)
    known = known[~np.isnan(known)]
    if len(known) < 2:
        return np.nan, np.nan
    drawn = resample_counts(len(known), resamples, seed) @ known / len(known)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def difference_of_means(
    first: ArrayLike, second: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of the first numbers minus that of the second, with its 95 % bootstrap interval.

    Both are resampled. The interval is NaN where either has fewer than two numbers.
    """
    groups = [values[~np.isnan(values)] for values in (_floats(first), _floats(second))]
    estimate = float(groups[0].mean() - groups[1].mean())
    if min(map(len, groups)) < 2:
        return estimate, np.nan, np.nan
    resamples = min(resamples, max(_FEWEST_RESAMPLES, _MOST_DRAWN // max(map(len, groups))))
    drawn = [
        resample_counts(len(values), resamples, seed + place) @ values / len(values)
        for place, values in enumerate(groups)
    ]
    low, high = np.quantile(drawn[0] - drawn[1], (0.025, 0.975))
    return estimate, float(low), float(high)


def _complete(x: ArrayLike, y: ArrayLike) -> Floats:
    pairs = np.stack([_floats(x), _floats(y)])
    return pairs[:, ~np.isnan(pairs).any(axis=0)]


def _floats(values: ArrayLike) -> Floats:
    # A pandas column with missing values must be told what stands for them.
    if isinstance(values, pd.Series):
        return values.to_numpy(dtype=float, na_value=np.nan)
    return np.asarray(values, dtype=float)


def _spearman(x: Floats, y: Floats, counts: Floats) -> Floats:
    """Spearman's coefficients where each point is there `counts` times, `(resamples, points)`.

    NaN where a side is constant.
    """
    x_ranks, y_ranks = _ranks(x, counts), _ranks(y, counts)
    middle = (counts[0].sum() + 1) / 2
    x_ranks -= middle
    y_ranks -= middle
    products, x_squares, y_squares = (
        np.einsum("rp,rp,rp->r", counts, left, right)
        for left, right in ((x_ranks, y_ranks), (x_ranks, x_ranks), (y_ranks, y_ranks))
    )
    norms = np.sqrt(x_squares * y_squares)
    found: Floats = np.divide(products, norms, out=np.full(len(norms), np.nan), where=norms > 0)
    return found.clip(-1, 1)


def _ranks(values: Floats, counts: Floats) -> Floats:
    """Mean rank of each value in each resample, without sorting the resamples."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    of_group = np.add.reduceat(counts[:, order], starts, axis=1)
    rank_of_group = of_group.cumsum(axis=1) - (of_group - 1) / 2
    group = np.empty(len(values), dtype=int)
    group[order] = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(values)]))
    ranks: Floats = rank_of_group[:, group]
    return ranks


def resample_counts(points: int, resamples: int, seed: int) -> Floats:
    """How often each point is in each resample, `(resamples, points)`.

    Intervals of many points are narrow, and need fewer resamples.
    """
    resamples = min(resamples, max(_FEWEST_RESAMPLES, _MOST_DRAWN // points))
    index = np.random.default_rng(seed).integers(0, points, (resamples, points))
    index += points * np.arange(resamples)[:, None]
    flat = np.bincount(index.ravel(), minlength=points * resamples)
    return flat.reshape(resamples, points).astype(float)


def _silverman(values: Floats) -> float:
    low, high = np.quantile(values, (0.25, 0.75))
    spread = float(np.std(values))
    if high > low:
        spread = min(spread, float(high - low) / 1.34)
    return float(0.9 * spread * len(values) ** -0.2)


def _local_line(kernel: Floats, xs: Floats, ys: Floats, places: Floats, counts: Floats) -> Floats:
    """Weighted local lines at the places, `(resamples, places)`."""
    # Moments about the middle of x keep the sums well conditioned.
    middle = xs.mean()
    x, at = xs - middle, places - middle
    s0, s1, s2 = (counts @ (kernel * x**power).T for power in (0, 1, 2))
    t0, t1 = (counts @ (kernel * (x**power * ys)).T for power in (0, 1))
    determinant = s0 * s2 - s1**2
    flat = determinant <= 1e-9 * s0 * s2
    slope = np.divide(s0 * t1 - s1 * t0, determinant, out=np.zeros_like(t0), where=~flat)
    mean = np.divide(t0, s0, out=np.full_like(t0, np.nan), where=s0 > 0)
    line: Floats = mean + slope * (at - np.divide(s1, s0, out=np.zeros_like(s1), where=s0 > 0))
    return line
