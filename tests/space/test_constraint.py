from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import torch
from helpers import architecture, stage_dict
from optuna.trial import FrozenTrial, TrialState

from rfsearch.basics.ranges import Range
from rfsearch.measure.erf import measure_erf
from rfsearch.network.architecture import Architecture
from rfsearch.network.model import build_model
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.space import SearchSpace
from rfsearch.space.trial_gates import CONSTRAINT_KEYS
from rfsearch.space.verdict import Verdict
from rfsearch.target.target import MAX_GRIDDING, ScaleTarget

#: Its theoretical field is 25 px and its expected ERF 21 px.
SMALL = architecture(stage_dict("plain", 8, 2, (3,) * 6))
TRF = "trf_octaves"
EXPECTED = "erf_expected_octaves"
MEASURED = "erf_measured_octaves"


def both(low: float, high: float, **others: Any) -> RFConstraint:
    return RFConstraint(theoretical=(low, high), effective=(low, high), **others)


def sized(size: float, clipped: float = 0.0) -> SimpleNamespace:
    return SimpleNamespace(size=size, clipped=clipped)


def run(
    constraint: RFConstraint, arch: Architecture = SMALL, measured: float | None = None
) -> FrozenTrial:
    """One trial of a real study: `check`, then `check_measured` with a given size."""
    study = optuna.create_study(direction="maximize")

    def objective(trial: optuna.Trial) -> float:
        constraint.check(trial, arch)
        if measured is not None:
            constraint.check_measured(trial, sized(measured))
        return 1.0

    study.optimize(objective, n_trials=1)
    return study.trials[0]


def test_field_of_the_example() -> None:
    assert SMALL.receptive_field()[1:] == (25, 2)
    assert SMALL.expected_erf().size == 21


# -- verdicts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "octaves", "passes"),
    [(8, 1, False), (16, 0, True), (32, -1, True), (64, 0, True), (128, 1, False)],
)
def test_verdict_in_octaves(size: float, octaves: float, passes: bool) -> None:
    verdict = Verdict("theoretical", size, Range(16, 64))
    assert verdict.octaves == octaves
    assert verdict.passes == passes


@pytest.mark.parametrize(
    ("gate", "size", "text"),
    [
        ("theoretical", 9, "theoretical RF of 9 px is 7 px below the lower bound of 16 px"),
        ("expected", 70, "expected ERF of 70 px is 6 px above the upper bound of 64 px"),
        ("measured", 15.5, "ERF of 15.5 px is 0.5 px below the lower bound of 16 px"),
        ("measured", 64, "ERF of 64 px is within 16 to 64 px"),
    ],
)
def test_verdict_says_by_how_many_px(gate: str, size: float, text: str) -> None:
    assert str(Verdict(gate, size, Range(16, 64))) == text


def test_verdicts_of_an_architecture() -> None:
    constraint = RFConstraint(theoretical=(30, 40), effective=(5, None))
    assert constraint.verdicts(SMALL) == [
        Verdict("theoretical", 25, Range(30, 40)),
        Verdict("expected", 21, Range(5, math.inf)),
    ]
    assert not constraint.is_feasible(SMALL)
    assert RFConstraint(theoretical=(25, 25), effective=(21, 21)).is_feasible(SMALL)


# -- ranges ----------------------------------------------------------------------------------


def test_ranges_follow_the_target() -> None:
    target = ScaleTarget(20, 40)
    assert RFConstraint(target).ranges() == {
        "theoretical": target.theoretical,
        "finest_stride": Range(0, 20),
        "gridding": Range(1 - MAX_GRIDDING, math.inf, "of the RF"),
        "expected": target.effective,
        "measured": target.effective,
    }


def test_ranges_can_be_overridden_one_by_one() -> None:
    target = ScaleTarget(20, 40)
    ranges = RFConstraint(target, theoretical=(50, 90)).ranges()
    assert ranges["theoretical"] == Range(50, 90)
    assert ranges["expected"] == ranges["measured"] == target.effective
    ranges = RFConstraint(target, effective=(50, None)).ranges()
    assert ranges["theoretical"] == target.theoretical
    assert ranges["expected"] == ranges["measured"] == Range(50, math.inf)


