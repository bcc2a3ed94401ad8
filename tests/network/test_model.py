from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import architecture, resnet, stage_dict
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import WithoutGlobalStatistics, without_attention
from strategies import architectures
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from rfsearch.basics.axes import ByAxis
from rfsearch.field.receptive_field import ReceptiveField
from rfsearch.measure.erf import output_map
from rfsearch.measure.initialisation import switch_branches_on
from rfsearch.network._builders import BUILDERS
from rfsearch.network.architecture import Architecture
from rfsearch.network.blocks import KINDS
from rfsearch.network.model import SearchedNetwork, build_model
from rfsearch.trace.probe import ProbedField, probe_receptive_field

Forward = Callable[[Tensor], Tensor]
FEW = settings(max_examples=20)
THREE_STAGES = architecture(
    stage_dict("plain", 8, 1, (3, 5)),
    stage_dict("basic", 12, 2, (3,), downsample="max_pool"),
    stage_dict("bottleneck", 16, 3, (3, 1)),
    kernel_size=5,
    stride=2,
    width=4,
    pool="max",
)


def build(arch: Architecture, in_chans: int = 1, num_classes: int = 3) -> SearchedNetwork:
    torch.manual_seed(0)
    return build_model(arch, in_chans=in_chans, num_classes=num_classes).eval()


def odd(pixels: int) -> int:
    return pixels + 1 - pixels % 2


def test_builders_and_lowerings_have_the_same_blocks() -> None:
    assert BUILDERS.keys() == KINDS.keys()


# -- receptive field: what turns NaN ---------------------------------------------------------


@given(architectures(max_field=30, max_stride=8))
@settings(max_examples=5)
def test_probed_field_is_the_closed_form(arch: Architecture) -> None:
    field = arch.receptive_field()
    model = without_attention(build(arch))
    assert probe_receptive_field(model, 1, local_features) == ProbedField(ByAxis(field, field))


def local_features(model: torch.nn.Module, images: Tensor) -> Tensor:
    """The last map, where statistics of the whole map are constants."""
    with WithoutGlobalStatistics():
        return output_map(model, images)


def poisoned_units(forward: Forward, images: Tensor) -> Tensor:
    """Which output units see a NaN, `(images, rows, columns)`."""
    # The Winograd kernels of these would spread a NaN to neighbours that do not see it.
    without_onednn = torch.backends.mkldnn.flags(enabled=False)
    without_nnpack = torch.backends.nnpack.flags(enabled=False)
    with torch.no_grad(), without_onednn, without_nnpack:
        return forward(images).isnan().any(dim=1)


def check_axis(forward: Forward, field: ReceptiveField, clean: Tensor) -> None:
    """Poison all columns before, or from, a border, and compare with the field.

    A unit whose field lies inside the image must turn NaN exactly when the border has passed the
    field's first, or last, pixel; one that sees padding, only if the field reaches the border.
    """
    length = clean.shape[-1]
    units = poisoned_units(forward, clean).shape[-1]
    first = [field.start + unit * field.stride for unit in range(units)]
    last = [start + field.size - 1 for start in first]
    inside = [a >= 0 and b < length for a, b in zip(first, last, strict=True)]
    assert any(inside)
    whole = [unit for unit in range(units) if inside[unit]]
    edges = {edge for unit in (whole[0], whole[-1]) for edge in (first[unit], last[unit])}
    borders = sorted({edge + past for edge in edges for past in (0, 1)})
    columns = torch.arange(length)
    before = torch.stack([columns < border for border in borders])
    seen = poisoned_units(forward, poison(clean, torch.cat([before, ~before])))
    # Of each column of units, those at the top and at the bottom may see nothing but padding.
    seen_before, seen_after = seen.any(dim=1).chunk(2)
    for index, border in enumerate(borders):
        for unit in range(units):
            found = bool(seen_before[index, unit]), bool(seen_after[index, unit])
            reaches = first[unit] < border, last[unit] >= border
            if inside[unit]:
                assert found == reaches
            else:
                assert all(reach or not see for see, reach in zip(found, reaches, strict=True))


def poison(clean: Tensor, columns: Tensor) -> Tensor:
    """One image for each row of `columns`, with NaN where it is true."""
    return clean.masked_fill(columns[:, None, None, :], torch.nan)


@given(architectures(max_field=70, max_stride=24), st.integers(0, 20))
@FEW
def test_field_of_every_unit_along_both_axes(arch: Architecture, extra: int) -> None:
    check_axes(arch, extra)


def check_axes(arch: Architecture, extra: int = 0) -> None:
    model, field = without_attention(build(arch)), arch.receptive_field()
    needed = field.size + 2 * field.stride
    image = torch.zeros(1, 1, odd(needed + extra), odd(needed + 10))
    check_axis(lambda images: local_features(model, images), field, image)
    check_axis(lambda images: local_features(model, images.mT).mT, field, image.mT)


