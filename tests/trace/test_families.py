"""The tracer on real networks: timm's convolutional families and published tables."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple

import pandas as pd
import pytest
import timm
import torch
from oracle import check_axis, check_map, without_attention
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from rfsearch.field.receptive_field import ReceptiveField, stack, window
from rfsearch.trace.trace import trace_receptive_field

#: Checked in every run: one of each kind of difficulty.
REPRESENTATIVE = """
    resnet18 resnetaa34d seresnet18 regnety_002 efficientnet_b0 tf_mobilenetv3_small_075
    hrnet_w18_small res2net50_26w_4s ghostnet_050 convnextv2_atto cs3darknet_focus_s mobileone_s0
    test_nfnet
"""
#: Of those that can have few channels: they matter to the time, not to the field.
NARROW: dict[str, dict[str, Any]] = {
    "resnet18": {"channels": (16,) * 4},
    "resnetaa34d": {"channels": (16,) * 4},
    "seresnet18": {"channels": (16,) * 4},
    "res2net50_26w_4s": {"channels": (16,) * 4},
    "convnextv2_atto": {"dims": (16,) * 4},
    "sequencer2d_s": {"embed_dims": (8,) * 4, "layers": (1,) * 4},
}

FAMILIES = """
    resnet50 resnet26t resnet14t resnetblur18 resnext26ts ecaresnet26t resnetrs50 wide_resnet50_2
    resnet50_gn resnet10t resnetv2_50 resnetv2_18d resnetv2_50x1_bit resnetv2_50d_evos
    legacy_seresnet18 senet154 legacy_seresnext26_32x4d skresnet18 resnest14d res2next50
    nf_resnet26 nfnet_l0 eca_nfnet_l0 nf_regnet_b0 regnetx_002 regnetz_005 regnetv_040
    eca_resnext26ts gcresnext26ts gernet_s regnetz_b16 repvgg_a0 resnet32ts resnet50_clip_gap
    resnet51q test_byobnet vgg11 vgg16_bn densenet121 densenetblur121d dla34 dla46x_c
    dla60_res2net dpn48b dpn68 vovnet39a ese_vovnet19b_dw eca_vovnet39b selecsls42 hardcorenas_a
    inception_v3 inception_v4 inception_resnet_v2 inception_next_atto
    legacy_xception xception41 xception41p
    nasnetalarge pnasnet5large cs3darknet_s cspdarknet53 cspresnet50 cspresnext50 darknet17
    darknetaa53 sedarknet21 cspnext_tiny tf_efficientnet_b0 efficientnet_lite0
    tf_efficientnet_lite0 efficientnet_es efficientnetv2_rw_t tf_efficientnetv2_b0
    efficientnet_b0_gn efficientnet_blur_b0 efficientnet_cc_b0_4e fbnetc_100 mixnet_s tf_mixnet_s
    mnasnet_small mobilenet_edgetpu_100 mobilenetv1_100 mobilenetv2_100 semnasnet_050
    spnasnet_100 tinynet_e test_efficientnet test_efficientnet_ln gc_efficientnetv2_rw_t
    mobilenetv3_small_050 mobilenetv3_large_100 mobilenetv4_conv_small mobilenetv4_conv_aa_medium
    mobilenetv4_conv_blur_medium lcnet_035 fbnetv3_b ghostnetv2_100 ghostnetv3_050
    repghostnet_050 rexnet_100 rexnetr_100 hgnet_tiny hgnetv2_b0 hrnet_w18_ssld lcnetv2_small
    tresnet_m tresnet_v2_l convnext_atto convnext_zepto_rms convnext_tiny test_convnext
    convmixer_768_32 convmixer_1024_20_ks9_p14 rdnet_tiny fasternet_t0 fastvit_t8 starnet_s050
    mambaout_femto test_mambaout poolformer_s12 poolformerv2_s12 convformer_s18 repvit_m0_9
    edgenext_xx_small
