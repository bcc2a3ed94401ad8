from __future__ import annotations

import math
from itertools import islice

import numpy as np
import pytest
import timm
import torch
from helpers import architecture, measured_sigma, resnet, stage_dict
from hypothesis import assume, given, settings
from strategies import architectures
from torch import nn

from rfsearch.field.expected_erf import LARGEST_EXACT_SIZE, ExpectedERF, sigmas_per_size
from rfsearch.field.expression import (
    BatchNorm,
    Chain,
    Concat,
    Convolution,
    Node,
    Pooling,
    Relu,
    Resize,
    Sum,
)
from rfsearch.network.architecture import Architecture
from rfsearch.network.model import build_model
from rfsearch.space.space import SearchSpace


def convolutions(*layers: tuple[int, int, int]) -> ExpectedERF:
    """Of a stack of convolutions `(kernel_size, stride, dilation)` with rectifiers between."""
    nodes: list[Node] = []
    for kernel_size, stride, dilation in layers:
        nodes += [Convolution(kernel_size, 4, 4, stride, dilation), BatchNorm(4), Relu()]
    return ExpectedERF(Chain(tuple(nodes)))


def by_formula(*layers: tuple[int, int, int]) -> float:
    """Sigma of centred windows: the root of the sum of d^2 jump^2 (k^2 - 1) / 12."""
    variance, jump = 0.0, 1
    for kernel_size, stride, dilation in layers:
        variance += dilation**2 * jump**2 * (kernel_size**2 - 1) / 12
        jump *= stride
    return math.sqrt(variance)


# -- known values ----------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 5, 20])
def test_stack_of_3x3(depth: int) -> None:
    erf = convolutions(*[(3, 1, 1)] * depth)
    assert erf.sigma == pytest.approx(math.sqrt(2 * depth / 3), rel=1e-12)
    assert erf.theoretical_size == 1 + 2 * depth


@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7, 11])
def test_one_convolution_is_a_uniform_square(kernel_size: int) -> None:
    erf = convolutions((kernel_size, 1, 1))
    assert erf.sigma == pytest.approx(math.sqrt((kernel_size**2 - 1) / 12), rel=1e-12, abs=1e-12)
    assert erf.map.shape == (kernel_size, kernel_size)
    np.testing.assert_allclose(erf.map, 1 / kernel_size**2, rtol=1e-12)
    np.testing.assert_allclose(erf.profile.power, 1 / kernel_size**2, rtol=1e-12)
    assert erf.size == kernel_size
    assert erf.ratio == 1.0


def test_dilated_convolution_is_uniform_over_its_taps() -> None:
    erf = convolutions((3, 1, 4))
    expected = np.zeros((9, 9))
    expected[::4, ::4] = 1 / 9
    np.testing.assert_allclose(erf.profile.power, expected, rtol=1e-12)
    assert erf.sigma == pytest.approx(4 * math.sqrt(2 / 3), rel=1e-12)


def test_two_convolutions_by_hand() -> None:
    power = convolutions((3, 1, 1), (3, 1, 1)).profile.power
    taps = np.array([1, 2, 3, 2, 1]) / 9
    np.testing.assert_allclose(power, np.outer(taps, taps), rtol=1e-12)
    magnitude = np.sqrt(np.outer(taps, taps))
    np.testing.assert_allclose(
        convolutions((3, 1, 1), (3, 1, 1)).map, magnitude / magnitude.sum(), rtol=1e-12
    )


@pytest.mark.parametrize(
    "layers",
    [
        [(3, 2, 1), (3, 2, 1), (3, 1, 1)],
        [(7, 2, 1), (3, 1, 2), (5, 2, 1), (3, 1, 4)],
        [(3, 3, 1), (5, 3, 1), (3, 1, 1)],
        [(1, 1, 1), (11, 1, 1), (3, 1, 8)],
    ],
    ids=["strided", "mixed", "stride 3", "large kernel"],
)
def test_variances_add_up(layers: list[tuple[int, int, int]]) -> None:
    erf = convolutions(*layers)
    assert erf.sigma == pytest.approx(by_formula(*layers), rel=1e-12)
    assert erf.profile.sigma == pytest.approx(by_formula(*layers), rel=1e-9)


