from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState, create_trial
from search_results import CONSTRAINT, SPACE, add_baseline, add_controls, searched_study

from rfsearch.report._advice import erf_verdict, next_steps
from rfsearch.report._tables import saved
from rfsearch.report._text import (
    about_controls,
    against_baselines,
    asked,
    difference_interval,
    facts,
    found,
    on_the_front,
)
from rfsearch.report.summary import StudySummary
from rfsearch.report.terminal import gate_summary
from rfsearch.search.objectives import name_objectives
from rfsearch.space.trial_attributes import CONTROLS

TARGET = {
    "min_size": 6.0,
    "max_size": 10.0,
    "theoretical": "rule",
    "effective": "rule",
    "max_gridding": "rule",
    "expected": True,
    "measured": True,
}


def with_identity(study: optuna.Study, **target: Any) -> optuna.Study:
    identity = {
        "space": SPACE.model_dump(mode="json"),
        "target": TARGET | target,
        "training": {"epochs": 3, "seconds": None},
    }
    study.set_user_attr("rfsearch_experiment", json.dumps(identity))
    return study


def text(sentences: list[str]) -> str:
    return " ".join(sentences)


def test_the_storage_tells_target_and_space() -> None:
    summary = StudySummary.of_study(with_identity(searched_study()))
    assert summary.constraint is not None
    assert summary.constraint.ranges() == CONSTRAINT.ranges()
    assert summary.space == SPACE
    assert str(summary.objects) == "6 to 10 px"


def test_bounds_may_stand_instead_of_objects() -> None:
    study = with_identity(
        searched_study(), min_size=None, max_size=None, theoretical=[10, 40], effective="off"
    )
    summary = StudySummary.of_study(study)
    assert summary.constraint is not None
    assert list(summary.constraint.ranges()) == ["theoretical"]
    assert summary.objects is None
    assert summary.effective is None


def test_the_memory_of_a_device_is_not_that_of_the_reader() -> None:
    on_devices = with_identity(searched_study(), max_training_memory_mb="device")
    said = " ".join(asked(StudySummary.of_study(on_devices)))
    assert "training memory at most what the device of the worker has" in said
    other = asked(StudySummary.of_study(with_identity(searched_study())))
    assert "training memory" not in " ".join(other)


def test_objects_that_only_the_data_knows() -> None:
    study = with_identity(searched_study(), min_size=None, max_size=None)
    assert StudySummary.of_study(study).constraint is None


def test_a_study_without_an_experiment_has_a_summary() -> None:
    summary = StudySummary.of_study(searched_study())
    assert (summary.space, summary.constraint, summary.settings) == (None, None, {})
    assert len(facts(summary)) >= 3


@pytest.mark.parametrize("identity", ["{", "[]", '{"space": 1, "target": {}}'])
def test_an_experiment_that_cannot_be_read(identity: str) -> None:
    study = searched_study()
    study.set_user_attr("rfsearch_experiment", identity)
    with pytest.raises(ValueError, match="'made-up' must be an experiment"):
        StudySummary.of_study(study)


def test_several_objectives() -> None:
    study = searched_study(objectives=("score", "params_m", "latency_ms"))
    summary = StudySummary.of_study(study)
    assert summary.objectives == {
        "value": "maximize", "params_m": "minimize", "latency_ms": "minimize",
    }  # fmt: skip
    assert set(summary.front["number"]) == {trial.number for trial in study.best_trials}
    assert summary.front["value"].is_monotonic_decreasing
    assert ("on the Pareto front", str(len(summary.front))) in facts(summary)
    best, least = summary.trained.iloc[0], summary.front.sort_values("params_m").iloc[0]
    said = text(on_the_front(summary))
    assert f"{len(summary.front)} of {len(summary.trained)} candidates are on" in said
    assert f"trial {least['number']} is the best: {least['params_m']:.3g}" in said
    assert f"trial {best['number']} with {best['value']:.3f} has {best['params_m']:.3g}" in said
    assert f"Trial {best['number']} has the best accuracy" in text(found(summary))
    assert "Train longer" in text(next_steps(summary))


