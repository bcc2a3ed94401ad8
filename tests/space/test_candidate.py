"""Anything that is made of torch modules is judged as architectures are."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import optuna
import pytest
import timm
import torch
from optuna.trial import TrialState
from torch import Tensor, nn

import rfsearch as rfs

TARGET = rfs.ScaleTarget(10, 14)


def convolutions(*dilations: int) -> nn.Module:
    layers = (
        nn.Sequential(
            nn.Conv2d(3 if n == 0 else 8, 8, 3, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
        )
        for n, dilation in enumerate(dilations)
    )
    return nn.Sequential(*layers)


class Pyramid(nn.Module):
    """Gives its coarsest map first."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Conv2d(3 if n == 0 else 4, 4, 3, stride=2, padding=1) for n in range(4)
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = {}
        for n, stage in enumerate(self.stages):
            x = stage(x)
            maps[f"C{n + 1}"] = x
        return dict(reversed(maps.items()))


# -- one face ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["toy", "residual", "multiscale", "dilated"])
def test_a_built_module_answers_as_its_architecture(name: str) -> None:
    space, rng = rfs.SearchSpace.load(name), np.random.default_rng(0)
    for _ in range(3):
        architecture = space.sample(rng)
        size = 64 * architecture.input_multiple
        module = rfs.build_model(architecture, in_chans=3, num_classes=0)
        traced = rfs.trace_receptive_field(module, size)
        assert traced.receptive_field() == architecture.receptive_field()
        assert traced.cost() == architecture.cost(size)
        assert traced.training_memory(8) == pytest.approx(
            architecture.training_memory(size, 8), rel=0.02
        )
        assert traced.expected_erf().size == architecture.expected_erf().size
        if architecture.neck is None:
            assert traced.coverage() == architecture.coverage()


def test_levels_are_the_outputs_the_finest_first() -> None:
    traced = rfs.trace_receptive_field(Pyramid(), 64)
    assert traced.levels == ("C1", "C2", "C3", "C4")
    assert [field.stride for field in traced.receptive_fields().values()] == [2, 4, 8, 16]
    assert traced.receptive_field() == traced.receptive_field("C4")
    assert traced.expected_erf("C1").size < traced.expected_erf().size
    for ask in (traced.receptive_field, traced.expected_erf, traced.coverage):
        with pytest.raises(
            ValueError, match="`level` must be one of C1, C2, C3, C4, but got 'P9'"
        ):
            ask("P9")


def test_identity() -> None:
    def fingerprint(model: nn.Module, size: int = 64) -> str:
        traced = rfs.trace_receptive_field(model, size)
        assert json.loads(json.dumps(traced.to_dict())) == traced.to_dict()
        return traced.fingerprint

    same = fingerprint(convolutions(1, 2))
    assert fingerprint(convolutions(1, 2)) == same
    others = (convolutions(2, 1), convolutions(1, 2, 1), Pyramid())
    assert len({same, *map(fingerprint, others), fingerprint(convolutions(1, 2), 96)}) == 5


# -- gates ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["toy", "dilated"])
def test_gates_judge_a_module_as_its_architecture(name: str) -> None:
    budget = rfs.Budget(
        max_output_stride=4, max_params_m=0.1, max_flops_g=0.05, input_size=(64, 64)
    )
    constraint = rfs.RFConstraint(TARGET, budget=budget)
    space, rng = rfs.SearchSpace.load(name), np.random.default_rng(1)
    for _ in range(4):
        architecture = space.sample(rng)
        module = rfs.build_model(architecture, in_chans=3, num_classes=0)
        expected = constraint.verdicts(architecture)
        assert constraint.verdicts(module, input_size=64) == expected
        assert constraint.is_feasible(module, input_size=64) == constraint.is_feasible(
            architecture
        )


def test_levels_of_a_module_are_held_to_their_parts() -> None:
    constraint = rfs.RFConstraint(
        rfs.ScaleTarget(4, 10), max_gridding=None, min_units=None, expected=False
    )
    (verdict,) = constraint.verdicts(Pyramid(), input_size=64)
    assert verdict.gate == "theoretical"
    assert verdict.level in constraint.judged_levels(Pyramid(), 64)
    assert constraint.main_level(Pyramid(), 64) == constraint.judged_levels(Pyramid(), 64)[-1]


# -- trials --------------------------------------------------------------------------------


def test_an_objective_of_ones_own_with_a_module_of_ones_own() -> None:
    constraint = rfs.RFConstraint(TARGET)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        depth = trial.suggest_int("depth", 2, 8)
        dilation = trial.suggest_categorical("dilation", [1, "growing"])
        dilations = [n + 1 if dilation == "growing" else 1 for n in range(depth)]
        model = convolutions(*dilations)
        constraint.check(trial, model, input_size=64)
        constraint.check_measured(trial, rfs.measure_erf(model, 64, num_images=4))
        return float(depth), trial.user_attrs["params_m"]

    sampler = optuna.samplers.GridSampler({"depth": [*range(2, 9)], "dilation": [1, "growing"]})
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.optimize(objective)
    frame = rfs.trials_dataframe(study)
    trained = frame[frame["state"] == "COMPLETE"]
    assert 0 < len(trained) < len(frame) == 14
    assert (frame["trf_size"].dropna() > 0).all()
    assert set(frame["rejected_by"].dropna()) <= {
        "theoretical",
        "expected",
        "gridding",
        "measured",
    }
    # What `check` knew stands in the table: costs, the second objective, choices of any kind.
    assert frame[["params_m", "flops_g"]].notna().all(axis=None)
    assert trained["values_1"].tolist() == trained["params_m"].tolist()
    assert list(frame.columns).index("values_1") == list(frame.columns).index("value") + 1
    assert frame.sort_values("dilation")["dilation"].tolist() == ["1"] * 7 + ["growing"] * 7
    front = rfs.pareto_front(frame, {"value": "maximize", "params_m": "minimize"})
    assert len(front) == len(trained)


