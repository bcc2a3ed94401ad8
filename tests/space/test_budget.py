from __future__ import annotations

import math
import re

import pytest
from helpers import architecture, stage_dict

from rfsearch.basics.ranges import Range
from rfsearch.space.budget import Budget
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.trial_gates import CONSTRAINT_KEYS

ARCH = architecture(stage_dict("plain", 8, 2, (3, 3)))
BUDGET = Budget(
    max_output_stride=4, max_params_m=1, max_flops_g=2, input_size=(32, 48), num_classes=5
)


def test_ranges_are_upper_bounds_with_units() -> None:
    assert BUDGET.ranges() == {
        "output_stride": Range(0, 4, "px"),
        "parameters": Range(0, 1, "M parameters"),
        "flops": Range(0, 2, "GFLOPs"),
    }
    assert str(BUDGET.ranges()["parameters"]) == "at most 1 M parameters"
    assert Budget().ranges() == {}


def test_values_are_those_of_the_architecture() -> None:
    cost = ARCH.cost((32, 48), in_chans=3, num_classes=5)
    assert BUDGET.values(ARCH) == {
        "output_stride": 2,
        "parameters": cost.parameters / 1e6,
        "flops": cost.flops / 1e9,
    }
    assert Budget(max_output_stride=8).values(ARCH) == {"output_stride": 2}


@pytest.mark.parametrize(
    "name",
    [
        "max_output_stride",
        "max_params_m",
        "max_flops_g",
        "max_training_memory_mb",
        "max_latency_ms",
        "max_peak_memory_mb",
        "batch_size",
        "bytes_per_activation",
    ],
)
@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_bounds_must_be_positive(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"`{name} > 0` must hold, but got {value}"):
        Budget(**{name: value})  # type: ignore[arg-type]


def test_verdicts_say_by_how_much_the_budget_is_exceeded() -> None:
    parameters = ARCH.cost((224, 224)).parameters / 1e6
    budget = Budget(max_output_stride=1, max_params_m=parameters / 2)
    constraint = RFConstraint(theoretical=None, effective=None, budget=budget)
    stride, size = constraint.verdicts(ARCH)
    assert str(stride) == "output stride of 2 px is 1 px above the upper bound of 1 px"
    assert "M parameters above the upper bound of" in str(size)
    assert size.octaves == pytest.approx(1)
    assert not constraint.is_feasible(ARCH)
    assert [CONSTRAINT_KEYS[v.gate] for v in (stride, size)] == [
        "output_stride_octaves",
        "params_octaves",
    ]


def test_training_memory_is_that_of_the_update() -> None:
    budget = Budget(
        max_training_memory_mb=1, batch_size=8, bytes_per_activation=2, in_chans=1, num_classes=5
    )
    needed = ARCH.training_memory((224, 224), 8, 1, 5, bytes_per_activation=2)
    assert budget.values(ARCH) == {"training_memory": needed}
    constraint = RFConstraint(theoretical=None, effective=None, budget=budget)
    (verdict,) = constraint.verdicts(ARCH)
    assert CONSTRAINT_KEYS[verdict.gate] == "training_memory_octaves"
    assert verdict.octaves == pytest.approx(math.log2(needed))
    assert re.match(
        r"training memory of [\d.]+ MiB is [\d.]+ MiB above the .* of 1 MiB", str(verdict)
    )
    assert not constraint.is_feasible(ARCH)


def test_what_is_measured_is_no_closed_form_gate() -> None:
    budget = Budget(max_latency_ms=5, max_peak_memory_mb=100)
    assert budget.ranges() == budget.values(ARCH) == {}
    assert budget.measured_ranges() == {
        "latency": Range(0, 5, "ms"),
        "memory": Range(0, 100, "MiB"),
    }
    constraint = RFConstraint(theoretical=None, effective=None, budget=budget)
    assert constraint.needs_latency
    assert constraint.verdicts(ARCH) == []
    assert list(constraint.ranges()) == ["latency", "memory"]
    assert not RFConstraint(theoretical=None, effective=None, budget=BUDGET).needs_latency
