"""How the trial of a candidate that fails a gate ends, so that the study's sampler learns from it.

The one rule: the trial has its constraints in octaves, whatever the sampler, and

- ends as **pruned**, which is what TPE learns from and what keeps the candidate out of
  `study.best_trial`;
- but where the sampler looks at completed trials alone (GP, NSGA-II, NSGA-III), it ends as
  **completed**, with the median of the completed trials that fit as a stand-in for the value that
  was never measured. Its constraints keep it from being the best trial.

CMA-ES, QMC, grid and random sampling use no constraints; for them it is pruned.
"""

from __future__ import annotations

from statistics import median_low
from typing import TYPE_CHECKING

import optuna
from optuna.samplers import GPSampler, NSGAIIISampler, NSGAIISampler
from optuna.trial import TrialState

from rfsearch.sampler import RFSampler

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

_LEARN_FROM_COMPLETED_TRIALS = (GPSampler, NSGAIISampler, NSGAIIISampler)


def end_rejected(trial: optuna.Trial) -> float:
    """End the trial of a candidate that a gate has rejected, and whose constraints are set.

    Returns:
        The stand-in value, for samplers that look at completed trials alone.

    Raises:
        optuna.TrialPruned: For the others.
    """
    if not _learns_from_completed_trials(trial.study.sampler):
        raise optuna.TrialPruned(trial.user_attrs.get("reason", ""))
    completed = trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    values = [other.values[0] for other in completed if _fits(other)]
    return float(median_low(values)) if values else 0.0


def _learns_from_completed_trials(sampler: BaseSampler) -> bool:
    base = sampler.base if isinstance(sampler, RFSampler) else sampler
    return isinstance(base, _LEARN_FROM_COMPLETED_TRIALS)


def _fits(trial: FrozenTrial) -> bool:
    return all(violation <= 0 for violation in trial.constraints.values())
