"""Whether the receptive field has to do with how good the candidates are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from rfsearch.analysis.statistics import rank_correlation

if TYPE_CHECKING:
    from rfsearch.basics.ranges import Range

#: Columns that may predict the value, with what they are called.
PREDICTORS = {
    "erf_ratio_trained": "ERF ratio, trained",
    "erf_trained": "ERF size, trained",
    "erf_init": "ERF size, initial",
    "erf_expected": "ERF size, expected",
    "erf_octaves_off": "distance of the expected ERF to the target",
    "trf_size": "theoretical RF",
    "params_m": "parameters",
    "flops_g": "FLOPs",
}

#: How metrics are written where they have another name than in tables.
_METRICS = {"miou": "mIoU", "ap": "AP"}


def metric_label(frame: pd.DataFrame) -> str:
    """What the values of a table are: "accuracy", "mIoU", "AP", or "score" where it is open."""
    metrics = frame["metric"].dropna().unique()
    return _METRICS.get(metrics[0], str(metrics[0])) if len(metrics) == 1 else "score"


def candidates(frame: pd.DataFrame) -> pd.DataFrame:
    """The trials of the search itself, baselines and controls left out."""
    return frame[frame["baseline"].isna() & ~frame["control"]]


def whole_candidates(frame: pd.DataFrame) -> pd.DataFrame:
    """The trials without those that a promoted one has gone on from, in whose row the rest is.

    Its `train_seconds` become those of the whole training.
    """
    if "promoted_to" not in frame or frame["promoted_to"].isna().all():
        return frame
    seconds = dict(zip(frame["number"], frame["train_seconds"], strict=True))
    for number, later in zip(frame["number"], frame["promoted_to"], strict=True):
        if pd.notna(later) and later in seconds:
            seconds[later] += seconds[number]
    totals = frame["number"].map(seconds).astype(frame["train_seconds"].dtype)
    return frame.assign(train_seconds=totals)[frame["promoted_to"].isna()]


def trained_candidates(frame: pd.DataFrame) -> pd.DataFrame:
    """The candidates that were trained to the end, each once, without what stands beside."""
    own = candidates(whole_candidates(frame))
    return own[own["value"].notna() & own["duplicate_of"].isna()]


def trained_baselines(frame: pd.DataFrame) -> pd.DataFrame:
    """The networks of timm that were trained beside the candidates."""
    return frame[frame["value"].notna() & frame["baseline"].notna()]


def trained_controls(frame: pd.DataFrame) -> pd.DataFrame:
    """The candidates that do not fit and were trained beside the others."""
    return frame[frame["value"].notna() & frame["control"]]


def correlation_line(frame: pd.DataFrame, column: str) -> str:
    """What the rank correlation of a column with the value is, with controls too if there are any.

    Candidates that fit are alike in what they see, so that they alone may show nothing.
    """
    trained = trained_candidates(frame)
    alone, both = (
        rank_correlation(part[column], part["value"])
        for part in (trained, pd.concat([trained, trained_controls(frame)]))
    )
    line = f"rank correlation {alone}"
    return line if alone.points == both.points else f"{line}, with controls {both}"


def per_object(frame: pd.DataFrame, object_size: float) -> pd.DataFrame:
    """The table with ERF sizes as multiples of an object: `erf_expected_per_object` and so on.

    Args:
        frame: From `rfsearch.trials_dataframe`.
        object_size: Side of the object, in px.

    Raises:
        ValueError: If it is not positive.
    """
    if not object_size > 0:
        raise ValueError(f"`object_size > 0` must hold, but got {object_size:g} px.")
    sizes = ["erf_expected", "erf_init", "erf_trained"]
    return frame.assign(**{f"{size}_per_object": frame[size] / object_size for size in sizes})


def octaves_off(sizes: pd.Series, effective: Range) -> pd.Series:
    """How far sizes lie outside a range, in octaves; 0 inside."""
    distances = [max(0.0, effective.violation(size)) if pd.notna(size) else None for size in sizes]
    return pd.Series(distances, index=sizes.index, dtype="Float64")


def erf_correlations(frame: pd.DataFrame, effective: Range | None = None) -> pd.DataFrame:
    """Spearman's rank correlation of each predictor with the value, over trained candidates.

    Args:
        frame: From `rfsearch.trials_dataframe`.
        effective: The ERF sizes that fit, in px; the distance to them is a predictor too.

    Returns:
        Rows in the order of `PREDICTORS`: `predictor`, `what`, `rho`, the 95 % bootstrap interval
        `low` to `high`, and the number of `points`. Where a predictor is constant or known of
        fewer than five candidates, `rho` is NaN.
    """
    trained = trained_candidates(frame)
    if effective is not None:
        distances = octaves_off(trained["erf_expected"], effective)
        trained = trained.assign(erf_octaves_off=distances)
    rows = [
        {"predictor": column, "what": what}
        | rank_correlation(trained[column], trained["value"])._asdict()
        for column, what in PREDICTORS.items()
        if column in trained.columns
    ]
    return pd.DataFrame(rows)
