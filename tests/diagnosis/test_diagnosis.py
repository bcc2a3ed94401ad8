from __future__ import annotations

import warnings
from typing import Any

import pytest
import timm
import torch
from helpers import architecture, resnet, stage_dict
from hypothesis import given, settings
from strategies import architectures
from torch import Tensor, nn

import rfsearch as rfs
from rfsearch.diagnosis.diagnosis import diagnose, diagnose_architecture, diagnose_fields
from rfsearch.diagnosis.findings import Finding, UncheckedWarning
from rfsearch.diagnosis.network_fields import network_fields
from rfsearch.models.resolve import resolve_model
from rfsearch.network.architecture import Architecture
from rfsearch.network.model import build_model
from rfsearch.target.target import ScaleTarget

TARGET = ScaleTarget(16, 40)
DEEP = architecture(*[stage_dict(kernels=(3,) * 6, stride=2)] * 2)
GRIDDED = architecture(stage_dict(kernels=(3, 3), dilation=4), kernel_size=1)


def by_kind(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    assert len({finding.kind for finding in findings}) == len(findings)
    return {finding.kind: finding for finding in findings}


# -- architectures, in closed form ------------------------------------------------------------


def test_numbers_are_those_of_the_closed_forms() -> None:
    found = by_kind(diagnose(GRIDDED, TARGET, 32))
    erf = GRIDDED.expected_erf()
    assert set(found) == {"rf_too_small", "erf_too_small", "gridding"}
    assert (found["rf_too_small"].value, found["rf_too_small"].limit) == (17, 60)
    assert (found["erf_too_small"].value, found["erf_too_small"].limit) == (erf.size, 40)
    assert (found["gridding"].value, found["gridding"].place) == (12 / 17, "stage 1 block 1")


def test_the_border_layer_of_a_plain_stack() -> None:
    finding = by_kind(diagnose(DEEP, None, 32))["unproductive_layers"]
    # The stem sees 3 px, stage 1 then 5, 9, 13, 17, 21 and 25, stage 2 29 px and 37 px: its third
    # block is the first whose input sees all of 32 px.
    assert (finding.place, finding.value) == ("stage 2 block 3", 4)
    assert "unproductive_layers" not in by_kind(diagnose(DEEP, None, 128))


def test_downsampling_before_anything_is_seen() -> None:
    patches = architecture(stage_dict(kernels=(3,) * 8), kernel_size=7, stride=8, pool="max")
    finding = by_kind(diagnose(patches, TARGET, 128))["downsampling_too_early"]
    assert (finding.place, finding.value, finding.limit) == ("stem pool", 7, 16)


def test_deep_and_narrow_networks_have_a_small_erf() -> None:
    deep = resnet("basic", (3, 4, 6, 3))
    found = by_kind(diagnose(deep))["erf_far_below_trf"]
    assert found.value == deep.expected_erf().ratio < found.limit
    assert found.place == "C5"


def test_an_image_too_small_for_the_network() -> None:
    arch = architecture(stage_dict(stride=2, downsample="max_pool"))
    with pytest.raises(ValueError, match="window"):
        diagnose(arch, TARGET, 1)


@given(architectures())
def test_any_architecture_can_be_diagnosed(arch: Architecture) -> None:
    found = by_kind(diagnose_architecture(arch, TARGET, (64, 64)))
    # Who attends to everything sees enough, whatever the local field is.
    attends = any(stage.block == "attention" for stage in arch.stages)
    is_small, is_far = arch.receptive_field().size < 60, arch.expected_erf().ratio < 0.5
    assert ("rf_too_small" in found) == (is_small and not attends)
    assert ("stride_too_coarse" in found) == (arch.receptive_field().stride > 16)
    assert ("erf_far_below_trf" in found) == (is_far and not attends)


def test_the_level_that_fits_its_objects_least_is_named() -> None:
    stages = [stage_dict("basic", 8, 2, (3,)) for _ in range(3)]
    pyramid = architecture(*stages, neck={"kind": "fpn", "width": 8, "num_levels": 3})
    # P2 serves all of these objects, and must not see more than three and a half of the largest.
    found = by_kind(diagnose(pyramid, ScaleTarget(6, 10), 64))["erf_too_large"]
    assert (found.place, found.value, found.limit) == ("P2", 43, 35)
    assert "erf_too_large" not in by_kind(diagnose(pyramid, ScaleTarget(16, 38), 64))
    # No level serves these: the last one is looked at.
    found = by_kind(diagnose(pyramid, ScaleTarget(200, 300), 64))["erf_too_small"]
    assert (found.place, found.value, found.limit) == ("P4", 51, 300)


def test_gridding_of_rates_without_smaller_ones() -> None:
    stages = [stage_dict("plain", 8, 2, (3,)), stage_dict("plain", 8, 1, (1,))]
    sparse = architecture(*stages, neck={"kind": "aspp", "rates": [8], "width": 8})
    found = by_kind(diagnose(sparse, None, 64))["gridding"]
    assert found.place == "neck"
    dense = architecture(*stages, neck={"kind": "aspp", "rates": [1, 2, 3], "width": 8})
    assert "gridding" not in by_kind(diagnose(dense, None, 64))


# -- any module -------------------------------------------------------------------------------


@given(architectures(max_field=150, max_stride=16))
@settings(max_examples=15)
def test_a_network_and_its_architecture_have_the_same_exact_findings(arch: Architecture) -> None:
    model = build_model(arch, num_classes=0)
    closed = by_kind(diagnose(arch, TARGET, 64))
    traced = by_kind(diagnose(model, TARGET, 64, erf=False))
    for kind in ("rf_too_small", "stride_too_coarse", "gridding"):
        assert (kind in closed) == (kind in traced)
        if kind in closed:
            assert closed[kind].value == traced[kind].value


def test_the_measured_erf_of_a_network() -> None:
    torch.manual_seed(0)
    model = build_model(GRIDDED, num_classes=2)
    found = by_kind(diagnose(model, TARGET, 64))
    assert found["erf_too_small"].value == rfs.measure_erf(model, 64, num_images=4).size
    assert "(measured)" in found["erf_too_small"].message
    assert found["gridding"].place.startswith("stages.0.0.conv")
    assert "erf_too_small" not in by_kind(diagnose(model, TARGET, 64, erf=False))


def test_small_images_do_not_make_the_measured_erf_smaller() -> None:
    torch.manual_seed(0)
    model = build_model(GRIDDED, num_classes=0)
    small, large = (by_kind(diagnose(model, TARGET, side))["erf_too_small"] for side in (8, 64))
    assert small.value == pytest.approx(large.value, abs=2)


def test_a_field_larger_than_any_image_is_not_judged_by_what_is_left_of_it() -> None:
    dilated = nn.Conv2d(3, 3, 3, padding=400, dilation=400)
    model = nn.Sequential(dilated, nn.Conv2d(3, 3, 3, padding=400, dilation=400))
    with pytest.warns(UncheckedWarning, match="cut the receptive field: it is .* px or more"):
        found = by_kind(diagnose(model, rfs.ScaleTarget(700, 900), 64))
    assert {"erf_too_small", "erf_far_below_trf"}.isdisjoint(found)


def vgg() -> nn.Module:
    """What VGG-11 has before its classifier, whose 100 million weights take long to draw."""
    with torch.device("meta"):
        features = timm.create_model("vgg11_bn").features
    features.to_empty(device="cpu")
    for layer in features:
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    return features


def test_a_network_of_many_layers_on_small_images() -> None:
    model = vgg()
    finding = by_kind(diagnose(model, None, 64, erf=False))["unproductive_layers"]
    # Richter et al.: the border layer is the first whose input sees all of the image. The
    # convolutions of VGG-11 see 3, 8, 18, 26, 46, 62, 102 and 134 px, each pool adds its stride:
    # two convolutions and a pool are left.
    assert (finding.place, finding.value) == ("22", 3)


def test_a_timm_model_by_name_has_the_same_findings_every_time() -> None:
    state = torch.get_rng_state()
    first = diagnose("test_resnet", TARGET, 96)
    torch.manual_seed(1)
    assert first == diagnose("test_resnet", TARGET, 96)
    torch.set_rng_state(state)
    assert diagnose("test_resnet", TARGET, 96) == first
    assert torch.equal(torch.get_rng_state(), state)


def test_a_pyramid_is_judged_by_its_best_levels() -> None:
    narrow = {"features_only": True, "channels": (16,) * 4}
    model = timm.create_model("resnet18", out_indices=(2, 4), **narrow)
    found = by_kind(diagnose(model, ScaleTarget(8, 24), 96, erf=False))
    assert set(found) == set()
    last = timm.create_model("resnet18", out_indices=(4,), **narrow)
    assert set(by_kind(diagnose(last, ScaleTarget(8, 24), 96, erf=False))) == {"stride_too_coarse"}


def test_attention_is_not_told_that_it_sees_too_little() -> None:
    found = by_kind(diagnose("test_vit", TARGET, 160, erf=False))
    assert "rf_too_small" not in found
    assert set(found) >= {"downsampling_too_early"}


class Flat(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def test_what_cannot_be_measured_is_warned_of() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 3), Flat())
    with pytest.warns(UncheckedWarning, match="The ERF was not measured: The model's output must"):
        found = by_kind(diagnose(model, TARGET, 64))
    assert set(found) == {"rf_too_small"}