@pytest.mark.parametrize(
    ("options", "gates"),
    [
        ({}, ["theoretical", "finest_stride", "gridding", "expected", "measured"]),
        ({"theoretical": None}, ["finest_stride", "gridding", "expected", "measured"]),
        ({"effective": None}, ["theoretical", "finest_stride", "gridding"]),
        ({"max_gridding": None}, ["theoretical", "finest_stride", "expected", "measured"]),
        ({"min_units": None}, ["theoretical", "gridding", "expected", "measured"]),
        ({"expected": False}, ["theoretical", "finest_stride", "gridding", "measured"]),
        (
            {"expected": False, "measured": False, "max_skipped": 0.0},
            ["theoretical", "finest_stride", "gridding", "skipped"],
        ),
        ({"theoretical": None, "effective": None}, []),
    ],
)
def test_gates_can_be_switched_off(options: dict[str, Any], gates: list[str]) -> None:
    constraint = RFConstraint(ScaleTarget(10, 16), **options)
    assert list(constraint.ranges()) == gates
    closed_form = [gate for gate in gates if gate != "measured"]
    assert [verdict.gate for verdict in constraint.verdicts(SMALL)] == closed_form
    trial = run(constraint, measured=21)
    assert trial.state == TrialState.COMPLETE
    assert set(trial.constraints) == {CONSTRAINT_KEYS[gate] for gate in gates}


@pytest.mark.parametrize(
    ("target", "bound"), [((2, 24), 2), ((8, 24), 8), ((24, 24), 24)], ids=str
)
def test_the_smallest_object_bounds_the_finest_stride(
    target: tuple[float, float], bound: float
) -> None:
    verdicts = RFConstraint(ScaleTarget(*target, quiet=True)).verdicts("resnet18", 224)
    (verdict,) = (verdict for verdict in verdicts if verdict.gate == "finest_stride")
    assert verdict == Verdict("finest_stride", 32, Range(0, bound))
    assert not verdict.passes


def test_units_across_the_smallest_object() -> None:
    target = ScaleTarget(8, 12)
    assert RFConstraint(target, min_units=2).ranges()["finest_stride"] == Range(0, 4)
    apart = ScaleTarget.apart(height=(8, 12), width=(30, 40))
    assert RFConstraint(apart).ranges("height")["finest_stride"] == Range(0, 8)
    assert RFConstraint(apart).ranges("width")["finest_stride"] == Range(0, 30)
    assert "finest_stride" not in RFConstraint(target, (1, 99), (1, 99)).ranges()
    for wrong in (0, -1, math.inf, math.nan, "two"):
        with pytest.raises(ValueError, match="`min_units` must be None, 'rule', or a number"):
            RFConstraint(target, min_units=wrong)


def test_skipped_units_are_judged() -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(4, 4, 1, stride=2)
    )
    given = {"theoretical": (1, 9), "effective": (1, 9)}
    assert RFConstraint(**given, max_skipped=0.5).is_feasible(network, 32)
    (*_, verdict, _) = RFConstraint(**given, max_skipped=0.4).verdicts(network, 32)
    assert str(verdict) == (
        "share of a map that is read of 0.5 of the units is 0.1 of the units below the lower "
        "bound of 0.6 of the units"
    )
    for wrong in (1, -0.1, math.nan):
        with pytest.raises(ValueError, match="`max_skipped` must be None or a share in"):
            RFConstraint(**given, max_skipped=wrong)


@pytest.mark.parametrize("name", ["theoretical", "effective"])
def test_range_without_a_target(name: str) -> None:
    given = {"theoretical": (1, 2), "effective": (1, 2)}
    del given[name]
    with pytest.raises(ValueError, match=f"`{name}` must be given where there is no target"):
        RFConstraint(**given)


@pytest.mark.parametrize("name", ["theoretical", "effective"])
def test_impossible_ranges(name: str) -> None:
    target = ScaleTarget(4, 5)
    with pytest.raises(ValueError, match=rf"must hold for `{name}`, but got \(9, 3\)"):
        RFConstraint(target, **{name: (9, 3)})
    with pytest.raises(ValueError, match=rf"`{name}` must be .*None or 'rule', but got 'auto'"):
        RFConstraint(target, **{name: "auto"})


# -- trials ----------------------------------------------------------------------------------