def test_probe_of_a_known_network() -> None:
    field = THREE_STAGES.receptive_field()
    assert field == ReceptiveField(start=-48, size=85, stride=24)
    assert probe_receptive_field(build(THREE_STAGES), 1, output_map) == ProbedField(
        ByAxis(field, field)
    )


# -- parameters, FLOPs, sizes ----------------------------------------------------------------


def check_cost(arch: Architecture, size: tuple[int, int], num_classes: int) -> None:
    # Shapes are enough to count, so nothing is allocated or computed.
    with torch.device("meta"):
        model = build_model(arch, in_chans=2, num_classes=num_classes).eval()
        images = torch.empty(1, 2, *size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        features = model.forward_features(images)
        model.forward_head(features)
    cost = arch.cost(size, in_chans=2, num_classes=num_classes)
    assert cost.parameters == sum(p.numel() for p in model.parameters())
    assert cost.flops == counter.get_total_flops()
    assert features.shape[2:] == cost.output


ODD_SIZES = st.tuples(st.integers(15, 22), st.integers(15, 22)).map(
    lambda halves: (2 * halves[0] + 1, 2 * halves[1] + 1)
)


@given(architectures(max_stride=24, widths=(32, 64)), ODD_SIZES, st.integers(0, 5))
@FEW
def test_cost_is_that_of_the_module(
    arch: Architecture, size: tuple[int, int], num_classes: int
) -> None:
    check_cost(arch, size, num_classes)


@pytest.mark.parametrize(
    ("block", "width"), [("basic", 4), ("basic", 12), ("bottleneck", 16), ("bottleneck", 48)]
)
def test_cost_at_widths_that_timm_would_round(block: str, width: int) -> None:
    check_cost(architecture(stage_dict(block, width, 2, (3, 3))), (17, 19), num_classes=3)


# -- each kind of block and of stem -----------------------------------------------------------


BLOCKS = {
    "inception": stage_dict("inception", 16, 2, (3, 5)),
    "mbconv": stage_dict("mbconv", 16, 2, (3, 5), expansion=2),
    "mbconv with se": stage_dict("mbconv", 16, 1, (5,), context="se"),
    "convnext": stage_dict("convnext", 16, 3, (7, 5), dilation=2),
    "attention": stage_dict("attention", 16, 2, (1, 1), downsample="blur_pool"),
    "basic with gc": stage_dict("basic", 16, 2, (3, 3), context="gc"),
    "bottleneck with se": stage_dict("bottleneck", 16, 2, (3, 3), context="se"),
}
STEMS = [
    *[{"kind": kind, "pool": "max"} for kind in ("deep", "tiered", "quad")],
    *[{"pool": pool} for pool in ("avg", "conv", "blur")],
    {"kind": "patch", "kernel_size": 2},
]
NETWORKS = {
    **{name: architecture(stage, stage_dict("basic", 16)) for name, stage in BLOCKS.items()},
    **{str(stem): architecture(**({"stride": 2, "width": 16} | stem)) for stem in STEMS},
}


@pytest.mark.parametrize("arch", NETWORKS.values(), ids=NETWORKS)
def test_cost_of_each_part(arch: Architecture) -> None:
    check_cost(arch, (37, 43), num_classes=3)


@pytest.mark.parametrize("arch", NETWORKS.values(), ids=NETWORKS)
def test_field_of_each_part_by_the_nan_oracle(arch: Architecture) -> None:
    check_axes(arch)


@pytest.mark.parametrize("arch", NETWORKS.values(), ids=NETWORKS)
def test_each_part_learns(arch: Architecture) -> None:
    model = build(arch).train()
    switch_branches_on(model)  # Layer scales start so small that their branches learn later.
    labels = torch.arange(9) % 3
    periods = 2.0 ** (2 + labels)[:, None, None]
    stripes = torch.cos(2 * torch.pi * torch.arange(48.0) / periods)
    images = (stripes.expand(9, 48, 48) + 0.1 * torch.randn(9, 48, 48))[:, None]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(10):
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(p.grad is not None for p in model.parameters())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("arch", NETWORKS.values(), ids=NETWORKS)
def test_convolutions_without_batch_normalisation_start_with_lecuns_variance(
    arch: Architecture,
) -> None:
    wide = arch.to_dict()
    for part in (wide["stem"], *wide["stages"]):
        part["width"] = 64
    model = build(Architecture.from_dict(wide))
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d) and module.bias is not None:
            fan_in = module.weight[0].numel()
            expected = pytest.approx(1, abs=6 / module.weight.numel() ** 0.5)
            assert fan_in * float(module.weight.detach().var()) == expected
            assert not bool(module.bias.any())


# -- timm's habits ---------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(96, 96), (97, 131)])
def test_shapes(height: int, width: int) -> None:
    model = build(THREE_STAGES, in_chans=3, num_classes=5)
    images = torch.randn(2, 3, height, width)
    features = model.forward_features(images)
    rows, columns = THREE_STAGES.cost((height, width)).output
    assert features.shape == (2, 16, rows, columns)
    assert model.forward_head(features).shape == (2, 5)
    assert model.forward_head(features, pre_logits=True).shape == (2, 16)
    assert torch.equal(model(images), model.forward_head(features))
    assert torch.allclose(model.forward_head(features, pre_logits=True), features.mean((2, 3)))


