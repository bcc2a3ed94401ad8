from __future__ import annotations

import math

import pandas as pd
import pytest
from search_results import CONSTRAINT, searched_study

from rfsearch.analysis.analysis import trials_dataframe
from rfsearch.analysis.erf_effect import (
    correlation_line,
    erf_correlations,
    metric_label,
    octaves_off,
    per_object,
    trained_baselines,
    trained_candidates,
    trained_controls,
)
from rfsearch.analysis.statistics import rank_correlation
from rfsearch.basics.ranges import Range

FRAME = trials_dataframe(searched_study())


def test_repeated_rejected_and_reference_trials_are_no_trained_candidates() -> None:
    frame = pd.DataFrame(
        {
            "number": range(5),
            "value": [0.5, 0.6, None, 0.7, 0.8],
            "duplicate_of": [None, 0, None, None, None],
            "baseline": [None, None, None, "resnet18", None],
            "control": [False, False, False, False, True],
        }
    )
    assert trained_candidates(frame)["number"].tolist() == [0]
    assert trained_baselines(frame)["number"].tolist() == [3]
    assert trained_controls(frame)["number"].tolist() == [4]


def test_each_predictor_has_its_correlation_with_the_value() -> None:
    effect = erf_correlations(FRAME).set_index("predictor")
    trained = trained_candidates(FRAME)
    for column in ("trf_size", "erf_trained", "params_m"):
        found = rank_correlation(trained[column], trained["value"])
        row = effect.loc[column]
        assert (row["rho"], row["low"], row["high"]) == found[:3]
    assert effect.loc["trf_size", "points"] == len(trained)
    assert "erf_octaves_off" not in effect.index


def test_controls_have_their_part_in_a_correlation_of_its_own() -> None:
    trained = trained_candidates(FRAME)
    alone = f"rank correlation {rank_correlation(trained['erf_trained'], trained['value'])}"
    assert correlation_line(FRAME, "erf_trained") == alone
    # The last two become controls.
    frame = FRAME.assign(control=FRAME["number"].isin(trained["number"][-2:]))
    rest = trained[:-2]
    assert correlation_line(frame, "erf_trained") == (
        f"rank correlation {rank_correlation(rest['erf_trained'], rest['value'])}, "
        f"with controls {rank_correlation(trained['erf_trained'], trained['value'])}"
    )


def test_the_distance_to_the_target_is_a_predictor() -> None:
    # Far below 18 px the made-up accuracy falls with the distance to a range around it.
    effect = erf_correlations(FRAME, Range(17, 19)).set_index("predictor")
    assert effect.loc["erf_octaves_off", "rho"] < -0.5


def test_octaves_off_are_zero_inside() -> None:
    sizes = pd.Series([5, 10, 20, 80, None], dtype="Float64")
    off = octaves_off(sizes, Range(10, 40))
    assert off[:4].tolist() == [1, 0, 0, 1]
    assert pd.isna(off[4])


def test_sizes_per_object() -> None:
    found = per_object(FRAME, 8.0)
    known = FRAME["erf_trained"].notna()
    assert (found["erf_trained_per_object"] * 8 == FRAME["erf_trained"])[known].all()
    with pytest.raises(ValueError, match=r"object_size > 0.* 0 px"):
        per_object(FRAME, 0.0)


def test_the_metric_has_the_name_that_trials_give() -> None:
    assert metric_label(FRAME) == "accuracy"
    assert metric_label(FRAME.assign(metric=pd.Series([None, "ap"]))) == "AP"


def test_made_up_trials_look_like_a_search() -> None:
    assert {"theoretical", "expected"} <= set(FRAME["rejected_by"].dropna())
    assert len(trained_candidates(FRAME)) > 20
    assert math.isinf(CONSTRAINT.ranges()["theoretical"].high)