def test_costs_of_an_architecture_without_images_are_its_parameters() -> None:
    architecture = rfs.SearchSpace.load("toy").sample(np.random.default_rng(0))
    study = optuna.create_study()
    trial = study.ask()
    rfs.RFConstraint(theoretical=None, effective=None).check(trial, architecture)
    assert trial.user_attrs["params_m"] == architecture.cost(64).parameters / 1e6
    assert "flops_g" not in trial.user_attrs


@pytest.mark.parametrize(
    ("sampler", "state"),
    [
        (optuna.samplers.GPSampler(seed=0), TrialState.COMPLETE),
        (optuna.samplers.NSGAIISampler(seed=0), TrialState.COMPLETE),
        (optuna.samplers.TPESampler(seed=0), TrialState.PRUNED),
    ],
    ids=["GP", "NSGA-II", "TPE"],
)
def test_rejected_trials_end_so_that_the_sampler_learns(
    sampler: optuna.samplers.BaseSampler, state: TrialState
) -> None:
    constraint = rfs.RFConstraint(TARGET, measured=False)

    @rfs.learn_from_rejected
    def objective(trial: optuna.Trial) -> float:
        """The docstring."""
        depth = trial.suggest_int("depth", 1, 12)
        constraint.check(trial, convolutions(*[1] * depth), input_size=64)
        return float(depth)

    assert objective.__doc__ == "The docstring."
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials=12)
    rejected = [trial for trial in study.trials if "rejected_by" in trial.user_attrs]
    assert {trial.state for trial in rejected} == {state}
    assert "rejected_by" not in study.best_trial.user_attrs


def test_other_prunings_stay_what_they_are() -> None:
    @rfs.learn_from_rejected
    def objective(trial: optuna.Trial) -> float:
        raise optuna.TrialPruned

    study = optuna.create_study(sampler=optuna.samplers.NSGAIISampler(seed=0))
    study.optimize(objective, n_trials=1)
    assert study.trials[0].state == TrialState.PRUNED


# -- mistakes ------------------------------------------------------------------------------


class NoPositions(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ones(3)


class Rectangular(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, (1, 7))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


MISTAKES: dict[str, tuple[Any, int | None, str]] = {
    "no candidate": (3, 64, r"must be an architecture, a trace, a module .* but got int: 3"),
    "nothing": (None, 64, "but got NoneType: None"),
    "no size": (convolutions(1), None, "`input_size` must be given with a model, to trace Sequ"),
    "a size that is none": (convolutions(1), 0, "input_size"),
    "a size that it does not take": (nn.Conv2d(3, 1, 9), 4, "must run at an input of 4x4 px"),
    "an unknown name": ("resnet19", 64, "resnet19.*nearest"),
    "no output of the image": (NoPositions(), 64, "must depend on its input"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_cannot_be_judged_is_one_clear_error(name: str) -> None:
    given, size, message = MISTAKES[name]
    constraint = rfs.RFConstraint(TARGET)
    trial = optuna.create_study().ask()
    asks = (
        lambda: constraint.check(trial, given, input_size=size),
        lambda: constraint.verdicts(given, input_size=size),
        lambda: constraint.is_feasible(given, input_size=size),
        lambda: constraint.judged_levels(given, input_size=size),
    )
    for ask in asks:
        with pytest.raises(ValueError, match=message) as error:
            ask()
        assert "\n" not in str(error.value)
    assert trial.user_attrs == {}


def test_a_name_and_a_trace_are_judged_as_the_module() -> None:
    constraint = rfs.RFConstraint(TARGET)
    model = timm.create_model("resnet18")
    given = ("resnet18", model, rfs.trace_receptive_field(model, 96))
    verdicts = [constraint.verdicts(one, input_size=96) for one in given]
    for one, other in itertools.pairwise(verdicts):
        assert one == other


def test_another_field_along_each_axis_is_judged_along_both() -> None:
    constraint = rfs.RFConstraint(theoretical=(3, 9), effective=None)
    (verdict,) = constraint.verdicts(Rectangular(), input_size=64)
    assert (verdict.axis, verdict.size, verdict.passes) == ("height", 1, False)


@pytest.mark.parametrize(("largest", "units"), [(4, [0, 2]), (16, [2, 4]), (64, [4, 4])])
def test_units_across_objects_are_counted_up_to_sixteen(largest: int, units: list[float]) -> None:
    """Halvings, of maps of 4 and 1 px."""
    constraint = rfs.RFConstraint(rfs.ScaleTarget(largest, largest), measured=False)
    modules = (nn.Conv2d(3, 8, 5, stride, padding=2) for stride in (4, 1))
    assert [constraint.descriptors(module, 64)["units"] for module in modules] == units
