from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from helpers import architecture, resnet, stage_dict
from PIL import Image
from torch import Tensor, nn

from rfsearch.field.erf_map import Center
from rfsearch.field.receptive_field import ReceptiveField, window
from rfsearch.measure.erf import measure_erf
from rfsearch.measure.latency import measure_latency
from rfsearch.network.architecture import Architecture
from rfsearch.network.model import SearchedNetwork, build_model
from rfsearch.network.network_folder import load_network

STRIDED = architecture(
    stage_dict("plain", 8, 2, (3,)), stage_dict("basic", 8, 2, (3,)), stride=2, width=8
)


def build(arch: Architecture = STRIDED, in_chans: int = 3) -> SearchedNetwork:
    torch.manual_seed(0)
    return build_model(arch, in_chans=in_chans, num_classes=2)


def calibrated(model: nn.Module) -> nn.Module:
    """The model, whose batch statistics count as set."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked += 1
    return model


class Known(nn.Module):
    """A module that knows its field, so that it is not probed."""

    def __init__(self, body: nn.Module, field: ReceptiveField, level: str = "C2") -> None:
        super().__init__()
        self.body = body
        self.fields = {level: field}

    def receptive_fields(self) -> dict[str, ReceptiveField]:
        return self.fields

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.body(x)
        return output


def flat_convolution(
    kernel_size: int, in_channels: int = 1, stride: int = 1, padding: int = 0, dilation: int = 1
) -> nn.Conv2d:
    """A convolution whose weights are all one."""
    layer = nn.Conv2d(in_channels, 1, kernel_size, stride, padding, dilation, bias=False)
    nn.init.ones_(layer.weight)
    return layer


def square(height: int, width: int, rows: slice, columns: slice) -> np.ndarray[Any, Any]:
    expected = np.zeros((height, width))
    expected[rows, columns] = 1
    return expected / expected.sum()


# -- known cases -----------------------------------------------------------------------------


def test_flat_convolution_is_an_exact_square() -> None:
    erf = measure_erf(flat_convolution(5, padding=2), 15)
    np.testing.assert_allclose(erf.map, square(15, 15, slice(5, 10), slice(5, 10)))
    np.testing.assert_allclose(erf.power, erf.map)
    assert erf.center == Center(7.0, 7.0)
    assert (erf.size, erf.fwhm, erf.theoretical_size) == (5, 5, 5)
    assert erf.sigma == pytest.approx(math.sqrt((5**2 - 1) / 12))
    assert erf.ratio == 1.0
    assert erf.area_ratio(0.95) == pytest.approx(25 / 225)
    assert erf.fraction_above() == 1.0
    assert erf.clipped == 0.0
    assert erf.standard_error == 0.0
    assert erf.num_images == 4  # All alike, so that the first look is enough.
    assert not erf.calibrated
    assert erf.reset_scales == ()


def test_even_kernel_is_centred_between_pixels() -> None:
    erf = measure_erf(flat_convolution(4), 12)
    # Nine units; the middle one sees pixels 4 to 7.
    np.testing.assert_allclose(erf.map, square(12, 12, slice(4, 8), slice(4, 8)))
    assert erf.center == Center(5.5, 5.5)
    assert (erf.size, erf.theoretical_size) == (4, 4)
    assert erf.sigma == pytest.approx(math.sqrt((4**2 - 1) / 12))


def test_non_square_input() -> None:
    erf = measure_erf(flat_convolution(3, padding=1), (9, 21))
    np.testing.assert_allclose(erf.map, square(9, 21, slice(3, 6), slice(9, 12)))
    assert erf.center == Center(4.0, 10.0)
    assert erf.size == 3


@pytest.mark.parametrize("in_channels", [1, 3])
def test_grey_and_colour(in_channels: int) -> None:
    erf = measure_erf(flat_convolution(3, in_channels, padding=1), 9)
    np.testing.assert_allclose(erf.map, square(9, 9, slice(3, 6), slice(3, 6)))
    images = torch.randn(2, in_channels, 9, 9)
    assert measure_erf(flat_convolution(3, in_channels, padding=1), 9, images).size == 3


def test_dilated_convolution() -> None:
    erf = measure_erf(flat_convolution(3, padding=2, dilation=2), 11)
    np.testing.assert_allclose(erf.map, square(11, 11, slice(3, 8, 2), slice(3, 8, 2)))
    assert erf.sigma == pytest.approx(2 * math.sqrt(2 / 3))


def test_centre_is_the_units_own() -> None:
    # Units of a 2x2 pooling-like layer with stride 8: the third of four sees pixels 16 to 17,
    # while the image's middle is 15.5.
    erf = measure_erf(flat_convolution(2, stride=8), 32)
    np.testing.assert_allclose(erf.map, square(32, 32, slice(16, 18), slice(16, 18)))
    assert erf.center == Center(16.5, 16.5)
    assert erf.size == 2
    assert erf.sigma == pytest.approx(0.5)


@pytest.mark.parametrize("input_size", [(48, 64), (49, 63), (51, 80)])
def test_centre_of_a_strided_network(input_size: tuple[int, int]) -> None:
    model, field = build(), STRIDED.receptive_field()
    erf = measure_erf(model, input_size, num_images=2)
    rows, columns = model.forward_features(torch.zeros(1, 3, *input_size)).shape[2:]
    assert erf.center == Center(field.center_of(rows // 2), field.center_of(columns // 2))
    # Nothing lies outside the unit's receptive field, and its border is reached.
    for axis, unit in ((1, rows // 2), (0, columns // 2)):
        (seen,) = np.nonzero(erf.map.sum(axis=axis))
        first = field.start + unit * field.stride
        assert (seen[0], seen[-1]) == (first, first + field.size - 1)


def test_map_and_power_sum_to_one() -> None:
    erf = measure_erf(build(), 48, num_images=3)
    assert erf.map.shape == erf.power.shape == (48, 48)
    assert erf.map.sum() == pytest.approx(1)
    assert erf.power.sum() == pytest.approx(1)
    assert 1 < erf.size <= erf.theoretical_size == STRIDED.receptive_field().size
    assert math.isfinite(erf.standard_error)


def test_probed_and_known_fields_agree() -> None:
    probed = measure_erf(flat_convolution(3, stride=2, padding=1), 20)
    known = measure_erf(Known(flat_convolution(3, stride=2, padding=1), window(3, 2)), 20)
    assert probed.center == known.center == Center(10.0, 10.0)
    assert probed.theoretical_size == known.theoretical_size == 3


# -- what the numbers do not depend on -------------------------------------------------------


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_numbers_are_free_of_scale(factor: float) -> None:
    model = build().eval()
    model.stages.train(False)
    scaled = copy.deepcopy(model)
    last = scaled.get_parameter("stages.1.0.conv2_kxk.bn.weight")
    shortcut = scaled.get_parameter("stages.1.0.shortcut.bn.weight")
    with torch.no_grad():
        last *= factor
        shortcut *= factor
    one, other = (measure_erf(net, 48, num_images=4) for net in (model, scaled))
    assert one.size == other.size
    assert one.fwhm == other.fwhm
    assert one.sigma == pytest.approx(other.sigma, rel=1e-6)
    np.testing.assert_allclose(one.map, other.map, rtol=1e-4, atol=1e-9)


class SquaredInput(nn.Module):
    """The sum of squares under a window, whose gradient is twice the image there."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.conv = flat_convolution(kernel_size, padding=kernel_size // 2)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.conv(x**2)
        return output