def test_objectives_of_somebody_else() -> None:
    study = optuna.create_study(directions=["minimize", "maximize", "minimize"])
    name_objectives(study, ["error", "params_m", "price | EUR"])
    for values in ([3.0, 1.0, 5.0], [1.0, 2.0, 9.0], [4.0, 0.0, 9.0]):
        study.add_trial(create_trial(values=values))
    study.add_trial(create_trial(state=TrialState.FAIL))
    summary = StudySummary.of_study(study)
    price = "values_price | EUR"
    assert summary.objectives == {"value": "minimize", "params_m": "maximize", price: "minimize"}
    assert summary.frame["params_m"].dropna().tolist() == [1, 2, 0]
    assert summary.frame[price].dropna().tolist() == [5, 9, 9]
    assert summary.front["number"].tolist() == [1, 0]
    assert f"By {price} trial 0 is the best: 5, with score 3.000" in text(on_the_front(summary))
    assert on_the_front(StudySummary.of_study(searched_study(trials=5))) == []
    assert (
        "params_m"
        not in StudySummary.of_study(optuna.create_study(directions=["minimize"] * 2)).costs
    )


def test_nothing_on_the_front() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    assert on_the_front(StudySummary.of_study(study)) == [
        "No candidate that fits was trained to the end."
    ]


def test_examples_are_the_best_the_median_and_a_rejected_trial() -> None:
    summary = StudySummary.of_study(searched_study())
    frame = summary.frame.set_index("number")
    values = frame["value"].dropna().astype(float)
    assert summary.examples["best"] == values.idxmax()
    middle = frame.loc[summary.examples["median"], "value"]
    assert (values > middle).sum() == pytest.approx(len(values) / 2, abs=1)
    assert pd.notna(frame.loc[summary.examples["rejected"], "rejected_by"])


def test_minimising_turns_the_order() -> None:
    study = optuna.create_study(direction="minimize")
    for value in (3.0, 1.0, 2.0):
        study.tell(study.ask(), value)
    summary = StudySummary.of_study(study)
    assert summary.trained["value"].tolist() == [1, 2, 3]
    assert "Trial 1 is the best" in text(found(summary))


def test_a_baseline_is_compared_and_is_no_candidate() -> None:
    study = searched_study()
    trained = len(StudySummary.of_study(study).trained)
    add_baseline(study, 0.5)
    summary = StudySummary.of_study(study)
    assert len(summary.trained) == trained
    said = text(against_baselines(summary))
    best = summary.trained["value"].iloc[0]
    assert f"better than the best baseline, resnet18: {best:.3f} against 0.500" in said
    assert "no better" not in said


def test_a_search_that_lost() -> None:
    study = searched_study()
    add_baseline(study, 0.99)
    assert "no better than the best baseline, resnet18" in text(
        against_baselines(StudySummary.of_study(study))
    )


def test_without_baseline_nothing_is_claimed() -> None:
    summary = StudySummary.of_study(searched_study())
    assert "no baseline" in text(against_baselines(summary))
    assert "baseline" in text(next_steps(summary))


# -- controls ---------------------------------------------------------------------------------


def said_of_controls(*values: float, side: str = "smaller", num_valid: int = 1000) -> str:
    study = searched_study()
    add_controls(study, *values, side=side)
    summary = replace(StudySummary.of_study(study), num_valid=num_valid)
    assert set(about_controls(summary)) <= set(erf_verdict(summary))
    assert "controls = 3" not in text(next_steps(summary))
    return text(about_controls(summary))


def test_controls_that_are_worse() -> None:
    said = said_of_controls(0.3, 0.4, 0.5)
    values = StudySummary.of_study(searched_study()).trained["value"].astype(float)
    assert f"are worse by {values.mean() - 0.4:.3f} (95 % bootstrap interval 0." in said
    assert "not shown" not in said
    assert "was not found to have controls that are too large" in said


