from __future__ import annotations

import optuna
import pandas as pd
import pytest
from search_results import add_baseline, searched_study

from rfsearch.analysis.analysis import trials_dataframe
from rfsearch.analysis.comparison import compare_studies
from rfsearch.analysis.erf_effect import trained_candidates


def test_each_study_has_a_row() -> None:
    studies = {"long": searched_study(trials=60), "short": searched_study(trials=20)}
    found = compare_studies(studies, top=3).set_index("study")
    for name, study in studies.items():
        frame = trials_dataframe(study)
        values = trained_candidates(frame)["value"].sort_values(ascending=False)
        row = found.loc[name]
        assert (row["trials"], row["trained"]) == (len(frame), len(values))
        assert row["best"] == values.max()
        assert row["top_mean"] == pytest.approx(values.head(3).mean())
        assert row["top_low"] <= row["top_mean"] <= row["top_high"]
        assert row["train_seconds"] == pytest.approx(frame["train_seconds"].sum())
        assert row["saved_seconds"] > 0
    worst = found["best"].min()
    frame = trials_dataframe(studies["long"])
    first = frame.index[frame["value"].fillna(0) >= worst][0]
    spent = frame["train_seconds"][: first + 1].sum()
    assert found.loc["long", "seconds_to_reach"] == pytest.approx(spent)


def test_baselines_do_not_take_part() -> None:
    study = searched_study()
    before = compare_studies({"a": study})
    add_baseline(study, 0.99)
    assert compare_studies({"a": study}).equals(before)


def test_a_value_that_no_candidate_has() -> None:
    found = compare_studies({"a": searched_study()}, reach=2.0)
    assert pd.isna(found["seconds_to_reach"].item())


def test_minimising() -> None:
    study = optuna.create_study(direction="minimize")
    for value in (3.0, 1.0, 2.0):
        study.tell(study.ask(), value)
    found = compare_studies({"a": study}, top=2).iloc[0]
    assert (found["best"], found["top_mean"]) == (1, 1.5)


def test_a_study_without_trials() -> None:
    found = compare_studies({"empty": optuna.create_study(direction="maximize")}).iloc[0]
    assert found["trained"] == 0
    assert pd.isna(found["best"])


def test_other_directions_cannot_be_compared() -> None:
    two = {d: optuna.create_study(direction=d) for d in ("minimize", "maximize")}
    for studies in (two, {}):
        with pytest.raises(ValueError, match="same direction of the score, but got"):
            compare_studies(studies)


def test_several_objectives_are_compared_by_the_score() -> None:
    one, two = searched_study(), searched_study(objectives=("score", "params_m"))
    found = compare_studies({"one": one, "two": two}).drop(columns="study")
    pd.testing.assert_series_equal(found.loc[0], found.loc[1], check_names=False)
