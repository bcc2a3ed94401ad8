from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import typer
from helpers import architecture, refusal, stage_dict
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

from rfsearch.cli.erf import erf
from rfsearch.measure.erf import measure_erf
from rfsearch.models.timm_models import create_model
from rfsearch.trace.trace import expected_erf

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

SMALL = ["resnet18", "--layer", "layer1.0.conv1", "--num-images", "2"]


def invoke(*arguments: str) -> Result:
    app = typer.Typer(add_completion=False)
    app.command()(erf)
    return CliRunner().invoke(app, list(arguments))


def test_table() -> None:
    result = invoke(*SMALL, "--input-size", "64")
    assert result.exit_code == 0, result.output
    measured = measure_erf("resnet18", 64, num_images=2, layer="layer1.0.conv1")
    lines = {line[:16].strip(): line[16:] for line in result.stdout.splitlines()}
    assert lines["ERF size"].startswith(f"{measured.size} px (95 % of the |gradient|), standard")
    # 11 px of stem and pooling, then one 3x3 convolution at stride 4.
    assert lines["theoretical RF"] == f"19 px, ERF ratio {measured.size / 19:.3f}"
    assert lines["sigma"] == f"{measured.sigma:.1f} px"
    assert lines["squares"].endswith(f"95% {measured.size}, 99% {measured.square(0.99)} px")
    assert lines["images"] == "2"
    assert lines["branches"] == "8 zero-initialised scales set to one"


def test_json() -> None:
    result = invoke(*SMALL, "--input-size", "48x64", "--json")
    assert result.exit_code == 0, result.output
    numbers = json.loads(result.stdout)
    measured = measure_erf("resnet18", (48, 64), num_images=2, layer="layer1.0.conv1")
    assert numbers["input_size"] == [48, 64]
    assert numbers["size"] == measured.size
    assert numbers["sigma"] == measured.sigma
    assert numbers["squares"] == {f"{s:.0%}": side for s, side in measured.squares().items()}
    assert numbers["luo_count"] == measured.luo_count
    assert numbers["fraction_above_10_percent"] == measured.fraction_above(0.1)


def test_expected_beside_measured(tmp_path: Path) -> None:
    out = tmp_path / "erf.png"
    arguments = [*SMALL, "--input-size", "64", "--expected"]
    numbers = json.loads(invoke(*arguments, "--json", "--out", str(out)).stdout)
    erf_of_layer = expected_erf("resnet18", 64, layer="layer1.0.conv1")
    assert numbers["expected"] == {
        "size": erf_of_layer.size,
        "theoretical_size": 19,
        "ratio": erf_of_layer.ratio,
        "sigma": erf_of_layer.sigma,
    }
    assert f"expected ERF    {erf_of_layer.size} px, sigma" in invoke(*arguments).stdout
    with Image.open(out) as picture:
        width, height = picture.size
        assert width > 1.5 * height
    assert "expected" not in json.loads(invoke(*SMALL, "--input-size", "64", "--json").stdout)


def test_one_image_has_no_standard_error() -> None:
    arguments = ["resnet18", "--layer", "conv1", "--num-images", "1", "--input-size", "32"]
    assert json.loads(invoke(*arguments, "--json").stdout)["standard_error"] is None
    assert "standard error unknown (one image)" in invoke(*arguments).stdout


def test_picture_and_folder(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, size=(40, 40, 3), dtype=np.uint8)
    for number in range(3):
        Image.fromarray(noise).rotate(90 * number).save(tmp_path / f"{number}.png")
    out = tmp_path / "map" / "erf.png"
    out.parent.mkdir()
    result = invoke(
        *SMALL, "--images", str(tmp_path), "--out", str(out), "--input-size", "32", "--json"
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["num_images"] == 2
    with Image.open(out) as picture:
        assert min(picture.size) > 500
    assert result.stderr == f"Drawn into {out}.\n"


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["resnet81"], "`model` must be a name that timm knows, but got 'resnet81'"),
        (["resnet18", "--layer", "layer5"], "but got 'layer5'; the nearest are layer4"),
        (
            ["resnet18", "--input-size", "2x3x4"],
            "must have 2 sides .* for resnet18, but got 2x3x4",
        ),
        (["resnet18", "--input-size", "big"], "--input-size must be .* but got 'big'"),
        (["resnet18", "--input-size", "0"], "--input-size must be .* but got '0'"),
        (["none.json"], r"none\.json: cannot be read"),
        (["resnet18", "--images", "nowhere"], "nowhere: there is no such folder of images"),
        (["resnet18", "--out", "erf.txt"], "--out must name a PNG file, but got 'erf.txt'"),
        (["resnet18", "--out", "nowhere/erf.png"], "must be in a folder that exists, but nowhere"),
    ],
)
def test_mistakes(arguments: list[str], match: str) -> None:
    assert re.search(match, refusal(invoke(*arguments)))


