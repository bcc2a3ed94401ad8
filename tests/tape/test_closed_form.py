"""The tape of a built module and the closed form of its architecture: two derivations, one ERF."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import SPACES
from hypothesis import given, settings
from strategies import architectures, necked

from rfsearch.network.architecture import Architecture
from rfsearch.network.model import build_model
from rfsearch.space.space import SearchSpace
from rfsearch.trace.trace import trace_receptive_field

FILES = sorted(path.stem for path in SPACES.glob("*.toml") if path.stem != "baselines")


def check(arch: Architecture) -> None:
    """Hold the tape's numbers of every level against the closed form's."""
    with torch.device("meta"):
        model = build_model(arch, num_classes=0)
    traced = trace_receptive_field(
        model, 8 * 32 * arch.input_multiple, forward=lambda module, x: module.forward_features(x)
    )
    for level in arch.levels:
        expected = arch.expected_erf(level)
        found = traced.expected_erf(level if len(arch.levels) > 1 else None)
        assert found.sigma == pytest.approx(expected.sigma, rel=1e-6)
        assert found.size == expected.size
        assert found.theoretical_size == expected.theoretical_size


@pytest.mark.parametrize("name", FILES)
def test_members_of_shipped_spaces(name: str) -> None:
    check(SearchSpace.load(name).sample(np.random.default_rng(0)))


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_many_members_of_shipped_spaces(name: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        check(SearchSpace.load(name).sample(rng))


@given(architectures() | necked())
@settings(max_examples=10, deadline=None)
def test_any_architecture(arch: Architecture) -> None:
    check(arch)
