"""What autograd keeps in closed form, against what it does keep."""

from __future__ import annotations

import pytest
import torch
from helpers import architecture, stage_dict
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import KINDS, NECKS, architectures, necked

from rfsearch.architecture import Architecture
from rfsearch.model import build_model

BATCH, SIDE = 4, 64
WEIGHT_MIB = 16 / 2**20


def kept_by_autograd(arch: Architecture, side: int) -> float:
    """MiB of distinct storages, other than weights and buffers, that a forward pass saves."""
    network = build_model(arch, num_classes=0).train()
    own = {
        tensor.untyped_storage().data_ptr()
        for tensor in (*network.parameters(), *network.buffers())
    }
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        # The result is alive until here, or its storages could be used again.
        maps = network.forward_features(torch.randn(BATCH, 3, side, side))
    assert len(maps) > 0
    return sum(storage.nbytes() for storage in kept.values()) / 2**20


def estimate(arch: Architecture, side: int) -> float:
    """The same, in closed form."""
    try:
        weights = WEIGHT_MIB * arch.cost((side, side)).parameters
    except ValueError:  # A window does not fit.
        assume(False)
    return arch.training_memory((side, side), BATCH) - weights


@pytest.mark.parametrize("kind", KINDS)
def test_activations_are_those_that_autograd_keeps(kind: str) -> None:
    @settings(max_examples=15, deadline=None)
    @given(architectures(kinds=(kind,)))
    def check(arch: Architecture) -> None:
        assert estimate(arch, SIDE) == pytest.approx(kept_by_autograd(arch, SIDE), rel=0.02)

    check()


@pytest.mark.parametrize("neck", NECKS)
def test_activations_of_necks(neck: str) -> None:
    @settings(max_examples=15, deadline=None)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        arch = data.draw(necked(kinds=(neck,)))
        assume(arch.neck is not None and arch.neck.kind == neck and arch.input_multiple <= SIDE)
        side = SIDE // arch.input_multiple * arch.input_multiple
        assert estimate(arch, side) == pytest.approx(kept_by_autograd(arch, side), rel=0.02)

    check()


def test_weights_gradients_and_averages_are_counted() -> None:
    arch = architecture(stage_dict(width=16))
    two, four = (arch.training_memory((SIDE, SIDE), size) for size in (2, 4))
    constant = 2 * two - four
    assert constant == pytest.approx(16 * arch.cost((SIDE, SIDE)).parameters / 2**20)


def test_bfloat16_halves_the_activations() -> None:
    arch = architecture(stage_dict(width=16))
    whole, half = (
        arch.training_memory((SIDE, SIDE), 8, bytes_per_activation=size) for size in (4, 2)
    )
    weights = 16 * arch.cost((SIDE, SIDE)).parameters / 2**20
    assert whole - weights == pytest.approx(2 * (half - weights))
