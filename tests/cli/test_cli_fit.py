"""`rfsearch fit`: changes of a trained network that fit, its weights untouched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers import refusal, rfsearch
from safetensors.torch import load_file, save_file
from torch import nn

from rfsearch.retrofit.changes import retrofit
from rfsearch.trace.trace import expected_erf, trace_receptive_field

NETWORK = """
from torch import nn

def make():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(4, 4, 3, 1, 1),
    )
"""
MODEL = ("fit", "fit_network:make", "--input-size", "64")


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """What `fit_network:make` makes, which a command finds in the current folder."""
    (tmp_path / "fit_network.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    names: dict[str, nn.Module] = {}
    exec(NETWORK, names)
    torch.manual_seed(1)
    model: nn.Module = names["make"]()  # type: ignore[operator]
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    return model


def test_what_fits_and_how_to_apply_it(network: nn.Module, tmp_path: Path) -> None:
    result = rfsearch(*MODEL, "--target", "3:4", "--checkpoint", "weights.safetensors")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "model     Sequential, input 64x64 px, from weights.safetensors"
    assert "! now     finest output stride of 4 px is 1 px above the upper bound of 3 px" in lines
    row = next(line.split() for line in lines if line.startswith("now  as given"))
    erf = expected_erf(network, 64, initialisation="module").size
    assert row == ["now", "as", "given", "output", "15", str(erf), "4", "1.00x", "1.00x"]
    first = next(line for line in lines if line.startswith("1  "))
    code = [line.strip() for line in lines if line.startswith("    model")]
    for line in code:
        exec(line, {"model": network, "torch": torch})
    changed = trace_receptive_field(network, 64).output.height
    erf = expected_erf(network, 64, initialisation="module").size
    shown = [str(changed.size), str(erf), str(changed.stride)]
    assert first.split()[-5:-2] == shown


def test_json_and_what_is_written(network: nn.Module, tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    result = rfsearch(
        *MODEL, "--target", "3:4", "--checkpoint", "weights.safetensors", "--max-flops-ratio", "5",
        "--json", "--out", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    erf = expected_erf(network, 64, initialisation="module").size
    assert not found["given"]["fits"]
    assert found["given"]["levels"] == [
        {"level": "output", "axis": None, "rf": 15, "erf_expected": erf, "stride": 4.0}
    ]
    assert [len(one["decisions"]) for one in found["fits"]] == sorted(
        len(one["decisions"]) for one in found["fits"]
    )
    for one in found["fits"]:
        assert one["fits"]
        assert one["misses"] == []
        assert one["flops_ratio"] <= 5
        copy = retrofit(network, one["changes"], 64)
        traced = trace_receptive_field(copy, 64)
        assert traced.output.height.size == one["levels"][0]["rf"]
        assert traced.cost().flops == one["flops"]
    changes = json.loads((out / "changes.json").read_text())
    assert changes == found["fits"][0]["changes"]
    weights = load_file(out / "weights.safetensors")
    assert all(torch.equal(weights[name], own) for name, own in network.state_dict().items())
    assert (out / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_levels(network: nn.Module) -> None:
    result = rfsearch(*MODEL, "--target", "2:6", "--levels", "0,4", "--json")
    assert result.exit_code in (0, 2), result.output
    levels = json.loads(result.stdout)["given"]["levels"]
    assert [(one["level"], one["stride"]) for one in levels] == [("0", 2), ("4", 4)]


def test_a_network_that_fits(network: nn.Module) -> None:
    result = rfsearch(*MODEL, "--target", "6:8")
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("It fits as it is.\n")


def test_nothing_fits(network: nn.Module, tmp_path: Path) -> None:
    result = rfsearch(*MODEL, "--target", "60:64", "--out", tmp_path / "out")
    said = refusal(result)
    assert "nearest" in result.stdout
    assert "No change that keeps the weights fits, of" in said
    assert "theoretical RF of" in said
    assert "The nearest is " in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("--checkpoint", "nothing.pt"), "nothing.pt: cannot be read (No such file"),
        (("--checkpoint", "fit_network.py"), "fit_network.py: must hold a state_dict"),
        (("--levels", "7"), "outputs or layers of Sequential, but '7' is none"),
        (("--max-flops-ratio", "0"), "--max-flops-ratio must be positive, but got 0"),
        (("--out", "fit_network.py"), "--out must be a folder, but fit_network.py is none"),
    ],
)
def test_mistakes(network: nn.Module, arguments: tuple[str, ...], match: str) -> None:
    assert match in refusal(rfsearch(*MODEL, "--target", "3:4", *arguments))


def test_a_checkpoint_of_another_network(network: nn.Module, tmp_path: Path) -> None:
    save_file({"0.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    said = refusal(rfsearch(*MODEL, "--target", "3:4", "--checkpoint", "other.safetensors"))
    assert "lacks 0.bias, 2.weight, 2.bias, 4.weight and 1 more, has in another shape" in said


def test_a_network_that_cannot_be_changed() -> None:
    said = refusal(rfsearch("fit", "vit_tiny_patch16_224", "--target", "16:32"))
    assert "Nothing of vit_tiny_patch16_224 can be changed without its weights" in said
