"""Gates of candidates with several output maps."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from helpers import architecture, stage_dict
from optuna.trial import FrozenTrial, TrialState

from rfsearch.space.constraint import RFConstraint
from rfsearch.target.target import ScaleTarget

#: Levels of strides 2, 4 and 8 px.
PYRAMID = architecture(
    stage_dict("basic", 8, 2, (3,)),
    stage_dict("basic", 8, 2, (3,)),
    stage_dict("basic", 8, 2, (3,)),
    neck={"kind": "fpn", "width": 8, "num_levels": 3},
)
EXPECTED = {level: PYRAMID.expected_erf(level).size for level in PYRAMID.levels}
#: P3 serves its objects of up to 32 px, P4 the larger ones: ERFs of 32 to 96 and 38 to 114 px.
FITTING = ScaleTarget(16, 38)
SIZES = {"trf_octaves", "erf_expected_octaves", "erf_measured_octaves"}
KEYS = SIZES | {"gridding_octaves", "finest_stride_octaves"}


def run(constraint: RFConstraint, measured: dict[str, float] | None = None) -> FrozenTrial:
    study = optuna.create_study(direction="maximize")

    def objective(trial: optuna.Trial) -> float:
        constraint.check(trial, PYRAMID)
        if measured is not None:
            sizes = {
                level: SimpleNamespace(size=size, clipped=0.0) for level, size in measured.items()
            }
            constraint.check_measured(trial, sizes)
        return 1.0

    study.optimize(objective, n_trials=1)
    return study.trials[0]


def levels(trial: FrozenTrial) -> dict[str, Any]:
    described = json.loads(trial.user_attrs["levels"])
    assert isinstance(described, dict)
    return described


def test_the_example() -> None:
    assert PYRAMID.levels == ("P2", "P3", "P4")
    assert [field.stride for field in PYRAMID.receptive_fields().values()] == [2, 4, 8]
    assert EXPECTED == {"P2": 43, "P3": 45, "P4": 51}
    parts = FITTING.split({"P2": 2, "P3": 4, "P4": 8})
    assert {level: part.max_size for level, part in parts.items()} == {"P3": 32, "P4": 38}


def test_each_level_is_held_to_its_part() -> None:
    constraint = RFConstraint(FITTING)
    verdicts = {verdict.gate: verdict for verdict in constraint.verdicts(PYRAMID)}
    assert str(verdicts["expected"]) == "P4: expected ERF of 51 px is within 38 to 133 px"
    assert verdicts["expected"].octaves == pytest.approx(math.log2(38 / 51))
    assert constraint.is_feasible(PYRAMID)
    assert constraint.judged_levels(PYRAMID) == ("P3", "P4")
    assert constraint.main_level(PYRAMID) == "P4"


def test_the_worst_level_decides() -> None:
    trial = run(RFConstraint(ScaleTarget(6, 12)))
    assert trial.state == TrialState.PRUNED
    assert trial.user_attrs["rejected_by"] == "expected"
    reason = "P2: expected ERF of 43 px is 1 px above the upper bound of 42 px"
    assert trial.user_attrs["reason"] == reason
    assert set(trial.constraints) == KEYS
    assert trial.constraints["erf_expected_octaves"] == pytest.approx(math.log2(43 / 42))
    assert trial.constraints["erf_measured_octaves"] == pytest.approx(math.log2(43 / 42))


def test_what_is_logged() -> None:
    constraint = RFConstraint(FITTING)
    trial = run(constraint, {"P3": 60, "P4": 70})
    assert trial.state == TrialState.COMPLETE
    assert set(trial.constraints) == KEYS
    assert levels(trial) == {
        "P2": {"stride": 2, "trf_size": 53, "erf_expected": 43, "part": None},
        "P3": {
            "stride": 4,
            "trf_size": 53,
            "erf_expected": 45,
            "part": [16, 32],
            "erf_init": 60.0,
        },
        "P4": {
            "stride": 8,
            "trf_size": 61,
            "erf_expected": 51,
            "part": [32, 38],
            "erf_init": 70.0,
        },
    }
    main = {"trf_size": 61, "output_stride": 8, "erf_expected": 51, "erf_init": 70}
    assert {name: trial.user_attrs[name] for name in main} == main


def test_the_main_level_is_the_coarsest_with_a_part() -> None:
    trial = run(RFConstraint(ScaleTarget(14, 16)), {"P2": 40})
    assert trial.state == TrialState.COMPLETE
    assert trial.user_attrs["output_stride"] == 2
    assert trial.user_attrs["erf_expected"] == 43


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        ({"P3": 116, "P4": 70}, "P3: ERF of 116 px is 4 px above the upper bound of 112 px"),
        ({"P3": 90, "P4": 30}, "P4: ERF of 30 px is 8 px below the lower bound of 38 px"),
    ],
)
def test_a_measured_level_that_does_not_fit(measured: dict[str, float], reason: str) -> None:
    trial = run(RFConstraint(FITTING), measured)
    assert trial.state == TrialState.PRUNED
    assert trial.user_attrs["rejected_by"] == "measured"
    assert trial.user_attrs["reason"] == reason
    assert trial.constraints["erf_measured_octaves"] > 0
    assert trial.user_attrs["erf_init"] == measured["P4"]


def test_a_level_that_was_not_measured() -> None:
    with pytest.raises(ValueError, match="`erf` must hold the measured ERF of P3, by its level"):
        run(RFConstraint(FITTING), {"P4": 70})
    trial = optuna.create_study().ask()
    constraint = RFConstraint(FITTING)
    constraint.check(trial, PYRAMID)
    with pytest.raises(ValueError, match="must hold the measured ERF of P4, by its level"):
        constraint.check_measured(trial, SimpleNamespace(size=70, clipped=0.0))


def test_given_bounds_hold_for_every_level() -> None:
    constraint = RFConstraint(theoretical=(10, 200), effective=(50, 100))
    assert constraint.judged_levels(PYRAMID) == PYRAMID.levels
    verdicts = [str(verdict) for verdict in constraint.verdicts(PYRAMID)]
    assert verdicts[1] == "P2: expected ERF of 43 px is 7 px below the lower bound of 50 px"
    assert not constraint.is_feasible(PYRAMID)
    trial = run(
        RFConstraint(theoretical=(10, 200), effective=(40, 100)), {"P2": 50, "P3": 50, "P4": 120}
    )
    assert trial.user_attrs["reason"].startswith("P4: ERF of 120 px is 20 px above")
    assert all(known["part"] is None for known in levels(trial).values())
    assert trial.user_attrs["erf_expected"] == 51


def test_a_given_bound_beside_the_rule() -> None:
    constraint = RFConstraint(FITTING, theoretical=(10, 80))
    fields = PYRAMID.receptive_fields()
    trf = {verdict.gate: verdict for verdict in constraint.verdicts(PYRAMID)}["theoretical"]
    assert trf.size == max(field.size for field in fields.values())
    assert constraint.judged_levels(PYRAMID) == PYRAMID.levels
    assert constraint.main_level(PYRAMID) == "P4"


def test_a_target_that_no_level_serves() -> None:
    constraint = RFConstraint(ScaleTarget(200, 300))
    assert not constraint.is_feasible(PYRAMID)
    trial = run(constraint)
    assert trial.state == TrialState.PRUNED
    assert trial.user_attrs["rejected_by"] == "theoretical"
    assert trial.user_attrs["reason"].startswith("No level serves objects of 200 to 300 px")
    assert set(trial.constraints) == KEYS
    assert all(trial.constraints[key] == 1 for key in SIZES)
    assert trial.user_attrs["output_stride"] == 8


def test_gates_that_are_off_ask_nothing() -> None:
    trial = run(RFConstraint(theoretical=None, effective=None), {"P4": 1000})
    assert trial.state == TrialState.COMPLETE
    assert trial.constraints == {}
    assert trial.user_attrs["erf_init"] == 1000


def test_levels_are_logged_of_pyramids_alone() -> None:
    trial = optuna.create_study().ask()
    single = architecture(*[stage_dict()] * 2, neck={"kind": "merge", "width": 4})
    RFConstraint(theoretical=(1, 50), effective=(1, 50)).check(trial, single)
    assert "levels" not in trial.user_attrs
