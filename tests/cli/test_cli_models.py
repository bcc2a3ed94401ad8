from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import architecture, resnet

from rfsearch.cli._models import load_model, of_layer, parse_target
from rfsearch.diagnosis.layer_field import LayerField
from rfsearch.diagnosis.network_fields import network_fields
from rfsearch.target.target import ScaleTarget

ARCH = architecture()


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_an_architecture_from_its_dictionary_and_from_a_trial(tmp_path: Path) -> None:
    text = json.dumps(ARCH.to_dict())
    # A trial's attribute is a string, which a database's export may quote again.
    for name, written in (("plain.json", text), ("quoted", json.dumps(text))):
        assert load_model(str(write(tmp_path / name, written)), "32").architecture == ARCH


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.json: cannot be read \(No such file"):
        load_model(str(tmp_path / "a.json"), None)


@pytest.mark.parametrize(
    ("text", "size"), [("96", (96, 96)), ("64x128", (64, 128)), (None, (224, 224))]
)
def test_input_sizes(tmp_path: Path, text: str | None, size: tuple[int, int]) -> None:
    file = write(tmp_path / "a.json", json.dumps(ARCH.to_dict()))
    assert load_model(str(file), text).input_size == size


@pytest.mark.parametrize("text", ["", "0", "64x", "x64", "6.5", "64x64x3x4", "-1", "64x0"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="--input-size must be SIDE or HEIGHTxWIDTH in px"):
        load_model("resnet18", text)


def test_a_timm_model_has_its_own_size() -> None:
    assert load_model("test_resnet", None).input_size == (160, 160)
    assert load_model("test_resnet", None, default_size=224).input_size == (224, 224)
    assert load_model("test_resnet", "96x64").input_size == (96, 64)


def test_an_export_has_its_own_size_and_channels(network_folder: Path) -> None:
    model = load_model(str(network_folder), None, default_size=224)
    assert (model.input_size, model.in_chans) == ((24, 32), 2)
    assert model.weights == f"from {network_folder}"


def test_targets() -> None:
    assert parse_target("24:48") == ScaleTarget(24, 48)
    with pytest.raises(ValueError, match=r"--target must be MIN:MAX in px, .* but got '3'"):
        parse_target("3")


def layers_of(name: str | Path) -> tuple[LayerField, ...]:
    return network_fields(load_model(str(name), "96")).layers


def test_an_architecture_and_a_trace_give_layers_and_outputs(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", json.dumps(resnet("basic", (2, 2, 2, 2)).to_dict()))
    closed, traced = (network_fields(load_model(str(one), None)) for one in (file, "resnet18"))
    assert [one.reach for one in closed.outputs] == [one.reach for one in traced.outputs]
    assert closed.layers[-1].reach == traced.layers[-1].reach


def test_a_layer_and_those_inside_it() -> None:
    layers = layers_of("test_resnet")
    assert of_layer(layers, None) == layers
    names = [one.name for one in of_layer(layers, "layer1")]
    assert names[-1] == "layer1"
    assert all(name == "layer1" or name.startswith("layer1.") for name in names)
    assert [one.name for one in of_layer(layers, "(model)")] == ["(model)"]


def test_a_layer_of_an_architecture(tmp_path: Path) -> None:
    layers = layers_of(write(tmp_path / "a.json", json.dumps(ARCH.to_dict())))
    assert [one.name for one in of_layer(layers, "stage 1")] == ["stage 1 block 1"]


def test_a_layer_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match=r"--layer must be .* 'layer9'; the nearest are layer"):
        of_layer(layers_of("test_resnet"), "layer9")