def test_feature_info_describes_the_real_maps() -> None:
    model = build(THREE_STAGES)
    assert [info["module"] for info in model.feature_info] == ["stages.0", "stages.1", "stages.2"]
    assert [info["num_chs"] for info in model.feature_info] == [8, 12, 16]
    assert [info["reduction"] for info in model.feature_info] == [4, 8, 24]
    maps: list[Tensor] = []
    for info in model.feature_info:
        module = model.get_submodule(info["module"])
        module.register_forward_hook(lambda _module, _inputs, output: maps.append(output))
    model.forward_features(torch.randn(1, 1, 96, 192))
    assert model.num_features == model.feature_info[-1]["num_chs"]
    for number, (info, features) in enumerate(zip(model.feature_info, maps, strict=True), start=1):
        until = Architecture(stem=THREE_STAGES.stem, stages=THREE_STAGES.stages[:number])
        assert features.shape == (1, info["num_chs"], *until.cost((96, 192)).output)
        assert info["reduction"] == until.receptive_field().stride


def test_maps_of_halving_stages_are_input_over_reduction() -> None:
    model = build(resnet("bottleneck", (1, 1, 1, 1), width=4))
    assert [info["reduction"] for info in model.feature_info] == [4, 8, 16, 32]
    assert model.forward_features(torch.randn(1, 1, 96, 192)).shape == (1, 128, 3, 6)


def test_without_classes() -> None:
    model = build(THREE_STAGES, num_classes=0)
    assert model.num_classes == 0
    assert model(torch.randn(2, 1, 48, 48)).shape == (2, 16)
    assert isinstance(model.get_classifier(), torch.nn.Identity)


def test_reset_classifier() -> None:
    model = build(THREE_STAGES, num_classes=3)
    images = torch.randn(2, 1, 48, 48)
    features = model.forward_features(images)
    model.reset_classifier(7)
    assert model.num_classes == 7
    assert model(images).shape == (2, 7)
    assert torch.equal(model.forward_features(images), features)
    model.reset_classifier(0)
    assert model.num_classes == 0
    assert torch.allclose(model(images), features.mean((2, 3)))


def test_classifier_is_the_heads_linear_layer() -> None:
    classifier = build(THREE_STAGES, num_classes=5).get_classifier()
    assert isinstance(classifier, torch.nn.Linear)
    assert (classifier.in_features, classifier.out_features) == (16, 5)


def test_model_tells_its_field() -> None:
    model = build(THREE_STAGES)
    assert model.receptive_fields() == THREE_STAGES.receptive_fields()
    assert model.architecture == THREE_STAGES


def test_weights_follow_the_seed() -> None:
    def weights(seed: int) -> dict[str, Any]:
        torch.manual_seed(seed)
        return build_model(THREE_STAGES, in_chans=1, num_classes=3).state_dict()

    first, again, other = weights(0), weights(0), weights(1)
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.fc.weight"], other["head.fc.weight"])
    assert not torch.equal(first["stem.0.conv.weight"], other["stem.0.conv.weight"])


def test_convolutions_start_with_he_variance() -> None:
    torch.manual_seed(0)
    model = build_model(architecture(stage_dict("basic", 64), width=64), in_chans=3)
    weight = model.get_parameter("stages.0.0.conv2_kxk.conv.weight")
    assert weight.shape == (64, 64, 3, 3)
    assert float(weight.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert abs(float(weight.detach().mean())) < 1e-3


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_residual_branches_are_on_at_the_start(block: str) -> None:
    model = build(architecture(stage_dict(block, 8, kernels=(3, 3))))
    scales = [p for name, p in model.named_parameters() if p.ndim == 1 and "weight" in name]
    assert len(scales) > 3
    assert all(torch.equal(scale, torch.ones_like(scale)) for scale in scales)


@pytest.mark.parametrize(
    ("in_chans", "num_classes"), [(0, 3), (-1, 3), (1, -1)], ids=["none", "negative", "classes"]
)
def test_impossible_ends(in_chans: int, num_classes: int) -> None:
    match = (
        "`in_chans >= 1` and `num_classes >= 0` must hold, "
        f"but got in_chans={in_chans} and num_classes={num_classes}"
    )
    with pytest.raises(ValueError, match=match):
        build_model(THREE_STAGES, in_chans, num_classes)


def test_gradient_reaches_every_parameter() -> None:
    model = build(THREE_STAGES).train()
    loss = torch.nn.functional.cross_entropy(
        model(torch.randn(4, 1, 96, 96)), torch.tensor([0, 1, 2, 0])
    )
    loss.backward()
    unused = [
        name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())
    ]
    assert unused == []