@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pooling_is_a_window(kind: str) -> None:
    pool, conv = Pooling(kind, 2, 2), Convolution(3, 4, 4)
    erf = ExpectedERF(Chain((pool, conv, pool, conv)))
    variance = 3 / 12 * (1 + 4**1) + 8 / 12 * (4**1 + 4**2)
    assert erf.sigma == pytest.approx(math.sqrt(variance), rel=1e-12)
    assert erf.theoretical_size == 2 + 4 + 2 + 8


def test_identity_shortcut_adds_a_peak() -> None:
    branch = Chain((Convolution(3, 4, 4), BatchNorm(4)))
    erf = ExpectedERF(Chain((Convolution(1, 4, 4), BatchNorm(4), Sum((Chain(()), branch)))))
    # Both gains are one here: the shortcut, and a branch that normalises a unit variance.
    expected = np.full((3, 3), 1 / 18)
    expected[1, 1] += 1 / 2
    np.testing.assert_allclose(erf.profile.power, expected, rtol=1e-12)
    assert erf.sigma == pytest.approx(math.sqrt(2 / 3 / 2), rel=1e-12)


def test_later_residual_branches_weigh_less() -> None:
    # Between two batch normalisations without rectifiers the variance grows by one per block, and
    # the branch of block n normalises by n: its share is (1 / n) / (1 + 1 / n).
    block = Sum((Chain(()), Chain((Convolution(3, 4, 4), BatchNorm(4)))))
    nodes: list[Node] = [Convolution(1, 4, 4), BatchNorm(4), *[block] * 4]
    variance = sum(2 / 3 / (n + 1) for n in (1, 2, 3, 4))
    sigma = ExpectedERF(Chain(tuple(nodes))).sigma
    assert sigma == pytest.approx(math.sqrt(variance), rel=1e-12)


def test_plain_stack_without_batch_normalisation_is_the_same() -> None:
    bare = Chain((Convolution(3, 3, 8), Relu(), Convolution(5, 8, 8, stride=2), Relu()))
    assert ExpectedERF(bare).sigma == pytest.approx(by_formula((3, 1, 1), (5, 2, 1)), rel=1e-12)


@pytest.mark.parametrize(
    ("block", "depths", "sigma"),
    [
        # Measured on timm's networks by the prototype of the method, to 4 %.
        ("basic", (2, 2, 2, 2), 43.9),
        ("basic", (3, 4, 6, 3), 57.5),
        ("bottleneck", (3, 4, 6, 3), 41.6),
    ],
    ids=["resnet18", "resnet34", "resnet50"],
)
def test_resnets(block: str, depths: tuple[int, ...], sigma: float) -> None:
    assert resnet(block, depths).expected_erf().sigma == pytest.approx(sigma, rel=0.04)


# -- laws ------------------------------------------------------------------------------------


@given(architectures(max_field=400))
@settings(max_examples=60)
def test_sigma_is_that_of_the_map(arch: Architecture) -> None:
    erf = arch.expected_erf()
    assert erf.sigma == pytest.approx(erf.profile.sigma, rel=1e-6, abs=1e-6)


@given(architectures(max_field=400))
@settings(max_examples=60)
def test_map_fills_the_theoretical_field(arch: Architecture) -> None:
    erf, size = arch.expected_erf(), arch.receptive_field().size
    assert erf.map.shape == erf.profile.power.shape == (size, size)
    assert erf.map.sum() == pytest.approx(1)
    assert erf.profile.power.sum() == pytest.approx(1)
    np.testing.assert_allclose(erf.map, erf.map.T)
    assert erf.map.min() >= 0
    # The first and the last row hold something: the theoretical field is tight.
    assert erf.map[0].sum() > 0
    assert erf.map[-1].sum() > 0
    assert 1 <= erf.size <= erf.theoretical_size == size
    assert erf.ratio == erf.size / size


@given(architectures(kinds=("plain",), stem_kinds=("conv",)))
def test_plain_stacks_follow_the_formula(arch: Architecture) -> None:
    assume(arch.stem.pool != "blur")
    assume(all(stage.downsample != "blur_pool" for stage in arch.stages))
    layers = [(arch.stem.kernel_size, arch.stem.stride, 1)]
    if arch.stem.pool != "none":
        layers.append((3, 2, 1))
    for stage in arch.stages:
        pools = stage.downsample != "conv"
        if pools:
            layers.append((stage.stride, stage.stride, 1))
        for i, block in enumerate(stage.blocks):
            stride = stage.stride if i == 0 and not pools else 1
            layers.append((block.kernel_size, stride, block.dilation))
    assert arch.expected_erf().sigma == pytest.approx(by_formula(*layers), rel=1e-9, abs=1e-9)


