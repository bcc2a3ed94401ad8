"""The whole funnel as an Optuna objective."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import optuna
import torch

from rfsearch.basics.limits import check_memory
from rfsearch.basics.validation import checked_size
from rfsearch.data.device_memory import free_memory
from rfsearch.data.loading_errors import LoadingError
from rfsearch.diagnosis.diagnosis import diagnose
from rfsearch.feasible.choices import NotOfferedError
from rfsearch.measure.latency import time_one_image
from rfsearch.models.timm_models import seeded
from rfsearch.network.architecture import Architecture
from rfsearch.retrofit.space import RetrofitSpace
from rfsearch.search._environment import environment_of
from rfsearch.search._measurements import fail, log_levels, log_result
from rfsearch.search._repeats import earlier_trial, repeat, stopped_trial, take_over
from rfsearch.search.baselines import prepare_baseline
from rfsearch.search.controls import prepare_control
from rfsearch.search.curves import is_pruned, note_epoch
from rfsearch.search.objectives import (
    DIRECTIONS,
    MEASURED,
    Values,
    check_objectives,
    erf_misfit,
    name_objectives,
)
from rfsearch.search.references import run_reference
from rfsearch.search.rejection import end_rejected
from rfsearch.space.candidate import as_candidate
from rfsearch.space.module_space import ModuleSpace
from rfsearch.space.space import not_a_parameter
from rfsearch.space.trial_attributes import (
    BASELINE,
    CONTROL,
    ENVIRONMENT,
    PROMOTED_FROM,
    enqueued,
    reference_kind,
)
from rfsearch.space.trial_gates import log_costs
from rfsearch.storage.recovery import RETRY_OF, first_number

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from rfsearch.measure.erf import MeasuredERF
    from rfsearch.models.resolve import Built
    from rfsearch.search.weights import WeightStore
    from rfsearch.space.candidate import Candidate
    from rfsearch.space.constraint import RFConstraint
    from rfsearch.space.space import SearchSpace
    from rfsearch.training.checkpoints import Checkpoint, Checkpoints
    from rfsearch.training.loop import TrainingResult
    from rfsearch.training.task import Task

#: How what a trial is about that stands beside the search is described and built.
_REFERENCES = {BASELINE: prepare_baseline, CONTROL: prepare_control}


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Objective:
    """Suggest a candidate, pass it through the gates, train it briefly, log every number.

    A candidate that fails a gate is never trained; its trial ends as `rfsearch.search.rejection`
    says, which is pruned for all samplers that learn from pruned trials. A candidate that cannot
    be trained (a value outside the space, a loss that is not finite, too little memory, images
    that cannot be read) ends as a failed trial whose attribute `reason` says why; the study goes
    on, and nothing of the candidate stays in memory. A candidate that an earlier trial has trained
    with the same seed is not trained again: the trial repeats the earlier one's results and names
    it in `duplicate_of`. Where the pruner promotes stopped candidates, that goes for those too.
    Baselines and controls in the study's queue are trained, and are no candidates.

    Attributes:
        space: What may be proposed. What a `ModuleSpace` builds gives maps, on which the task puts
            its head; a trial repeats another one where all parameters are the same.
        constraint: Which receptive fields fit.
        task: What to train for.
        after_batch: Called after each batch of images that is trained or validated on; an
            exception that it raises ends the trial.
        weights: Where the weights of the best trained candidates are kept. None keeps none.
        measure_latency: Whether candidates are timed before training, also where the constraint
            has no bound on that.
        checkpoints: Where trainings leave their state after each epoch, for a retry to go on from.
            None: nowhere.
        folder: Of the experiment; the state of the git repository that it is in is noted.
        objectives: What the trial's values are, the score first: see
            `rfsearch.search.objectives.DIRECTIONS`. With several, no pruner is asked, and a
            study without metric names gets these.

    Raises:
        ValueError: If the objectives are no such list, or the space is of other inputs than the
            task.
    """

    space: SearchSpace | ModuleSpace
    constraint: RFConstraint
    task: Task
    after_batch: Callable[[], None] = _nothing
    weights: WeightStore | None = None
    measure_latency: bool = False
    checkpoints: Checkpoints | None = None
    folder: Path | None = None
    objectives: tuple[str, ...] = ("score",)

    def __post_init__(self) -> None:
        check_objectives(self.objectives, self.constraint)
        if isinstance(self.space, ModuleSpace):
            traced_at = checked_size(self.space.input_size, 2)
            if traced_at != self.task.input_size:
                raise ValueError(
                    "`input_size` of the space must be the size of the task's images, "
                    f"{self.task.input_size}, but is {traced_at}."
                )
        elif self.space.axes != len(self.task.input_size):
            raise ValueError(
                f"`axes` of the space must be that of the task's inputs, "
                f"{len(self.task.input_size)}, but is {self.space.axes}."
            )

    @property
    def directions(self) -> list[str]:
        """Directions of the study's objectives, as `optuna.create_study` takes them."""
        return [DIRECTIONS[name] for name in self.objectives]

    def __call__(self, trial: optuna.Trial) -> Values:
        """The trial's values, a bare number if it is one; NaN, a failed trial, if it has none.

        Raises:
            optuna.TrialPruned: If a gate or the study's pruner rejects the candidate.
            ValueError: If there are several objectives, and the study has others.
        """
        self._check_directions(trial.study)
        kind = reference_kind(trial)
        if kind is not None:
            return run_reference(trial, self, _REFERENCES[kind])
        try:
            return self._judge(trial)
        except (FloatingPointError, LoadingError, torch.OutOfMemoryError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
        # Only here nothing refers to the network any more, as the traceback did.
        free_memory()
        return fail(trial, "training", reason)

    def _check_directions(self, study: optuna.Study) -> None:
        found = [direction.name.lower() for direction in study.directions]
        if max(len(found), len(self.objectives)) > 1 and found != self.directions:
            raise ValueError(
                f"The study's directions must be {self.directions}, those of the objectives "
                f"{', '.join(self.objectives)}, but are {found}."
            )
        if len(found) > 1 and study.metric_names is None:
            name_objectives(study, self.objectives)

    def _judge(self, trial: optuna.Trial) -> Values:
        try:
            given = self._suggested(trial)
            if isinstance(self.space, RetrofitSpace):
                trial.set_user_attr("changes", json.dumps(self.space.changes(trial.params)))
        except NotOfferedError as error:
            return fail(trial, "space", str(error))
        try:
            candidate = self.describe(trial, given)
            self.constraint.check(trial, candidate)
        except optuna.TrialPruned:
            return end_rejected(trial)
        except ValueError as error:  # Image or memory are too small, or a module is not traced.
            return fail(trial, "space", str(error))
        earlier = earlier_trial(trial)
        if earlier is not None:
            return repeat(trial, earlier)
        try:
            model = self.task.build(given)
        except ValueError as error:  # A module gives no maps that a head could be put on.
            return fail(trial, "space", str(error))
        levels = self.constraint.judged_levels(candidate)
        main = self.constraint.main_level(candidate)
        is_promoted = PROMOTED_FROM in trial.user_attrs
        if is_promoted:
            take_over(trial, stopped_trial(trial))
        trial.set_user_attr(ENVIRONMENT, environment_of(model, self.folder))
        if not is_promoted:
            try:
                self._check_measured(trial, model, levels, main)
            except ValueError as error:  # No gradient reaches the input of a narrow network.
                return fail(trial, "measured", str(error))
            except optuna.TrialPruned:
                return end_rejected(trial)
        result = self._train(trial, model)
        if self.weights is not None:
            self.weights.add(trial, model, result.score)
        trained = log_levels(trial, "erf_trained", self._measure_trained(model, levels), main)
        if "erf_misfit" in self.objectives:
            misfits = []
            for axis, size in trained.items():
                asked = self.constraint.asked(candidate, axis).levels[main]
                misfits.append(erf_misfit(size, dict(asked.ranges)))
            trial.set_user_attr("erf_misfit", max(misfits))
        log_result(trial, result)
        costs = [float(trial.user_attrs[name]) for name in self.objectives[1:]]
        return (result.score, *costs) if costs else result.score

    def _suggested(self, trial: optuna.Trial) -> Built:
        choices = self.space.choices()
        for name in enqueued(trial):
            if name not in choices:
                raise not_a_parameter(name, choices)
        return seeded(lambda: self.space.suggest(trial), self.task.training.seed)

    @property
    def needs_latency(self) -> bool:
        """Whether networks are timed before they are trained."""
        wanted = self.measure_latency or any(name in self.objectives for name in MEASURED)
        return wanted or self.constraint.needs_latency

    def describe(self, trial: optuna.Trial, given: Built) -> Candidate:
        """Note what is known of a candidate before it is trained.

        Args:
            trial: The candidate's.
            given: From the space.

        Returns:
            What answers for it: an architecture, or the trace of a module.

        Raises:
            ValueError: If the images or the memory are too small for it, or it cannot be traced.
        """
        task, budget = self.task, self.task.budget
        candidate = as_candidate(given, task.input_size)
        if isinstance(candidate, Architecture):
            trial.set_user_attr("architecture", json.dumps(candidate.to_dict()))
        cost = budget.cost(candidate)
        log_costs(trial, candidate, budget)
        trial.set_user_attr("training_memory_mb", budget.training_memory(candidate))
        trial.set_user_attr("seed", task.training.seed)
        trial.set_user_attr("metric", task.metric)
        check_memory(4 * cost.parameters, "The weights of this network")
        found = diagnose(given, self.constraint.target, task.input_size, erf=False)
        trial.set_user_attr("findings", ",".join(finding.kind for finding in found))
        return candidate

    def _check_measured(
        self, trial: optuna.Trial, model: nn.Module, levels: Iterable[str], main: str
    ) -> None:
        erf = {level: self.task.measure_erf(model, level) for level in levels}
        trial.set_user_attr("erf_clipped", erf[main].clipped)
        self.constraint.check_measured(trial, erf)
        if self.needs_latency:
            timed = time_one_image(model, self.task.input_size)
            self.constraint.check_latency(trial, timed)

    def _train(self, trial: optuna.Trial, model: nn.Module) -> TrainingResult:
        def report(epoch: int, score: float) -> None:
            note_epoch(trial, epoch, score)
            if is_pruned(trial):
                reason = f"{self.task.metric} of {score:.3f} after epoch {epoch}"
                trial.set_user_attr("rejected_by", "pruner")
                trial.set_user_attr("reason", reason)
                raise optuna.TrialPruned(reason)

        start = time.perf_counter()
        try:
            return self.task.train(model, report, self.checkpoint(trial), self.after_batch)
        finally:
            trial.set_user_attr("train_seconds", time.perf_counter() - start)

    def _measure_trained(self, model: nn.Module, levels: Iterable[str]) -> dict[str, MeasuredERF]:
        try:
            return {level: self.task.measure_erf(model, level) for level in levels}
        except ValueError as error:  # It had an ERF before: training has broken it.
            raise FloatingPointError(f"After training: {error}") from None

    def checkpoint(self, trial: optuna.Trial) -> Checkpoint | None:
        """Where the training of a trial leaves its state, if anywhere."""
        if self.checkpoints is None:
            return None
        checkpoint = self.checkpoints.of(first_number(trial))
        if RETRY_OF not in trial.user_attrs:  # What lies there is of a study that is no more.
            checkpoint.remove()
        return checkpoint
