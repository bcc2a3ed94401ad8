"""Networks of sequences and volumes at the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import refusal, rfsearch

from rfsearch.cli._models import load_model

NETS = """
from torch import nn


def volumes():
    return nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 4, (1, 3, 3)))


def sequences():
    return nn.Conv1d(1, 4, 5, padding="same")


def broken():
    raise RuntimeError("no such file")


number = 3
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a Python module in the working folder."""
    name = f"nets_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    return name


def test_functions_that_make_networks_of_any_axes(nets: str) -> None:
    resolved = load_model(f"{nets}:volumes", "8x16x16")
    assert (resolved.input_size, resolved.in_chans) == ((8, 16, 16), 2)
    assert load_model(f"{nets}:volumes", "16").input_size == (16, 16, 16)
    assert load_model(f"{nets}:sequences", "16000").input_size == (16_000,)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("rf", "{}:volumes", "--input-size", "64x64"), "3 sides (depth, height, width) for"),
        (("rf", "{}:sequences", "--input-size", "64x64"), "one side (time) for Conv1d, but got"),
        (("rf", "{}:sequences", "--spacing", "1x2"), "for each of the axes time, but got 1.0x2.0"),
        (("rf", "{}:volumes", "--spacing", "1x2"), "axes depth, height, width, but got 1.0x2.0"),
        (("erf", "{}:volumes", "--spacing", "wide"), "must be numbers of mm, as 0.7 or"),
        (("erf", "{}:volumes", "--spacing", "0"), "must be positive numbers of mm, but got 0"),
        (("doctor", "{}:volumes", "--sample-rate", "100"), "A sample rate is of sequences, but"),
        (("rf", "{}:sequences", "--sample-rate", "0"), "must be above 0 Hz, but got 0"),
        (("rf", "{}:sequences", "--sample-rate", "9", "--spacing", "1"), "Only one of --spacing"),
        (("rf", "{}:broken"), "but: RuntimeError: no such file"),
        (("rf", "{}:missing"), "must name a function that makes a module, but: AttributeError"),
        (("rf", "no_such_package:net"), "but: ModuleNotFoundError: No module named"),
        (("rf", "{}:number"), "must name a function that makes a module, but: TypeError"),
    ],
)
def test_mistakes_about_axes_are_one_line(
    nets: str, command: tuple[str, ...], message: str
) -> None:
    result = rfsearch(*(one.format(nets) for one in command))
    assert message in refusal(result)


def test_fields_in_mm_and_ms(nets: str) -> None:
    table = rfsearch("rf", f"{nets}:volumes", "--input-size", "8x16x16", "--spacing", "3x0.5x0.5")
    assert "9x2.5x2.5 mm" in table.stdout
    data = json.loads(
        rfsearch("rf", f"{nets}:sequences", "--sample-rate", "1000", "--json").stdout
    )
    (output,) = data["outputs"]
    assert (output["rf_time"], output["rf_time_ms"], data["input_size"]) == (5, 5.0, [4096])
    doctor = rfsearch("doctor", f"{nets}:sequences", "--sample-rate", "1000", "--no-erf")
    assert "output    output: RF 5 px (5 ms), stride 1 px" in doctor.stdout


def test_the_erf_of_a_volume_in_numbers_and_as_three_sections(nets: str, tmp_path: Path) -> None:
    options = ("--input-size", "8x16x16", "--num-images", "2", "--spacing", "3x0.5x0.5 mm")
    result = rfsearch(
        "erf", f"{nets}:volumes", *options, "--expected", "--json", "--out", "erf.png"
    )
    axes = json.loads(result.stdout)["axes"]
    assert list(axes) == ["depth", "height", "width"]
    assert [one["theoretical_size"] for one in axes.values()] == [3, 5, 5]
    assert [one["theoretical_size_mm"] for one in axes.values()] == [9.0, 2.5, 2.5]
    assert axes["depth"]["size_mm"] == 3 * axes["depth"]["size"]
    assert (tmp_path / "erf.png").stat().st_size > 10_000


def test_the_erf_of_a_sequence_is_a_curve(nets: str, tmp_path: Path) -> None:
    options = ("--input-size", "64", "--num-images", "2", "--sample-rate", "1000")
    result = rfsearch("erf", f"{nets}:sequences", *options, "--out", "erf.png")
    assert "along time      ERF 5 px (5 ms)" in result.stdout
    assert (tmp_path / "erf.png").stat().st_size > 10_000
