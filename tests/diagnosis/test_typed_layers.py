from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

import rfsearch as rfs
from rfsearch.diagnosis._traced_layers import traced_layers
from rfsearch.diagnosis.layer_field import LayerField
from rfsearch.diagnosis.typed_layers import read_layers

WINDOWS = [
    {"kernel_size": 7, "stride": 2, "padding": 3},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "dilation": 2, "padding": 0},
    {"kernel_size": 2, "stride": 2, "padding": 0},
    {"kernel_size": 1, "padding": 0},
]
FILE = """
[[layers]]
name = "conv"
kernel_size = 3
[[layers]]
kernel_size = 2
stride = 2
padding = 0
"""


def test_a_table_is_the_trace_of_the_same_convolutions() -> None:
    model = nn.Sequential(*(nn.Conv2d(1, 1, **window) for window in WINDOWS))
    table = rfs.layer_table(WINDOWS, 97)
    traced = rfs.trace_receptive_field(model, 97).layers[: len(WINDOWS)]
    assert list(table["size"]) == list(traced["height"])
    assert list(table["jump"]) == list(traced["height_stride"])
    assert list(table["start"]) == list(traced["height_start"])
    assert list(table["units"]) == [shape[-1] for shape in traced["output_size"]]


def test_what_the_inputs_of_layers_see_is_known(tmp_path: Path) -> None:
    (tmp_path / "layers.toml").write_text(FILE)
    conv, pool = read_layers(tmp_path / "layers.toml")
    assert [(one.name, one.kind) for one in (conv, pool)] == [
        ("conv", "3x3"),
        ("layer 2", "2x2, stride 2"),
    ]
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.MaxPool2d(2))
    traced = traced_layers(rfs.trace_receptive_field(model, 8), model)
    assert [reached(one) for one in (conv, pool)] == [reached(one) for one in traced[:2]]
    assert not conv.is_unproductive((3, 3))
    assert pool.is_unproductive((3, 3))
    assert not pool.is_unproductive((3, 4))


def reached(layer: LayerField) -> tuple[object, object]:
    return layer.reach, layer.before


def test_a_window_larger_than_its_input_has_no_units() -> None:
    assert list(rfs.layer_table([{"kernel_size": 9, "padding": 0}], 5)["units"]) == [0]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "layer_table: layers: .* at least 1 item"),
        ([{"kernel_size": 3}, {"kernel_size": 0}], "layer 2, kernel_size: .* but got 0"),
        ([{"kernel_size": 3, "strides": 2}], "layer 1, strides: unknown key; allowed keys are"),
        ([{"stride": 2}], "layer 1, kernel_size: missing key"),
        ([{"kernel_size": 3, "padding": -1}], "layer 1, padding: .* but got -1"),
    ],
)
def test_mistakes(layers: list[dict[str, int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rfs.layer_table(layers)
