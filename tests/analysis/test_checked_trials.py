from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from helpers import rfsearch
from optuna.trial import TrialState
from studies import load_study

from rfsearch.analysis.analysis import trials_dataframe
from rfsearch.analysis.checked_trials import checked_trials, readable_study
from rfsearch.analysis.level_table import levels_dataframe

#: Attributes as somebody else might have written them, and what is said of them.
FOREIGN: dict[str, tuple[Any, str]] = {
    "trf_size": (-5, "trf_size = -5: Input should be greater than or equal to 1"),
    "erf_init": ("wide", "erf_init = 'wide': Input should be a valid number"),
    "erf_trained": (-1.0, "erf_trained = -1.0: Input should be greater than or equal to 0"),
    "levels": ("{P3", "levels = '{P3': Invalid JSON"),
    "weights": (5, "weights = 5: Input should be a valid string"),
    "duplicate_of": ("x", "duplicate_of = 'x': Input should be a valid integer"),
    "retry_of": (999, "retry_of = 999: there was no such trial yet"),
    "promoted_from": (1.5, "promoted_from = 1.5: Input should be a valid integer"),
    "architecture": ("[1]", "architecture = .*: Input should be a valid dictionary"),
    "curve": ({"first": 1}, "curve = .*: Input should be a valid integer"),
    "batch_halved": ("no", "batch_halved = 'no': Input should be a valid boolean"),
    "reference_score": ("good", "reference_score = 'good': Input should be a valid number"),
    "rejected_by": ([1], r"rejected_by = \[1\]: Input should be a valid string"),
}


@pytest.fixture
def url(stored_once: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(stored_once, tmp_path)}"


def edit(url: str, statement: str, *values: object) -> None:
    database = sqlite3.connect(url.removeprefix("sqlite:///"))
    assert database.execute(statement, values).rowcount
    database.commit()
    database.close()


def with_attribute(url: str, number: int, name: str, value: object) -> None:
    key = "SELECT trial_id FROM trials WHERE number = ?"
    statement = f"INSERT OR REPLACE INTO trial_user_attributes VALUES (NULL, ({key}), ?, ?)"
    edit(url, statement, number, name, json.dumps(value))


EDITS: dict[str, Callable[[str], None]] = {
    "a state that does not exist": lambda url: edit(
        url, "UPDATE trials SET state = 'LOST' WHERE number = 3"
    ),
    "an attribute that is no JSON": lambda url: edit(
        url,
        "UPDATE trial_user_attributes SET value_json = '{' WHERE key = 'trf_size' "
        "AND trial_id = (SELECT trial_id FROM trials WHERE number = 3)",
    ),
    "a distribution that is none": lambda url: edit(
        url,
        "UPDATE trial_params SET distribution_json = '{}' "
        "WHERE trial_id = (SELECT trial_id FROM trials WHERE number = 3)",
    ),
    "no values": lambda url: edit(
        url,
        "DELETE FROM trial_values WHERE trial_id = (SELECT trial_id FROM trials WHERE number = 3)",
    ),
}


def test_what_this_program_writes_is_as_it_should_be(url: str) -> None:
    study = load_study("made-up", url)
    assert checked_trials(study) == study.get_trials(deepcopy=False)
    assert readable_study(study) is study


@pytest.mark.parametrize("name", FOREIGN)
def test_an_attribute_of_another_kind_is_named(name: str) -> None:
    study = optuna.create_study(study_name="a")
    for number in range(3):
        trial = study.ask()
        trial.set_user_attr("trf_size", 9)
        if number == 1:
            trial.set_user_attr(name, FOREIGN[name][0])
        study.tell(trial, 0.5)
    with pytest.warns(
        UserWarning, match=rf"^Study 'a': left out are trial 1 \({FOREIGN[name][1]}"
    ):
        trials = checked_trials(study)
    assert [trial.number for trial in trials] == [0, 1, 2]
    assert [trial.state for trial in trials] == [
        TrialState.COMPLETE,
        TrialState.FAIL,
        TrialState.COMPLETE,
    ]
    with pytest.warns(UserWarning, match="trial 1"):
        frame = trials_dataframe(study)
    assert frame["trf_size"].tolist() == [9, pd.NA, 9]
    with pytest.warns(UserWarning, match="trial 1"):
        assert levels_dataframe(study).empty


def test_many_are_counted() -> None:
    study = optuna.create_study()
    for _ in range(9):
        trial = study.ask()
        trial.set_user_attr("device", "mine")  # No name of ours: what it means is not asked.
        trial.set_user_attr("seed", "a word")
        study.tell(trial, 0.5)
    with pytest.warns(UserWarning, match=r"trial 0 .* trial 1 .* trial 2 .*, 6 more\.$"):
        assert trials_dataframe(study)["seed"].isna().all()


@pytest.mark.parametrize("what", EDITS)
def test_a_trial_that_cannot_be_read_is_named(url: str, what: str) -> None:
    EDITS[what](url)
    study = load_study("made-up", url)
    with pytest.warns(UserWarning, match=r"left out are trial 3 \("):
        readable = readable_study(study)
    assert [trial.number for trial in readable.trials] == list(range(20))
    assert readable.trials[3].user_attrs == {}
    assert "architecture" in readable.trials[4].user_attrs
    assert len(trials_dataframe(readable)) == 20  # Without another warning.


def test_the_report_goes_on_without_them(url: str, tmp_path: Path) -> None:
    best = load_study("made-up", url).best_trial.number
    with_attribute(url, best, "architecture", '{"stem": 1}')
    EDITS["a state that does not exist"](url)
    others = [number for number in range(20) if number not in (3, best)]
    for number, (name, (value, _)) in zip(others, FOREIGN.items(), strict=False):
        with_attribute(url, number, name, value)
    with (
        pytest.warns(UserWarning, match=rf"left out are trial 0 .*, {len(FOREIGN) - 2} more"),
        pytest.warns(UserWarning, match=rf"^Trial {best}: the architecture is none"),
    ):
        result = rfsearch("report", "--storage", url, "--out", tmp_path / "out.html")
    assert result.exit_code == 0, result.output