@given(architectures())
def test_one_more_block_never_makes_sigma_smaller(arch: Architecture) -> None:
    longer = arch.to_dict()
    blocks = longer["stages"][-1]["blocks"]
    blocks.append(blocks[-1])
    sigma = arch.expected_erf().sigma
    assert Architecture.from_dict(longer).expected_erf().sigma >= sigma * (1 - 1e-12)


def test_channels_do_not_matter() -> None:
    narrow, wide = resnet("bottleneck", (1, 2, 2), width=8), resnet("bottleneck", (1, 2, 2))
    assert narrow.expected_erf().sigma == wide.expected_erf().sigma
    assert narrow.expected_erf().size == wide.expected_erf().size


# -- the size of large fields ----------------------------------------------------------------


@pytest.mark.parametrize(
    "arch",
    [
        resnet("basic", (2, 2, 2, 2)),
        resnet("basic", (3, 4, 6, 3)),
        resnet("bottleneck", (3, 4, 23, 3)),
    ],
    ids=["resnet18", "resnet34", "resnet101"],
)
def test_normal_profile_approximates_the_size(arch: Architecture) -> None:
    erf = arch.expected_erf()
    assert erf.theoretical_size <= LARGEST_EXACT_SIZE
    assert round(sigmas_per_size(2) * erf.sigma) == pytest.approx(erf.size, rel=0.1)


def test_deep_plain_stack_is_normal() -> None:
    erf = convolutions(*[(3, 1, 1)] * 100)
    assert sigmas_per_size(2) * erf.sigma == pytest.approx(erf.size, rel=0.03)


def test_size_beyond_the_largest_map() -> None:
    arch = resnet("bottleneck", (3, 8, 36, 3))
    erf = arch.expected_erf()
    assert erf.theoretical_size == 1451 > LARGEST_EXACT_SIZE
    assert erf.size == round(sigmas_per_size(2) * erf.sigma)
    assert "profile" not in vars(erf)


def test_sigmas_per_size_is_a_quantile() -> None:
    # Along each axis a share of sqrt(0.95) of the |gradient|, whose variance is twice sigma^2.
    reach = sigmas_per_size(2) / 2 / math.sqrt(2)
    assert math.erf(reach / math.sqrt(2)) == pytest.approx(math.sqrt(0.95), abs=1e-5)


# -- against measurement ---------------------------------------------------------------------

PLAIN = {
    "strided": architecture(
        stage_dict("plain", 32, 2, (3, 3)), stage_dict("plain", 32, 2, (3, 3)), width=32
    ),
    "dilated": architecture(
        stage_dict("plain", 32, 1, (3, 3), dilation=2),
        stage_dict("plain", 32, 2, (3,), dilation=4),
        stage_dict("plain", 32, 1, (3,), dilation=3),
        width=32,
    ),
    "mixed kernels": architecture(
        stage_dict("plain", 32, 2, (5, 3), downsample="avg_pool"),
        stage_dict("plain", 32, 1, (7, 1)),
        kernel_size=5,
        stride=2,
        width=32,
    ),
}
RESIDUAL = {
    "basic": architecture(
        stage_dict("basic", 32, 1, (3, 3)), stage_dict("basic", 64, 2, (3, 3)), width=32
    ),
    "bottleneck": architecture(
        stage_dict("bottleneck", 64, 1, (5, 3, 3)),
        stage_dict("bottleneck", 64, 2, (3, 3), dilation=2),
        width=32,
    ),
}


