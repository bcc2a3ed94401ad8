from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import architecture, refusal, rfsearch, stage_dict

from rfsearch.diagnosis.diagnosis import diagnose
from rfsearch.target.target import ScaleTarget

GRIDDED = architecture(stage_dict(kernels=(3, 3), dilation=4), kernel_size=1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "arch.json"
    path.write_text(json.dumps(GRIDDED.to_dict()))
    return path


def test_each_finding_has_its_number_place_and_remedy(file: Path) -> None:
    result = rfsearch("doctor", file, "--target", "16:40", "--input-size", "64")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    text = " ".join(result.stdout.split())
    assert "output C2: RF 17 px, stride 1 px findings 3" in text
    for finding in diagnose(GRIDDED, ScaleTarget(16, 40), 64):
        number = f"{finding.value:.4g} (limit {finding.limit:.4g})"
        said = f"{finding.kind} at {finding.place}: {number}"
        assert f"{said} {finding.message} Remedy: {finding.remedy}" in text
    assert max(map(len, result.stdout.splitlines()[1:])) <= 80


def test_a_target_larger_than_the_input_is_said(file: Path) -> None:
    result = rfsearch("doctor", file, "--target", "30:70", "--input-size", "64x70")
    assert result.exit_code == 0, result.output
    assert (
        "--target: objects of up to 70 px are larger than the images of 64x70 px" in result.stderr
    )
    assert rfsearch("doctor", file, "--target", "30:64", "--input-size", "64x70").stderr == ""


def test_json(file: Path) -> None:
    result = rfsearch("doctor", file, "--target", "16:40", "--json")
    data = json.loads(result.stdout)
    assert data["target"] == [16, 40]
    assert data["input_size"] == [224, 224]
    assert data["unchecked"] == []
    gridding = next(one for one in data["findings"] if one["kind"] == "gridding")
    assert gridding["value"] == 12 / 17
    assert set(gridding) == {"kind", "place", "value", "limit", "message", "remedy"}


def test_nothing_wrong_is_said_too(tmp_path: Path) -> None:
    sound = tmp_path / "sound.json"
    sound.write_text(json.dumps(architecture(stage_dict(kernels=(3, 3))).to_dict()))
    result = rfsearch("doctor", sound, "--target", "4:4.5")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "findings  none"


def test_a_timm_model_without_a_target() -> None:
    result = rfsearch("doctor", "test_resnet", "--input-size", "64", "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["target"] is None
    expected = diagnose("test_resnet", None, 64)
    assert [one["kind"] for one in data["findings"]] == [one.kind for one in expected]


def test_without_erf(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("measured")

    monkeypatch.setattr("rfsearch.measure.erf.measure_erf", fail)
    assert rfsearch("doctor", "test_resnet", "--no-erf").exit_code == 0
    assert type(rfsearch("doctor", "test_resnet").exception) is RuntimeError


def test_what_could_not_be_checked_goes_to_stderr_and_into_json(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("No gradient reaches the input.")

    monkeypatch.setattr("rfsearch.measure.erf.measure_erf", fail)
    with pytest.warns(UserWarning, match="The ERF was not measured"):
        result = rfsearch("doctor", "test_resnet", "--input-size", "64", "--json")
    (unchecked,) = json.loads(result.stdout)["unchecked"]
    assert unchecked == "The ERF was not measured: No gradient reaches the input."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet81", "--target", "12:36"], "the nearest are"),
        (["resnet18", "--target", "12-48"], "--target must be MIN:MAX in px"),
        (["resnet18", "--input-size", "0"], "--input-size must be SIDE or HEIGHTxWIDTH"),
        (["vit_tiny_patch16_224", "--input-size", "100"], "must run at an input of 100x100 px"),
    ],
)
def test_mistakes(arguments: list[str], message: str) -> None:
    assert message in refusal(rfsearch("doctor", *arguments))


def test_json_that_is_no_architecture(tmp_path: Path) -> None:
    path = tmp_path / "trials.json"
    path.write_text('{"number": 3}')
    assert f"{path}: " in refusal(rfsearch("doctor", path, "--target", "12:36"))


@pytest.mark.parametrize("kind", [ValueError, OSError])
def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, kind: type[Exception]) -> None:
    def fail(*_: object) -> None:
        raise kind("boom")

    monkeypatch.setattr("rfsearch.diagnosis.diagnosis.find", fail)
    result = rfsearch("doctor", "test_resnet", "--no-erf")
    assert type(result.exception) is kind
    assert "error:" not in result.stderr


def test_a_layer_and_channels() -> None:
    arguments = ("test_resnet", "--input-size", "64", "--no-erf", "--in-chans", "2")
    whole, part = (
        rfsearch("doctor", *arguments, *more).stdout for more in ((), ("--layer", "layer1"))
    )
    assert "output    output: RF" in whole
    assert part != whole


def test_a_folder_of_an_export(network_folder: Path) -> None:
    result = rfsearch("doctor", network_folder, "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert (data["model"], data["input_size"]) == (str(network_folder), [24, 32])
    expected = diagnose(network_folder, None, (24, 32))
    assert [one["value"] for one in data["findings"]] == [one.value for one in expected]
