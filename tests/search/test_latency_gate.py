"""The gates on measured latency and memory, and what an objective logs of them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import optuna
import pytest
import torch
from helpers import architecture
from optuna.trial import FrozenTrial, TrialState

from rfsearch.data.datasets import ImageData
from rfsearch.search.objective import Objective
from rfsearch.space.budget import Budget
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.space import SearchSpace
from rfsearch.training.classification import ClassificationTask
from rfsearch.training.config import TrainingConfig

KEYS = ("latency_octaves", "peak_memory_octaves")
BUDGET = Budget(max_latency_ms=4, max_peak_memory_mb=10)
CONSTRAINT = RFConstraint(theoretical=(3, 40), effective=(1, 40), budget=BUDGET)
SPACE = SearchSpace(
    stem={"kernel_size": 3, "stride": 1, "width": 4},
    stages=[{"block": "plain", "depth": 1, "width": 4, "stride": 1, "kernel_size": [3, 5]}],
)


class Timing(NamedTuple):
    latency_ms: float
    peak_memory_mb: float


class ERF(NamedTuple):
    size: float
    clipped: float = 0.0


def new_trial() -> optuna.Trial:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()


def task() -> ClassificationTask:
    images = torch.randint(0, 255, (16, 1, 12, 12), dtype=torch.uint8)
    data = ImageData(images, torch.arange(16) % 2, images, torch.arange(16) % 2, ("a", "b"))
    return ClassificationTask(data, TrainingConfig(epochs=1, batch_size=8), "cpu", 2)


def search(constraint: RFConstraint, *enqueued: int, measure: bool = False) -> list[FrozenTrial]:
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0)
    )
    for kernel in enqueued:
        study.enqueue_trial({"stage1_kernel_size": kernel})
    objective = Objective(SPACE, constraint, task(), measure_latency=measure)
    study.optimize(objective, n_trials=len(enqueued))
    return study.trials


def test_within_the_bounds() -> None:
    trial = new_trial()
    CONSTRAINT.check_latency(trial, Timing(2, 10))
    assert trial.user_attrs == {"latency_ms": 2, "peak_memory_mb": 10}
    assert trial.constraints == {"latency_octaves": -1, "peak_memory_octaves": 0}


@pytest.mark.parametrize(
    ("timing", "gate", "reason"),
    [
        (Timing(8, 5), "latency", "latency of 8 ms is 4 ms above the upper bound of 4 ms"),
        (Timing(1, 40), "memory", "peak memory of 40 MiB is 30 MiB above the upper bound of 10"),
        (Timing(8, 40), "latency", "latency of 8 ms"),
    ],
)
def test_above_a_bound(timing: Timing, gate: str, reason: str) -> None:
    trial = new_trial()
    with pytest.raises(optuna.TrialPruned, match=reason):
        CONSTRAINT.check_latency(trial, timing)
    assert trial.user_attrs["rejected_by"] == gate
    assert trial.constraints == {
        "latency_octaves": math.log2(timing.latency_ms / 4),
        "peak_memory_octaves": math.log2(timing.peak_memory_mb / 10),
    }


def test_a_trial_that_is_never_timed_has_the_same_constraints() -> None:
    early = new_trial()
    with pytest.raises(optuna.TrialPruned):
        replace(CONSTRAINT, theoretical=(30, 40)).check(early, architecture())
    late = new_trial()
    CONSTRAINT.check(late, architecture())
    with pytest.raises(optuna.TrialPruned):
        CONSTRAINT.check_measured(late, ERF(50))
    for trial in (early, late):
        assert [trial.constraints[key] for key in KEYS] == [0, 0]
    assert set(early.constraints) == set(late.constraints)


def test_an_objective_times_what_it_is_about_to_train() -> None:
    generous = Budget(max_latency_ms=1e6, max_peak_memory_mb=1e6)
    fits, again, too_small = search(
        replace(CONSTRAINT, theoretical=(6, 40), budget=generous), 5, 5, 3
    )
    assert fits.state == TrialState.COMPLETE
    assert fits.user_attrs["latency_ms"] > 0
    assert again.user_attrs["duplicate_of"] == 0
    for name in ("latency_ms", "peak_memory_mb"):
        assert again.user_attrs[name] == fits.user_attrs[name]
        assert name not in too_small.user_attrs
    assert set(fits.constraints) == set(again.constraints) == set(too_small.constraints)


def test_an_objective_does_not_train_what_is_too_slow() -> None:
    (slow,) = search(replace(CONSTRAINT, budget=Budget(max_latency_ms=1e-6)), 3)
    assert slow.state == TrialState.PRUNED
    assert slow.user_attrs["rejected_by"] == "latency"
    assert slow.constraints["latency_octaves"] > 0
    assert "train_seconds" not in slow.user_attrs


def test_timing_without_a_bound_is_asked_for() -> None:
    unbound = replace(CONSTRAINT, budget=None)
    assert "latency_ms" not in search(unbound, 3)[0].user_attrs
    (timed,) = search(unbound, 3, measure=True)
    assert timed.user_attrs["latency_ms"] > 0
    assert not set(KEYS) & set(timed.constraints)