def test_images_weigh_alike() -> None:
    images = torch.ones(2, 1, 9, 9)
    images[0, :, :, :4] = 3.0
    images[1] *= 1e3
    erf = measure_erf(Known(SquaredInput(3), window(3)), 9, images)
    # The middle unit sees columns 3, 4 and 5: shares 3, 1, 1 of the first image's gradient.
    columns = (np.array([3, 1, 1]) / 5 + np.array([1, 1, 1]) / 3) / 2
    np.testing.assert_allclose(erf.map.sum(axis=0)[3:6], columns, rtol=1e-6)


def test_batches_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    model = calibrated(build())
    whole = measure_erf(model, 48, num_images=5, relative_error=None)
    monkeypatch.setattr("rfsearch.measure._images._PIXELS_PER_PASS", 2 * 48 * 48)
    parts = measure_erf(model, 48, num_images=5, relative_error=None)
    # The random signs are drawn in the same order, whatever the batches.
    assert parts.num_images == whole.num_images == 5
    np.testing.assert_allclose(parts.map, whole.map, rtol=1e-4, atol=1e-9)


def test_seed_decides() -> None:
    first, again, other = (measure_erf(build(), 48, num_images=2, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.map, again.map)
    assert not np.array_equal(first.map, other.map)


def test_half_precision_networks_take_half_precision_images() -> None:
    erf = measure_erf(flat_convolution(3, padding=1).to(torch.bfloat16), 9, num_images=2)
    assert (erf.size, erf.map.dtype) == (3, np.float64)


def test_global_random_state_is_untouched() -> None:
    model = build()
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    measure_erf(model, 48, num_images=2)
    assert torch.equal(torch.random.get_rng_state(), before)


# -- images ----------------------------------------------------------------------------------


def test_given_images_are_used() -> None:
    torch.manual_seed(7)
    images = torch.randn(3, 3, 48, 48)
    erf = measure_erf(build(), 48, images)
    assert erf.num_images == 3
    assert not np.array_equal(erf.map, measure_erf(build(), 48, num_images=3).map)
    assert not images.requires_grad


def test_single_image_has_no_standard_error() -> None:
    assert math.isnan(measure_erf(build(), 48, num_images=1).standard_error)


def test_standard_error_is_over_images() -> None:
    # The first image's ERF is one pixel and the second's the whole window.
    images = torch.ones(2, 1, 9, 9)
    images[0] = 0
    images[0, :, 4, 4] = 1
    erf = measure_erf(Known(SquaredInput(5), window(5)), 9, images)
    # Between pixels: 95 % of the first's one pixel; of the second's 25, 9 lie within 3 px.
    sides = [0.95, 3 + 2 * (0.95 - 9 / 25) / (1 - 9 / 25)]
    assert erf.standard_error == pytest.approx(float(np.std(sides, ddof=1)) / math.sqrt(2))


def test_images_without_a_gradient_do_not_count() -> None:
    images = torch.ones(3, 1, 9, 9)
    images[1] = 0
    erf = measure_erf(Known(SquaredInput(5), window(5)), 9, images)
    assert (erf.num_images, erf.size) == (2, 5)


def test_images_of_another_size() -> None:
    images = torch.zeros(1, 3, 48, 40)
    with pytest.raises(ValueError, match=r"must be 48x48 px .* but got 48x40 px\.$"):
        measure_erf(build(), 48, images)


# -- the border ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("input_size", "clipped"),
    [
        ((20, 20), 0.0),
        ((9, 9), 0.0),
        ((5, 20), 1 - 5 / 9),
        ((5, 5), 1 - 25 / 81),
        # The middle unit of four sees pixels -2 to 6, of which four exist.
        ((4, 20), 1 - 4 / 9),
        # That of six sees -1 to 7.
        ((6, 20), 1 - 6 / 9),
        ((8, 20), 1 - 8 / 9),
    ],
)
def test_clipped_share_is_exact(input_size: tuple[int, int], clipped: float) -> None:
    model = Known(flat_convolution(9, padding=4), window(9))
    erf = measure_erf(model, input_size, num_images=1)
    assert erf.clipped == pytest.approx(clipped)
    assert np.count_nonzero(erf.map) == round(81 * (1 - clipped))


