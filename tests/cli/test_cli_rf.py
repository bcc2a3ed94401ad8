from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import architecture, refusal, resnet, rfsearch, stage_dict
from PIL import Image
from torch import Tensor, nn

from rfsearch.cli.rf import changes
from rfsearch.diagnosis.layer_field import Extent, LayerField, Reach
from rfsearch.target.bands import BOUNDS
from rfsearch.trace.trace import trace_receptive_field


def output_of(*arguments: str | Path) -> str:
    result = rfsearch("rf", *arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def rows(text: str) -> dict[str, list[str]]:
    """The cells of a table's lines by their first."""
    return {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}


def test_the_table_of_a_residual_network() -> None:
    lines = rows(output_of("resnet18"))
    assert lines["conv1"] == ["Conv2d", "7", "7", "7", "2", "edges"]
    assert lines["maxpool"] == ["MaxPool2d", "11", "11", "11", "4", "edges"]
    assert lines["layer1.0.conv1"] == ["Conv2d", "19", "19", "19", "4", "edges"]
    assert lines["layer1.0"] == ["BasicBlock", "27", "27", "11", "4", "edges"]
    assert lines["layer4.1"] == ["BasicBlock", "435", "275", "11", "32", "objects"]
    assert lines["global_pool.pool"][1:] == ["435", "275", "11", "32", "image"]
    assert lines["output"] == ["435", "275", "11", "32", "image"]
    assert "bn1" not in lines


def test_it_fits_into_80_columns_with_a_source_for_the_bands() -> None:
    text = output_of("efficientnet_b0")
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    words = " ".join(text.split())
    assert "from an RF of 45 px on, parts from 90 px, all of it from 122 px" in words
    assert "a rule of thumb after Zeiler and Fergus (2014, figure 2)" in words


def test_all_layers_on_request() -> None:
    assert "bn1" in rows(output_of("resnet18", "--all"))


def test_what_layers_see_is_relative_to_the_target() -> None:
    lines = rows(output_of("resnet18", "--target", "20:50"))
    assert lines["maxpool"][-1] == "textures"
    assert lines["layer1.0"][-1] == "parts"
    assert lines["layer1.1"][-1] == "objects"


def test_one_layer_and_what_is_inside() -> None:
    lines = rows(output_of("resnet18", "--layer", "layer1.0", "--all"))
    assert {"layer1.0", "layer1.0.bn1"} <= set(lines)
    assert "layer1.1" not in lines


def test_json_has_every_layer_and_output() -> None:
    data = json.loads(output_of("resnet18", "--input-size", "96x64", "--json"))
    traced = trace_receptive_field("resnet18", (96, 64))
    assert data["model"] == "resnet18"
    assert data["input_size"] == [96, 64]
    assert data["global_layers"] == ["global_pool.pool"]
    assert [one["name"] or "(model)" for one in data["layers"]] == [
        name or "(model)" for name in traced.layers["name"]
    ]
    assert [one["rf_width"] for one in data["layers"]] == list(traced.layers["width"])
    assert data["outputs"] == [data["layers"][-1] | {"name": "output", "type": "output"}]
    assert data["object_size"] == 64
    assert list(data["bands"].values()) == [0, *(bound * 64 for bound in BOUNDS)]


def test_csv_can_be_read_back() -> None:
    text = output_of("resnet18", "--csv")
    data = json.loads(output_of("resnet18", "--json"))
    table = list(csv.DictReader(io.StringIO(text)))
    assert [{key: str(value) for key, value in one.items()} for one in data["layers"]] == table


def test_an_architecture_in_closed_form(tmp_path: Path) -> None:
    file = tmp_path / "arch.json"
    file.write_text(json.dumps(resnet("bottleneck", (3, 4, 6, 3)).to_dict()))
    data = json.loads(output_of(file, "--json"))
    assert data["layers"][-1]["name"] == "stage 4 block 3"
    assert [(one["name"], one["rf_width"]) for one in data["outputs"]] == [("C5", 427)]


LAYERS = """
[[layers]]
name = "conv"
kernel_size = 3
[[layers]]
name = "pool"
kernel_size = 2
stride = 2
padding = 0
"""


def test_layers_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "layers.toml"
    file.write_text(LAYERS)
    lines = rows(output_of(file))
    assert lines["conv"][:5] == ["3x3", "3", "3", "3", "1"]
    assert lines["output"][:4] == ["4", "4", "4", "2"]
    data = json.loads(output_of(file, "--input-size", "32", "--json"))
    assert data["input_size"] == [32, 32]
    assert [one["rf_width"] for one in data["layers"]] == [3, 4]


def test_growth_as_a_figure(tmp_path: Path) -> None:
    picture = tmp_path / "growth.png"
    output_of("vgg11", "--input-size", "32", "--target", "8:16", "--out", picture)
    with Image.open(picture) as image:
        assert min(image.size) > 400


def plane(size: float) -> Reach:
    return Reach(Extent(size, size), Extent(size, size), Extent(1, 1))


def test_one_of_each_run_of_layers_is_shown() -> None:
    layers = [
        LayerField("a.conv", "Conv2d", plane(3)),
        LayerField("a.bn", "BatchNorm2d", plane(3)),
        LayerField("a.act", "ReLU", plane(5)),
        LayerField("a", "Block", plane(5)),
        LayerField("b.gate", "Gate", plane(5), is_global=True),
        LayerField("c.act", "ReLU", plane(7)),
    ]
    assert [one.name for one in changes(layers)] == ["a.conv", "a", "b.gate", "c.act"]


def test_a_folder_of_an_export(network_folder: Path) -> None:
    data = json.loads(output_of(network_folder, "--json"))
    assert (data["input_size"], data["outputs"][0]["rf_width"]) == ([24, 32], 7)


def test_an_output_that_cannot_be_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unfollowed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.renorm(x, 2, 0, 1e9)

    def create(name: str, **_: object) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 1, 3), Unfollowed())

    monkeypatch.setattr("rfsearch.models.timm_models.create_model", create)
    with pytest.warns(UserWarning, match="`output` could not be followed: The operation is not"):
        result = rfsearch("rf", "test_resnet", "--json")
    data = json.loads(result.stdout)
    assert [one["name"] for one in data["layers"]] == ["0"]
    assert list(data["unfollowed"]) == ["output"]
    assert data["outputs"] == []


