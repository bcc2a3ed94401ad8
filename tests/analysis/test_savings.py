from __future__ import annotations

import numpy as np
import optuna
import pandas as pd
import pytest
from search_results import searched_study

from rfsearch.analysis.analysis import trials_dataframe
from rfsearch.analysis.savings import STOPS, gate_savings
from rfsearch.space.trial_gates import CONSTRAINT_KEYS

ROW = {
    "baseline": None,
    "control": False,
    "rejected_by": None,
    "duplicate_of": None,
    "value": None,
    "train_seconds": None,
}


def frame(*rows: dict[str, object]) -> pd.DataFrame:
    made = pd.DataFrame([ROW | {"flops_g": 1.0} | row for row in rows])
    return made.astype({"value": "Float64", "train_seconds": "Float64", "flops_g": "Float64"})


def trained(seconds: float, flops: float = 1.0) -> dict[str, object]:
    return {"value": 0.5, "train_seconds": seconds, "flops_g": flops}


def test_a_line_in_flops_is_found() -> None:
    known = [trained(10 + 5 * flops, flops) for flops in (1, 2, 3, 4, 5, 6)]
    stopped = [{"rejected_by": "theoretical", "flops_g": flops} for flops in (2.5, 5.5)]
    (row,) = gate_savings(frame(*known, *stopped)).to_dict(orient="records")
    assert row["saved_seconds"] == pytest.approx(10 + 5 * 2.5 + 10 + 5 * 5.5)
    assert row["saved_low"] == pytest.approx(row["saved_high"])
    assert (row["gate"], row["stopped"]) == ("theoretical", 2)


def test_it_does_not_go_beyond_what_was_seen() -> None:
    known = [trained(10 + 5 * flops, flops) for flops in (1, 2, 3, 4, 5, 6)]
    huge = {"rejected_by": "flops", "flops_g": 1e6}
    assert gate_savings(frame(*known, huge))["saved_seconds"].tolist() == [pytest.approx(40)]


def test_few_candidates_count_as_their_mean() -> None:
    stopped = {"rejected_by": "expected", "flops_g": 9.0}
    found = gate_savings(frame(trained(10, 1), trained(30, 2), stopped))
    assert found["saved_seconds"].tolist() == [20]
    assert found["saved_low"].item() <= 20 <= found["saved_high"].item()


def test_a_repeated_candidate_saves_its_training() -> None:
    again = {"value": 0.5, "duplicate_of": 0}
    found = gate_savings(frame(trained(10), trained(10), again))
    assert found[["gate", "stopped", "saved_seconds"]].to_numpy().tolist() == [["repeated", 1, 10]]


def test_what_the_pruner_had_spent_is_not_saved() -> None:
    pruned = {"rejected_by": "pruner", "train_seconds": 4.0}
    assert gate_savings(frame(trained(10), trained(10), pruned))["saved_seconds"].tolist() == [6]


def test_nothing_is_saved_behind_the_last_epoch() -> None:
    pruned = {"rejected_by": "pruner", "train_seconds": 19.4}
    known = [trained(seconds) for seconds in (9, 10, 11)]
    (row,) = gate_savings(frame(*known, pruned)).to_dict(orient="records")
    assert (row["saved_seconds"], row["saved_low"], row["saved_high"]) == (0, 0, 0)


def test_without_a_trained_candidate_nothing_is_known() -> None:
    found = gate_savings(frame({"rejected_by": "theoretical"}))
    assert found["stopped"].tolist() == [1]
    assert np.isnan(found["saved_seconds"].item())


def test_no_gate_is_forgotten() -> None:
    assert set(CONSTRAINT_KEYS) <= set(STOPS)


def test_gates_are_in_order_and_those_that_stopped_nothing_are_missing() -> None:
    found = gate_savings(trials_dataframe(searched_study()))
    assert found["gate"].tolist() == ["theoretical", "expected"]
    assert gate_savings(trials_dataframe(optuna.create_study())).empty
