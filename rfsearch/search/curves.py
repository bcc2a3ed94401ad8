"""A trial's score after each epoch.

Optuna takes intermediate values of a study with one objective only, and has no pruner for
several. There the curve is an attribute of the trial.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

#: Attribute with the score by epoch.
CURVE = "curve"


def note_epoch(trial: optuna.Trial, epoch: int, score: float) -> None:
    """Note the score after an epoch."""
    if len(trial.study.directions) > 1:
        trial.set_user_attr(CURVE, trial.user_attrs.get(CURVE, {}) | {str(epoch): score})
    else:
        trial.report(score, epoch)


def is_pruned(trial: optuna.Trial) -> bool:
    """Whether the study's pruner stops the trial."""
    return len(trial.study.directions) == 1 and trial.should_prune()


def curve_of(trial: FrozenTrial) -> dict[int, float]:
    """The scores by epoch that are known."""
    noted = trial.user_attrs.get(CURVE, {})
    return trial.intermediate_values or {int(epoch): score for epoch, score in noted.items()}
