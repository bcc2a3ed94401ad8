from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from annotated import coco, voc, voc_object, write, write_coco
from helpers import refusal, rfsearch
from PIL import Image

from rfsearch.cli.target import parse_levels

if TYPE_CHECKING:
    from pathlib import Path

#: Five objects of 12 to 20 px in an image of 80 x 100 px.
GOOD = coco(*([0, 0, side, side] for side in (12, 14, 16, 18, 20)))


def data_of(*arguments: str | Path) -> Any:
    result = rfsearch("target", *arguments, "--json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return json.loads(result.stdout)


def test_tables_and_the_table_to_paste(tmp_path: Path) -> None:
    result = rfsearch("target", write_coco(tmp_path, GOOD), "--quantiles", "0", "1")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0].startswith("annotations")
    for question in ("Smallest object?", "Largest context?", "Dense prediction?", "Several scal"):
        assert any(line.startswith(question) for line in lines)
    text = result.stdout[result.stdout.index("[target]") :]
    assert tomllib.loads(text) == {"target": {"min_size": 12, "max_size": 20}}


def test_a_wide_target_is_advised_once(tmp_path: Path) -> None:
    result = rfsearch("target", write_coco(tmp_path), "--quantiles", "0", "1")
    assert result.exit_code == 0, result.output
    assert "To split it: --levels" in " ".join(result.stdout.split())
    assert result.stderr == ""


def test_options_reach_what_they_are_for(tmp_path: Path) -> None:
    path = write_coco(tmp_path, GOOD)
    options = ["--quantiles", "0", "1"]
    native = data_of(path, *options)
    assert (native["input_size"], native["resize"]) == (None, "none")
    assert data_of(path, *options, "--input-size", "50")["target"]["max_size"] == 10
    shorter = data_of(path, *options, "--input-size", "40x60", "--resize", "shorter")
    assert (shorter["input_size"], shorter["target"]["max_size"]) == ([40, 60], 12)
    assert data_of(path, *options, "--context", "2")["target"]["effective"] == [40, 140]
    assert "max_output_stride = 6" in data_of(path, *options, "--dense")["experiment"]
    levels = data_of(path, *options, "--levels", "4,2")["levels"]
    assert [(name, one["stride"]) for name, one in levels.items()] == [("P1", 2), ("P2", 4)]


def test_classes_and_formats(tmp_path: Path) -> None:
    text = voc(voc_object(0, 0, 9, 9, "nut"), voc_object(0, 0, 20, 20))
    path = write(tmp_path / "a.txt", text)
    both = data_of(path, "--format", "voc", "--class", "nut", "--class", "screw")
    assert [one["name"] for one in both["classes"]] == [None, "nut", "screw"]
    assert data_of(path, "--format", "voc", "--class", "nut")["target"]["max_size"] == 9


def test_masks(tmp_path: Path) -> None:
    mask = np.zeros((40, 40), dtype=np.uint8)
    mask[:10, :10] = mask[20:35, 20:35] = 7
    mask[39, 39] = 8
    Image.fromarray(mask).save(tmp_path / "a.png")
    data = data_of(tmp_path, "--semantic", "--class", "7", "--quantiles", "0", "1")
    assert (data["target"]["min_size"], data["target"]["max_size"]) == (10, 15)
    assert data["questions"][2]["source"] == "data"
    assert data_of(tmp_path, "--instances", "--no-dense")["questions"][2]["source"] == "given"


def test_the_target_is_rounded_to_a_tenth(tmp_path: Path) -> None:
    data = data_of(write_coco(tmp_path, coco([0, 0, 20, 21], [0, 0, 30, 31])), "--context", "1")
    exact = np.quantile([20 * 21, 30 * 31], 0)
    assert data["target"]["min_size"] == round(data["target"]["min_size"], 1)
    assert data["classes"][0]["smallest"] == pytest.approx(np.sqrt(exact))
    tiny = data_of(write_coco(tmp_path, coco([9, 9, 0.02, 0.02])))
    assert tiny["target"]["min_size"] == 0.1


def test_counts_of_what_was_skipped(tmp_path: Path) -> None:
    content = coco([0, 0, 12, 12], [0, 0, 0, 5], [500, 0, 9, 9], [90, 70, 20, 20])
    result = rfsearch("target", write_coco(tmp_path, content))
    assert result.exit_code == 0, result.output
    assert "objects         2 (images: 1; clipped to them: 1)" in result.stdout
    assert "skipped         1 empty box, 1 outside" in result.stdout


def test_a_folder_of_images_is_checked(tmp_path: Path) -> None:
    path = write_coco(tmp_path, GOOD)
    line = refusal(rfsearch("target", path, "--images", tmp_path))
    assert "none (skipped: 5 missing image; 1 files of images are missing, the first is" in line
    Image.new("L", (100, 80)).save(tmp_path / "a.png")
    assert data_of(path, "--images", tmp_path)["objects"] == 5


