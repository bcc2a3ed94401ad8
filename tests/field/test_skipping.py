"""Units that nothing reads: the closed form, the trace, and autograd."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from strategies import architectures
from torch import nn

from rfsearch.field.expression import Convolution, Sum
from rfsearch.field.skipping import skipped_units
from rfsearch.network.architecture import Architecture
from rfsearch.network.model import build_model
from rfsearch.trace.trace import trace_receptive_field

WINDOWS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


def skipped_by_gradient(module: nn.Module, image: torch.Tensor) -> float:
    """Largest share of rows, or of columns, of a window's input that no window has a gradient to.

    What is read by sums alone is not seen: only strided windows skip, and those are modules.
    """
    seen: dict[int, list[torch.Tensor]] = {}
    kept = []

    def hook(window: nn.Module, given: tuple[torch.Tensor], out: torch.Tensor) -> None:
        x = given[0].detach().requires_grad_()
        (gradient,) = torch.autograd.grad(type(window).forward(window, x).abs().sum(), x)
        kept.append(given[0])
        mask = gradient.abs().amax(dim=(0, 1)) > 0
        seen.setdefault(id(given[0]), []).append(mask)

    handles = [
        one.register_forward_hook(hook) for one in module.modules() if isinstance(one, WINDOWS)
    ]
    module(image)
    for handle in handles:
        handle.remove()
    shares = [0.0]
    for masks in seen.values():
        read = torch.stack(masks).any(dim=0)
        if min(read.shape) >= 16:  # Behind that the border tells too much.
            shares += [1 - read.any(dim=dim)[4:-4].double().mean().item() for dim in (0, 1)]
    return max(shares)


@given(architectures())
def test_trace_and_closed_form_agree(arch: Architecture) -> None:
    with torch.device("meta"):
        model = build_model(arch, num_classes=0)
    traced = trace_receptive_field(model, 256, forward=lambda one, x: one.forward_features(x))
    assert traced.skipped_units() == pytest.approx(arch.skipped_units())


def conv(size: int, stride: int, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(2, 2, size, stride, dilation * (size // 2), dilation)


class Summed(nn.Module):
    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sum(branch(x) for branch in self.branches)


@pytest.mark.parametrize(
    ("layers", "share"),
    [
        ((conv(3, 2), conv(3, 2)), 0.0),
        ((conv(3, 1), conv(1, 2)), 0.5),
        ((conv(1, 3), conv(5, 1)), 2 / 3),
        ((conv(3, 2, dilation=2), conv(5, 2)), 0.5),  # All taps lie on even units.
        ((conv(3, 3, dilation=2),), 0.0),
        ((conv(3, 4),), 0.25),
        ((conv(7, 2), Summed(conv(1, 2), conv(3, 2))), 0.0),
        ((conv(7, 2), Summed(conv(1, 2), nn.Sequential(conv(1, 2), conv(3, 1)))), 0.5),
        ((Summed(conv(1, 2), nn.AvgPool2d(2, 2)), conv(1, 1)), 0.0),
        ((nn.AvgPool2d(2, 4), conv(3, 1)), 0.5),
        ((nn.Conv2d(2, 2, (1, 3), 2, (0, 1)), conv(3, 1)), 0.5),
    ],
)
def test_known_networks(layers: tuple[nn.Module, ...], share: float) -> None:
    network = nn.Sequential(*layers)
    traced = trace_receptive_field(network, 192, in_chans=2)
    assert traced.skipped_units() == pytest.approx(share)
    assert skipped_by_gradient(network, torch.rand(1, 2, 192, 192)) == pytest.approx(
        share, abs=0.05
    )


def test_branches_that_are_padded_apart_read_different_units() -> None:
    shifted = (Convolution(1, 2, 2, stride=3, padding=number) for number in (0, 1))
    assert skipped_units(Sum(tuple(shifted))) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("resnet18", 0.0),
        ("resnet50", 0.0),  # Its stride is in the 3x3 convolution, where both are read.
        ("convnext_atto", 0.0),
    ],
)
def test_networks_of_timm(name: str, share: float) -> None:
    traced = trace_receptive_field(name, 224)
    assert traced.skipped_units() == pytest.approx(share)