def test_network_larger_than_its_input() -> None:
    arch = resnet("basic", (2, 2, 2), width=4)
    size, stride = arch.receptive_field().size, arch.receptive_field().stride
    erf = measure_erf(build(arch), 64, num_images=2)
    assert (size, stride) == (211, 16)
    assert erf.clipped == pytest.approx(1 - (64 / 211) ** 2)
    assert erf.theoretical_size == 211


# -- the model is left as it was found -------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_model_is_left_as_it_was_found(training: bool) -> None:
    model = build().train(training)
    model.stem.requires_grad_(False)
    model.stages[0].train(not training)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    flags = {name: module.training for name, module in model.named_modules()}
    frozen = {name: p.requires_grad for name, p in model.named_parameters()}
    momenta = [m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)]

    erf = measure_erf(model, 48, num_images=2)

    assert erf.calibrated
    after = model.state_dict()
    assert weights.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in weights.items())
    assert flags == {name: module.training for name, module in model.named_modules()}
    assert frozen == {name: p.requires_grad for name, p in model.named_parameters()}
    assert momenta == [m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(p.grad is None for p in model.parameters())


def test_gradients_of_the_model_are_kept() -> None:
    model = build()
    model(torch.randn(2, 3, 48, 48)).sum().backward()
    before = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    measure_erf(model, 48, num_images=2)
    assert len(before) == len(list(model.parameters()))
    for name, gradient in before.items():
        kept = model.get_parameter(name).grad
        assert kept is not None
        assert torch.equal(kept, gradient)


# -- calibration -----------------------------------------------------------------------------


def test_unset_statistics_are_calibrated() -> None:
    layers = nn.Sequential(flat_convolution(3, padding=1), nn.BatchNorm2d(1), nn.ReLU())
    model = Known(layers, window(3))
    assert measure_erf(model, 15, num_images=4).calibrated
    model.train()
    model(torch.randn(2, 1, 15, 15))
    assert not measure_erf(model, 15, num_images=4).calibrated


def test_calibration_centres_the_activations() -> None:
    # Images of mean 100 leave every rectifier of an uncalibrated network open.
    layers = nn.Sequential(flat_convolution(3, padding=0), nn.BatchNorm2d(1), nn.ReLU())
    model = Known(layers, window(3, padding=0))
    torch.manual_seed(0)
    erf = measure_erf(model, 9, torch.randn(64, 1, 9, 9) - 100, relative_error=None)
    # About half of the images leave the middle unit positive, and the others have no gradient.
    assert 20 <= erf.num_images <= 44


def test_statistics_that_are_not_tracked_need_no_calibration() -> None:
    norm = nn.BatchNorm2d(1, track_running_stats=False)
    model = Known(nn.Sequential(flat_convolution(3, padding=1), norm), window(3))
    assert not measure_erf(model, 15, num_images=2).calibrated


class ResidualBlock(nn.Module):
    """A block whose branch is off until it is trained."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 5, padding=2, bias=False)
        self.norm = nn.BatchNorm2d(1)
        nn.init.constant_(self.norm.weight, scale)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.conv(x))


@pytest.mark.parametrize(
    ("scale", "names"),
    [(0.0, ("body.norm.weight",)), (1e-6, ("body.norm.weight",)), (0.01, ()), (1.0, ())],
)
def test_zero_initialised_branches_are_switched_on(scale: float, names: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    model = Known(ResidualBlock(scale), window(5))
    erf = measure_erf(model, 15, num_images=4)
    assert erf.reset_scales == names
    assert model.get_parameter("body.norm.weight").tolist() == pytest.approx([scale])
    # Without its branch the block would be the identity.
    assert (erf.size > 1) == (scale != 0.01)


def test_trained_scales_are_kept() -> None:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3, padding=1)
            self.norm = nn.BatchNorm2d(2)
            with torch.no_grad():
                self.norm.weight.copy_(torch.tensor([0.0, 1e-5]))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.norm(self.conv(x))

    torch.manual_seed(0)
    assert measure_erf(Known(Branch(), window(3)), 9, num_images=2).reset_scales == ()


def test_layer_scale_is_switched_on() -> None:
    class LayerScale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)
            self.gamma = nn.Parameter(torch.full((1,), 1e-6))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.gamma[:, None, None] * self.conv(x)

    torch.manual_seed(0)
    erf = measure_erf(Known(LayerScale(), window(3)), 9, num_images=2)
    assert erf.reset_scales == ("body.gamma",)
    assert erf.size == 3


def test_timm_network_with_zero_initialised_branches() -> None:
    torch.manual_seed(0)
    model = timm.create_model("resnet18", zero_init_last=True)
    # A module that knows its field is not probed, which would be slow.
    model.receptive_fields = resnet("basic", (2, 2, 2, 2)).receptive_fields
    erf = measure_erf(model, 96, num_images=2)
    assert erf.calibrated
    assert erf.reset_scales == tuple(
        f"layer{layer}.{block}.bn2.weight" for layer in (1, 2, 3, 4) for block in (0, 1)
    )
    assert not model.get_parameter("layer1.0.bn2.weight").any()
    assert erf.size > 32  # It is a few px with the branches off.


# -- levels and mistakes ---------------------------------------------------------------------


class Pyramid(nn.Module):
    """Two output maps of different fields."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = flat_convolution(3, padding=1)
        self.coarse = flat_convolution(4, stride=4)

    def receptive_fields(self) -> dict[str, ReceptiveField]:
        return {"P2": window(3), "P4": window(4, 4, padding=0)}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"P2": self.fine(x), "P4": self.coarse(x)}


