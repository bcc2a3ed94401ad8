from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from helpers import architecture, stage_dict
from hypothesis import given
from strategies import architectures
from torch import Tensor, nn

from rfsearch.diagnosis._coverage_probe import Touched, probe_coverage
from rfsearch.diagnosis._traced_layers import traced_layers
from rfsearch.field.coverage import coverage
from rfsearch.network.architecture import Architecture
from rfsearch.network.model import build_model
from rfsearch.trace.trace import trace_receptive_field


def probe(model: nn.Module, size: int = 64, **options: Any) -> dict[str, Touched]:
    traced = trace_receptive_field(model, size, **options)
    layers = traced_layers(traced, model)
    return probe_coverage(model, layers, traced.global_layers, 3)


def conv(kernel_size: Any = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(3, 3, kernel_size, padding="same", **options)


@given(architectures(max_field=200, max_stride=16))
def test_it_agrees_with_the_closed_form(arch: Architecture) -> None:
    model = build_model(arch, in_chans=3, num_classes=2)
    closed = coverage(arch.lower())
    last = f"stages.{len(arch.stages) - 1}"
    assert probe(model, 256)[last] == Touched(closed.size, closed.missing)


def test_every_layer_is_probed() -> None:
    model = nn.Sequential(conv(dilation=2), nn.ReLU(), conv(), nn.MaxPool2d(2), conv(dilation=4))
    found = probe(model)
    assert found["0"] == found["1"] == Touched(5, 2)
    assert found["2"] == Touched(7, 0)
    # 8 px wide, its copies 8 px apart.
    assert found["4"] == found["(model)"] == Touched(24, 0)


def test_the_axis_with_more_gaps_counts() -> None:
    tall, wide = conv((5, 1), dilation=(3, 1)), conv((1, 5), dilation=(1, 3))
    assert probe(tall)["(model)"] == probe(wide)["(model)"] == Touched(13, 8)


def test_units_of_different_phase() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 4, 4), conv(dilation=3), nn.Upsample(scale_factor=2))
    # Three patches of 4 px, 12 px apart.
    assert probe(model)["(model)"] == Touched(28, 16)


def test_gaps_behind_gates_and_normalisation_over_space() -> None:
    class Gate(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * x.mean((2, 3), keepdim=True).sigmoid()

    model = nn.Sequential(conv(dilation=2), Gate(), nn.GroupNorm(1, 3), conv(dilation=2))
    assert probe(model)["3"] == Touched(9, 4)


def test_a_real_network_has_no_gaps_and_a_dilated_one_has() -> None:
    def gaps(**options: Any) -> int:
        model = timm.create_model("resnet18", channels=(16,) * 4, **options).eval()
        return probe(model)["layer4"].missing

    assert gaps() == 0
    assert gaps(output_stride=8) == 0  # Its stem and shortcuts fill them.


class ChannelsLast(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


def test_channels_may_be_last() -> None:
    found = probe(nn.Sequential(conv(dilation=2), ChannelsLast()))
    assert found["0"] == found["1"] == found["(model)"] == Touched(5, 2)


def test_what_disagrees_with_its_trace_is_left_out() -> None:
    class Tokens(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(2)

    assert set(probe(nn.Sequential(conv(dilation=2), Tokens()))) == {"0"}


def test_windows_without_padding() -> None:
    # On a short image there are no units that see its middle with their ends.
    model = nn.Sequential(*[nn.Conv2d(3, 3, 3, dilation=4) for _ in range(8)])
    assert probe(model, 128)["(model)"] == Touched(65, 48)


def test_the_module_is_left_as_it_was() -> None:
    model = nn.Sequential(conv(), nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    probe(model)
    assert model.training
    assert all(not child._forward_hooks for child in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_module_that_refuses_strips() -> None:
    class Only48(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape[2:] != (48, 48):
                raise AssertionError("only 48x48")
            return x

    with pytest.raises(ValueError, match=r"does not run on strips of 64 px \(only 48x48\)"):
        probe(nn.Sequential(conv(), Only48()), 48)


def test_a_module_that_takes_too_much() -> None:
    with pytest.raises(ValueError, match="repeat after 256 px, which is too much to probe"):
        probe(nn.Sequential(nn.Conv2d(3, 3, 256, 256)), 256)
    with pytest.raises(ValueError, match="px are too many to probe"):
        probe(nn.Sequential(nn.Conv2d(3, 3, 64, 64), conv(101)), 64)


def test_architectures_with_gaps_are_among_the_tests() -> None:
    arch = architecture(stage_dict(kernels=(3, 3), dilation=4), kernel_size=1)
    assert probe(build_model(arch, num_classes=2))["stages.0"] == Touched(17, 12)
