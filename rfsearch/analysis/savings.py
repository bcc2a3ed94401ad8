"""What stopped candidates on their way to training, and how much training that saved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rfsearch.analysis.erf_effect import candidates, trained_candidates, whole_candidates
from rfsearch.analysis.statistics import MIN_POINTS, resample_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: What keeps a candidate from being trained to the end, from the cheapest to the dearest, with
#: what to call it.
STOPS = {
    "theoretical": "theoretical RF",
    "output_stride": "output stride",
    "parameters": "parameters",
    "flops": "FLOPs",
    "training_memory": "training memory",
    "finest_stride": "finest stride",
    "gridding": "gridding",
    "skipped": "skipped units",
    "expected": "expected ERF",
    "repeated": "trained before",
    "measured": "measured ERF",
    "latency": "latency",
    "memory": "peak memory",
    "pruner": "pruner",
}
#: Resamples behind an interval.
_RESAMPLES = 200


def gate_savings(frame: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """How many trials each gate stopped, and an estimate of the training time that saved.

    The estimate: training a candidate takes a time that is a line in its FLOPs, fitted to the
    candidates that were trained to the end, and never shorter or longer than any of those took.
    With fewer than five of those, or where FLOPs are not known, it is their mean. From
    what the pruner stopped for good, the seconds that it had already taken are subtracted, down to
    nothing. It says nothing of how good the stopped candidates would have been.

    Args:
        frame: From `rfsearch.trials_dataframe`.
        seed: Of the bootstrap.

    Returns:
        A row for each entry of `STOPS` that stopped a trial: `gate`, `what`, `stopped` (trials),
        `saved_seconds` and its 95 % bootstrap interval `saved_low` to `saved_high`, over which
        candidates happened to be trained; NaN where none was.
    """
    frame = candidates(whole_candidates(frame))
    stopped_by = frame["rejected_by"].where(frame["duplicate_of"].isna(), "repeated")
    trained = trained_candidates(frame).dropna(subset=["train_seconds"])
    rows = []
    for gate, what in STOPS.items():
        stopped = frame[stopped_by == gate]
        if len(stopped):
            estimates = _estimates(_floats(trained), _floats(stopped), seed)
            rows.append((gate, what, len(stopped), *estimates))
    names = ["gate", "what", "stopped", "saved_seconds", "saved_low", "saved_high"]
    return pd.DataFrame(rows, columns=names)


def _floats(frame: pd.DataFrame) -> Floats:
    """FLOPs and training seconds, `(2, trials)`; NaN where unknown."""
    columns = frame[["flops_g", "train_seconds"]]
    return columns.to_numpy(dtype=float, na_value=np.nan).T


def _estimates(trained: Floats, stopped: Floats, seed: int) -> tuple[float, float, float]:
    """Seconds that the stopped candidates would have taken, and their 95 % interval."""
    number = trained.shape[1]
    if not number:
        return np.nan, np.nan, np.nan
    spent = np.nansum(stopped[1])
    # What was stopped after its last epoch has saved nothing, however long it took.
    (estimate,) = np.maximum(_seconds(trained, stopped[0], np.ones((1, number))) - spent, 0)
    if number == 1:
        return float(estimate), np.nan, np.nan
    counts = resample_counts(number, _RESAMPLES, seed)
    saved = np.maximum(_seconds(trained, stopped[0], counts) - spent, 0)
    low, high = np.quantile(saved, (0.025, 0.975))
    return float(estimate), float(low), float(high)


def _seconds(trained: Floats, stopped_flops: Floats, counts: Floats) -> Floats:
    """Total training seconds of stopped candidates, for each weighting `(weightings, trained)`."""
    flops, seconds = trained
    counts = counts / counts.sum(axis=1, keepdims=True)
    mean: Floats = counts @ seconds
    if len(flops) < MIN_POINTS or np.isnan(flops).any():
        return np.multiply(mean, len(stopped_flops))
    flops_mean = counts @ flops
    variance = counts @ flops**2 - flops_mean**2
    covariance = counts @ (flops * seconds) - flops_mean * mean
    # A resample of equal networks has no slope.
    slope = np.divide(covariance, variance, out=np.zeros_like(mean), where=variance > 1e-18)
    offsets = np.where(np.isnan(stopped_flops), 0.0, stopped_flops - flops_mean[:, None])
    predicted = mean[:, None] + slope[:, None] * offsets
    total: Floats = predicted.clip(seconds.min(), seconds.max()).sum(axis=1)
    return total