"""

#: Networks that refuse a strip of 64 px: a kernel without padding is larger than their last map.
STRIPS = {"vgg11": 224, "vgg16_bn": 224} | dict.fromkeys(
    ("inception_v3", "inception_v4", "inception_resnet_v2"), 192
)
#: Networks whose padding (like TensorFlow's "same") or gates depend on what divides the input
#: size: the strips of the oracle are multiples of 64 px.
SIZES = dict.fromkeys(("nasnetalarge", "pnasnet5large"), 320) | dict.fromkeys(
    ("ghostnetv2_100", "ghostnetv3_050"), 256
)


def last_map(model: nn.Module, images: Tensor) -> Tensor:
    features: Tensor = model.forward_features(images)  # type: ignore[operator]
    return features


def channels_first(model: nn.Module, images: Tensor) -> Tensor:
    return last_map(model, images).permute(0, 3, 1, 2)


def check(name: str, strip: int, **options: Any) -> None:
    """The traced field of a model's last map, against the oracle and behind the classifier."""
    torch.manual_seed(0)
    model = timm.create_model(name, **options).eval()
    size = SIZES.get(name, max(model.pretrained_cfg["input_size"]))
    whole = trace_receptive_field(model, size)
    # Some heads convolve before they pool; the oracle sees what comes before the classifier.
    if "inception_next" not in name:
        model.reset_classifier(0, "")
    forward = channels_first if "mambaout" in name else None
    if "inception_next" in name:
        forward = last_map
    traced = trace_receptive_field(model, size, forward=forward)
    assert whole.output.height == traced.output.height
    assert whole.output.width == traced.output.width
    assert whole.output.is_global
    verdicts = check_map(without_attention(model), 3, traced.output, forward, strip=strip)
    for verdict in verdicts:
        assert verdict.checked > 3
        assert not verdict.wrong, verdict.wrong[:4]


@pytest.mark.parametrize("name", REPRESENTATIVE.split())
def test_representative_of_a_family(name: str) -> None:
    check(name, strip=32, **NARROW.get(name, {}))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES.split())
def test_family(name: str) -> None:
    check(name, STRIPS.get(name, 64))


def test_recurrent_layers_are_global() -> None:
    model = timm.create_model("sequencer2d_s", **NARROW["sequencer2d_s"])
    traced = trace_receptive_field(model, 224)
    assert traced.output.height == traced.output.width == ReceptiveField(0, 14, 14)
    assert "stages.0.blocks.0.rnn_tokens.rnn_v" in traced.global_layers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "stride"),
    [
        ("bat_resnext26ts", 199, 32),
        ("botnet26t_256", 87, 32),
        ("crossvit_9_240", 20, Fraction(120, 7)),
        ("efficientvit_m0", 5759, 64),
        ("gcvit_xxtiny", 343, 32),
        ("ghostnetv2_100", 3095, 32),
        ("hieradet_small", 35, 32),
        ("nextvit_small", 643, 32),
        ("tnt_s_patch16_224", 16, 16),
        ("vit_tiny_patch16_224", 16, 16),
        ("volo_d1_224", 149, 16),
    ],
)
def test_transformers_and_hybrids_have_an_answer(name: str, size: int, stride: Fraction) -> None:
    traced = trace_receptive_field(name, timm.get_pretrained_cfg(name).input_size[1:])
    assert traced.output.is_global
    assert traced.output.height == traced.output.width
    assert (traced.output.width.size, traced.output.width.stride) == (size, stride)


@pytest.mark.parametrize("axis", ["height", "width"])
def test_shifted_windows_of_attention(axis: str) -> None:
    size = (64, 512) if axis == "width" else (512, 64)
    model = SwinTransformer(
        img_size=size, patch_size=2, window_size=4, embed_dim=8, depths=(2, 4), num_heads=(1, 2)
    ).eval()
    traced = trace_receptive_field(model, size, forward=channels_first)
    assert traced.output.width == traced.output.height == ReceptiveField(-40, 80, 4)
    assert traced.global_layers == ()
    field = traced.output.width._replace(size=512 - 6 * 8)  # The strip is the whole input.
    verdict = (
        check_axis(
            lambda x: channels_first(model, x),
            3,
            lambda unit: traced.output.interval((0, unit)).width,
            field,
        )
        if axis == "width"
        else check_axis(
            lambda x: channels_first(model, x.mT).mT,
            3,
            lambda unit: traced.output.interval((unit, 0)).height,
            field,
        )
    )
    assert verdict.checked > 50
    assert not verdict.wrong


def test_grid_attention_is_global_and_window_attention_is_not() -> None:
    traced = trace_receptive_field("maxvit_tiny_tf_224", 224)
    stage = [name for name in traced.global_layers if name.startswith("stages.0")]
    assert any("attn_grid" in name for name in stage)
    assert not any("attn_block" in name for name in stage)
    # The windows of the last stage are its whole map.
    assert any("attn_block" in name for name in traced.global_layers if "stages.3" in name)