class ChannelsLast(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


def test_a_map_of_another_layout_is_measured_as_well() -> None:
    found = by_kind(diagnose(nn.Sequential(nn.Conv2d(3, 24, 4, 4), ChannelsLast()), TARGET, 64))
    assert set(found) == {"rf_too_small", "erf_too_small"}
    assert found["erf_too_small"].value == 4


def test_fields_can_be_used_again() -> None:
    model = build_model(GRIDDED, num_classes=2)
    resolved = resolve_model(model, 64)
    fields = network_fields(resolved)
    assert diagnose_fields(resolved, fields, TARGET, erf=False) == diagnose(
        model, TARGET, 64, erf=False
    )


def test_a_layer_is_diagnosed_as_the_network_cut_there() -> None:
    model = vgg()
    cut = by_kind(diagnose(model[:11], TARGET, 64))
    named = by_kind(diagnose(model, TARGET, 64, layer="10"))
    assert named.keys() == cut.keys()
    assert [one.value for one in named.values()] == [one.value for one in cut.values()]
    with pytest.raises(ValueError, match="`layer` must be the name of one of the model's"):
        diagnose(model, TARGET, 64, layer="99")


class Unfollowed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.renorm(x, 2, 0, 1e9)


def test_an_output_that_cannot_be_followed_is_warned_of() -> None:
    model = nn.Sequential(*[nn.Conv2d(3, 3, 3, padding=1) for _ in range(24)], Unfollowed())
    with pytest.warns(
        UncheckedWarning, match="fields of `output` could not be followed: .*renorm"
    ):
        found = by_kind(diagnose(model, TARGET, 16))
    # The layers before it were followed, and the ERF needs no trace.
    assert found["unproductive_layers"].place == "8"
    assert "erf_too_small" in found
    assert not {"rf_too_small", "stride_too_coarse", "erf_far_below_trf"} & found.keys()


def test_a_model_that_does_not_run_is_refused_where_it_cannot_be_followed_too() -> None:
    model = nn.Sequential(Unfollowed(), nn.Conv2d(3, 3, 64))
    with pytest.raises(ValueError, match="must run at an input of 16x16 px, but it does not"):
        diagnose(model, TARGET, 16, erf=False)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("resnet81", {}, "nearest are resnet18"),
        ("vit_tiny_patch16_224", {"input_size": 100}, "must run at an input of 100x100 px"),
    ],
)
def test_models_that_cannot_be_traced(model: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        diagnose(model, TARGET, **options)


def test_no_other_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        diagnose(build_model(DEEP, num_classes=2), TARGET, 64)
