from __future__ import annotations

import pytest
import timm
import torch
from helpers import architecture, stage_dict
from torch import Tensor, nn

from rfsearch.basics.axes import ByAxis
from rfsearch.field.erf_map import Center
from rfsearch.field.node_fields import unit_grid
from rfsearch.field.unit_grid import Interval
from rfsearch.measure.erf import measure_erf
from rfsearch.measure.read import reader
from rfsearch.measure.unit import Unit, find_unit
from rfsearch.models.resolve import resolve_model
from rfsearch.network.model import build_model
from rfsearch.retrofit.changes import retrofit
from rfsearch.training.traced_network import TracedNetwork


def unit_of(model: nn.Module, size: int | tuple[int, int], layer: str | None = None) -> Unit:
    read = reader(model, layer, None)
    return find_unit(resolve_model(model, size), read, level=None, layer=layer)


def test_numbers_of_a_unit() -> None:
    unit = Unit((slice(None), 0, 0), ByAxis(Interval(-2, 7), Interval(3, 8)))
    assert unit.center == Center(2, 5)
    assert unit.theoretical_size == 9
    assert unit.clipped((20, 20)) == pytest.approx(2 / 9)
    assert unit.clipped((5, 6)) == pytest.approx(1 - 5 / 9 * 3 / 5)


@pytest.mark.parametrize("scale", [1.5, 3])
def test_units_whose_stride_is_no_whole_number_see_whole_pixels(scale: float) -> None:
    layers = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1))
    enlarged = retrofit(layers, {"0": {"scale": scale}}, 24)
    model = TracedNetwork(enlarged, 1, 0, (24, 24))
    (field,) = model.receptive_fields().values()
    assert field.stride % 1
    unit = find_unit(resolve_model(model, 24), reader(model, None, None), level=None, layer=None)
    assert all(isinstance(side, int) for axis in unit.field for side in axis)
    assert 0 < measure_erf(model, 24).size <= field.size


def test_middle_of_a_traced_map() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 5, padding=2))
    unit = unit_of(model, (20, 31))
    assert unit.index == (slice(None), 5, 8)
    # The first layer's unit i sees from 2i - 1 on, 3 px; the second's sees 5 of those.
    assert unit.field == (Interval(5, 16), Interval(11, 22))


@pytest.mark.parametrize("side", [64, 80, 96])
def test_a_unit_behind_an_upsampling_sees_what_unit_0_does(side: int) -> None:
    # Eight units of P2 lie over one of the last stage, whose stride is 16 px.
    stages = [stage_dict("plain", 4, stride, (3,)) for stride in (2, 2, 2, 2)]
    arch = architecture(*stages, width=4, neck={"kind": "fpn", "width": 4, "num_levels": 4})
    model = build_model(arch, num_classes=0)
    read = reader(model, None, "P2")
    unit = find_unit(resolve_model(model, side), read, level="P2", layer=None)
    row, column = unit.index[1:]
    assert row == column == side // 2 // 16 * 8
    grid = unit_grid(arch.lower(level="P2"))
    assert grid.period == 8
    assert unit.field.height == unit.field.width == grid.interval(row)
    first = grid.interval(0)
    assert unit.field.height == (
        first.start + side // 2 // 16 * 16,
        first.stop + side // 2 // 16 * 16,
    )


def test_channels_last() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, images: Tensor) -> Tensor:
            output: Tensor = self.conv(images)
            return output.permute(0, 2, 3, 1)

    unit = unit_of(Last(), (9, 12))
    assert unit.index == (4, 6, slice(None))
    assert unit.field.height == Interval(3, 6)
    assert measure_erf(Last(), (9, 12), num_images=2).size == 3


@pytest.mark.parametrize(
    ("name", "in_front"),
    [("vit_tiny_patch16_224", 1), ("deit_tiny_distilled_patch16_224", 2)],
)
def test_tokens(name: str, in_front: int) -> None:
    with torch.random.fork_rng(devices=[]):
        model = timm.create_model(name, depth=1)
    unit = unit_of(model, 224)
    # Patch (7, 7) of 14 x 14, row by row.
    assert unit.index == (in_front + 7 * 14 + 7, slice(None))
    assert unit.field.height == unit.field.width == Interval(112, 128)
    # Before any attention, it sees that patch alone.
    erf = measure_erf(model, 224, num_images=1, layer="patch_embed")
    assert (erf.map[112:128, 112:128].sum(), erf.center) == (
        pytest.approx(1),
        Center(119.5, 119.5),
    )


@pytest.mark.parametrize("layer", ["1", "2"])
def test_pooled_units_have_no_place(layer: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match=rf"those of layer `{layer}` do not: .* pooling over the"):
        unit_of(model, 16, layer)


def test_mixed_axes_are_no_map() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(2), nn.Unflatten(2, (98, 2)))
    with pytest.raises(ValueError, match=r"one dimension for the height .* `2` \(1, 4, 98, 2\)"):
        unit_of(model, 16, "2")


def test_mistake_is_told_as_it_is() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match=r"^The model's output must be a map"):
        unit_of(model, 16)


def test_a_row_that_was_squeezed_away_has_units_along_the_other_axis() -> None:
    class Row(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).squeeze(2)

    erf = measure_erf(Row(2, 4, (1, 9), padding=(0, 4)), (1, 64), num_images=2)
    assert (erf.map.shape, erf.theoretical_sizes) == ((1, 64), (1, 9))
    assert erf.axes["width"].size == 9