def test_picture(tmp_path: Path) -> None:
    out = tmp_path / "sizes.png"
    result = rfsearch(
        "target", write_coco(tmp_path), "--picture", out, "--levels", "4,8", "--json"
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["levels"]
    assert result.stderr == f"Drawn into {out}.\n"
    with Image.open(out) as image:
        assert min(image.size) > 300


# -- mistakes of the user ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.json", json.dumps(GOOD)[:100], "a.json: not a JSON file ("),
        ("a.json", "[]", "a.json: not a COCO file: it must hold an object, but holds a list."),
        ("a.json", json.dumps(coco(annotations=[])), "must hold at least one object"),
        ("a.xml", voc(voc_object(1, 2, 3, 4))[:50], "a.xml: not an XML file ("),
        ("a.xml", "<!DOCTYPE a [<!ENTITY b 'c'>]><annotation/>", "a.xml: not an XML file (it has"),
        ("a.csv", "image_path,xmin\n", "lacks ymin, xmax, ymax; it has image_path, xmin."),
        ("a.png", "no image", "a.png: not a readable image ("),
        ("a.md", "", "the format of a .md file is not known"),
    ],
)
def test_bad_annotations_are_one_line(tmp_path: Path, name: str, text: str, reason: str) -> None:
    result = rfsearch("target", write(tmp_path / name, text))
    assert reason in refusal(result)
    assert result.stdout == ""


def test_annotations_that_are_not_there(tmp_path: Path) -> None:
    assert "there is no such file or folder" in refusal(rfsearch("target", tmp_path / "a.json"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ["--levels", "4,x"],
            "--levels must be different strides in px, as 4,8,16,32, but got '4,x'.",
        ),
        (["--levels", "16"], "No level serves objects of 12"),
        (["--input-size", "big"], "--input-size must be SIDE or HEIGHTxWIDTH"),
        (["--resize", "crop", "--input-size", "64"], "`resize` must be one of none, stretch"),
        (["--resize", "stretch"], "`input_size` must be given in px for `resize` of 'stretch'."),
        (["--format", "kitti"], "`format` must be one of auto, coco, voc, yolo, labelme, cvat"),
        (["--quantiles", "0.9", "0.1"], "`0 <= low <= high <= 1` must hold"),
        (["--context", "0.5"], "`context` must be a number of object sizes of at least 1"),
        (["--class", "nut"], "There is no class 'nut'; the classes are screw."),
        (["--semantic"], "`semantic` is for masks"),
        (["--picture", "a.pdf"], "--picture must name a PNG file"),
        (["--picture", "/nowhere/a.png"], "--picture must be in a folder that exists"),
    ],
)
def test_options_that_are_wrong(tmp_path: Path, arguments: list[str], reason: str) -> None:
    result = rfsearch("target", write_coco(tmp_path, GOOD), *arguments)
    assert reason in refusal(result)
    assert result.stdout == ""


def test_names_of_levels() -> None:
    assert parse_levels("1, 2,4,12") == {"P0": 1, "P1": 2, "P2": 4, "stride 12": 12}


@pytest.mark.parametrize("text", ["", "4,", "0", "-4", "4;8", "4.5", "4,8,4"])
def test_levels_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="--levels must be different strides in px"):
        parse_levels(text)


def test_what_the_values_of_masks_mean_is_said_and_may_be_stated(tmp_path: Path) -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[2:22, 2:22] = 255
    mask[5:15, 5:15] = 1
    Image.fromarray(mask).save(tmp_path / "a.png")
    found = data_of(tmp_path)
    assert found["notes"] == ["background 0, ignored 255, others objects"]
    assert found["target"]["max_size"] == 10
    assert data_of(tmp_path, "--ignored", "none")["objects"] == 2
    ring = data_of(tmp_path, "--ignored", "1", "--background", "0")
    assert (ring["objects"], ring["target"]["max_size"]) == (1, 20)
    assert "note            background 0, ignored 255" in rfsearch("target", tmp_path).stdout
    line = refusal(rfsearch("target", tmp_path, "--background", "dark"))
    assert "--background must be a whole number or none, but got 'dark'" in line
    assert "`ignored` is for masks" in refusal(
        rfsearch("target", write_coco(tmp_path, GOOD), "--ignored", "1")
    )


def test_names_without_a_character_are_printed(tmp_path: Path) -> None:
    folder = tmp_path / "\udcff"
    folder.mkdir()
    path = write_coco(folder, GOOD)
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    for command in ([path], [path, "--json"], [folder / "none.json"]):
        run = subprocess.run(
            [sys.executable, "-m", "rfsearch.cli.main", "target", *command],
            capture_output=True,
            env=environment,
            timeout=60,
            check=False,
        )
        assert run.returncode == (2 if len(command) == 1 and command[0] != path else 0)
        assert b"Traceback" not in run.stderr
        assert b"\\udcff" in run.stdout + run.stderr
