"""Optuna's successive halving, for studies whose trials may be continued by other trials.

At each rung, which is a number of epochs, a trial is compared with all that have come so far, and
stopped unless it is in the best third. Optuna notes the value at each rung in the trial. A trial
that goes on where another one of the same candidate ended does not note it once more, so that
each candidate is counted once, and stays in the Hyperband bracket of the first.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from optuna.pruners import HyperbandPruner, SuccessiveHalvingPruner

from rfsearch.recovery import RETRY_OF, RUNGS, completed_rung, first_number

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

#: One in so many trials goes on at each rung, to so many times the epochs.
REDUCTION = 3
#: The first rung is after this share of the epochs, so that there are at most four.
_FIRST = 1 / REDUCTION**3


def first_rung(epochs: int | None) -> int:
    """After how many epochs trials are compared first, 1 where their number is not known.

    >>> [first_rung(epochs) for epochs in (4, 27, 60, 100)]
    [1, 1, 2, 3]
    """
    return 1 if epochs is None else max(1, int(epochs * _FIRST))


class RungsOfCandidates:
    """In front of one of Optuna's pruners, makes it take a candidate's trials for one."""

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the trial should end at its last epoch."""
        passed = {completed_rung(rung): None for rung in range(trial.user_attrs.get(RUNGS, 0))}
        if passed:
            trial = copy(trial)
            trial.system_attrs = passed | dict(trial.system_attrs)
        stopped: bool = super().prune(study, trial)  # type: ignore[misc]
        return stopped


class SuccessiveHalving(RungsOfCandidates, SuccessiveHalvingPruner):
    """Successive halving with rungs for so many epochs; None: their number is not known."""

    def __init__(self, epochs: int | None) -> None:
        super().__init__(min_resource=first_rung(epochs), reduction_factor=REDUCTION)


class Hyperband(RungsOfCandidates, HyperbandPruner):
    """Hyperband with rungs for so many epochs; None: as many as the first trial has."""

    def __init__(self, epochs: int | None) -> None:
        longest: dict[str, Any] = {} if epochs is None else {"max_resource": epochs}
        super().__init__(min_resource=first_rung(epochs), reduction_factor=REDUCTION, **longest)

    def _get_bracket_id(self, study: optuna.Study, trial: FrozenTrial) -> int:
        if RETRY_OF in trial.user_attrs:
            trial = copy(trial)
            trial.number = first_number(trial)
        return super()._get_bracket_id(study, trial)
