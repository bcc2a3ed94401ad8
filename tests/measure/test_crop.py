from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import architectures
from torch import Tensor, nn

from rfsearch.basics.axes import ByAxis
from rfsearch.field.unit_grid import Interval
from rfsearch.measure import crop as erf_crop
from rfsearch.measure.crop import Crop, find_crop
from rfsearch.measure.erf import MeasuredERF, measure_erf
from rfsearch.measure.read import reader
from rfsearch.measure.unit import Unit, find_unit
from rfsearch.models.resolve import resolve_model
from rfsearch.network.model import build_model

Size = int | tuple[int, int]
#: Of images and a layer.
Function = Callable[[Tensor, nn.Module], Any]


def crop_of(
    model: nn.Module, size: Size, layer: str | None = None, level: str | None = None
) -> Crop:
    read, resolved = reader(model, layer, level), resolve_model(model.eval(), size)
    return find_crop(resolved, find_unit(resolved, read, level=level, layer=layer), read)


def is_cropped(crop: Crop) -> bool:
    return crop.size != crop.image


def measured_both_ways(model: nn.Module, size: Size, **options: Any) -> list[MeasuredERF]:
    """On crops however little they save, and on whole images."""
    options = {"num_images": 2, "relative_error": None, "replknet": True} | options
    found = []
    for share in (1.0, 0.0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(erf_crop, "_LARGEST_SHARE", share)
            found.append(measure_erf(model, size, **options))
    return found


def assert_same(cropped: MeasuredERF, whole: MeasuredERF) -> None:
    for one, other in (
        (cropped.map, whole.map),
        (cropped.power, whole.power),
        (cropped.replknet_map, whole.replknet_map),
    ):
        assert one is not None
        assert other is not None
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * other.max())
    for name in ("center", "theoretical_size", "clipped", "num_images", "size", "calibrated"):
        assert getattr(cropped, name) == getattr(whole, name), name
    for name in ("sigma", "standard_error"):
        expected = pytest.approx(getattr(whole, name), rel=1e-3, abs=1e-3, nan_ok=True)
        assert getattr(cropped, name) == expected, name


# The gradients are those of the whole image.