@pytest.mark.parametrize(("level", "size"), [("P2", 3), ("P4", 4)])
def test_level_is_measured(level: str, size: int) -> None:
    erf = measure_erf(Pyramid(), 16, num_images=1, level=level)
    assert (erf.size, erf.theoretical_size) == (size, size)


@pytest.mark.parametrize("level", ["P3", None])
def test_unknown_level_of_a_pyramid(level: str | None) -> None:
    match = rf"`level` must be one of P2, P4, but got {level!r}\."
    with pytest.raises(ValueError, match=match):
        measure_erf(Pyramid(), 16, num_images=1, level=level)


def test_level_of_a_searched_network() -> None:
    named = measure_erf(build(), 48, num_images=2, level="C3")
    np.testing.assert_array_equal(named.map, measure_erf(build(), 48, num_images=2).map)


def test_classifier_has_no_map() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match=r"must be a map .* but got \(1, 4\); remove its pooling"):
        measure_erf(model, 16, num_images=2)


def test_no_gradient() -> None:
    layer = flat_convolution(3, padding=1)
    nn.init.zeros_(layer.weight)
    with pytest.raises(ValueError, match="No gradient reaches the input"):
        measure_erf(Known(layer, window(3)), 9, num_images=2)


def test_device_is_where_it_is_measured() -> None:
    model = build()
    named = measure_erf(model, 48, num_images=2, device="cpu")
    np.testing.assert_array_equal(named.map, measure_erf(model, 48, num_images=2).map)