def test_an_architecture_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "candidate.json"
    path.write_text(json.dumps(architecture(stage_dict("plain", 8, 1, (3,))).to_dict()))
    result = invoke(str(path), "--input-size", "16", "--num-images", "8", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["theoretical_size"] == 5


def test_a_checkpoint_beside_the_untrained_network(tmp_path: Path) -> None:
    """Its classifier has other classes, and its name in the file the prefix of a wrapper."""
    trained = create_model("test_resnet", num_classes=7)
    nn.init.zeros_(trained.get_parameter("conv1.0.weight")[..., 0])
    weights = {f"module.{name}": value for name, value in trained.state_dict().items()}
    path = tmp_path / "last.pt"
    torch.save({"epoch": 3, "model": weights}, path)
    arguments = ("test_resnet", "--layer", "conv1.0", "--input-size", "32", "--num-images", "2")
    data = json.loads(invoke(*arguments, "--checkpoint", str(path), "--json").stdout)
    alone = json.loads(invoke(*arguments, "--json").stdout)
    assert data["weights"] == f"from {path}"
    assert data["untrained"] == {name: alone[name] for name in data["untrained"]}
    assert data["axes"]["width"]["sigma"] < data["untrained"]["axes"]["width"]["sigma"]
    table = invoke(*arguments, "--checkpoint", str(path)).stdout
    assert "\nuntrained       3 px, sigma " in table
    del weights["module.conv1.0.weight"]
    torch.save(weights, path)
    reason = refusal(invoke(*arguments, "--checkpoint", str(path)))
    assert f"{path}: must hold the weights of the network, but lacks conv1.0.weight." in reason
    assert "Only one of" in refusal(invoke(*arguments, "--checkpoint", str(path), "--pretrained"))


def test_weights_are_named(tmp_path: Path, network_folder: Path) -> None:
    arguments = ("--num-images", "1", "--input-size", "24")
    lines = {
        str(name): invoke(str(name), *arguments, *options).stdout
        for name, *options in (["test_resnet", "--layer", "conv1"], [network_folder])
    }
    assert "\nweights         random initialisation, seed 0\n" in lines["test_resnet"]
    assert f"\nweights         from {network_folder}\n" in lines[str(network_folder)]
    data = json.loads(invoke(str(network_folder), "--num-images", "2", "--json").stdout)
    assert (data["weights"], data["input_size"]) == (f"from {network_folder}", [24, 32])
    assert data["size"] == measure_erf(network_folder, (24, 32), num_images=2).size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["test_resnet", "--seed", "-1"], "`0 <= seed < 2^32` must hold, but got -1"),
        (["test_resnet", "--relative-error", "inf"], "`0 < relative_error <= 1` must hold"),
        (
            ["test_resnet", "--input-size", "99999999"],
            "must be SIDE or HEIGHTxWIDTH in px, each from 1 to",
        ),
        (["test_resnet", "--in-chans", "0"], "`1 <= in_chans <= 4,096` must hold, but got 0"),
        (["test_vit", "--input-size", "100"], "test_vit must run at an input of 100x100 px, but "),
        ([".", "--num-images", "1"], "config.json: cannot be read"),
    ],
)
def test_mistakes_at_the_door(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refusal(invoke(*arguments))


def test_numbers_that_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unfollowed(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return torch.renorm(super().forward(x), 2, 0, 1e9)

    def create(name: str, **_: object) -> nn.Module:
        return Unfollowed(3, 1, 3)

    monkeypatch.setattr("rfsearch.models.timm_models.create_model", create)
    arguments = ("test_resnet", "--input-size", "16", "--num-images", "1")
    assert "theoretical RF  not known: The operation is not known" in invoke(*arguments).stdout
    data = json.loads(invoke(*arguments, "--json").stdout)
    assert data["theoretical_size"] is data["ratio"] is data["clipped"] is None
    assert data["size"] == 3
