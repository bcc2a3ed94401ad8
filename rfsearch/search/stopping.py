"""When a search is over, counted over all workers of a study.

A worker begins a trial only while the trained candidates and the trials that run would together
stay below the budget: each of the running ones may yet be trained. So several workers train as
many candidates as one would. Baselines and controls are in the queue from the start and use up
nothing. Two that look in the same instant may both begin; `has_a_place` then lets the trial with
the higher number step back.

A trial that goes on with a candidate which the pruner had stopped trains no further candidate, and
so needs no place in the budget of those.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from optuna.trial import FrozenTrial, TrialState

from rfsearch.space.trial_attributes import PROMOTED_FROM, reference_kind

if TYPE_CHECKING:
    from rfsearch.search.experiment import Experiment

#: What may stop a candidate that has passed the closed-form gates.
_AFTER_THE_GATES = (None, "measured", "latency", "memory", "pruner", "training")


class Step(Enum):
    """What a worker does next."""

    BEGIN = "begin a trial"
    WAIT = "wait for the trials of others, which may use up the budget or not"
    END = "nothing is left to do"


def next_step(trials: list[FrozenTrial], experiment: Experiment) -> Step:
    """What is to be done in a study with these trials, none of which is the asking worker's."""
    if any(t.state == TrialState.WAITING and reference_kind(t) for t in trials):
        return Step.BEGIN
    candidates = [trial for trial in trials if reference_kind(trial) is None]
    begun = sum(t.state == TrialState.RUNNING and _needs_a_place(t) for t in candidates)
    search = experiment.config.search
    full = (
        num_trained(candidates) + begun >= search.trained_trials
        or (search.feasible_only and _is_exhausted(experiment, candidates))
    ) and not any(t.state == TrialState.WAITING and PROMOTED_FROM in t.user_attrs for t in trials)
    over = sum(trial.state != TrialState.WAITING for trial in candidates) >= search.max_trials
    if not (full or over):
        return Step.BEGIN
    # The last worker sees to it that the trials of dead ones end.
    is_any_running = any(trial.state == TrialState.RUNNING for trial in trials)
    return Step.WAIT if is_any_running else Step.END


def has_a_place(number: int, trials: list[FrozenTrial], experiment: Experiment) -> bool:
    """Whether the running trial with this number is within the budget, by order of numbers."""
    if not _needs_a_place(trials[number]):
        return True
    ahead = [t for t in trials[:number] if t.state == TrialState.RUNNING and _needs_a_place(t)]
    return num_trained(trials) + len(ahead) < experiment.config.search.trained_trials


def is_finished(trials: list[FrozenTrial], experiment: Experiment) -> bool:
    """Whether the budget is used up, or no candidate that fits is left to be tried."""
    return next_step(trials, experiment) == Step.END


def num_trained(trials: list[FrozenTrial]) -> int:
    """How many candidates were trained: to the end, until a pruner stopped them, or in vain.

    A training that was interrupted from outside does not count.
    """
    return sum(
        "train_seconds" in trial.user_attrs
        and _needs_a_place(trial)
        and trial.state.is_finished()
        and (trial.state != TrialState.FAIL or "rejected_by" in trial.user_attrs)
        for trial in trials
    )


def _needs_a_place(trial: FrozenTrial) -> bool:
    """Whether the trial may use up the budget of trained candidates."""
    return reference_kind(trial) is None and PROMOTED_FROM not in trial.user_attrs


def has_trials_left(trials: list[FrozenTrial], experiment: Experiment) -> bool:
    """Whether there may be one more trial, whatever the budget of trained candidates."""
    candidates = [trial for trial in trials if reference_kind(trial) is None]
    return len(candidates) < experiment.config.search.max_trials


def _is_exhausted(experiment: Experiment, trials: list[FrozenTrial]) -> bool:
    """Whether every candidate that passes the closed-form gates has had its trial, or has it."""
    feasible = experiment.space.feasible(experiment.constraint)
    if not feasible.is_exact or feasible.count > len(trials):
        return False
    tried = {
        trial.user_attrs.get("architecture")
        for trial in trials
        if trial.state != TrialState.WAITING
        and trial.user_attrs.get("rejected_by") in _AFTER_THE_GATES
        and (trial.state != TrialState.FAIL or "rejected_by" in trial.user_attrs)
    }
    return len(tried - {None}) >= feasible.count