def test_candidate_that_fits() -> None:
    trial = run(both(10.5, 50), measured=42)
    assert trial.state == TrialState.COMPLETE
    assert trial.constraints == {
        TRF: -1.0,
        EXPECTED: -1.0,
        MEASURED: pytest.approx(math.log2(42 / 50)),
    }
    assert trial.user_attrs == {
        "trf_size": 25,
        "output_stride": 2,
        "erf_expected": 21,
        "erf_sigma_expected": SMALL.expected_erf().sigma,
        "erf_half_expected": 13,
        "erf_init": 42.0,
        "skipped": 0.0,
        "params_m": 0.003784,
        "global_layers": "",
    }


@pytest.mark.parametrize(
    ("constraint", "gate", "reason"),
    [
        (
            both(30, 99),
            "theoretical",
            "theoretical RF of 25 px is 5 px below the lower bound of 30 px",
        ),
        (
            both(1, 20),
            "theoretical",
            "theoretical RF of 25 px is 5 px above the upper bound of 20 px",
        ),
        (both(24, 99), "expected", "expected ERF of 21 px is 3 px below the lower bound of 24 px"),
        (
            RFConstraint(theoretical=(1, 99), effective=(1, 10.5)),
            "expected",
            "expected ERF of 21 px is 10.5 px above the upper bound of 10.5 px",
        ),
    ],
)
def test_candidate_that_a_closed_form_rejects(
    constraint: RFConstraint, gate: str, reason: str
) -> None:
    trial = run(constraint)
    assert trial.state == TrialState.PRUNED
    assert trial.user_attrs["rejected_by"] == gate
    assert trial.user_attrs["reason"] == reason
    assert set(trial.constraints) == {TRF, EXPECTED, MEASURED}
    assert max(trial.constraints.values()) > 0
    # The best estimate of a measured ERF is the expected one.
    assert trial.constraints[MEASURED] == trial.constraints[EXPECTED]
    assert "erf_init" not in trial.user_attrs


def test_pruned_message_is_the_reason() -> None:
    trial = optuna.create_study().ask()
    with pytest.raises(optuna.TrialPruned, match=r"^theoretical RF of 25 px is 5 px below"):
        both(30, 99).check(trial, SMALL)


@pytest.mark.parametrize(
    ("measured", "octaves", "reason"),
    [
        (5.25, 1, "ERF of 5.25 px is 5.25 px below the lower bound of 10.5 px"),
        (200, 2, "ERF of 200 px is 150 px above the upper bound of 50 px"),
    ],
)
def test_candidate_that_the_measurement_rejects(
    measured: float, octaves: float, reason: str
) -> None:
    trial = run(both(10.5, 50), measured=measured)
    assert trial.state == TrialState.PRUNED
    assert trial.user_attrs["rejected_by"] == "measured"
    assert trial.user_attrs["reason"] == reason
    assert trial.user_attrs["erf_init"] == measured
    assert set(trial.constraints) == {TRF, EXPECTED, MEASURED}
    assert trial.constraints[MEASURED] == octaves


@pytest.mark.parametrize("size", [1, 21, 1000])
def test_what_the_image_clipped_is_not_judged(size: float) -> None:
    study = optuna.create_study()
    trial = study.ask()
    constraint = both(16, 64)
    constraint.check(trial, SMALL)
    with pytest.warns(UserWarning, match="is not judged, for it is too small: 40% of the recep"):
        constraint.check_measured(trial, sized(size, clipped=0.4))
    # It speaks neither for the candidate nor against it.
    assert trial.constraints["erf_measured_octaves"] == 0
    assert trial.user_attrs["erf_init"] == size
    assert "rejected_by" not in trial.user_attrs


def test_measured_gate_off_only_logs() -> None:
    trial = run(both(10.5, 50, measured=False), measured=1000)
    assert trial.state == TrialState.COMPLETE
    assert trial.user_attrs["erf_init"] == 1000
    assert set(trial.constraints) == {TRF, EXPECTED}


def test_expected_gate_off_estimates_the_measured_one_all_the_same() -> None:
    trial = run(both(50, 99, expected=False))
    assert trial.state == TrialState.PRUNED
    assert trial.constraints == {
        TRF: 1.0,
        MEASURED: pytest.approx(math.log2(50 / 21)),
    }


def test_both_failures_are_graded_and_the_first_is_named() -> None:
    trial = run(both(50, 99))
    assert trial.user_attrs["rejected_by"] == "theoretical"
    assert trial.constraints[TRF] == 1.0
    assert trial.constraints[EXPECTED] == pytest.approx(math.log2(50 / 21))


