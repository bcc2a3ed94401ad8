"""What is noted in the attributes of a trial whose network is measured and trained."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rfsearch.space.trial_attributes import BATCH_HALVED

if TYPE_CHECKING:
    import optuna

    from rfsearch.training.loop import TrainingResult

#: Scores beside the value, where a task knows them.
SCORES = ("score_small", "score_medium", "score_large", "ap50")


def log_levels(
    trial: optuna.Trial, name: str, sizes: Mapping[str, float] | Mapping[str | None, float]
) -> None:
    """Add sizes to what is known of each level, where there are several."""
    if "levels" in trial.user_attrs:
        levels = json.loads(trial.user_attrs["levels"])
        for level in levels.keys() & sizes.keys():
            levels[level][name] = sizes[level]
        trial.set_user_attr("levels", json.dumps(levels))


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
