"""Parts that see the whole image may make up for a small field."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
import torch
from helpers import architecture, stage_dict
from optuna.trial import FrozenTrial, TrialState
from torch import nn

from rfsearch.network.architecture import Architecture
from rfsearch.network.model import build_model
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.space import SearchSpace
from rfsearch.target.target import ScaleTarget
from rfsearch.trace.trace import trace_receptive_field

NARROW = stage_dict("basic", 8, 2, (1,))
LOCAL = architecture(NARROW)
SQUEEZED = architecture(NARROW | {"context": "se"})
ATTENTIVE = architecture(NARROW, stage_dict("attention", 8, 1, (1,)))
POOLED = architecture(
    NARROW, neck={"kind": "aspp", "rates": [1, 2], "width": 8, "image_pooling": True}
)
UNET = architecture(NARROW, NARROW | {"context": "gc"}, neck={"kind": "unet", "widths": [8, 8]})


class Pyramid(nn.Module):
    """Two maps, the last of which is behind squeeze-and-excite."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, 2, 1)
        self.second = nn.Conv2d(4, 4, 3, 2, 1)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        fine = self.first(images)
        coarse = self.second(fine)
        return [fine, coarse * coarse.mean((2, 3), keepdim=True).sigmoid()]


@pytest.mark.parametrize(
    ("network", "sees_everything"),
    [(LOCAL, False), (SQUEEZED, True), (ATTENTIVE, True), (POOLED, True), (UNET, True)],
)
def test_architectures_and_traces_agree_on_who_sees_everything(
    network: Architecture, sees_everything: bool
) -> None:
    traced = trace_receptive_field(build_model(network), 64)
    assert network.sees_everything() == traced.sees_everything() == sees_everything


def run(constraint: RFConstraint, network: Architecture | nn.Module, measured: int) -> FrozenTrial:
    study = optuna.create_study(direction="maximize")

    def objective(trial: optuna.Trial) -> float:
        constraint.check(trial, network, 64)
        constraint.check_measured(trial, SimpleNamespace(size=measured, clipped=0.0))
        return 1.0

    study.optimize(objective, n_trials=1)
    return study.trials[0]


@pytest.mark.parametrize("network", [ATTENTIVE, SQUEEZED])
def test_lower_bounds_are_lifted_in_every_gate(network: Architecture) -> None:
    target = ScaleTarget(8, 20)
    strict, lenient = (RFConstraint(target, global_context=on) for on in (False, True))
    for given in (network, build_model(network)):
        assert run(strict, given, 3).user_attrs["rejected_by"] == "theoretical"
        fitting = run(lenient, given, 3)
        assert fitting.state is TrialState.COMPLETE
        assert all(math.isfinite(octaves) for octaves in fitting.constraints.values())
        assert fitting.constraints.keys() == run(strict, given, 3).constraints.keys()
        assert run(lenient, given, 71).user_attrs["rejected_by"] == "measured"


def test_a_local_network_is_judged_as_before() -> None:
    target = ScaleTarget(8, 20)
    strict, lenient = (RFConstraint(target, global_context=on) for on in (False, True))
    assert strict.verdicts(LOCAL) == lenient.verdicts(LOCAL)
    wide = architecture(*[stage_dict("basic", 8, 2, (7, 7)) | {"context": "se"}] * 2)
    assert not lenient.is_feasible(wide)


def test_only_maps_behind_such_a_part_are_free() -> None:
    constraint = RFConstraint(theoretical=(50, None), effective=None, global_context=True)
    asked = constraint.asked(trace_receptive_field(Pyramid(), 64))
    assert [one.ranges["theoretical"].low for one in asked.levels.values()] == [50, 1]


def test_a_plain_vit_can_be_proposed() -> None:
    space = SearchSpace.load("hybrid")
    target = ScaleTarget(8, 20)
    strict, lenient = (
        space.feasible(RFConstraint(target, global_context=on)) for on in (False, True)
    )
    assert lenient.count > strict.count
    vit = {
        "stem_kind": "patch",
        "stem_stride": 8,
        **{f"stage{number}_block": "attention" for number in (1, 2, 3)},
    }
    params = strict.candidates.to_params(space[0]) | vit
    assert not strict.contains(params)
    assert lenient.contains(params)
    drawn = [lenient.sample(np.random.default_rng(seed)) for seed in range(30)]
    assert any(not strict.contains(one) for one in drawn)
    assert all(lenient.contains(one) for one in drawn)
    with torch.device("meta"):
        assert trace_receptive_field(build_model(space.from_params(params)), 64).sees_everything()