def test_user_attributes_are_plain() -> None:
    for name, value in run(both(10.5, 50), measured=42).user_attrs.items():
        assert type(value) in (int, float, str), name


# -- whole studies ---------------------------------------------------------------------------


def search(sampler: optuna.samplers.BaseSampler, n_trials: int) -> optuna.Study:
    """A study in which all three gates reject some candidates."""
    space = SearchSpace.load("toy")
    constraint = RFConstraint(theoretical=(15, 40), effective=(12, 24))
    study = optuna.create_study(direction="maximize", sampler=sampler)

    def objective(trial: optuna.Trial) -> float:
        arch = space.suggest(trial)
        constraint.check(trial, arch)
        # A stand-in that strays from the expected size.
        constraint.check_measured(trial, sized(arch.expected_erf().size * 1.2))
        return arch.receptive_field().size

    study.optimize(objective, n_trials=n_trials)
    return study


def test_same_constraints_whichever_gate_rejects() -> None:
    trials = search(optuna.samplers.RandomSampler(seed=0), 60).trials
    rejected_by = {trial.user_attrs.get("rejected_by", "none") for trial in trials}
    assert rejected_by == {"theoretical", "expected", "measured", "none"}
    for trial in trials:
        assert set(trial.constraints) == {TRF, EXPECTED, MEASURED}
        fits = all(violation <= 0 for violation in trial.constraints.values())
        assert fits == (trial.state == TrialState.COMPLETE)
        assert fits == ("rejected_by" not in trial.user_attrs)
        assert fits == ("reason" not in trial.user_attrs)


def test_best_trial_is_feasible() -> None:
    best = search(optuna.samplers.RandomSampler(seed=0), 60).best_trial
    assert 15 <= best.user_attrs["trf_size"] <= 40


def test_tpe_runs_without_warnings_and_learns() -> None:
    # Warnings are errors here.
    trials = search(optuna.samplers.TPESampler(seed=0, n_startup_trials=15), 60).trials
    complete = [trial.state == TrialState.COMPLETE for trial in trials]
    assert sum(complete[30:]) > sum(complete[:30])


# -- gridding --------------------------------------------------------------------------------

#: It touches 5 of 17 pixels: -8, -4, 0, 4 and 8.
GAPS = architecture(stage_dict("plain", kernels=(3, 3), dilation=4), kernel_size=1)


def test_gridding_is_the_share_that_is_not_touched() -> None:
    constraint = RFConstraint(theoretical=None, effective=None, max_gridding=0.5)
    (verdict,) = constraint.verdicts(GAPS)
    assert CONSTRAINT_KEYS[verdict.gate] == "gridding_octaves"
    assert verdict.octaves == pytest.approx(math.log2(0.5 * 17 / 5))
    assert str(verdict).startswith("touched share of 0.294118 of the RF is 0.205882 of the RF bel")
    assert constraint.is_feasible(SMALL)
    none = RFConstraint(theoretical=None, effective=None, max_gridding=0)
    assert none.is_feasible(SMALL)
    assert not none.is_feasible(GAPS)


def test_the_rule_for_gaps_goes_with_that_for_sizes() -> None:
    target = ScaleTarget(5, 5)
    assert not RFConstraint(target, effective=None).is_feasible(GAPS)
    assert RFConstraint(target, effective=None, max_gridding=None).is_feasible(GAPS)
    assert RFConstraint(target, theoretical=(1, None), effective=None).is_feasible(GAPS)


@pytest.mark.parametrize("share", [-0.1, 1, math.nan, "none"])
def test_gridding_is_a_share(share: float | str) -> None:
    with pytest.raises(ValueError, match=r"`max_gridding` must be .* share in \[0, 1\), but got"):
        RFConstraint(theoretical=None, effective=None, max_gridding=share)


def test_spreads_are_logged_beside_sizes() -> None:
    measured = measure_erf(build_model(SMALL, num_classes=0), 32, num_images=2)
    study = optuna.create_study()
    trial = study.ask()
    constraint = both(1, 99)
    constraint.check(trial, SMALL)
    constraint.check_measured(trial, measured)
    expected = SMALL.expected_erf()
    assert trial.user_attrs["skipped"] == 0
    for when, erf in (("expected", expected), ("init", measured)):
        assert trial.user_attrs[f"erf_sigma_{when}"] == erf.sigma
        assert trial.user_attrs[f"erf_half_{when}"] == erf.square(0.5) < erf.size
