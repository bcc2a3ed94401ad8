"""How much each choice of a search space has to do with the result."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import optuna
import pandas as pd
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState, create_trial

from rfsearch.analysis.statistics import MIN_POINTS

if TYPE_CHECKING:
    from optuna.importance import BaseImportanceEvaluator
    from optuna.study import StudyDirection


def choice_importances(
    study: optuna.Study, evaluator: BaseImportanceEvaluator | None = None
) -> pd.DataFrame:
    """Importance of each parameter for the score, over candidates that were trained to the end.

    Rejected trials that completed with a stand-in value do not take part, nor do repeated ones,
    which would count the same result twice.

    Args:
        study: Any Optuna study; of several objectives the first one counts.
        evaluator: How; None is PED-ANOVA (Watanabe et al., IJCAI 2023), which says how much a
            parameter decides whether a trial is among the best tenth. Optuna's fANOVA says how
            much of the variance it explains, and takes minutes for thousands of trials.

    Returns:
        Columns `parameter` and `importance` (they sum to 1), most important first; no rows for
        fewer than five candidates.
    """
    trials = [trial for trial in study.get_trials(deepcopy=False) if _counts(trial)]
    names = ["parameter", "importance"]
    if len(trials) < MIN_POINTS:
        return pd.DataFrame(columns=names)
    varied = _varied(trials)
    if not varied:
        return pd.DataFrame(columns=names)
    # Loaded here: with scikit-learn it takes seconds, for which few tables need to wait.
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        found = get_param_importances(
            _study_of(trials, study.directions[0]),
            evaluator=evaluator or PedAnovaImportanceEvaluator(),
            params=varied,
        )
    return pd.DataFrame(found.items(), columns=names)


def _study_of(trials: list[FrozenTrial], direction: StudyDirection) -> optuna.Study:
    """A study in memory with these trials and their scores alone."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # It is not one the user made.
    try:
        made = optuna.create_study(direction=direction)
    finally:
        optuna.logging.set_verbosity(verbosity)
    made.add_trials(
        create_trial(value=trial.values[0], params=trial.params, distributions=trial.distributions)
        for trial in trials
    )
    return made


def _counts(trial: FrozenTrial) -> bool:
    apart = ("rejected_by", "duplicate_of")
    return trial.state == TrialState.COMPLETE and not any(key in trial.user_attrs for key in apart)


def _varied(trials: list[FrozenTrial]) -> list[str]:
    """Parameters that all trials have, with at least two values."""
    shared = set.intersection(*(set(trial.params) for trial in trials))
    in_order = [name for name in trials[0].params if name in shared]
    return [name for name in in_order if len({trial.params[name] for trial in trials}) > 1]