# -- stopping --------------------------------------------------------------------------------


def test_measuring_stops_when_the_size_is_known_well_enough() -> None:
    model = calibrated(build())
    loose, tight, never = (
        measure_erf(model, 48, num_images=64, relative_error=error)
        for error in (0.1, 1.5e-3, None)
    )
    assert loose.num_images == 4 < tight.num_images < never.num_images == 64
    assert tight.num_images % 4 == 0
    # Many enough that the margin for few images is small.
    assert 0.75e-3 < tight.standard_error / tight.size < 1.5e-3


def test_largest_number_of_images_is_kept() -> None:
    assert measure_erf(build(), 48, num_images=19, relative_error=1e-9).num_images == 19


def test_a_few_dead_images_do_not_count_as_known() -> None:
    images = torch.ones(24, 1, 9, 9)
    images[2:8] = 0
    # The first two looks see two images with a gradient, which are too few to believe.
    assert measure_erf(Known(SquaredInput(5), window(5)), 9, images).num_images == 6


def test_standard_error_is_honest() -> None:
    """The spread of repeated measurements is what each of them says of itself."""
    model = build()
    repeated = [
        measure_erf(model, 48, num_images=12, relative_error=None, seed=seed) for seed in range(20)
    ]
    spread = float(np.std([erf.side_between_pixels() for erf in repeated], ddof=1))
    stated = float(np.mean([erf.standard_error for erf in repeated]))
    assert 0.6 < spread / stated < 1.6


@pytest.mark.parametrize("error", [0.0, -1.0, float("nan"), math.inf])
def test_impossible_error(error: float) -> None:
    with pytest.raises(ValueError, match="`0 < relative_error <= 1` must hold, but got"):
        measure_erf(build(), 48, relative_error=error)


# -- layers and names ------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["stem", "stages.0.0", "stages.1.0.conv1_kxk"])
def test_layer_is_measured_as_the_network_cut_there(layer: str) -> None:
    model = build()
    erf = measure_erf(model, 48, num_images=4, layer=layer)
    whole = measure_erf(model, 48, num_images=4)
    assert erf.theoretical_size < whole.theoretical_size
    assert erf.sigma < whole.sigma
    # Nothing lies outside of the layer's field, and its border is reached.
    for axis in (0, 1):
        (seen,) = np.nonzero(erf.map.sum(axis=axis))
        assert seen[-1] - seen[0] + 1 == erf.theoretical_size
        assert (seen[0] + seen[-1]) / 2 == erf.center[1 - axis]