def test_one_control_has_no_interval() -> None:
    said = said_of_controls(0.3)
    assert "the control, which does not fit, is worse by" in said
    assert "interval" not in said


def test_controls_that_are_no_worse() -> None:
    trained = StudySummary.of_study(searched_study()).trained["value"].astype(float)
    said = said_of_controls(*trained.iloc[1:6])
    assert "so the range is not shown to matter" in said


@pytest.mark.parametrize(
    ("side", "remedy"),
    [
        ("smaller", "Allow smaller receptive fields"),
        ("larger", "Allow larger receptive fields"),
        ("gridding", "Allow more gridding"),
    ],
)
def test_a_control_that_beats_the_best_says_in_which_direction(side: str, remedy: str) -> None:
    said = said_of_controls(0.3, 0.999, side=side)
    assert said.startswith("A control beats the best candidate, so the range is wrong")
    assert "0.999 against 0." in said
    assert remedy in said


def test_beating_by_a_few_images_may_be_chance() -> None:
    best = float(StudySummary.of_study(searched_study()).trained["value"].iloc[0])
    assert "the range may be wrong" in said_of_controls(best + 0.001, num_valid=100)


def test_a_space_without_misfits() -> None:
    study = searched_study()
    about = {"asked": 3, "there_are": 0, "missing": ["smaller", "larger"]}
    study.set_user_attr(CONTROLS, about)
    assert text(about_controls(StudySummary.of_study(study))).startswith("There are no controls")


def test_without_controls_they_are_advised() -> None:
    summary = StudySummary.of_study(searched_study())
    assert about_controls(summary) == []
    assert "controls = 3" in text(next_steps(summary))


def test_controls_change_no_other_number() -> None:
    study = searched_study()
    without = StudySummary.of_study(study)
    numbers = (facts(without), found(without), against_baselines(without), saved(without))
    examples = without.examples
    add_controls(study, 0.3, 0.999)
    summary = StudySummary.of_study(study)
    assert numbers == (facts(summary), found(summary), against_baselines(summary), saved(summary))
    assert {"best", "median"} <= examples.keys()
    assert all(summary.examples[name] == examples[name] for name in ("best", "median"))
    assert gate_summary(summary.frame).partition(" trials: ")[2] == (
        gate_summary(without.frame)
        .partition(" trials: ")[2]
        .replace(" trained to the end", " trained to the end, 2 trained as controls")
    )


def test_the_interval_of_a_difference_covers_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    number, shares = 400, (0.8, 0.75)
    hits = 0
    for _ in range(400):
        first, second = (rng.binomial(number, share) / number for share in shares)
        low, high = difference_interval(first, second, number)
        hits += low <= 0.05 <= high
    assert 0.92 <= hits / 400 <= 0.98


def test_the_verdict_finds_the_best_size() -> None:
    # The made-up accuracy is best at an expected ERF of 18 px, which is 21.6 px after training.
    said = text(erf_verdict(StudySummary.of_study(searched_study(trials=108))))
    assert "The smooth mean is best at an ERF size of" in said
    size = float(said.partition("ERF size of ")[2].split()[0])
    assert 15 < size < 28


def test_few_candidates_are_no_evidence() -> None:
    said = text(erf_verdict(StudySummary.of_study(searched_study(trials=8))))
    assert "too few" in said


def test_next_steps_name_what_is_wrong() -> None:
    steps = text(next_steps(StudySummary.of_study(with_identity(searched_study()))))
    assert "Train longer" in steps  # The last epoch still gains an eighth.
    assert "feasible_only" in steps
    assert "other seeds" in steps


def test_nothing_trained() -> None:
    summary = StudySummary.of_study(optuna.create_study(direction="maximize"))
    assert found(summary) == ["No candidate was trained to the end."]
    assert len(next_steps(summary)) == 1
    assert summary.examples == {}
