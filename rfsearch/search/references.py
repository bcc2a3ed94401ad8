"""Trials that stand beside a search, for comparison: baselines and controls.

Such a trial has no parameters, and ends as pruned, so that `study.best_trial` stays a candidate
and samplers pass over it: a completed trial without parameters would make Optuna's GP and NSGA-II
believe that the study's trials have none in common. (A multivariate TPE believes it of pruned ones
too and then takes parameters one by one.) The pruner is not asked and compares nothing with it.
Its score is in the attribute `reference_score`, and in the column `value` of `trials_dataframe`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import optuna
from optuna.trial import TrialState

from rfsearch.data.device_memory import free_memory
from rfsearch.data.loading_errors import LoadingError
from rfsearch.measure.latency import time_one_image
from rfsearch.search._environment import environment_of
from rfsearch.search._measurements import fail, log_levels, log_result
from rfsearch.search.curves import note_epoch
from rfsearch.space.trial_attributes import ENVIRONMENT, REFERENCE_SCORE, reference_kind

if TYPE_CHECKING:
    from pathlib import Path

    from optuna.trial import FrozenTrial
    from torch import nn

    from rfsearch.models.resolve import Built
    from rfsearch.space.candidate import Candidate
    from rfsearch.space.constraint import RFConstraint
    from rfsearch.space.module_space import ModuleSpace
    from rfsearch.space.space import SearchSpace
    from rfsearch.training.checkpoints import Checkpoint
    from rfsearch.training.task import Task


class Network(NamedTuple):
    """What to train for a reference trial.

    Attributes:
        model: The network.
        levels: Output maps whose ERF is measured; None is the last.
        main: The one of them whose sizes are logged.
    """

    model: nn.Module
    levels: tuple[str | None, ...] = (None,)
    main: str | None = None


class Trains(Protocol):
    """What a reference is trained with: an `rfsearch.Objective`."""

    @property
    def space(self) -> SearchSpace | ModuleSpace:
        """What may be proposed."""

    @property
    def constraint(self) -> RFConstraint:
        """What fits."""

    @property
    def task(self) -> Task:
        """What to train for."""

    @property
    def folder(self) -> Path | None:
        """Of the experiment."""

    @property
    def after_batch(self) -> Callable[[], None]:
        """Called after each batch."""

    @property
    def needs_latency(self) -> bool:
        """Whether latency is measured."""

    def checkpoint(self, trial: optuna.Trial) -> Checkpoint | None:
        """Where the training of a trial leaves its state."""

    def describe(self, trial: optuna.Trial, given: Built) -> Candidate:
        """Log what is known of a candidate."""


def enqueue_references(study: optuna.Study, kind: str, values: Iterable[Any]) -> None:
    """Let the workers of a study begin with the reference trials that it does not have yet.

    Args:
        study: Where the trials go.
        kind: `BASELINE` or `CONTROL`.
        values: What each trial is about, fit for JSON.
    """
    known = [value for value, _ in references(study.get_trials(deepcopy=False), kind)]
    for value in values:
        if value not in known:
            study.enqueue_trial({}, user_attrs={kind: value})


def references(trials: Iterable[FrozenTrial], kind: str) -> list[tuple[Any, FrozenTrial]]:
    """What the reference trials of a kind are about, and the trials that were not interrupted."""
    return [(t.user_attrs[kind], t) for t in trials if kind in t.user_attrs and _counts(t)]


def is_repeated(number: int, trials: list[FrozenTrial]) -> bool:
    """Whether an earlier reference trial is about the same as the one with this number.

    Two workers that open a study in the same moment put both in the queue.
    """
    kind = reference_kind(trials[number])
    if kind is None:
        return False
    earlier = [value for value, _ in references(trials[:number], kind)]
    return trials[number].user_attrs[kind] in earlier


def _counts(trial: FrozenTrial) -> bool:
    """Whether the trial is not one that was interrupted; a control fails a gate besides."""
    failed = trial.user_attrs.get("rejected_by") == reference_kind(trial)
    return trial.state != TrialState.FAIL or failed


def run_reference(
    trial: optuna.Trial,
    objective: Trains,
    prepare: Callable[[optuna.Trial, Trains], Network],
) -> float | tuple[float, ...]:
    """Train what a reference trial is about, as candidates are trained.

    One that cannot be built, traced or trained is noted with the attribute `reason`.

    Args:
        trial: From `enqueue_references`.
        objective: With the task, and how candidates are trained.
        prepare: Describes the network in the trial's attributes and builds it.

    Returns:
        NaN, for a failed trial, if it cannot be trained.

    Raises:
        optuna.TrialPruned: When it is trained.
    """
    kind = str(reference_kind(trial))
    try:
        _measure_and_train(trial, objective, prepare(trial, objective))
    except (ValueError, RuntimeError, FloatingPointError, LoadingError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
    else:
        raise optuna.TrialPruned(f"A {kind} is no candidate.")
    # Only here nothing refers to the network any more, as the traceback did.
    free_memory()
    return fail(trial, kind, reason)


def _measure_and_train(trial: optuna.Trial, objective: Trains, network: Network) -> None:
    task, (model, levels, main) = objective.task, network
    trial.set_user_attr("seed", task.training.seed)
    trial.set_user_attr("metric", task.metric)
    trial.set_user_attr(ENVIRONMENT, environment_of(model, objective.folder))
    before = {level: task.measure_erf(model, level) for level in levels}
    trial.set_user_attr("erf_clipped", before[main].clipped)
    log_levels(trial, "erf_init", before, main)
    if objective.needs_latency:
        latency = time_one_image(model, task.input_size)
        trial.set_user_attr("latency_ms", latency.latency_ms)
        trial.set_user_attr("peak_memory_mb", latency.peak_memory_mb)

    def report(epoch: int, score: float) -> None:
        note_epoch(trial, epoch, score)

    start = time.perf_counter()
    result = task.train(model, report, objective.checkpoint(trial), objective.after_batch)
    trial.set_user_attr("train_seconds", time.perf_counter() - start)
    after = {level: task.measure_erf(model, level) for level in levels}
    log_levels(trial, "erf_trained", after, main)
    log_result(trial, result)
    if not math.isnan(result.score):
        trial.set_user_attr(REFERENCE_SCORE, result.score)
