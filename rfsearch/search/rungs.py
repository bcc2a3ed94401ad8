"""Optuna's successive halving, for studies whose trials may be continued by other trials.

At each rung, which is a number of epochs, a trial is compared with all that have come so far, and
stopped unless it is in the best third. Optuna notes the value at each rung in the trial. A trial
that goes on where another one of the same candidate ended does not note it once more, so that
each candidate is counted once, and stays in the Hyperband bracket of the first.

When more have come, one that was stopped may be among the best third after all: asynchronous
successive halving promotes it then (Li et al., A System for Massively Parallel Hyperparameter
Tuning, 2020), which Optuna's pruner by itself cannot do. `RungsOfCandidates.stopped` says where
each one stands, and `rfsearch.search.promotion` lets it be trained on.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import defaultdict
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.pruners import HyperbandPruner, SuccessiveHalvingPruner
from optuna.study import StudyDirection
from optuna.trial import TrialState

from rfsearch.space.trial_attributes import PROMOTED_FROM
from rfsearch.storage.recovery import RETRY_OF, RUNGS, completed_rung, first_number, num_rungs

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
    """In front of one of Optuna's pruners, makes it take a candidate's trials for one.

    Args:
        epochs: Of a whole training; None: not known.
        settings: Of the pruner.
    """

    def __init__(self, epochs: int | None, **settings: Any) -> None:
        super().__init__(**settings)
        self._epochs = math.inf if epochs is None else epochs

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the trial should end now; a whole training is not stopped, but has a result."""
        passed = {completed_rung(rung): None for rung in range(trial.user_attrs.get(RUNGS, 0))}
        if passed:
            trial = copy(trial)
            trial.system_attrs = passed | dict(trial.system_attrs)
        stopped: bool = super().prune(study, trial)  # type: ignore[misc]
        return stopped and _epochs(trial) < self._epochs

    def stopped(self, study: optuna.Study) -> list[Standing]:
        """Where the trials stand that were stopped, and that no other has gone on from.

        Those of the longest training come first, and of these the best.
        """
        trials = study.get_trials(deepcopy=False)
        sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
        losses: dict[tuple[int, int], list[float]] = defaultdict(list)
        for trial in trials:
            bracket = self._bracket(study, trial)
            for rung in range(num_rungs(trial)):
                if (value := trial.system_attrs.get(completed_rung(rung))) is not None:
                    insort(losses[bracket, rung], sign * value)
        gone_on_from = {trial.user_attrs.get(PROMOTED_FROM) for trial in trials}
        found = []
        for trial in trials:
            if is_stopped(trial) and trial.number not in gone_on_from:
                rung = num_rungs(trial) - 1
                rivals = losses[self._bracket(study, trial), rung]
                loss = sign * trial.system_attrs[completed_rung(rung)]
                found.append((loss, Standing(trial, bisect_left(rivals, loss), len(rivals))))
        found.sort(key=lambda pair: (-_epochs(pair[1].trial), pair[0]))
        return [standing for _, standing in found]

    def _bracket(self, study: optuna.Study, trial: FrozenTrial) -> int:
        """Which trials it is compared with: those of the same bracket."""
        return 0


@dataclass(frozen=True, eq=False)
class Standing:
    """How a trial that was stopped at a rung compares with the candidates that came there.

    Attributes:
        trial: The trial.
        better: How many of them have a better value there.
        compared: How many they are, itself included.
    """

    trial: FrozenTrial
    better: int
    compared: int

    @property
    def missing(self) -> int:
        """How many more must come, all of them worse, for it to be let pass; 0: it is already."""
        if self.better == 0:
            return 0
        return max(0, REDUCTION * (self.better + 1) - self.compared)


def is_stopped(trial: FrozenTrial) -> bool:
    """Whether a trial was stopped at a rung, with the value that it has there."""
    if trial.state != TrialState.PRUNED or not trial.intermediate_values:
        return False
    noted = trial.system_attrs.get(completed_rung(num_rungs(trial) - 1), math.nan)
    return bool(trial.intermediate_values[_epochs(trial)] == noted)


def _epochs(trial: FrozenTrial) -> int:
    return max(trial.intermediate_values)


class SuccessiveHalving(RungsOfCandidates, SuccessiveHalvingPruner):
    """Successive halving with rungs for so many epochs; None: their number is not known."""

    def __init__(self, epochs: int | None) -> None:
        super().__init__(epochs, min_resource=first_rung(epochs), reduction_factor=REDUCTION)


class Hyperband(RungsOfCandidates, HyperbandPruner):
    """Hyperband with rungs for so many epochs; None: as many as the first trial has."""

    def __init__(self, epochs: int | None) -> None:
        longest: dict[str, Any] = {} if epochs is None else {"max_resource": epochs}
        super().__init__(
            epochs, min_resource=first_rung(epochs), reduction_factor=REDUCTION, **longest
        )

    def _bracket(self, study: optuna.Study, trial: FrozenTrial) -> int:
        if not self._pruners:
            self._try_initialization(study)
        return self._get_bracket_id(study, trial)

    def _get_bracket_id(self, study: optuna.Study, trial: FrozenTrial) -> int:
        if RETRY_OF in trial.user_attrs:
            trial = copy(trial)
            trial.number = first_number(trial)
        return super()._get_bracket_id(study, trial)
