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
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState, create_trial

from rfsearch.objective import score_attributes
from rfsearch.timm_network import TimmNetwork
from rfsearch.trial_attributes import BASELINE, BASELINE_SCORE

if TYPE_CHECKING:
    import optuna

    from rfsearch.tasks import Task


def run_baselines(
    study: optuna.Study,
    task: Task,
    names: Sequence[str],
    after_epoch: Callable[[], None],
) -> None:
    """Train the baselines that the study does not have yet, and add a trial for each.

    One that cannot be built, traced or trained becomes a failed trial whose attribute `reason`
    says why.

    Args:
        study: Where the trials go.
        task: What to train for.
        names: Names of models in timm.
        after_epoch: Called after each epoch; an exception that it raises ends the training, and
            the baseline has no trial.
    """
    for name in names:
        if not _is_known(study, name, task.training.seed):
            attributes: dict[str, Any] = {BASELINE: name, "seed": task.training.seed}
            scores: dict[int, float] = {}
            try:
                _measure_and_train(task, name, attributes, scores, after_epoch)
            except (ValueError, RuntimeError, FloatingPointError) as error:
                reason = str(error).splitlines()[0]
                attributes |= {"rejected_by": BASELINE, "reason": reason}
            failed = "reason" in attributes
            study.add_trial(
                create_trial(
                    state=TrialState.FAIL if failed else TrialState.PRUNED,
                    user_attrs=attributes,
                    intermediate_values=scores,
                )
            )


def _is_known(study: optuna.Study, name: str, seed: int) -> bool:
    wanted = {BASELINE: name, "seed": seed}
    trials = study.get_trials(deepcopy=False)
    return any(wanted.items() <= trial.user_attrs.items() for trial in trials)


def _measure_and_train(
    task: Task,
    name: str,
    attributes: dict[str, Any],
    scores: dict[int, float],
    after_epoch: Callable[[], None],
) -> None:
    """Fill a trial's attributes and intermediate scores."""
    described = TimmNetwork(name, task.in_chans, task.num_classes)
    (field,) = described.receptive_fields().values()
    cost = described.cost(task.input_size, task.in_chans)
    attributes |= {
        "trf_size": field.size,
        "output_stride": field.stride,
        "params_m": cost.parameters / 1e6,
        "flops_g": cost.flops / 1e9,
        "metric": task.metric,
    }
    model = task.build(name)
    erf = task.measure_erf(model)
    attributes |= {"erf_init": float(erf.size), "erf_clipped": erf.clipped}

    def report(epoch: int, score: float) -> None:
        after_epoch()
        scores[epoch] = score

    start = time.perf_counter()
    result = task.train(model, report)
    attributes["train_seconds"] = time.perf_counter() - start
    attributes["erf_trained"] = float(task.measure_erf(model).size)
    attributes |= score_attributes(result)
    if not math.isnan(result.score):
        attributes[BASELINE_SCORE] = result.score
