"""Networks of timm that are trained like the candidates of a study, so as to stand beside them.

A baseline is a trial of the study that has no parameters. It ends as pruned, so that
`study.best_trial` stays a candidate and samplers pass over it: a completed trial without
parameters would make Optuna's GP and NSGA-II believe that the study's trials have none in common.
(A multivariate TPE believes it of pruned ones too and then takes parameters one by one.) Its
score is in the attribute `baseline_score`, and in the column `value` of `trials_dataframe`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import optuna
from optuna.trial import TrialState

from rfsearch.data.device_memory import free_memory
from rfsearch.data.loading_errors import LoadingError
from rfsearch.measure.latency import time_one_image
from rfsearch.search._environment import environment_of
from rfsearch.search.curves import note_epoch
from rfsearch.search.objective import score_attributes
from rfsearch.space.trial_attributes import BASELINE, BASELINE_SCORE, BATCH_HALVED, ENVIRONMENT
from rfsearch.trace.timm_network import TimmNetwork

if TYPE_CHECKING:
    from pathlib import Path

    from optuna.trial import FrozenTrial

    from rfsearch.training.task import Task


def enqueue_baselines(study: optuna.Study, names: Sequence[str], seed: int) -> None:
    """Let the workers of a study begin with the baselines that it does not have yet.

    Args:
        study: Where the trials go.
        names: Names of models in timm.
        seed: Of their weights and their training.
    """
    if not names:
        return
    known = {_identity(trial) for trial in study.get_trials(deepcopy=False) if _counts(trial)}
    for name in names:
        if (name, seed) not in known:
            study.enqueue_trial({}, user_attrs={BASELINE: name, "seed": seed})


def _identity(trial: FrozenTrial) -> tuple[str | None, int | None]:
    return trial.user_attrs.get(BASELINE), trial.user_attrs.get("seed")


def _counts(trial: FrozenTrial) -> bool:
    """Whether the trial is not one that was interrupted."""
    return trial.state != TrialState.FAIL or "rejected_by" in trial.user_attrs


def run_baseline(
    trial: optuna.Trial,
    task: Task,
    after_epoch: Callable[[], None],
    folder: Path | None = None,
    *,
    timed: bool = False,
) -> float:
    """Train the baseline that a trial is about.

    One that cannot be built, traced or trained is noted with the attribute `reason`.

    Args:
        trial: From `enqueue_baselines`.
        task: What to train for.
        after_epoch: Called after each epoch; an exception that it raises ends the training.
        folder: Of the experiment; the state of the git repository that it is in is noted.
        timed: Whether its latency and memory are measured, as the candidates' are.

    Returns:
        NaN, for a failed trial, if it cannot be trained.

    Raises:
        optuna.TrialPruned: When it is trained.
    """
    try:
        _measure_and_train(trial, task, after_epoch, folder, timed)
    except (ValueError, RuntimeError, FloatingPointError, LoadingError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
    else:
        raise optuna.TrialPruned("A baseline is no candidate.")
    free_memory()
    trial.set_user_attr("rejected_by", BASELINE)
    trial.set_user_attr("reason", reason)
    return math.nan


def _measure_and_train(
    trial: optuna.Trial,
    task: Task,
    after_epoch: Callable[[], None],
    folder: Path | None,
    timed: bool,
) -> None:
    name = trial.user_attrs[BASELINE]
    described = TimmNetwork(name, task.in_chans, task.num_classes)
    (field,) = described.receptive_fields().values()
    cost = described.cost(task.input_size, task.in_chans)
    model = task.build(name)
    trial.set_user_attr(ENVIRONMENT, environment_of(model, folder))
    erf = task.measure_erf(model)
    _note(
        trial,
        trf_size=field.size,
        output_stride=field.stride,
        global_layers=",".join(described.global_layers),
        params_m=cost.parameters / 1e6,
        flops_g=cost.flops / 1e9,
        metric=task.metric,
        erf_init=float(erf.size),
        erf_clipped=erf.clipped,
    )
    if timed:
        latency = time_one_image(model, task.input_size)
        _note(trial, latency_ms=latency.latency_ms, peak_memory_mb=latency.peak_memory_mb)

    def report(epoch: int, score: float) -> None:
        after_epoch()
        note_epoch(trial, epoch, score)

    start = time.perf_counter()
    result = task.train(model, report)
    _note(
        trial,
        train_seconds=time.perf_counter() - start,
        erf_trained=float(task.measure_erf(model).size),
        **score_attributes(result),
    )
    if result.halved:
        trial.set_user_attr(BATCH_HALVED, True)
    if not math.isnan(result.score):
        trial.set_user_attr(BASELINE_SCORE, result.score)


def _note(trial: optuna.Trial, **attributes: float | str) -> None:
    for name, value in attributes.items():
        trial.set_user_attr(name, value)
