"""Spaces of a user's own modules, against tracing all of them."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import IntDistribution
from torch import nn

from rfsearch.search.sampler import RFSampler
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.module_space import ModuleSpace

CONSTRAINT = RFConstraint(theoretical=(9, 17), effective=None)
BUILT: Counter[tuple[int, int, str]] = Counter()


def build(depth: int, kernel_size: int, pool: str) -> nn.Module:
    """The field in px is 1 + depth * (kernel_size - 1), and 1 + 2 * that with a pooling first."""
    BUILT[depth, kernel_size, pool] += 1
    layers: list[nn.Module] = [nn.MaxPool2d(2)] if pool == "max" else []
    layers += [nn.Conv2d(1, 1, kernel_size, padding=kernel_size // 2) for _ in range(depth)]
    return nn.Sequential(*layers)


def fits(depth: int, kernel_size: int, pool: str) -> bool:
    grown = depth * (kernel_size - 1)
    return 9 <= (2 + 2 * grown if pool == "max" else 1 + grown) <= 17


@pytest.fixture
def space() -> ModuleSpace:
    BUILT.clear()
    choices = {"depth": IntDistribution(1, 4), "kernel_size": [1, 3, 5], "pool": ["max", "none"]}
    return ModuleSpace(build, choices, input_size=32)


def test_the_feasible_set_is_that_of_all_traces(space: ModuleSpace) -> None:
    feasible = space.feasible(CONSTRAINT)
    members = {one for one in product((1, 2, 3, 4), (1, 3, 5), ("max", "none")) if fits(*one)}
    assert space.size == 24
    assert not BUILT
    assert feasible.count == len(members)
    drawn = [feasible.sample_params(np.random.default_rng(seed)) for seed in range(60)]
    assert {tuple(params.values()) for params in drawn} <= members
    assert space.feasible(CONSTRAINT) is feasible
    assert set(BUILT.values()) == {1}


def test_the_sampler_proposes_only_what_fits(space: ModuleSpace) -> None:
    study = optuna.create_study(sampler=RFSampler(space, CONSTRAINT, seed=0, n_startup_trials=2))

    def objective(trial: optuna.Trial) -> float:
        module = space.suggest(trial)
        CONSTRAINT.check(trial, module, input_size=32)
        return float(sum(p.numel() for p in module.parameters()))

    study.optimize(objective, n_trials=8)
    assert {trial.state.name for trial in study.trials} == {"COMPLETE"}
    assert all(fits(**trial.params) for trial in study.trials)


def test_what_fails() -> None:
    def broken(**params: Any) -> nn.Module:
        raise RuntimeError("no such width")

    space = ModuleSpace(broken, {"width": [1, 2]}, input_size=32)
    with pytest.raises(ValueError, match=r"`fits` for \{'width': 1\} has .*no such width"):
        space.feasible(CONSTRAINT).nearest({"width": 1})
    with pytest.raises(ValueError, match="must name at least one parameter"):
        ModuleSpace(broken, {}, input_size=32)