def test_last_layer_is_the_output() -> None:
    named = measure_erf(build(), 48, num_images=2, layer="stages.1")
    np.testing.assert_array_equal(named.map, measure_erf(build(), 48, num_images=2).map)


def test_name_of_a_timm_model() -> None:
    named = measure_erf("resnet18", 64, num_images=2, layer="layer1", seed=3)
    torch.manual_seed(3)
    given = measure_erf(timm.create_model("resnet18"), 64, num_images=2, layer="layer1", seed=3)
    np.testing.assert_array_equal(named.map, given.map)
    # He et al.'s stem and two blocks of two 3x3 convolutions: 11 + 4 * 2 * 4.
    assert named.theoretical_size == 43


def test_unknown_timm_model() -> None:
    with pytest.raises(ValueError, match=r"`model` must be a name that timm knows, .* resnet18"):
        measure_erf("resnet81", 64)


def test_pretrained_weights_go_with_names() -> None:
    with pytest.raises(ValueError, match=r"must go with the name of a timm model.*\(Conv2d\)"):
        measure_erf(flat_convolution(3), 9, pretrained=True)


def test_pretrained_weights_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def create(name: str, *, pretrained: bool = False) -> nn.Module:
        asked.append((name, pretrained))
        return flat_convolution(3)

    monkeypatch.setattr("rfsearch.models.timm_models.create_model", create)
    erf = measure_erf("resnet18", 9, pretrained=True)
    assert (erf.size, erf.weights) == (3, "pretrained")
    # Once without data, to see what it takes in.
    assert asked == [("resnet18", False), ("resnet18", True)]


def test_folder_of_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(3):
        values = rng.integers(0, 256, size=(60, 50, 3), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / f"{number}.png")
    erf = measure_erf(build(), 48, tmp_path)
    assert erf.num_images == 3
    assert erf.map.shape == (48, 48)
    with pytest.raises(ValueError, match="there is no such folder of images"):
        measure_erf(build(), 48, str(tmp_path / "none"))


# -- what the door lets in -------------------------------------------------------------------


def test_images_decide_their_channels() -> None:
    class AnyChannels(nn.Module):
        """Sums its channels: nothing says how many there are."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = flat_convolution(3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.conv(x.sum(dim=1, keepdim=True))
            return output

    images = torch.randn(2, 5, 9, 9)
    assert measure_erf(AnyChannels(), 9, images).size == 3
    grey = measure_erf("test_resnet", 64, torch.randn(1, 1, 64, 64), layer="conv1")
    assert grey.theoretical_size == 11
    with pytest.raises(ValueError, match=r"`images` must have `in_chans=3` channels, but have 5"):
        measure_erf(AnyChannels(), 9, images, in_chans=3)


def test_weights_of_a_folder_are_measured(network_folder: Path) -> None:
    erf = measure_erf(network_folder, 24, num_images=2)
    network, _ = load_network(network_folder)
    np.testing.assert_array_equal(erf.map, measure_erf(network, 24, num_images=2).map)
    random = measure_erf(network.architecture, 24, num_images=2, in_chans=2)
    assert not np.array_equal(erf.map, random.map)
    assert erf.weights == f"from {network_folder}"
    assert random.weights == "random initialisation, seed 0"


class Unfollowed(nn.Module):
    """A map that is put together by an operation that the tracer does not know."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return torch.renorm(self.body(x), 2, 0, 1e9)


@pytest.mark.parametrize(
    "body",
    [
        flat_convolution(5, padding=2),
        nn.Sequential(flat_convolution(3, stride=2, padding=1), flat_convolution(3, padding=1)),
        flat_convolution(4, stride=4),
    ],
)
def test_a_map_that_cannot_be_traced_is_measured(body: nn.Module) -> None:
    known, erf = (measure_erf(model, 32) for model in (body, Unfollowed(body)))
    assert "renorm" in erf.untraced
    assert erf.size == known.size
    assert erf.center == known.center
    assert erf.map.shape == (32, 32)
    for number in (erf.theoretical_size, erf.ratio, erf.clipped, erf.fraction_above()):
        assert math.isnan(number)
    assert not known.untraced