def test_pyramid_of_several_levels() -> None:
    torch.manual_seed(0)
    resnet = timm.create_model("resnet18", **NARROW["resnet18"])
    maps = {f"layer{number + 1}": str(number) for number in range(4)}
    model = BackboneWithFPN(resnet, maps, [16] * 4, 16, LastLevelMaxPool()).eval()
    traced = trace_receptive_field(model, 256)
    # A unit of the top-down path sees at least what the deepest map sees: 435 px, and 32 px more
    # for the 3x3 convolution behind it, which crosses from one of its units to the next.
    assert [(name, one.width.size, one.width.stride) for name, one in traced.outputs.items()] == [
        ("0", 467, 4),
        ("1", 467, 8),
        ("2", 467, 16),
        ("3", 499, 32),
        ("pool", 499, 64),
    ]
    for name, one in traced.outputs.items():
        verdicts = check_map(model, 3, one, lambda m, x, n=name: m(x)[n])  # type: ignore[misc]
        assert not any(verdict.wrong for verdict in verdicts)


def test_features_of_several_levels() -> None:
    model = timm.create_model("resnet18", features_only=True, **NARROW["resnet18"]).eval()
    traced = trace_receptive_field(model, 224)
    fields = [(one.width.size, one.width.stride) for one in traced.outputs.values()]
    assert fields == [(7, 2), (43, 4), (99, 8), (211, 16), (435, 32)]
    for number, one in enumerate(traced.outputs.values()):
        verdicts = check_map(model, 3, one, lambda m, x, n=number: m(x)[n])  # type: ignore[misc]
        assert not any(verdict.wrong for verdict in verdicts)


# Araujo, Norris and Sim, Distill 2019, and google-research/receptive_field.


class Published(NamedTuple):
    """A layer of a model, and the size and stride that are published for it, in px."""

    model: str
    layer: str
    size: int
    stride: int


PUBLISHED = [
    *(Published("vgg16", f"features.{n}", *at) for n, at in (
        (4, (6, 2)), (9, (16, 4)), (16, (44, 8)), (23, (100, 16)), (30, (212, 32)),
    )),
    Published("vgg11", "features.20", 150, 32),
    Published("inception_v3", "Mixed_5d", 127, 8),
    Published("inception_v3", "Mixed_6e", 927, 16),
    Published("inception_v3", "Mixed_7c", 1311, 32),
    Published("inception_v4", "features", 2071, 32),
    Published("inception_resnet_v2", "conv2d_7b", 3039, 32),
    Published("mobilenetv1_100", "blocks.4.1", 315, 32),
    Published("densenet121", "features", 2071, 32),
    # The stride of a stage is in its first 3x3 convolution, not in the 1x1 before it.
    *(Published("resnet50", f"layer{n}", *at) for n, at in (
        (1, (35, 4)), (2, (91, 8)), (3, (267, 16)), (4, (427, 32)),
    )),
]  # fmt: skip


@cache
def traced_layers(model: str) -> pd.DataFrame:
    return trace_receptive_field(model, 299).layers.set_index("name")


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"{row.model}-{row.layer}")
def test_published_table(row: Published) -> None:
    found = traced_layers(row.model).loc[row.layer]
    assert (found["width"], found["width_stride"]) == (row.size, row.stride)
    assert (found["height"], found["height_stride"]) == (row.size, row.stride)


def slim_resnet(*units: int) -> nn.Sequential:
    """TF-Slim's v1 networks: the stride is in the 3x3 of the last unit of the first 3 stages."""
    layers: list[nn.Module] = [nn.Conv2d(3, 2, 7, 2, 3), nn.MaxPool2d(3, 2, 1)]
    for stage, count in enumerate(units):
        for unit in range(count):
            stride = 2 if unit == count - 1 and stage < 3 else 1
            layers += [nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 3, stride, 1), nn.Conv2d(2, 2, 1)]
    layers[2] = nn.Conv2d(2, 2, 1)
    return nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("units", "size"),
    [((3, 4, 6, 3), 483), ((3, 4, 23, 3), 1027), ((3, 8, 36, 3), 1507), ((3, 24, 36, 3), 1763)],
)
def test_published_slim_residual_networks(units: tuple[int, ...], size: int) -> None:
    field = trace_receptive_field(slim_resnet(*units), 224).output.width
    assert (field.size, field.stride) == (size, 32)


def test_published_alexnet() -> None:
    layers = [(11, 4, 0), (3, 2, 0), (5, 1, 2), (3, 2, 0), *[(3, 1, 1)] * 3, (3, 2, 0)]
    model = nn.Sequential(*(nn.Conv2d(3, 3, *numbers) for numbers in layers))
    field = trace_receptive_field(model, 224).output.width
    assert field == stack(window(k, s, padding=p) for k, s, p in layers)
    assert field == ReceptiveField(-64, 195, 32)
