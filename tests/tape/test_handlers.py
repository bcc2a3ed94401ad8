"""What single operations do to the squared gradient, against gradients of the operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import measured_sigma
from torch import Tensor, nn

from rfsearch.trace.trace import expected_erf, trace_receptive_field

SIDE = 32


class Run(nn.Module):
    """A function as a module; it has a convolution, so that its channels are known."""

    def __init__(self, function: Callable[[Tensor], Tensor], channels: int = 1) -> None:
        super().__init__()
        self.function = function
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def blocks(x: Tensor) -> Tensor:
    """Space to depth by reshapes, whose pixels a mean over the channels takes together."""
    batch, channels, height, width = x.shape
    x = x.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 1, 3, 5, 2, 4)
    return x.reshape(batch, channels * 4, height // 2, width // 2)


#: Operations without weights: what they do is exact.
LINEAR: dict[str, Callable[[Tensor], Tensor]] = {
    "average": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "oblong average": lambda x: F.avg_pool2d(x, (1, 5), 1, (0, 2)),
    "adaptive": lambda x: F.adaptive_avg_pool2d(x, 16),
    "adaptive to no divisor": lambda x: F.adaptive_avg_pool2d(x, 20),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "bilinear to a size": lambda x: F.interpolate(x, size=(48, 40), mode="bilinear"),
    "bilinear, smaller": lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear"),
    "bicubic": lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"),
    "antialiased": lambda x: F.interpolate(x, size=16, mode="bilinear", antialias=True),
    "antialiased bicubic": lambda x: F.interpolate(x, size=16, mode="bicubic", antialias=True),
    "padding": lambda x: F.avg_pool2d(F.pad(x, (1, 2, 0, 3)), 2),
    "reflection": lambda x: F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 2),
    "slices": lambda x: F.avg_pool2d(x[:, :, 1:, 2::2], 3, 1),
    "focus": lambda x: torch.cat([x[..., ::2, ::2], x[..., 1::2, 1::2]], 1),
    "unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "shuffle": lambda x: F.pixel_shuffle(F.avg_pool2d(x, 3, 1, 1).repeat(1, 4, 1, 1), 2),
    "blocks": blocks,
    "channels last": lambda x: F.avg_pool2d(x.permute(0, 2, 3, 1).permute(0, 3, 1, 2), 3, 1),
    "turned": lambda x: F.avg_pool2d(x.mT, (1, 3), (1, 2)).mT,
    "numbers": lambda x: 1 - 3 * F.avg_pool2d(x, 3, 1, 1) / 4,
}


def squared_gradient(module: nn.Module, channels: int, unit: tuple[int, int]) -> Any:
    image = torch.zeros(1, channels, SIDE, SIDE, requires_grad=True)
    total = torch.zeros(SIDE, SIDE)
    for value in module(image)[0, :, unit[0], unit[1]]:
        (gradient,) = torch.autograd.grad(value, image, retain_graph=True)
        total += gradient[0].square().sum(0)
    return total.numpy()


@pytest.mark.parametrize("name", LINEAR)
def test_operations_without_weights(name: str) -> None:
    module = Run(LINEAR[name])
    traced = trace_receptive_field(module, SIDE, in_chans=1)
    output = traced.output
    erf = traced.expected_erf()
    # The unit in the middle that sees what unit 0 does; channels that hold pixels see as one.
    unit = tuple(
        side // 2 // period * period
        for side, period in zip(output.shape[2:], output.periods, strict=True)
    )
    exact = squared_gradient(module, 1, unit)
    height, width = output.interval(unit)
    exact = exact[height.start : height.stop, width.start : width.stop]
    np.testing.assert_allclose(erf.profile.power, exact / exact.sum(), atol=1e-6)


class Block(nn.Module):
    """A residual block between two convolutions."""

    def __init__(self, make: Callable[[int], nn.Module], act: nn.Module, pre: bool) -> None:
        super().__init__()
        width = 64
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.norms = nn.ModuleList(make(width) for _ in range(3))
        self.first, self.second, self.last = (
            nn.Conv2d(width, width, 5, padding=2, bias=False) for _ in range(3)
        )
        self.act, self.pre = act, pre

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if not self.pre:
            x = self.act(self.norms[0](x))
        y = self.act(self.norms[1](x)) if self.pre else x
        y = self.act(self.norms[2](self.first(y)))
        return self.last(x + self.second(y))


@pytest.mark.parametrize(
    ("make", "act", "pre"),
    [
        (nn.BatchNorm2d, nn.ReLU(), False),
        (nn.BatchNorm2d, nn.LeakyReLU(0.2), False),
        (nn.BatchNorm2d, nn.Hardswish(), True),
        (nn.BatchNorm2d, nn.PReLU(), True),
        (lambda width: nn.GroupNorm(8, width), nn.ELU(), True),
        (lambda width: nn.GroupNorm(32, width), nn.ReLU(), False),
        (nn.InstanceNorm2d, nn.ReLU6(), False),
        (lambda width: nn.Identity(), nn.Tanh(), False),
    ],
    ids=["relu", "leaky", "hard swish", "prelu", "groups", "pairs", "instances", "no norm"],
)
def test_blocks_of_other_parts(make: Any, act: nn.Module, pre: bool) -> None:
    def build() -> nn.Module:
        module = Block(make, act, pre)
        for each in module.modules():
            if isinstance(each, nn.Conv2d):
                nn.init.normal_(each.weight, std=each.weight[0].numel() ** -0.5)
        return module

    measured = measured_sigma(build, 24, num_images=16, num_initialisations=3, local=True)
    assert expected_erf(build(), 24).sigma == pytest.approx(measured, rel=0.03)


def test_channels_may_come_last() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 3), nn.Linear(8, 16)

        def forward(self, x: Tensor) -> Tensor:
            value, gate = self.second(self.first(x).permute(0, 2, 3, 1)).chunk(2, dim=-1)
            return value * torch.sigmoid(gate)

    assert expected_erf(Last(), 32).size == 3


def test_transposed_convolution() -> None:
    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 64, 3, stride=2, padding=1),
            nn.ConvTranspose2d(64, 64, 4, stride=2, padding=1),
            nn.Conv2d(64, 64, (1, 7), padding=(0, 3)),
        )

    measured = measured_sigma(build, 32, num_images=16, num_initialisations=3)
    assert expected_erf(build(), 32).sigma == pytest.approx(measured, rel=0.03)


def test_weights_of_the_module() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.small = nn.Conv2d(4, 32, 1, bias=False)
            self.large = nn.Conv2d(4, 32, 7, padding=3, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.small(x) + self.large(x)

    module = Two()
    with torch.no_grad():
        module.small.weight.fill_(1.0)
        module.large.weight.fill_(0.5)
    # Of 4 channels: 4 x 1 px and 4 x 49 px / 4, of which each px of the 7x7 has 1/49.
    variance = 4 * 49 * 0.25 / (4 + 4 * 49 * 0.25)
    erf = expected_erf(module, 32, initialisation="module")
    assert erf.sigma == pytest.approx((variance * 4) ** 0.5, rel=1e-9)
    assert expected_erf(module, 32).sigma == pytest.approx(2**0.5, rel=1e-9)
    assert torch.equal(module.small.weight, torch.ones_like(module.small.weight))


def refusal(function: Callable[[Tensor], Tensor], **options: Any) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the caller looks at the message
        expected_erf(Run(function), SIDE, in_chans=4, **options)
    return str(error.value)


def test_operations_without_a_rule_are_named() -> None:
    message = refusal(lambda x: F.avg_pool2d(x.cumsum(1), 3))
    assert "operation `cumsum`" in message
    assert 'unknown="pointwise"' in message
    erf = expected_erf(
        Run(lambda x: F.avg_pool2d(x.cumsum(1), 3)), SIDE, in_chans=4, unknown="pointwise"
    )
    assert erf.size == 3
    module = nn.Sequential(nn.Conv2d(4, 4, 3), Run(lambda x: x.sort(dim=1).values))
    with pytest.raises(ValueError, match=r"`sort` \(layer `1`\)"):
        expected_erf(module, SIDE)
    # Layers in front of it have an answer all the same.
    assert expected_erf(module, SIDE, layer="0").size == 3


def test_sums_of_what_is_not_independent_have_no_rule() -> None:
    for join in (
        lambda x: F.avg_pool2d(x, 3, 1, 1) - x,
        lambda x: x * torch.sigmoid(x),
        lambda x: x + F.relu(x),
    ):
        assert "the same units without weights in between" in refusal(join)


def test_a_view_that_was_written_to_has_no_rule() -> None:
    def write(x: Tensor) -> Tensor:
        x = x * 2
        x[:, :1].relu_()
        return x

    assert "one of its outputs has no rule" in refusal(write)


def test_values_and_places_of_options() -> None:
    module = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU())
    for options, word in (
        ({"initialisation": "weights"}, "fan_in, module"),
        ({"layer": "9"}, "'9'"),
        ({"level": "P3"}, "'P3'"),
        ({"level": "output", "layer": "0"}, "Only one"),
    ):
        with pytest.raises(ValueError, match=word):
            expected_erf(module, SIDE, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must run at an input of 2x2 px"):
        expected_erf(module, 2)
    with pytest.raises(ValueError, match="depend on its input"):
        expected_erf(Run(lambda x: torch.ones(3)), SIDE, in_chans=4)


def test_batch_normalisation_of_joined_tensors_is_that_of_each() -> None:
    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.large = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            self.small = nn.Conv2d(3, 64, 9, padding=4, bias=False)
            self.norm = nn.BatchNorm2d(128)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(torch.cat([4 * self.large(x), self.small(x)], 1))

    # Both halves have a gain of one over their variance: half of the gradient is the 9x9's.
    expected = ((8 / 12 + 80 / 12) / 2) ** 0.5
    assert expected_erf(Dense(), 32).sigma == pytest.approx(expected, rel=1e-9)
    measured = measured_sigma(Dense, 48, num_images=16, num_initialisations=3)
    assert measured == pytest.approx(expected, rel=0.05)
