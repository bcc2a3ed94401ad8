"""The funnel on candidates whose axes differ."""

from __future__ import annotations

import json

import optuna
import pytest
from optuna.trial import TrialState
from test_objective import real_task

from rfsearch.analysis.analysis import trials_dataframe
from rfsearch.diagnosis.diagnosis import diagnose_architecture
from rfsearch.search.objective import Objective
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.space import SearchSpace
from rfsearch.target.target import ScaleTarget

SPACE = SearchSpace(
    stem={"kernel_size": 3, "stride": 1, "width": 4},
    stages=[
        {
            "block": "plain",
            "depth": [1, 2],
            "width": 4,
            "stride": [1, [1, 2]],
            "kernel_size": [3, [1, 5], [3, 5]],
        }
    ],
)
TARGET = ScaleTarget.apart(height=(2, 3), width=(4, 5), quiet=True)
CONSTRAINT = RFConstraint(TARGET, max_gridding=None)


def test_a_trial_has_the_numbers_of_each_axis() -> None:
    wanted = next(a for a in SPACE if a.axes_differ and CONSTRAINT.is_feasible(a))
    study = optuna.create_study(direction="maximize")
    study.enqueue_trial(SPACE.to_params(wanted))
    study.optimize(Objective(SPACE, CONSTRAINT, real_task()), n_trials=1)
    (trial,) = study.trials
    assert trial.state == TrialState.COMPLETE
    assert "rejected_by" not in trial.user_attrs
    row = trials_dataframe(study).iloc[0]
    for axis in wanted.axes:
        field, erf = wanted.receptive_field(axis=axis), wanted.expected_erf(axis=axis)
        assert (row[f"trf_{axis}"], row[f"output_stride_{axis}"]) == (field.size, field.stride)
        assert row[f"erf_expected_{axis}"] == erf.size
        assert 1 <= row[f"erf_init_{axis}"] <= field.size
        assert 1 <= row[f"erf_trained_{axis}"] <= field.size
        assert row[f"erf_ratio_{axis}"] == row[f"erf_init_{axis}"] / field.size
    assert row[["trf_size", "erf_init", "erf_trained", "output_stride"]].isna().all()


def test_square_candidates_have_no_columns_of_axes() -> None:
    study = optuna.create_study(direction="maximize")
    square = next(a for a in SPACE if not a.axes_differ)
    study.enqueue_trial(SPACE.to_params(square))
    constraint = RFConstraint(theoretical=None, effective=None)
    study.optimize(Objective(SPACE, constraint, real_task()), n_trials=1)
    frame = trials_dataframe(study)
    assert frame["trf_size"].iloc[0] == square.receptive_field().size
    assert not [name for name in frame if name.endswith(("_height", "_width"))]


def test_attributes_of_axes_are_checked() -> None:
    study = optuna.create_study(direction="maximize")
    study.add_trial(
        optuna.trial.create_trial(
            value=1.0, user_attrs={"judged_axes": json.dumps(["height"]), "trf_height": "wide"}
        )
    )
    with pytest.warns(UserWarning, match="trf_height = 'wide': Input should be a valid integer"):
        trials_dataframe(study)


def test_findings_name_the_axis() -> None:
    flat = next(a for a in SPACE if a.receptive_field(axis="height").size == 3 and a.axes_differ)
    target = ScaleTarget.apart(height=(4, 6), width=(3, 4), quiet=True)
    found = {one.kind: one for one in diagnose_architecture(flat, target, (64, 64))}
    small = found["rf_too_small"]
    assert (small.value, small.limit) == (3, 9)
    assert small.message.startswith("Along the height: A theoretical RF of 3 px is too small")
    assert "along height) is too small" in found["erf_too_small"].message
