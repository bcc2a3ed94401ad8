"""Several studies side by side, by their scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from rfsearch.analysis.analysis import trials_dataframe
from rfsearch.analysis.erf_effect import candidates, trained_candidates
from rfsearch.analysis.savings import gate_savings
from rfsearch.analysis.statistics import mean_interval

if TYPE_CHECKING:
    from collections.abc import Mapping

    import optuna
    from optuna.study import StudyDirection


def compare_studies(
    studies: Mapping[str, optuna.Study], *, top: int = 5, reach: float | None = None
) -> pd.DataFrame:
    """One row per study: what it found and what that cost.

    Args:
        studies: By the name to show; all with the same direction of the score, which is
            the first of several objectives.
        top: How many of the best candidates `top_mean` is over.
        reach: A value; `seconds_to_reach` is the training time until a candidate was as good.
            None takes the worst of the studies' best values, which all of them reach.

    Returns:
        Columns `study`, `trials` (without baselines), `trained`, `best`, `top_mean` with its
        bootstrap interval `top_low` to `top_high`, `best_params_m`, `train_seconds` (total,
        pruned training included), `seconds_to_reach` (missing if it never did) and
        `saved_seconds` (an estimate: see `rfsearch.gate_savings`).

    Raises:
        ValueError: If there is no study, or directions differ.
    """
    directions = {study.directions[0] for study in studies.values()}
    if len(directions) != 1:
        shown = (f"{n} ({s.directions[0].name.lower()})" for n, s in studies.items())
        raise ValueError(
            "`studies` must hold studies with the same direction of the score, but got "
            f"{', '.join(shown) or 'none'}."
        )
    (direction,) = directions
    frames = {name: candidates(trials_dataframe(study)) for name, study in studies.items()}
    if reach is None:
        bests = [_best(trained_candidates(frame), direction) for frame in frames.values()]
        known = [float(row["value"]) for row in bests if row is not None]
        reach = _worst(known, direction) if known else None
    rows = [_row(name, frame, direction, top, reach) for name, frame in frames.items()]
    return pd.DataFrame(rows)


def _row(
    name: str, frame: pd.DataFrame, direction: StudyDirection, top: int, reach: float | None
) -> dict[str, Any]:
    trained = trained_candidates(frame)
    best = _best(trained, direction)
    values = trained["value"].astype(float).sort_values(ascending=direction.name == "MINIMIZE")
    low, high = mean_interval(values.head(top))
    return {
        "study": name,
        "trials": len(frame),
        "trained": len(trained),
        "best": None if best is None else float(best["value"]),
        "top_mean": values.head(top).mean(),
        "top_low": low,
        "top_high": high,
        "best_params_m": None if best is None else best["params_m"],
        "train_seconds": float(frame["train_seconds"].sum()),
        "seconds_to_reach": _seconds_to_reach(frame, direction, reach),
        "saved_seconds": float(gate_savings(frame)["saved_seconds"].sum()),
    }


def _best(trained: pd.DataFrame, direction: StudyDirection) -> pd.Series[Any] | None:
    if not len(trained):
        return None
    values = trained["value"].to_numpy(dtype=float)
    return trained.iloc[int(values.argmin() if direction.name == "MINIMIZE" else values.argmax())]


def _worst(values: list[float], direction: StudyDirection) -> float:
    return max(values) if direction.name == "MINIMIZE" else min(values)


def _seconds_to_reach(
    frame: pd.DataFrame, direction: StudyDirection, reach: float | None
) -> float | None:
    """Training seconds up to and with the first trial that is as good as `reach`."""
    if reach is None:
        return None
    values = frame["value"].to_numpy(dtype=float, na_value=float("nan"))
    good = values <= reach if direction.name == "MINIMIZE" else values >= reach
    if not good.any():
        return None
    return float(frame["train_seconds"].iloc[: int(good.argmax()) + 1].sum())
