"""What autograd keeps in closed form, against what it does keep."""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch
from helpers import architecture, stage_dict
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import KINDS, NECKS, architectures, necked
from torch.profiler import ProfilerActivity, profile

from rfsearch.data.datasets import ImageData
from rfsearch.network.architecture import Architecture
from rfsearch.network.model import build_model
from rfsearch.training.classification import ClassificationTask
from rfsearch.training.config import TrainingConfig

BATCH, SIDE = 2, 64
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
    @settings(max_examples=8, deadline=None)
    @given(architectures(kinds=(kind,)))
    def check(arch: Architecture) -> None:
        assert estimate(arch, SIDE) == pytest.approx(kept_by_autograd(arch, SIDE), rel=0.02)

    check()


@pytest.mark.parametrize("neck", NECKS)
def test_activations_of_necks(neck: str) -> None:
    @settings(max_examples=8, deadline=None)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        arch = data.draw(necked(kinds=(neck,)))
        assume(arch.neck is not None and arch.neck.kind == neck and arch.input_multiple <= SIDE)
        side = SIDE // arch.input_multiple * arch.input_multiple
        assert estimate(arch, side) == pytest.approx(kept_by_autograd(arch, side), rel=0.02)

    check()


def peak_of_an_update(arch: Architecture, side: int) -> float:
    """MiB of the tensors that live at the same time, weights and Adam's averages included."""
    network = build_model(arch, num_classes=5).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.001)
    images, labels = torch.randn(BATCH, 3, side, side), torch.arange(BATCH)

    def update() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()

    update()  # Now there are averages.
    optimizer.zero_grad()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        update()
    events = profiled.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    highest = max(accumulate(change for _, change in changes))
    lasting = 3 * sum(weight.nbytes for weight in network.parameters())
    return (lasting + highest) / 2**20


@pytest.mark.parametrize("block", ["plain", "basic", "mbconv", "convnext"])
def test_the_peak_of_an_update_is_near_the_estimate(block: str) -> None:
    stages = [stage_dict(block, 16 * 2**n, 1 + n, (3, 3)) for n in range(3)]
    arch = architecture(*stages, stride=2, width=16)
    needed = arch.training_memory((SIDE, SIDE), BATCH, num_classes=5)
    gradients = 4 * arch.cost((SIDE, SIDE), num_classes=5).parameters / 2**20
    # At the end of the forward pass all is there but the gradients.
    assert 0.98 * (needed - gradients) < peak_of_an_update(arch, SIDE) < 1.3 * needed


@pytest.mark.gpu
def test_the_peak_of_an_update_on_a_gpu_is_not_far_below_the_estimate() -> None:
    stages = [stage_dict("basic", 64 * 2**n, 1 + n, (3, 3)) for n in range(3)]
    arch = architecture(*stages, stride=2, width=64)
    images = torch.randint(0, 256, (64, 3, 128, 128), dtype=torch.uint8)
    labels = torch.arange(64) % 5
    data = ImageData(images, labels, images[:8], labels[:8], tuple("abcde"))
    task = ClassificationTask(data, TrainingConfig(epochs=2, batch_size=64), "cuda")
    model = task.build(arch)
    before = torch.cuda.memory_allocated() - sum(p.nbytes for p in model.parameters())
    torch.cuda.reset_peak_memory_stats()
    task.train(model)
    peak = (torch.cuda.max_memory_allocated() - before) / 2**20
    gradients = 4 * arch.cost(task.input_size, num_classes=5).parameters / 2**20
    assert peak > 0.98 * (task.budget.training_memory(arch) - gradients)


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
