from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from rfsearch.measure.initialisation import calibrate, switch_branches_on


class Block(nn.Module):
    """A residual branch with a normalisation and a layer scale."""

    def __init__(self, weight: list[float], scale: list[float], name: str = "gamma") -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(len(weight))
        self.norm.weight = nn.Parameter(torch.tensor(weight))
        self.register_parameter(name, nn.Parameter(torch.tensor(scale)))


@pytest.mark.parametrize(
    "name", ["gamma", "gamma_1", "gamma2", "layer_scale", "layer_scale_2", "skipinit_gain"]
)
def test_scales_by_their_names(name: str) -> None:
    block = Block([1.0, 1.0], [1e-6, 1e-6], name)
    assert switch_branches_on(block) == (name,)
    assert block.get_parameter(name).tolist() == [1, 1]


def test_other_parameters_are_left() -> None:
    assert switch_branches_on(Block([1.0, 1.0], [0.0, 0.0], "bias")) == ()


@pytest.mark.parametrize(
    "block",
    [
        Block([0.0, 0.0], [0.9, 1.1]),
        Block([0.9, 1.1], [0.0, 0.0]),
        Block([0.0, 1e-7], [1e-6, 1e-6]),
    ],
    ids=["scale", "norm", "tiny"],
)
def test_trained_network_is_left(block: nn.Module) -> None:
    # Pruned branches of a trained network are off on purpose.
    before = {name: value.clone() for name, value in block.state_dict().items()}
    assert switch_branches_on(block) == ()
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())


def test_one_update_makes_a_network_trained() -> None:
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=2, zero_init_last=True)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    optimiser.step()
    assert switch_branches_on(model) == ()


@pytest.mark.parametrize(("name", "count"), [("resnet18", 8), ("convnext_atto", 12)])
def test_networks_of_timm(name: str, count: int) -> None:
    assert len(switch_branches_on(timm.create_model(name))) == count
    # Once is enough.
    model = timm.create_model(name)
    switch_branches_on(model)
    assert switch_branches_on(model) == ()


def test_statistics_are_the_average_over_batches() -> None:
    norm = nn.BatchNorm2d(1)
    batches = [torch.full((1, 1, 2, 2), 1.0), torch.full((1, 1, 2, 2), 3.0)]
    assert calibrate(norm.eval(), batches, lambda module, batch: module(batch))
    assert norm.running_mean is not None
    assert norm.running_mean.tolist() == [2.0]
    assert not norm.training
    # They are set now.
    assert not calibrate(norm, batches, lambda module, batch: module(batch))


def test_converted_statistics_that_count_no_batches_are_kept() -> None:
    norm = nn.BatchNorm2d(1).eval()
    assert norm.running_var is not None
    norm.running_var.fill_(4.0)
    assert not calibrate(norm, [torch.ones(1, 1, 2, 2)], lambda module, batch: module(batch))
    assert norm.running_var.tolist() == [4.0]