def test_tokens_that_cannot_be_traced_are_measured() -> None:
    patches = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.Flatten(2))

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = patches

        def forward(self, x: Tensor) -> Tensor:
            return torch.renorm(self.patches(x).mT, 2, 0, 1e9)

    erf = measure_erf(Tokens(), (48, 64), num_images=2)
    # The token in the middle of 6 by 8: its own patch of 8 px, and nothing else.
    assert erf.map[24:32, 32:40].sum() == pytest.approx(1)


def test_a_model_that_needs_data_is_measured() -> None:
    class ByValue(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = flat_convolution(3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            factor = 2 if x.detach().numpy().mean() > 1e9 else 1
            output: Tensor = self.conv(x) * factor
            return output

    erf = measure_erf(ByValue(), 16)
    assert erf.size == 3
    assert "asks for the values" in erf.untraced


def test_a_map_without_a_gradient_that_cannot_be_traced() -> None:
    class Detached(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.renorm(x, 2, 0, 1e9).detach()

    with pytest.raises(ValueError, match="No gradient reaches the input"):
        measure_erf(Detached(), 8)


def test_description_fits_on_the_screen() -> None:
    text = repr(measure_erf(build(), 48, num_images=2))
    assert len(text.splitlines()) <= 5
    assert "48x48 px, 2 images, weights: the module's own" in text


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_impossible_seed(seed: int) -> None:
    with pytest.raises(ValueError, match=r"`0 <= seed < 2\^32` must hold, but got"):
        measure_erf(build(), 48, seed=seed)


@pytest.mark.parametrize("options", [{}, {"layer": "layer1"}])
def test_images_beyond_the_memory(
    options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rfsearch.basics.limits.machine_memory", lambda: 2**30)
    with pytest.raises(
        ValueError, match=r"The maps of test_resnet for an image of 20000x20000 px"
    ):
        measure_erf("test_resnet", 20_000, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"for a batch of 32 images of 2000x2000 px must fit"):
        measure_latency("test_resnet", 2_000, (32,))


def test_a_small_part_of_a_large_image_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rfsearch.basics.limits.machine_memory", lambda: 2**26)
    # Its maps for the whole image, 8 channels in float32, would take twice as much.
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 1, 3))
    assert measure_erf(model, 2048, num_images=1).theoretical_size == 5


@pytest.mark.gpu
def test_gpu_measures_the_same() -> None:
    model = build()
    on_gpu = measure_erf(model, 48, num_images=8, device="cuda")
    on_cpu = measure_erf(model, 48, num_images=8)
    assert next(model.parameters()).device.type == "cpu"
    assert on_gpu.sigma == pytest.approx(on_cpu.sigma, rel=1e-2)
    assert abs(on_gpu.size - on_cpu.size) <= 1


# -- the size of the images -------------------------------------------------------------------


def blurring(layers: int) -> nn.Module:
    """Convolutions 33 px wide; the field of the output grows by 32 px with each."""
    return nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=16, dilation=16) for _ in range(layers)))


def test_images_are_by_default_as_large_as_the_field() -> None:
    measured = measure_erf(blurring(8), num_images=1)
    assert measured.theoretical_size == 257
    assert measured.clipped == 0
    assert 257 <= min(measured.map.shape) <= 257 + 2 * 32
    assert "too small" not in repr(measured)


def test_images_that_hold_the_field_stay_as_they_are() -> None:
    assert measure_erf(blurring(1), num_images=1).map.shape == (224, 224)


def test_a_size_that_is_given_is_taken_and_what_it_clips_is_said() -> None:
    measured = measure_erf(blurring(8), 128, num_images=1)
    assert measured.map.shape == (128, 128)
    assert measured.clipped > 0
    assert "so the size is too small" in repr(measured)


def test_images_that_are_given_say_the_size() -> None:
    assert measure_erf(blurring(2), images=torch.randn(2, 1, 40, 48)).map.shape == (40, 48)


class OfOneSize(nn.Module):
    """Takes images of 224 px only, of which its units see 257."""

    def __init__(self) -> None:
        super().__init__()
        self.body = blurring(8)

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[-1] == 224
        out: Tensor = self.body(images)
        return out


def test_a_model_that_takes_no_other_size_keeps_its_own() -> None:
    measured = measure_erf(OfOneSize(), num_images=1)
    assert measured.map.shape == (224, 224)
    assert measured.clipped > 0
