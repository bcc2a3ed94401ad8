from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from helpers import architecture, stage_dict
from hypothesis import given
from strategies import architectures

from rfsearch.diagnosis.layer_field import (
    Extent,
    LayerField,
    Reach,
    architecture_layers,
    architecture_nodes,
    architecture_outputs,
)
from rfsearch.field.node_fields import unit_grid
from rfsearch.network.architecture import Architecture


def plane(pixels: float) -> Extent:
    return Extent(pixels, pixels)


def test_names_kinds_and_sizes() -> None:
    arch = architecture(
        stage_dict(kernels=(3, 5)),
        stage_dict("basic", stride=2, downsample="max_pool"),
        kernel_size=7,
        stride=2,
        pool="max",
    )
    rows = [
        (one.name, one.kind, one.reach.size.width, one.reach.stride.width)
        for one in architecture_layers(arch)
    ]
    assert rows == [
        ("stem", "stem", 7, 2),
        ("stem pool", "max_pool", 11, 4),
        ("stage 1 block 1", "plain", 19, 4),
        ("stage 1 block 2", "plain", 35, 4),
        ("stage 2 pool", "max_pool", 39, 8),
        ("stage 2 block 1", "basic", 71, 8),
    ]


@given(architectures())
def test_the_last_layer_sees_what_the_output_sees(arch: Architecture) -> None:
    layers, (output,) = architecture_layers(arch), architecture_outputs(arch)
    field, smallest = arch.receptive_field(), unit_grid(arch.lower()).smallest
    assert output.name == arch.levels[0]
    assert layers[-1].reach == output.reach
    assert output.reach == Reach(plane(field.size), plane(smallest), plane(field.stride))


@given(architectures())
def test_each_layer_starts_where_the_one_before_ends(arch: Architecture) -> None:
    layers = architecture_layers(arch)
    assert layers[0].before == Reach(plane(1), plane(1), plane(1))
    for one, following in pairwise(layers):
        assert following.before == one.reach
        assert following.reach.size.low >= one.reach.size.low
    pools = sum(stage.downsample != "conv" for stage in arch.stages) + (arch.stem.pool != "none")
    assert len(layers) == 1 + pools + sum(stage.depth for stage in arch.stages)
    assert len(architecture_nodes(arch)) == len(layers)


def test_growing_and_downsampling() -> None:
    before = Reach(plane(5), plane(5), plane(2))
    grown = LayerField("a", "Conv2d", Reach(plane(9), plane(9), plane(2)), before=before)
    strided = LayerField("b", "Conv2d", Reach(plane(5), plane(5), plane(4)), before=before)
    unknown = LayerField("c", "Mystery", before)
    assert (grown.grows, grown.downsamples) == (True, False)
    assert (strided.grows, strided.downsamples) == (False, True)
    assert (unknown.grows, unknown.downsamples) == (False, False)


def test_a_plane_is_one_number_where_the_axes_agree() -> None:
    assert str(plane(7)) == "7"
    assert str(Extent(7, 3.5)) == "7x3.5"
    assert (Extent(7, 3).low, Extent(7, 3).high) == (3, 7)


# -- necks -----------------------------------------------------------------------------------

HALVED = [stage_dict("plain", 8, 2, (3,)) for _ in range(3)]


@pytest.mark.parametrize(
    ("neck", "names"),
    [
        ({"kind": "aspp", "rates": [2], "width": 4}, ["neck"]),
        ({"kind": "unet", "widths": [4, 4]}, ["neck D3", "neck D2"]),
        ({"kind": "fpn", "width": 4, "num_levels": 3}, ["neck P4", "neck P3", "neck P2"]),
        ({"kind": "merge", "width": 4}, ["neck M2"]),
    ],
)
def test_layers_and_outputs_of_necks(neck: dict[str, Any], names: list[str]) -> None:
    arch = architecture(*HALVED, neck=neck)
    layers = architecture_layers(arch)[4:]
    assert [layer.name for layer in layers] == names
    assert {layer.kind for layer in layers} == {neck["kind"]}
    fields = arch.receptive_fields()
    outputs = {output.name: output.reach for output in architecture_outputs(arch)}
    assert tuple(outputs) == tuple(fields)
    for level, field in fields.items():
        assert outputs[level].size == plane(field.size)
        assert outputs[level].stride == plane(field.stride)
    assert layers[-1].reach == next(iter(outputs.values()))
    # A rule about layers that add nothing asks what a layer adds to the one before.
    assert [layer.grows for layer in layers] == [neck["kind"] == "aspp"] * len(layers)


@pytest.mark.parametrize("num_axes", [1, 2, 3])
def test_architectures_of_any_number_of_axes(num_axes: int) -> None:
    arch = Architecture.from_dict({**architecture().to_dict(), "num_axes": num_axes})
    (output,) = architecture_outputs(arch)
    size = arch.receptive_field(axis=arch.axes[-1]).size
    assert output.reach.size == (size,) * num_axes
    assert architecture_layers(arch)[-1].reach == output.reach
    assert output.expected_size == arch.expected_erf().size
    assert output.reach.size.named == dict.fromkeys(arch.axes, size)


def test_rectangular_kernels_are_seen_along_each_axis() -> None:
    described = architecture().to_dict()
    for stage in described["stages"]:
        for block in stage["blocks"]:
            block["kernel_size"] = [3, 7]
    arch = Architecture.from_dict(described)
    (output,) = architecture_outputs(arch)
    assert output.reach.size.named == {
        axis: arch.receptive_field(axis=axis).size for axis in ("height", "width")
    }
    assert output.reach.size.height < output.reach.size.width
