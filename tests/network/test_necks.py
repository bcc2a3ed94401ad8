"""Necks: the readings of their expressions against the networks that are built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import architecture, resnet, stage_dict
from hypothesis import assume, given, settings
from oracle import WithoutGlobalStatistics, check_axis
from strategies import necked
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from rfsearch.field.node_fields import unit_grid
from rfsearch.measure.erf import measure_erf
from rfsearch.network.architecture import Architecture
from rfsearch.network.model import SearchedNetwork, build_model
from rfsearch.trace.trace import trace_receptive_field

STAGES = (
    stage_dict("basic", 24, 1, (3,)),
    stage_dict("basic", 32, 2, (3,)),
    stage_dict("plain", 40, 2, (3,), downsample="max_pool"),
    stage_dict("basic", 48, 2, (3, 3)),
)
NECKS: dict[str, dict[str, Any]] = {
    "aspp": {"kind": "aspp", "rates": [2, 3], "width": 32},
    "unet": {"kind": "unet", "widths": [48, 32, 24, 16]},
    "fpn": {"kind": "fpn", "width": 32, "num_levels": 4},
    "merge": {"kind": "merge", "width": 32},
}
MULTIPLE = 16


def with_neck(kind: str, **others: Any) -> Architecture:
    return architecture(*STAGES, stride=2, width=16, neck=NECKS[kind] | others)


def maps_of(model: SearchedNetwork, images: Tensor) -> dict[str, Tensor]:
    maps = model.forward_features(images)
    return maps if isinstance(maps, dict) else {model.architecture.levels[-1]: maps}


# -- data ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "levels", "num_features"),
    [
        ("aspp", ("C5",), 32),
        ("unet", ("D1",), 16),
        ("fpn", ("P2", "P3", "P4", "P5"), 32),
        ("merge", ("M2",), 32),
    ],
)
def test_levels(kind: str, levels: tuple[str, ...], num_features: int) -> None:
    arch = with_neck(kind)
    assert arch.levels == tuple(arch.receptive_fields()) == levels
    assert arch.num_features == num_features
    assert arch.receptive_field() == arch.receptive_fields()[levels[-1]]
    with pytest.raises(ValueError, match=f"must be one of {', '.join(levels)}, but got 'X1'"):
        arch.expected_erf("X1")


def test_strides_of_the_levels() -> None:
    fields = with_neck("fpn").receptive_fields()
    assert [field.stride for field in fields.values()] == [2, 4, 8, 16]
    assert with_neck("unet").receptive_field().stride == 2
    assert with_neck("unet", widths=[8]).receptive_field("D4").stride == 8
    assert with_neck("fpn", num_levels=2).levels == ("P4", "P5")


@given(necked())
def test_json_round_trip(arch: Architecture) -> None:
    assert Architecture.from_dict(arch.to_dict()) == arch
    assert arch.neck is not None
    bare = arch.model_copy(update={"neck": None})
    assert bare.fingerprint != arch.fingerprint


@pytest.mark.parametrize(
    ("neck", "message"),
    [
        (
            {"kind": "unet", "widths": [8] * 5},
            "This 'unet' neck needs 5 stages or more, but got 4.",
        ),
        (
            {"kind": "fpn", "width": 8, "num_levels": 5},
            "This 'fpn' neck needs 5 stages or more, but got 4",
        ),
        ({"kind": "fpn", "width": 8, "num_levels": 1}, "neck, fpn, num_levels: .* but got 1."),
        ({"kind": "aspp", "width": 8}, "neck, aspp, rates: missing key; .* kind, rates, width"),
        ({"kind": "fpm", "width": 8}, "neck: .*'fpm' .*expected tags: 'aspp', 'unet', 'fpn'"),
    ],
)
def test_impossible_necks(neck: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        architecture(*STAGES, neck=neck)


def test_parts_must_divide_sizes_where_a_neck_upsamples() -> None:
    stages = (STAGES[0], stage_dict("plain", 8, 4))
    assert architecture(*stages, neck=NECKS["aspp"]).levels == ("C3",)
    assert architecture(
        STAGES[0], stage_dict("plain", 8, 4, downsample="avg_pool"), neck=NECKS["merge"]
    ).levels == ("M2",)
    with pytest.raises(ValueError, match=r"got stride 4 in stage 2, .* use 1, 2 or a pooling"):
        architecture(*stages, neck=NECKS["merge"])
    with pytest.raises(ValueError, match=r"got stride 3 in the stem, .* use 1, 2 or a pooling"):
        architecture(*STAGES, stride=3, neck=NECKS["merge"])


# -- the networks ----------------------------------------------------------------------------


@given(necked(max_field=150, max_stride=16))
def test_network_has_the_costs_and_maps(arch: Architecture) -> None:
    side = -(-64 // arch.input_multiple) * arch.input_multiple
    model = build_model(arch, in_chans=2, num_classes=3).eval()
    images = torch.randn(1, 2, side, 2 * side)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        scores = model(images)
    needs = arch.cost((side, 2 * side), in_chans=2, num_classes=3)
    assert counter.get_total_flops() == needs.flops
    assert sum(p.numel() for p in model.parameters()) == needs.parameters
    assert scores.shape == (1, 3)
    maps = maps_of(model, images)
    assert tuple(maps) == arch.levels
    assert list(maps.values())[-1].shape == (1, arch.num_features, *needs.output)
    if arch.input_multiple > 1:
        for level, field in arch.receptive_fields().items():
            expected = (1, arch.num_features, side // field.stride, 2 * side // field.stride)
            assert maps[level].shape == expected


@given(necked(max_field=150, max_stride=16))
def test_fields_are_the_traced_ones(arch: Architecture) -> None:
    side = -(-64 // arch.input_multiple) * arch.input_multiple
    model = build_model(arch, in_chans=1, num_classes=0)
    traced = trace_receptive_field(model, side, forward=lambda net, x: net.forward_features(x))
    for field, output in zip(
        arch.receptive_fields().values(), traced.outputs.values(), strict=True
    ):
        assert output.height == output.width == field


@given(necked(max_field=100, max_stride=8))
@settings(max_examples=8)
def test_all_units_agree_with_the_nan_oracle(arch: Architecture) -> None:
    check_fields(arch)


@pytest.mark.slow
@given(necked(max_field=300, max_stride=16))
@settings(max_examples=150)
def test_all_units_of_more_networks_agree_with_the_nan_oracle(arch: Architecture) -> None:
    check_fields(arch)


def check_fields(arch: Architecture) -> None:
    if arch.neck is not None and arch.neck.kind == "merge":
        # A bilinear upsampling by 3 multiplies the neighbours of every third unit by 0: still NaN.
        assume(all(stage.stride != 3 for stage in arch.stages))
    model = build_model(arch, in_chans=1, num_classes=0).eval()
    strip = -(-32 // arch.input_multiple) * arch.input_multiple

    def level_map(level: str) -> Callable[[Tensor], Tensor]:
        return lambda images: maps_of(model, images)[level]

    with torch.backends.mkldnn.flags(enabled=False), WithoutGlobalStatistics():
        for level, node in arch.expressions().items():
            verdict = check_axis(
                level_map(level),
                1,
                unit_grid(node).interval,
                arch.receptive_field(level),
                strip=strip,
                multiple=strip,
            )
            assert verdict.checked > 0
            assert verdict.wrong == []


@pytest.mark.parametrize("kind", ["unet", "fpn", "merge"])
def test_images_that_do_not_fit(kind: str) -> None:
    arch = with_neck(kind)
    message = "must be a multiple of 16 px high and wide, .* but got 64x40 px"
    with pytest.raises(ValueError, match=message):
        arch.cost((64, 40))
    with pytest.raises(ValueError, match=message):
        build_model(arch)(torch.zeros(1, 3, 64, 40))


def test_aspp_takes_any_image() -> None:
    arch = with_neck("aspp")
    assert arch.input_multiple == 1
    scores = build_model(arch, num_classes=2).eval()(torch.zeros(1, 3, 61, 47))
    assert scores.shape == (1, 2)


def test_head_looks_at_the_coarsest_level() -> None:
    model = build_model(with_neck("fpn"), num_classes=2).eval()
    maps = maps_of(model, torch.randn(2, 3, 64, 64))
    others = {level: torch.zeros_like(each) for level, each in maps.items()} | {"P5": maps["P5"]}
    assert torch.equal(model.forward_head(maps), model.forward_head(others))
    assert torch.equal(model.forward_head(maps), model.forward_head(maps["P5"]))


def test_convolutions_without_normalisation_keep_the_power() -> None:
    torch.manual_seed(0)
    model = build_model(with_neck("fpn"), num_classes=0)
    assert model.neck is not None
    convolutions = [m for m in model.neck.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 8
    for convolution in convolutions:
        power = convolution.weight.detach().square().sum() / convolution.out_channels
        assert float(power) == pytest.approx(1, abs=0.15)
        assert convolution.bias is not None
        assert not convolution.bias.any()


# -- expected against measured ERF -----------------------------------------------------------


def check_erf(arch: Architecture, side: int, level: str, initialisations: int = 2) -> None:
    """Squares of 50 and 95 % within 5 %, or a unit of the pooling's 2 px, of the mean."""
    squares = []
    for seed in range(initialisations):
        torch.manual_seed(seed)
        model = build_model(arch, in_chans=3, num_classes=0)
        chosen = level if len(arch.levels) > 1 else None
        measured = measure_erf(
            model, side, num_images=8, relative_error=None, level=chosen, seed=seed
        )
        squares.append((measured.square(0.5), measured.size))
    middle, size = (sum(values) / initialisations for values in zip(*squares, strict=True))
    expected = arch.expected_erf(level)
    assert middle == pytest.approx(expected.profile.square(0.5), rel=0.05, abs=2)
    assert size == pytest.approx(expected.size, rel=0.05, abs=2)


def small(kind: str) -> Architecture:
    stages = [stage_dict("basic", 32, stride, (3,)) for stride in (1, 2, 2)]
    return architecture(*stages, width=32, neck=NECKS[kind] | SMALL[kind])


SMALL: dict[str, dict[str, Any]] = {
    "aspp": {"rates": [1, 2]},
    "unet": {"widths": [32, 32]},
    "fpn": {"num_levels": 3},
    "merge": {},
}


@pytest.mark.parametrize(
    ("kind", "level"), [("aspp", "C4"), ("unet", "D2"), ("fpn", "P2"), ("merge", "M2")]
)
def test_expected_erf_is_the_measured_one(kind: str, level: str) -> None:
    check_erf(small(kind), 96, level)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unet", "fpn", "merge"])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_expected_erf_of_every_level_of_larger_networks(kind: str, block: str) -> None:
    values = resnet(block, (1, 2, 2, 1), width=64).to_dict()
    values["neck"] = NECKS[kind] | ({"widths": [64, 64, 64, 64]} if kind == "unet" else {})
    arch = Architecture.from_dict(values)
    for level in arch.levels:
        check_erf(arch, 512, level, initialisations=3)
