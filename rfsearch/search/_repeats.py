"""Candidates that an earlier trial has judged: its results are taken over."""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial, TrialState

from rfsearch.search._measurements import SCORES
from rfsearch.search.objectives import Values
from rfsearch.search.rungs import RungsOfCandidates, is_stopped
from rfsearch.space.trial_attributes import BATCH_HALVED, ENVIRONMENT, PROMOTED_FROM
from rfsearch.storage.recovery import first_number

#: What a trial takes over from an earlier one with the same architecture.
_RESULTS = (
    "erf_init",
    "erf_clipped",
    "erf_trained",
    *(f"erf_{measure}_{when}" for when in ("init", "trained") for measure in ("sigma", "half")),
    "erf_misfit",
    "levels",
    "latency_ms",
    "peak_memory_mb",
    BATCH_HALVED,
    ENVIRONMENT,
    *SCORES,
)


def earlier_trial(trial: optuna.Trial) -> FrozenTrial | None:
    """The last trial of the study that has judged an equal candidate with the same seed."""
    same = ("architecture", "seed")
    is_described = "architecture" in trial.user_attrs  # A module is told by its parameters.
    promotes = isinstance(trial.study.pruner, RungsOfCandidates)
    for other in reversed(trial.study.get_trials(deepcopy=False)):
        is_trained = other.state == TrialState.COMPLETE and "rejected_by" not in other.user_attrs
        if (is_trained or (promotes and is_stopped(other))) and (
            first_number(other) != first_number(trial)
            and all(other.user_attrs.get(key) == trial.user_attrs.get(key) for key in same)
            and (is_described or other.params == trial.params)
        ):
            return other
    return None


def repeat(trial: optuna.Trial, earlier: FrozenTrial) -> Values:
    """Take over the results of an equal candidate, which training again would only repeat."""
    trial.set_user_attr("duplicate_of", earlier.user_attrs.get("duplicate_of", earlier.number))
    take_over(trial, earlier)
    if earlier.state == TrialState.PRUNED:
        raise optuna.TrialPruned(f"Stopped in trial {earlier.number}.")
    first, *others = map(float, earlier.values)
    return (first, *others) if others else first


def take_over(trial: optuna.Trial, earlier: FrozenTrial) -> None:
    """What was measured of an equal candidate, and the constraints that follow from it."""
    for name in _RESULTS:
        if name in earlier.user_attrs:
            trial.set_user_attr(name, earlier.user_attrs[name])
    for key, octaves in earlier.constraints.items():
        if key not in trial.constraints:
            trial.set_constraint(key, octaves)


def stopped_trial(trial: optuna.Trial) -> FrozenTrial:
    """The trial that this one goes on from."""
    number = int(trial.user_attrs[PROMOTED_FROM])
    return trial.study.get_trials(deepcopy=False)[number]
