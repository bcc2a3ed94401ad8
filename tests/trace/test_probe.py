from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from rfsearch.basics.axes import ByAxis
from rfsearch.field.receptive_field import ReceptiveField, stack, window
from rfsearch.trace.probe import ProbedField, probe_receptive_field
from rfsearch.trace.trace import trace_receptive_field


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 3), st.integers(0, 3))
def test_one_convolution(kernel_size: int, stride: int, dilation: int, padding: int) -> None:
    layer = nn.Conv2d(1, 2, kernel_size, stride, padding, dilation)
    field = window(kernel_size, stride, dilation, padding)
    assert probe_receptive_field(layer, 1) == ProbedField(ByAxis(field, field))


def test_axes_are_apart() -> None:
    layer = nn.Conv2d(1, 1, kernel_size=(3, 7), stride=(1, 2), padding=(0, 3), dilation=(5, 1))
    field = probe_receptive_field(layer, 1)
    assert field.height == window(3, dilation=5, padding=0)
    assert field.width == window(7, stride=2, padding=3)


def test_pooling_and_branches() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left = nn.Conv2d(1, 1, 5, stride=2, padding=2)
            self.right = nn.MaxPool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            total: Tensor = self.left(x) + self.right(x)
            return total

    expected = window(5, 2).merge(window(2, 2, padding=0))
    assert expected == ReceptiveField(-2, 5, 2)
    assert probe_receptive_field(Branches(), 1) == ProbedField(ByAxis(expected, expected))


def test_asymmetric_padding() -> None:
    model = nn.Sequential(nn.ZeroPad2d((2, 0, 1, 1)), nn.Conv2d(1, 1, 3))
    field = probe_receptive_field(model, 1)
    assert field.height == ReceptiveField(-1, 3, 1)
    assert field.width == ReceptiveField(-2, 3, 1)


def test_long_field_enlarges_the_strip() -> None:
    layers = [nn.Conv2d(1, 1, 3, dilation=d, padding=d) for d in (1, 32, 128)]
    expected = stack(window(3, dilation=d) for d in (1, 32, 128))
    assert expected.size == 323
    assert probe_receptive_field(nn.Sequential(*layers), 1) == ProbedField(
        ByAxis(expected, expected)
    )


def unlike_units() -> dict[str, nn.Module]:
    def conv(kernel_size: int = 3, stride: int = 1) -> nn.Conv2d:
        return nn.Conv2d(1, 1, kernel_size, stride, kernel_size // 2)

    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = nn.Sequential(conv(3, 4), conv(), nn.Upsample(scale_factor=4))

        def forward(self, x: Tensor) -> Tensor:
            total: Tensor = x + self.inside(x)
            return total

    return {
        "finer than pixels": nn.Sequential(conv(), nn.Upsample(scale_factor=2)),
        "down, up and on": nn.Sequential(conv(3, 2), nn.Upsample(scale_factor=2), conv()),
        "U-Net": nn.Sequential(conv(), Shortcut(), conv()),
        "gaps": nn.Sequential(conv(3, 4), nn.ConvTranspose2d(1, 1, 1, 2)),
        "unequal sizes": nn.Sequential(conv(3, 4), nn.ConvTranspose2d(1, 1, 3, 2)),
        "two thirds": nn.Sequential(conv(), nn.Upsample(scale_factor=1.5), conv()),
    }


@pytest.mark.parametrize("name", unlike_units())
def test_units_that_are_not_alike(name: str) -> None:
    model = unlike_units()[name]
    probed, traced = probe_receptive_field(model, 1), trace_receptive_field(model, 192).output
    assert probed == ProbedField(ByAxis(traced.height, traced.width))
    assert probed.sizes == traced.sizes


def test_units_without_a_pattern_are_refused() -> None:
    # 29 units of 23 x 8 px.
    model = nn.Sequential(nn.Conv2d(1, 1, 8, 8), nn.Upsample(scale_factor=29 / 23))
    with pytest.raises(ValueError, match=r"must repeat within 64 px .* without a pattern"):
        probe_receptive_field(model, 1)


def test_own_forward() -> None:
    model = nn.ModuleDict({"body": nn.Conv2d(3, 4, 3, padding=1), "head": nn.Flatten()})
    field = probe_receptive_field(model, 3, lambda module, x: module.get_submodule("body")(x))
    assert field == ProbedField(ByAxis(window(3), window(3)))


def test_global_layers_are_refused() -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * x.mean(dim=(2, 3), keepdim=True)

    with pytest.raises(ValueError, match=r"smaller than 4096 px .* see the whole input"):
        probe_receptive_field(Attention(), 1)


def test_model_is_left_as_it_was_found() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    enabled = torch.backends.mkldnn.is_available() and torch._C._get_mkldnn_enabled()
    assert probe_receptive_field(model, 1).width == window(3, padding=0)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert torch._C._get_mkldnn_enabled() == enabled