@pytest.mark.parametrize(
    ("name", "size", "layer", "kept"),
    [
        ("resnet18", 256, "layer2", (112, 112)),
        ("resnet18", (333, 517), "layer1", (49, 49)),
        pytest.param("resnet26t", (297, 290), "layer3", (121, 130), marks=pytest.mark.slow),
        pytest.param("vgg11_bn", 121, "features.14", (41, 41), marks=pytest.mark.slow),
        ("convnext_atto", 301, "stages.1", (157, 157)),
        ("regnetx_002", (203, 400), "s3", (139, 128)),
        pytest.param("densenet121", 301, "features.denseblock1", (65, 65), marks=pytest.mark.slow),
        pytest.param("xception41", 211, "blocks.1", (51, 51), marks=pytest.mark.slow),
        ("mixnet_s", 299, "blocks.1", (23, 23)),
        pytest.param("inception_v3", 299, "Mixed_5b", (75, 75), marks=pytest.mark.slow),
        # Padded as TensorFlow's "same", by the size of the image.
        ("tf_mobilenetv3_small_minimal_100", (300, 403), "blocks.3", (188, 195)),
        ("tf_efficientnet_b0", 301, "blocks.0.0.conv_dw", (9, 9)),
    ],
)
def test_timm_models(name: str, size: Size, layer: str | None, kept: tuple[int, int]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(name)
    assert crop_of(model, size, layer).size == kept
    assert_same(*measured_both_ways(model, size, layer=layer, num_images=1))


def conv(kernel_size: int, stride: int = 1, dilation: int = 1, padding: int = 0) -> nn.Conv2d:
    torch.manual_seed(kernel_size)
    return nn.Conv2d(3, 3, kernel_size, stride, padding, dilation)


@st.composite
def chains(draw: st.DrawFn) -> nn.Sequential:
    """Layers with strides, dilations and paddings that leave the units anywhere."""
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(("conv", "conv", "max", "average", "up", "nearest")))
        kernel_size, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
        padding = draw(st.integers(0, kernel_size // 2))
        if kind == "conv":
            dilation = draw(st.integers(1, 3))
            layers += [conv(kernel_size, stride, dilation, padding * dilation), nn.GELU()]
        elif kind == "max":
            layers.append(
                nn.MaxPool2d(kernel_size, stride, padding, ceil_mode=draw(st.booleans()))
            )
        elif kind == "average":
            layers.append(nn.AvgPool2d(kernel_size, stride, padding, count_include_pad=False))
        elif kind == "up":
            layers.append(nn.ConvTranspose2d(3, 3, 4, 2, 1))
        else:
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear"))
    return nn.Sequential(*layers)


sides = st.integers(40, 97)


@given(chains(), sides, sides)
@settings(max_examples=20)
def test_chains(model: nn.Sequential, height: int, width: int) -> None:
    try:
        is_same_size = not is_cropped(crop_of(model, (height, width)))
    except ValueError:  # No whole stride, or nothing left of the image.
        is_same_size = True
    assume(not is_same_size)
    assert_same(*measured_both_ways(model, (height, width)))


@given(architectures(max_field=60, max_stride=12), st.integers(64, 140), st.integers(64, 140))
@settings(max_examples=5)
def test_searched_architectures(architecture: Any, height: int, width: int) -> None:
    torch.manual_seed(0)
    model = build_model(architecture)
    assert_same(*measured_both_ways(model, (height, width)))


@pytest.mark.parametrize("level", ["P3", "P4"])
def test_levels_of_a_pyramid(level: str) -> None:
    class Pyramid(nn.Module):
        """Two maps that are resized to each other's size and added."""

        def __init__(self) -> None:
            super().__init__()
            self.fine, self.coarse = conv(3, 2, padding=1), conv(3, 2, padding=1)

        def forward(self, images: Tensor) -> dict[str, Tensor]:
            fine = self.fine(images)
            coarse = self.coarse(fine)
            up = F.interpolate(coarse, size=fine.shape[2:], mode="bilinear")
            return {"P3": fine + up, "P4": coarse}

    model = Pyramid()
    assert is_cropped(crop_of(model, (64, 80), level=level))
    assert_same(*measured_both_ways(model, (64, 80), level=level))


def test_field_beyond_one_border() -> None:
    model = nn.Sequential(conv(9, padding=4), nn.GELU(), conv(9, padding=4))
    crop = crop_of(model, (200, 12))
    # The 17 px high field of row 100; of the columns, -2 to 14, all that there are.
    assert crop.kept == (Interval(92, 109), Interval(0, 12))
    whole, cropped = measured_both_ways(model, (200, 12))
    assert cropped.clipped == pytest.approx(1 - 12 / 17)
    assert_same(whole, cropped)


def test_channels_last() -> None:
    model = Run(lambda x, c: c(x).permute(0, 3, 2, 1), conv(3, 2, padding=1))
    assert crop_of(model, (60, 90)).size == (4, 4)
    assert_same(*measured_both_ways(model, (60, 90)))


# What is saved, and where.


class Run(nn.Module):
    """A function of the images and of one layer."""

    def __init__(self, function: Function, layer: nn.Module) -> None:
        super().__init__()
        self.function, self.layer = function, layer

    def forward(self, images: Tensor) -> Any:
        return self.function(images, self.layer)


def test_network_sees_the_crop_alone() -> None:
    seen: list[tuple[int, ...]] = []

    def watch(images: Tensor, layer: nn.Module) -> Any:
        seen.append(tuple(images.shape))
        return layer(images)

    measure_erf(Run(watch, conv(5, padding=2)), 50, num_images=3, relative_error=None)
    # Resolved, traced in whole and cropped and with a border of a period, compared, and measured.
    assert seen == [
        (1, 3, 50, 50), (1, 3, 50, 50),
        (1, 3, 5, 5), (1, 3, 8, 8), (1, 3, 8, 8), (1, 3, 5, 5), (3, 3, 5, 5),
    ]  # fmt: skip


def test_calibration_sees_whole_images() -> None:
    model = nn.Sequential(conv(3), nn.BatchNorm2d(3), nn.ReLU(), conv(3))
    images = torch.zeros(4, 3, 40, 40)
    images[..., :16] = torch.randn(4, 3, 40, 16)
    cropped, whole = measured_both_ways(model, 40, images=images)
    assert cropped.calibrated
    assert_same(cropped, whole)


def test_large_fields_are_not_cropped() -> None:
    for kernel_size, cropped in ((13, True), (15, False)):
        model = conv(kernel_size)
        assert is_cropped(crop_of(model, 20)) == cropped, kernel_size


def gate(images: Tensor, layer: nn.Module) -> Any:
    x = layer(images)
    return x * torch.sigmoid(x.mean((2, 3), keepdim=True))


def resized(images: Tensor, layer: nn.Module) -> Any:
    return layer(F.interpolate(images, size=(40, 40), mode="bilinear"))


def corners(images: Tensor, layer: nn.Module) -> Any:
    up = F.interpolate(layer(images), scale_factor=2, mode="bilinear", align_corners=True)
    return layer(up)


def places(images: Tensor, layer: nn.Module) -> Any:
    x = layer(images)
    return x + torch.linspace(0, 1, x.shape[-1])


def by_size(images: Tensor, layer: nn.Module) -> Any:
    return layer(images / images.shape[-1])


def hidden_border(images: Tensor, layer: nn.Module) -> Any:
    # What is cut off here and padded again there lies inside the field.
    return layer(F.pad(images[..., 4:-4, 4:-4], (4, 4, 4, 4)))


def one_size(images: Tensor, layer: nn.Module) -> Any:
    if images.shape[-1] != 60:
        raise RuntimeError("takes 60 px alone")
    return layer(images)


def off_the_map(images: Tensor, layer: nn.Module) -> Any:
    # The middle unit sees what lies 20 px before its own place.
    return layer(F.pad(images, (20, -20, 20, -20)))


@pytest.mark.parametrize(
    "function", [gate, resized, corners, places, by_size, hidden_border, off_the_map, one_size]
)
def test_whole_images_where_a_crop_would_change_the_result(
    function: Function,
) -> None:
    model = Run(function, conv(3, padding=1))
    assert not is_cropped(crop_of(model, 60))
    assert measure_erf(model, 60, num_images=2).map.shape == (60, 60)


def test_model_that_remembers_the_first_size() -> None:
    class Remembering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = conv(3, padding=1)
            self.mask: Tensor | None = None

        def forward(self, images: Tensor) -> Any:
            if images.is_meta:
                return self.layer(images)
            if self.mask is None:
                self.mask = torch.ones_like(images[:1])
            return self.layer(images * self.mask)

    assert not is_cropped(crop_of(Remembering(), 60))
    assert measure_erf(Remembering(), 60, num_images=2).size == 3


@pytest.mark.parametrize("norm", [nn.GroupNorm(1, 3), nn.InstanceNorm2d(3)])
def test_norms_over_space(norm: nn.Module) -> None:
    assert not is_cropped(crop_of(nn.Sequential(conv(3), norm, conv(3)), 60))
    # The layer before it is not concerned.
    assert is_cropped(crop_of(nn.Sequential(conv(3), norm, conv(3)), 60, layer="0"))


def test_unit_that_is_not_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = conv(3)
    assert is_cropped(crop_of(model, 60))
    elsewhere = Unit((slice(None), 0, 0), ByAxis(Interval(0, 4), Interval(0, 3)))
    monkeypatch.setattr(erf_crop, "traced_unit", lambda *_, **__: elsewhere)
    assert not is_cropped(crop_of(model, 60))
