"""How the trial of a candidate that fails a gate ends, so that the study's sampler learns from it.

The one rule: the trial has its constraints in octaves, whatever the sampler, and

- ends as **pruned**, which is what TPE learns from and what keeps the candidate out of
  `study.best_trial`;
- but where the sampler looks at completed trials alone (GP, NSGA-II, NSGA-III), it ends as
  **completed**, with the median of the completed trials that fit as a stand-in for the value that
  was never measured, objective by objective. Its constraints keep it from being the best trial.

CMA-ES, QMC, grid and random sampling use no constraints; for them it is pruned.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from statistics import median_low
from typing import TYPE_CHECKING

import optuna
from optuna.samplers import GPSampler, NSGAIIISampler, NSGAIISampler
from optuna.trial import TrialState

from rfsearch.search.sampler import RFSampler

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

_LEARN_FROM_COMPLETED_TRIALS = (GPSampler, NSGAIISampler, NSGAIIISampler)
#: Of one objective, or of several.
_Values = float | tuple[float, ...]


def learn_from_rejected(
    objective: Callable[[optuna.Trial], _Values],
) -> Callable[[optuna.Trial], _Values]:
    """An objective of your own whose rejected trials end so that every sampler learns from them.

    `RFConstraint.check` prunes a trial that does not fit, and Optuna's GP, NSGA-II and NSGA-III
    look at completed trials alone. For them such a trial completes, with the median of those that
    fit as a stand-in; its constraints keep it from being the best. For other samplers nothing
    changes. `rfsearch.Objective` ends its trials so already.

    Args:
        objective: Takes a trial and calls `RFConstraint.check`; may be decorated with this.
    """

    @wraps(objective)
    def judged(trial: optuna.Trial) -> _Values:
        try:
            return objective(trial)
        except optuna.TrialPruned:
            if "rejected_by" not in trial.user_attrs:
                raise
            return end_rejected(trial)

    return judged


def end_rejected(trial: optuna.Trial) -> _Values:
    """End the trial of a candidate that a gate has rejected, and whose constraints are set.

    Returns:
        The stand-in value, one for each objective, for samplers that look at completed trials
        alone.

    Raises:
        optuna.TrialPruned: For the others.
    """
    if not _learns_from_completed_trials(trial.study.sampler):
        raise optuna.TrialPruned(trial.user_attrs.get("reason", ""))
    completed = trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    known = [other.values for other in completed if _fits(other)]
    first, *others = (
        map(float, map(median_low, zip(*known, strict=True)))
        if known
        else (0.0 for _ in trial.study.directions)
    )
    return (first, *others) if others else first


def _learns_from_completed_trials(sampler: BaseSampler) -> bool:
    base = sampler.base if isinstance(sampler, RFSampler) else sampler
    return isinstance(base, _LEARN_FROM_COMPLETED_TRIALS)


def _fits(trial: FrozenTrial) -> bool:
    return all(violation <= 0 for violation in trial.constraints.values())