# -- mistakes of the user ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet81"], "`model` must be a name that timm knows, but got 'resnet81'; the nearest"),
        (["vit_tiny_patch16_224", "--input-size", "100"], "must run at an input of 100x100 px"),
        (["resnet18", "--layer", "layer9"], "--layer must be a layer of the model, but got"),
        (["resnet18", "--target", "24"], "--target must be MIN:MAX in px, as 24:96"),
        (["resnet18", "--target", "9:3"], "`0 < min_size <= max_size` must hold"),
        (["resnet18", "--input-size", "big"], "--input-size must be SIDE or HEIGHTxWIDTH"),
        (["resnet18", "--json", "--csv"], "Only one of --json and --csv"),
        (["nothing.toml"], "nothing.toml: cannot be read (No such file or directory)"),
        (["resnet18", "--out", "growth.jpg"], "--out must name a PNG file, but got 'growth.jpg'"),
        (["nothing.json"], "nothing.json: cannot be read (No such file or directory)"),
    ],
)
def test_mistakes(arguments: list[str], message: str) -> None:
    assert message in refusal(rfsearch("rf", *arguments))


def test_an_image_too_small_for_an_architecture(tmp_path: Path) -> None:
    file = tmp_path / "arch.json"
    pooled = architecture(stage_dict(stride=4, downsample="max_pool"))
    file.write_text(json.dumps(pooled.to_dict()))
    refusal(rfsearch("rf", file, "--input-size", "2"))


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("boom")

    monkeypatch.setattr("rfsearch.target.bands.band", fail)
    result = rfsearch("rf", "test_resnet")
    assert type(result.exception) is ValueError
    assert "error:" not in result.stderr


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from rfsearch.cli.main import main; sys.argv = ['rfsearch', '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "doctor" in run.stdout
    heavy = {"torch", "pandas", "timm", "optuna", "matplotlib", "numpy", "pydantic"}
    assert heavy & set(run.stderr.split()) == set()


def test_an_architecture_loads_neither_torch_nor_timm(tmp_path: Path) -> None:
    file = tmp_path / "arch.json"
    file.write_text(json.dumps(architecture().to_dict()))
    code = (
        "import sys; from rfsearch.cli.main import main\n"
        f"sys.argv = ['rfsearch', 'rf', {str(file)!r}]\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "stage 1 block 1" in run.stdout
    assert {"torch", "timm", "pandas"} & set(run.stderr.split()) == set()


def test_fractions_are_exact() -> None:
    # Patches of 16 px of an image that was resized from 240 to 224 px.
    data = json.loads(output_of("crossvit_9_240", "--json"))
    assert [one["stride_height"] for one in data["outputs"]] == ["120/7"]
    assert rows(output_of("crossvit_9_240"))["output"][-2] == "120/7"


def test_a_pipe_folds_no_name_and_cuts_no_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    text = output_of("resnet18", "--layer", "layer4.1", "--target", "12:30")
    (line,) = (line for line in text.splitlines() if line.startswith("layer4.1 "))
    assert line.split() == ["layer4.1", "BasicBlock", "435", "275", "11", "32", "objects"]


def test_what_lies_behind_attention_sees_the_whole_image(tmp_path: Path) -> None:
    attention = stage_dict("attention", width=32, kernels=(1,))
    arch = architecture(stage_dict(), attention, stage_dict(width=32))
    file = tmp_path / "arch.json"
    file.write_text(json.dumps(arch.to_dict()))
    data = json.loads(output_of(str(file), "--json"))
    assert data["global_layers"] == list(arch.global_layers)
    assert [one["global"] for one in data["layers"]] == [False, False, True, True]
    assert [(one["global"], one["sees"]) for one in data["outputs"]] == [(True, "image")]


def test_the_erf_is_that_of_the_tape_and_of_the_closed_form(tmp_path: Path) -> None:
    data = json.loads(output_of("resnet18", "--layer", "layer2", "--json"))
    traced = trace_receptive_field("resnet18", 224)
    shown = {one["name"]: one["erf_expected"] for one in data["layers"]}
    for name in ("layer2", "layer2.0.conv1"):
        assert shown[name] == traced.expected_erf(layer=name).size
    arch = architecture(stage_dict("basic", kernels=(3, 5)), stage_dict(stride=2))
    file = tmp_path / "arch.json"
    file.write_text(json.dumps(arch.to_dict()))
    (output,) = json.loads(output_of(file, "--json"))["outputs"]
    assert output["erf_expected"] == arch.expected_erf().size


def test_the_erf_is_blank_where_no_rule_gives_it() -> None:
    data = json.loads(output_of("poolformer_s12", "--json"))
    shown = {one["name"]: one["erf_expected"] for one in data["layers"]}
    assert shown["stem.conv"] == 7
    assert shown["stages.0.blocks.0"] is None
    assert [one["erf_expected"] for one in data["outputs"]] == [None]
