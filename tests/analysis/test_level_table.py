from __future__ import annotations

import json

import optuna
import pandas as pd
import pytest

from rfsearch.analysis.level_table import levels_dataframe


def study_with(levels: object) -> optuna.Study:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    trial.set_user_attr("levels", levels)
    study.tell(trial, 0.5)
    study.tell(study.ask(), 0.7)
    return study


def test_each_level_has_a_row() -> None:
    levels = {
        "P3": {"stride": 8, "trf_size": 40, "erf_expected": 30, "part": [8, 16]},
        "P4": {"stride": 16, "trf_size": 100, "erf_expected": 50, "part": None},
    }
    frame = levels_dataframe(study_with(json.dumps(levels)))
    assert frame["number"].tolist() == [0, 0]
    assert frame["level"].tolist() == ["P3", "P4"]
    assert frame["erf_ratio_expected"].tolist() == [0.75, 0.5]
    assert frame["part_high"][0] == 16
    assert pd.isna(frame["part_high"][1])
    assert frame["value"].tolist() == [0.5, 0.5]


def test_of_several_objectives_the_value_is_the_score() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    trial = study.ask()
    trial.set_user_attr("levels", '{"P3": {"stride": 8}}')
    study.tell(trial, (0.5, 3.0))
    assert levels_dataframe(study)["value"].tolist() == [0.5]


def test_networks_with_one_map_have_none() -> None:
    study = optuna.create_study()
    study.tell(study.ask(), 1.0)
    frame = levels_dataframe(study)
    assert frame.empty
    assert str(frame["stride"].dtype) == "Float64"


@pytest.mark.parametrize("text", ["{", "[1]", '{"P3": 4}', 7])
def test_what_is_no_level(text: object) -> None:
    with pytest.warns(UserWarning, match=r"left out are trial 0 \(levels = "):
        assert levels_dataframe(study_with(text)).empty
