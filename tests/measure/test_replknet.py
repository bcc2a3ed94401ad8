from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from helpers import architecture, stage_dict
from torch import nn

from rfsearch.measure._replknet import area_ratio
from rfsearch.measure.erf import MeasuredERF, measure_erf
from rfsearch.network.model import build_model

if TYPE_CHECKING:
    from numpy.typing import NDArray


def published_map(model: nn.Module, images: torch.Tensor) -> NDArray[np.float64]:
    """The published loop, one image at a time."""
    maps = []
    for image in images:
        one = image[None].clone().requires_grad_()
        output = model(one)
        unit = output[:, :, output.shape[2] // 2, output.shape[3] // 2]
        (gradient,) = torch.autograd.grad(nn.functional.relu(unit).sum(), one)
        maps.append(nn.functional.relu(gradient).sum((0, 1)).double().numpy())
    return np.mean(maps, axis=0)


def published_ratio(summed: NDArray[np.float64], share: float) -> float:
    """The published reading of a square map, by the masses of all its squares."""
    logs = np.log10(summed + 1)
    middle = len(logs) // 2
    distance = np.abs(np.arange(len(logs)) - middle)
    reach = np.maximum(distance[:, None], distance)
    for number in range(1, middle):
        if logs[reach <= number].sum() > share * logs.sum():
            return float((2 * number + 1) ** 2 / logs.size)
    return math.nan


def network() -> nn.Module:
    torch.manual_seed(0)
    model = build_model(
        architecture(stage_dict(kernels=(3, 5)), stage_dict(stride=2), width=8), num_classes=0
    ).eval()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked += 1  # The statistics count as set.
    return model


def test_map_and_ratios_are_those_of_the_published_loop() -> None:
    model, images = network(), torch.randn(10, 3, 48, 48)
    # timm's features, which is what the published scripts let their networks return.
    erf = measure_erf(model, 48, images, replknet=True, relative_error=None)
    expected = published_map(_Features(model), images)
    assert erf.replknet_map is not None
    np.testing.assert_allclose(erf.replknet_map, expected, rtol=1e-4, atol=1e-9)
    for share in (0.2, 0.3, 0.5, 0.95):
        assert erf.replknet_area_ratio(share) == published_ratio(expected, share)


class _Features(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        output = self.model.forward_features(images)
        assert isinstance(output, torch.Tensor)
        return output


class SumOfSquares(nn.Module):
    """Under a window of 3 x 3 px, so that the gradient is twice the image there."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        nn.init.ones_(self.conv.weight)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.conv(images**2)
        return output


def test_images_with_nan_are_skipped() -> None:
    images = torch.ones(3, 1, 9, 9)
    images[0] = 2.0
    images[1, 0, 4, 4] = math.nan
    erf = measure_erf(SumOfSquares(), 9, images, replknet=True)
    assert erf.num_images == 2
    assert erf.replknet_map is not None
    # 2 * 2 and 2 * 1, averaged over the two.
    np.testing.assert_allclose(erf.replknet_map[3:6, 3:6], np.full((3, 3), 3.0))
    assert erf.replknet_map.sum() == pytest.approx(27)


def test_the_other_numbers_do_not_change() -> None:
    images = torch.randn(3, 3, 48, 48)
    with_map = measure_erf(network(), 48, images, replknet=True)
    without = measure_erf(network(), 48, images)
    np.testing.assert_array_equal(with_map.map, without.map)


def test_ratio_needs_its_map() -> None:
    erf = measure_erf(network(), 48, num_images=2)
    assert isinstance(erf, MeasuredERF)
    with pytest.raises(ValueError, match=r"measure with `replknet=True`\.$"):
        erf.replknet_area_ratio(0.5)


def test_ratio_is_not_free_of_scale() -> None:
    offsets = np.arange(101) - 50
    profile = np.exp(-(offsets**2) / 200)
    values = np.outer(profile, profile)
    ratios = [area_ratio(factor * values, 0.5) for factor in (1e-4, 1.0, 1e4)]
    assert ratios == sorted(ratios)
    assert ratios[2] > 2 * ratios[0]


def test_no_square_of_the_loop_holds_so_much() -> None:
    values = np.zeros((9, 9))
    values[0, 0] = 1.0
    assert math.isnan(area_ratio(values, 0.5))
