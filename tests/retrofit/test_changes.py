"""Changed copies, against networks that are changed by hand or made so."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

from rfsearch.retrofit.changes import retrofit
from rfsearch.retrofit.space import RetrofitSpace

SIDE = 64
DILATED = "stride 1, dilated"


def images() -> Tensor:
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def of_torchvision(**options: Any) -> nn.Module:
    return ResNet(Bottleneck, [1, 1, 2, 2], groups=2, width_per_group=16, **options)


def assert_same_weights(one: nn.Module, other: nn.Module) -> None:
    left, right = one.state_dict(), other.state_dict()
    assert list(left) == list(right)
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    torch.manual_seed(0)
    return of_torchvision().eval()


def by_hand(model: nn.Module, change: Callable[[Any], None]) -> nn.Module:
    changed = copy.deepcopy(model)
    change(changed)
    return changed


def test_a_stride_by_hand(resnet: nn.Module) -> None:
    changes = {
        "layer3.0.conv2": {"stride": 1},
        "layer3.0.downsample.0": {"stride": [1, 1]},
        "layer3.1.conv2": {"dilation": 2, "padding": 2},
    }

    def change(model: Any) -> None:
        model.layer3[0].conv2.stride = (1, 1)
        model.layer3[0].downsample[0].stride = (1, 1)
        model.layer3[1].conv2.dilation = (2, 2)
        model.layer3[1].conv2.padding = (2, 2)

    changed = retrofit(resnet, changes, SIDE)
    assert_same_weights(changed, resnet)
    with torch.no_grad():
        wanted = by_hand(resnet, change)(images())
        assert torch.equal(changed(images()), wanted)
        assert not torch.equal(resnet(images()), wanted)


def test_what_is_left_out_and_enlarged(resnet: nn.Module) -> None:
    changes = {"conv1": {"scale": 2}, "maxpool": {"skip": True}}

    def change(model: Any) -> None:
        model.maxpool = nn.Identity()

    enlarged = F.interpolate(images(), scale_factor=2, mode="bilinear")
    changed = retrofit(resnet, changes)
    assert_same_weights(changed, resnet)
    with torch.no_grad():
        assert torch.equal(changed(images()), by_hand(resnet, change)(enlarged))


@pytest.mark.parametrize("opened", [1, 2])
def test_presets_of_torchvision(resnet: nn.Module, opened: int) -> None:
    space = RetrofitSpace(resnet, SIDE)
    strides = ["layer3.0.conv2.stride", "layer4.0.conv2.stride"][-opened:]
    changes = space.changes(space.given | dict.fromkeys(strides, DILATED))
    preset = of_torchvision(replace_stride_with_dilation=[False, opened == 2, True]).eval()
    preset.load_state_dict(resnet.state_dict())
    with torch.no_grad():
        assert torch.equal(retrofit(resnet, changes, SIDE)(images()), preset(images()))


@pytest.mark.parametrize(
    "make",
    [
        partial(timm.create_model, "resnet18"),
        partial(timm.create_model, "test_efficientnet"),
        partial(timm.create_model, "tf_mobilenetv3_small_minimal_100", features_only=True),
    ],
    ids=lambda make: make.args[0],
)
def test_presets_of_timm(make: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    model = make().eval()
    space = RetrofitSpace(model, SIDE)
    # Where nothing that could be dilated follows, the stride alone is the last choice.
    strides = {name: v[-1] for name, v in space.choices().items() if name.endswith(".stride")}
    for output_stride, opened in ((16, 1), (8, 2)):
        preset = make(output_stride=output_stride).eval()
        preset.load_state_dict(model.state_dict())
        changes = space.changes(space.given | dict([*strides.items()][-opened:]))
        with torch.no_grad():
            found, wanted = (one(images()) for one in (retrofit(model, changes, SIDE), preset))
        for one, other in zip(found, wanted, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular"])
@pytest.mark.parametrize("padding", [(2, 1), "same", "valid"])
def test_padding_is_the_one_that_torch_computes(mode: Any, padding: Any) -> None:
    given = nn.Conv2d(3, 2, (5, 3), padding=padding, padding_mode=mode)
    more = padding if isinstance(padding, str) else (4, 2)
    wanted = nn.Conv2d(3, 2, (5, 3), padding=more, dilation=2, padding_mode=mode)
    wanted.load_state_dict(given.state_dict())
    change = {"dilation": 2} | ({} if isinstance(padding, str) else {"padding": [4, 2]})
    changed = retrofit(nn.Sequential(given), {"0": change}, SIDE)
    assert torch.equal(changed(images()), wanted(images()))


def test_the_network_stays_as_it_is(resnet: nn.Module) -> None:
    model = copy.deepcopy(resnet)
    model.train()
    model.bn1.eval()
    model.conv1.requires_grad_(requires_grad=False)
    before = {name: str(module) for name, module in model.named_modules()}
    changed = retrofit(model, {"conv1": {"stride": 1, "scale": 1.5}, "maxpool": {"skip": True}})
    assert {name: str(module) for name, module in model.named_modules()} == before
    assert not model.conv1._forward_pre_hooks
    for name, module in changed.named_modules():
        assert module.training == model.get_submodule(name).training
    assert not changed.conv1.weight.requires_grad
    assert changed.fc.weight.requires_grad
    # Nothing stays of a copy that was changed.
    assert torch.equal(retrofit(changed, {}, SIDE).eval()(images()), changed.eval()(images()))


def test_a_network_that_runs_at_no_size_of_ours_is_changed_all_the_same() -> None:
    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 1, 3)

        def forward(self, x: Tensor) -> Tensor:
            if x.shape[-1] != 37:
                raise ValueError("37 px!")
            return self.conv(x)

    assert retrofit(Picky(), {"conv": {"stride": 2}}).conv.stride == (2, 2)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ([], r"must be a dictionary by layer name, but are a list"),
        ({"layer3.0.conv9": {"stride": 1}}, r"'layer3.0.conv9' is none; the nearest .*conv2"),
        ({"": {"stride": 1}}, r"must be of layers, but '' is none"),
        ({3: {"stride": 1}}, r"but 3 is none"),
        ({"conv1": 1}, r"changes of `conv1` must be a dictionary, but are 1"),
        (
            {"conv1": {"kernel_size": 3}},
            r"`conv1` \(Conv2d\) with kernel_size 3 would not fit its weights \(weight \(64, 3, 7",
        ),
        ({"fc": {"out_features": 3}}, r"out_features 3 would not fit its weights .*skip, scale\."),
        ({"fc": {"stride": 1}}, r"`fc` \(Linear\) with stride 1 is no change .* is skip, scale\."),
        ({"avgpool": {"dilation": 2}}, r"`avgpool` \(AdaptiveAvgPool2d\) with dilation 2 is no"),
        (
            {"conv1": {"stride": 0}},
            r"stride of `conv1` must be a whole number of at least 1.* 0",
        ),
        ({"conv1": {"stride": True}}, r"stride of `conv1` must be a whole number.*got True"),
        ({"conv1": {"stride": "1"}}, r"stride of `conv1` must be a whole number.*got '1'"),
        ({"conv1": {"stride": [1, 1, 1]}}, r"one for each of its 2 axes, but got \[1, 1, 1\]"),
        ({"conv1": {"padding": -1}}, r"padding of `conv1` must be a whole number of at least 0"),
        ({"conv1": {"scale": 0}}, r"scale of `conv1` must be a number from 1/16 to 16.*got 0"),
        ({"conv1": {"scale": float("nan")}}, r"scale of `conv1` must be a number .*got nan"),
        ({"conv1": {"skip": 1}}, r"skip of `conv1` must be true or false, but got 1"),
        (
            {"conv1": {"stride": 1}, "layer3.0.conv2": {"stride": 1}},
            r"`layer3.0.conv2` with stride 1 does not fit the other layers, at an input of "
            r"64x64 px: ",
        ),
        ({"layer2": {"skip": True}}, r"`layer2` with skip True does not fit the other layers"),
        ({"conv1": {"padding": 40, "dilation": 40}}, r"`conv1` with padding 40, dilation 40 does"),
    ],
)
def test_bad_changes(resnet: nn.Module, changes: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        retrofit(resnet, changes, SIDE)
    assert "\n" not in str(caught.value)


def test_no_module() -> None:
    with pytest.raises(ValueError, match=r"`model` must be a torch module, but got str"):
        retrofit("resnet18", {})  # type: ignore[arg-type]