OTHERS = {
    "blur-pooled": architecture(
        stage_dict("plain", 32, 2, (3, 3), downsample="blur_pool"),
        stage_dict("basic", 32, 2, (3, 3), downsample="blur_pool"),
        width=32,
    ),
    "deep stem": architecture(
        stage_dict("plain", 32), kind="deep", stride=2, width=32, pool="max"
    ),
    "blurred quad stem": architecture(
        stage_dict("basic", 32, 1, (3,)), kind="quad", stride=2, width=64, pool="blur"
    ),
    "convnext": architecture(
        stage_dict("convnext", 64, 1, (7, 7)),
        stage_dict("convnext", 64, 2, (5,)),
        kind="patch",
        kernel_size=4,
        stride=4,
        width=64,
    ),
    "convnext behind a rectifier": architecture(stage_dict("convnext", 64, 1, (5, 5)), width=64),
    "mbconv": architecture(stage_dict("mbconv", 32, 1, (3, 3), context="se"), width=32),
    "basic with se": architecture(stage_dict("basic", 64, 2, (3, 3), context="se"), width=64),
    "basic with gc": architecture(stage_dict("basic", 64, 2, (3, 3), context="gc"), width=64),
    "inception": architecture(stage_dict("inception", 64, 2, (3, 5)), width=32),
    "attention in front": architecture(
        stage_dict("attention", 64, 1, (1,)), stage_dict("basic", 64, 1, (3, 3)), width=64
    ),
}


#: Much like one of the others.
SLOW = {"basic with gc", "inception", "blurred quad stem"}


def measured(arch: Architecture, num_images: int = 16, num_initialisations: int = 3) -> float:
    """Sigma of the local field, with an input that holds all of it, in px."""
    field = arch.receptive_field()
    # The closed form takes what is pooled over the whole map as that of a large one.
    size = field.size + (20 if arch.global_layers else 2) * field.stride
    size += -size % arch.input_multiple
    return measured_sigma(
        lambda: build_model(arch, num_classes=0),
        size,
        num_images,
        num_initialisations,
        local=True,
    )


@pytest.mark.parametrize("arch", PLAIN.values(), ids=PLAIN)
def test_measured_sigma_of_plain_stacks(arch: Architecture) -> None:
    assert arch.expected_erf().sigma == pytest.approx(measured(arch), rel=0.02)


@pytest.mark.parametrize("arch", RESIDUAL.values(), ids=RESIDUAL)
def test_measured_sigma_of_residual_networks(arch: Architecture) -> None:
    assert arch.expected_erf().sigma == pytest.approx(measured(arch), rel=0.04)


@pytest.mark.parametrize(
    "arch",
    [
        pytest.param(arch, id=name, marks=[pytest.mark.slow] * (name in SLOW))
        for name, arch in OTHERS.items()
    ],
)
def test_measured_sigma_of_other_families(arch: Architecture) -> None:
    # Depthwise convolutions see the mean of one channel each, which is not averaged out as
    # that of many: this makes most of the difference.
    assert arch.expected_erf().sigma == pytest.approx(measured(arch, 8, 8), rel=0.05)


@pytest.mark.parametrize("downsample", ["max_pool", "avg_pool"])
def test_measured_sigma_where_an_identity_shortcut_follows_a_pooling(downsample: str) -> None:
    arch = architecture(stage_dict("basic", 64, 3, (3, 3), downsample=downsample), width=64)
    assert arch.expected_erf().sigma == pytest.approx(measured(arch), rel=0.04)


@pytest.mark.parametrize("downsample", ["max_pool", "avg_pool", "blur_pool"])
def test_measured_sigma_where_a_skip_goes_round_a_pooling(downsample: str) -> None:
    # What goes through a pooling loses less or more than what the skip carries.
    deep = stage_dict("plain", 64, 2, (5, 5), downsample=downsample)
    arch = architecture(
        stage_dict(width=64), deep, width=64, neck={"kind": "unet", "widths": [64]}
    )
    assert arch.expected_erf().sigma == pytest.approx(measured(arch), rel=0.03)


def random_networks(kinds: tuple[str, ...], count: int) -> list[Architecture]:
    """Random wide architectures whose receptive field is neither tiny nor slow to measure.

    The closed form is that of wide networks: at 32 channels chance correlations between units
    make sigma up to 5 % smaller where an identity shortcut follows a pooling.
    """
    stage = {
        "block": list(kinds),
        "depth": [1, 2, 3],
        "width": [64, 128],
        "stride": [1, 2, 3],
        "downsample": ["conv", "max_pool", "avg_pool", "blur_pool"],
        "context": ["none", "se", "gc"],
        "kernel_size": [1, 3, 5, 7],
        "dilation": [1, 2, 3],
        "per_block": ["kernel_size", "dilation"],
    }
    stem = {"kernel_size": [3, 5, 7], "stride": [1, 2], "width": 64, "pool": ["none", "max"]}
    space = SearchSpace(stem=stem, stages=[stage] * 3)
    rng = np.random.default_rng(0)
    drawn = (space.sample(rng) for _ in range(1_000))
    fitting = (arch for arch in drawn if 40 <= arch.receptive_field().size <= 160)
    return list(islice(fitting, count))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(6))
