"""What is noted in the attributes of a trial whose network is measured and trained."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rfsearch.space.trial_attributes import BATCH_HALVED, attribute
from rfsearch.space.trial_gates import Level, log_spread, measured_sizes

if TYPE_CHECKING:
    import optuna

    from rfsearch.measure.erf import MeasuredERF
    from rfsearch.training.loop import TrainingResult

#: Scores beside the value, where a task knows them.
SCORES = ("score_small", "score_medium", "score_large", "ap50")


def log_levels(
    trial: optuna.Trial, name: str, erfs: Mapping[Level, MeasuredERF], main: Level
) -> dict[str | None, float]:
    """Note measured ERF sizes of the main level, and of each where there are several.

    Args:
        trial: The candidate's.
        name: Of the attribute.
        erfs: By level.
        main: The main level.

    Returns:
        Those of the main level, by the axes that the trial is judged along.
    """
    found: dict[str | None, float] = {}
    for axis, sizes in measured_sizes(trial, erfs).items():
        found[axis] = sizes[main]
        trial.set_user_attr(attribute(name, axis), sizes[main])
        if axis is None:
            log_spread(trial, name.removeprefix("erf_"), erfs[main])
        about = attribute("levels", axis)
        if about in trial.user_attrs:
            levels = json.loads(trial.user_attrs[about])
            for level in levels.keys() & sizes.keys():
                levels[level][name] = sizes[level]
            trial.set_user_attr(about, json.dumps(levels))
    return found


def log_result(trial: optuna.Trial, result: TrainingResult) -> None:
    """Note the scores beside the value that are known, and whether memory was too small."""
    for name, score in zip(SCORES, (*result.by_scale, result.ap50), strict=True):
        if not math.isnan(score):
            trial.set_user_attr(name, score)
    if result.halved:
        trial.set_user_attr(BATCH_HALVED, True)


def fail(trial: optuna.Trial, gate: str, reason: str) -> float | tuple[float, ...]:
    """Note why a trial has no result.

    Returns:
        NaN, one for each objective.
    """
    trial.set_user_attr("rejected_by", gate)
    trial.set_user_attr("reason", reason)
    several = len(trial.study.directions)
    return (math.nan,) * several if several > 1 else math.nan
