from __future__ import annotations

import optuna
import pytest
from optuna.importance import MeanDecreaseImpurityImportanceEvaluator
from optuna.trial import TrialState
from search_results import searched_study

from rfsearch.analysis.importances import choice_importances


def study_of(number: int) -> optuna.Study:
    """`x` decides the value, `y` does nothing, `z` never changes."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(number):
        trial = study.ask()
        value = trial.suggest_int("x", 0, 9)
        trial.suggest_int("y", 0, 9)
        trial.suggest_int("z", 3, 3)
        study.tell(trial, value)
    return study


def test_what_decides_comes_first() -> None:
    found = choice_importances(study_of(60))
    assert found["parameter"].tolist() == ["x", "y"]
    assert found["importance"][0] > 0.7
    assert found["importance"].sum() == pytest.approx(1)


def test_another_evaluator() -> None:
    evaluator = MeanDecreaseImpurityImportanceEvaluator(seed=0)
    assert choice_importances(study_of(40), evaluator)["parameter"][0] == "x"


def test_stand_ins_and_repeats_do_not_count() -> None:
    study = study_of(20)
    before = choice_importances(study)
    for key in ("rejected_by", "duplicate_of"):
        for _ in range(20):
            trial = study.ask()
            trial.set_user_attr(key, 1)
            trial.suggest_int("x", 0, 9)
            study.tell(trial, 10.0 * trial.suggest_int("y", 0, 9))
    assert choice_importances(study).equals(before)
    assert len(study.get_trials(states=(TrialState.COMPLETE,))) == 60


def test_few_trials_say_nothing() -> None:
    assert choice_importances(study_of(4)).empty


def test_the_study_is_not_changed() -> None:
    study = searched_study()
    before = study.trials
    assert not choice_importances(study).empty
    assert study.trials == before


def test_of_several_objectives_the_score_counts() -> None:
    study = searched_study(objectives=("score", "params_m"))
    assert choice_importances(study).equals(choice_importances(searched_study()))