def test_measured_sigma_of_random_plain_stacks(number: int) -> None:
    arch = random_networks(("plain",), 6)[number]
    assert arch.expected_erf().sigma == pytest.approx(measured(arch), rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(12))
def test_measured_sigma_of_random_residual_networks(number: int) -> None:
    arch = random_networks(("basic", "bottleneck"), 12)[number]
    assert arch.expected_erf().sigma == pytest.approx(measured(arch), rel=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["inception", "mbconv", "convnext"])
@pytest.mark.parametrize("number", range(3))
def test_measured_sigma_of_random_networks_of_other_families(kind: str, number: int) -> None:
    arch = random_networks((kind,), 3)[number]
    assert arch.expected_erf().sigma == pytest.approx(measured(arch), rel=0.06)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "block", "depths", "input_size"),
    [
        ("resnet18", "basic", (2, 2, 2, 2), 448),
        ("resnet34", "basic", (3, 4, 6, 3), 960),
        ("resnet50", "bottleneck", (3, 4, 6, 3), 448),
    ],
)
def test_measured_sigma_of_timms_resnets(
    name: str, block: str, depths: tuple[int, ...], input_size: int
) -> None:
    arch = resnet(block, depths)

    def build() -> nn.Module:
        model = timm.create_model(name, zero_init_last=False)
        # A module that knows its field is not probed, which would be slow.
        model.receptive_fields = arch.receptive_fields
        return model

    measured = measured_sigma(build, input_size, num_images=4, num_initialisations=3)
    assert arch.expected_erf().sigma == pytest.approx(measured, rel=0.04)


# -- blurring, upsampling, joining ------------------------------------------------------------


def test_blur_weighs_its_taps_by_their_squares() -> None:
    erf = ExpectedERF(Pooling("blur", 3, 2, padding=1))
    np.testing.assert_allclose(erf.profile.power[1], np.array([4, 16, 4]) / 36, rtol=1e-12)
    assert erf.sigma == pytest.approx(math.sqrt(1 / 3), rel=1e-12)


@pytest.mark.parametrize("kind", ["nearest", "bilinear"])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_upsampled_profile_is_the_mean_squared_gradient(kind: str, factor: int) -> None:
    """Between two random convolutions, against autograd over many initialisations."""
    torch.manual_seed(0)
    mode = {"align_corners": False} if kind == "bilinear" else {}
    number, conv = 2000, torch.nn.functional.conv2d  # Each initialisation has its own channel.
    image = torch.zeros(1, number, 60, 60, requires_grad=True)
    first_weights, last_weights = (torch.randn(number, 1, k, k) for k in (3, 5))
    small = conv(image, first_weights, stride=factor, padding=1, groups=number)
    large = torch.nn.functional.interpolate(small, scale_factor=factor, mode=kind, **mode)
    unit = conv(large, last_weights, padding=2, groups=number)[0, :, 24, 24]
    (gradient,) = torch.autograd.grad(unit.sum(), image)
    power = gradient[0].pow(2).sum(dim=(0, 1)).numpy()
    first, last = np.flatnonzero(power)[[0, -1]]
    stride = Convolution(3, 1, 1, stride=factor)
    erf = ExpectedERF(Chain((stride, Resize(kind, factor), Convolution(5, 1, 1))))
    expected = erf.profile.power.sum(axis=0)
    # 24 is a multiple of all factors: its phase is that of unit 0.
    np.testing.assert_allclose(power[first : last + 1] / power.sum(), expected, atol=0.01)


def test_joined_branches_weigh_by_their_channels() -> None:
    erf = ExpectedERF(Concat((Convolution(1, 4, 4), Convolution(3, 4, 12)), (4, 12)))
    assert erf.profile.power[1, 1] == pytest.approx(1 / 4 + 3 / 4 / 9, rel=1e-12)


def test_anything_but_an_expression_is_refused() -> None:
    for wrong in (nn.ReLU(), "resnet18", None):
        with pytest.raises(ValueError, match=r"rfsearch\.expected_erf\(model\)"):
            ExpectedERF(wrong)  # type: ignore[arg-type]
