"""Experiments planned from data: kinds of input, mistakes, and properties of decisions."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import rfsearch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rfsearch.planning._sizing import LARGEST_TILE, UNITS, scale_for, stride_for, tile_for
from rfsearch.planning.plan import Plan, plan
from rfsearch.search.experiment import Experiment

SIDE = 96
#: Left, top and side of the squares in each image.
SQUARES = [(4, 4, 10), (40, 8, 14), (70, 60, 20), (8, 60, 12), (40, 40, 16)]


def picture(seed: int, noise: int = 200) -> Image.Image:
    """Bright squares; under much noise no threshold finds them."""
    pixels = np.random.default_rng(seed).integers(0, noise, (SIDE, SIDE))
    for left, top, side in SQUARES:
        pixels[top : top + side, left : left + side] += 55
    return Image.fromarray(pixels.astype(np.uint8))


def write_images(folder: Path, noise: int = 200) -> list[str]:
    folder.mkdir(parents=True)
    names = [f"{n}.png" for n in range(5)]
    for seed, name in enumerate(names):
        picture(seed, noise).save(folder / name)
    return names


def classes(root: Path) -> None:
    for name in ("ring", "disc"):
        (root / name).mkdir(parents=True)
        for seed in range(6):
            picture(seed).resize((32, 32)).save(root / name / f"{name}{seed}.png")
    (root / "notes.txt").write_text("not an image")


def coco(root: Path) -> None:
    names = write_images(root / "images")
    boxes = [
        {"id": 10 * n + k, "image_id": n, "category_id": 1, "bbox": [*square, square[2]]}
        for n in range(len(names))
        for k, square in enumerate(SQUARES)
    ]
    images = [
        {"id": n, "file_name": f, "height": SIDE, "width": SIDE} for n, f in enumerate(names)
    ]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "square"}]}
    (root / "boxes.json").write_text(json.dumps(content))


def table(root: Path) -> None:
    write_images(root)
    with (root / "boxes.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "width", "height", "label", "xmin", "ymin", "xmax", "ymax"])
        for n in range(5):
            for x, y, side in SQUARES:
                rows.writerow([f"{n}.png", SIDE, SIDE, "square", x, y, x + side, y + side])


def yolo(root: Path) -> None:
    names = write_images(root / "images")
    (root / "labels").mkdir()
    for name in names:
        lines = [
            f"0 {(x + s / 2) / SIDE} {(y + s / 2) / SIDE} {s / SIDE} {s / SIDE}"
            for x, y, s in SQUARES
        ]
        (root / "labels" / name).with_suffix(".txt").write_text("\n".join(lines))


def voc(root: Path) -> None:
    for name in write_images(root):
        objects = "".join(
            f"<object><name>square</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin>"
            f"<xmax>{x + s}</xmax><ymax>{y + s}</ymax></bndbox></object>"
            for x, y, s in SQUARES
        )
        size = f"<size><width>{SIDE}</width><height>{SIDE}</height><depth>1</depth></size>"
        text = f"<annotation><filename>{name}</filename>{size}{objects}</annotation>"
        (root / name).with_suffix(".xml").write_text(text)


def masks(root: Path, numbered: bool = False, noise: int = 200) -> None:
    (root / "masks").mkdir(parents=True)
    for name in write_images(root / "images", noise):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        for number, (x, y, s) in enumerate(SQUARES, start=1):
            mask[y : y + s, x : x + s] = number if numbered else 255
        Image.fromarray(mask).save(root / "masks" / name)


def instances(root: Path) -> None:
    masks(root, numbered=True)


def planned(root: Path, **options: str) -> Plan:
    return plan(root / "data", root / "out", budget="60s", device="cpu", **options)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:.*the value 255 is")  # Of masks of 0 and 255 alone.
@pytest.mark.parametrize("write", [classes, coco, table, yolo, voc, masks, instances])
def test_each_kind_of_data_becomes_an_experiment(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    write(tmp_path / "data")
    made = planned(tmp_path)
    loaded = Experiment.load(tmp_path / "out", "cpu")
    kind = {classes: "classification", masks: "segmentation", instances: "segmentation"}
    assert loaded.task.name == kind.get(write, "detection") == made.decisions.found.kind
    assert made.decisions.counted.is_diverse
    assert not loaded.space.feasible(loaded.constraint).is_empty()
    if write is classes:
        assert made.decisions.found.ignored == "1 .txt"
    else:
        assert loaded.config.target.min_size == pytest.approx(10, abs=0.1)
        assert loaded.config.target.max_size == pytest.approx(20, abs=0.1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "out"]


@pytest.mark.parametrize(("noise", "is_off"), [(200, False), (20, True)])
def test_lower_bound_is_off_where_a_threshold_finds_the_objects(
    noise: int, is_off: bool, tmp_path: Path
) -> None:
    masks(tmp_path / "data", noise=noise)
    made = planned(tmp_path)
    assert made.decisions.relaxed is is_off
    assert ('theoretical = "off"' in made.files["experiment.toml"]) is is_off
    assert ("lower bound on the field does not bind" in made.files["README.md"]) is is_off


@given(st.floats(1, 400), st.floats(1, 10))
def test_smallest_objects_are_resolved(smallest: float, ratio: float) -> None:
    scale = scale_for(smallest, smallest * ratio)
    stride = stride_for(smallest * scale)
    assert stride >= 2
    assert smallest * scale / stride >= UNITS


@given(st.floats(1, 1000), st.floats(1, 4))
def test_the_largest_object_is_inside_of_a_tile(usual: float, ratio: float) -> None:
    tile = tile_for(usual, usual * ratio)
    assert tile % 32 == 0
    assert usual * ratio <= tile or tile == LARGEST_TILE


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"

    def refused(*options: str) -> str:
        result = rfsearch("init", str(data), "--out", str(out), *options)
        assert result.exit_code == 2, result.output
        assert not out.exists()
        (line,) = result.stderr.strip().splitlines()
        return line

    assert "no such file or folder" in refused()
    data.mkdir()
    (data / "a.txt").write_text("nothing of use")
    assert "must hold images in a subfolder" in refused()
    assert "--budget must be" in refused("--budget", "soon")
    assert "--task must be" in refused("--task", "magic")
    coco(data / "both")
    data = data / "both"
    (data / "more.json").write_text((data / "boxes.json").read_text())
    assert "2 ways: boxes of boxes.json; boxes of more.json" in refused()
    (data / "more.json").write_text("{")
    (data / "boxes.json").unlink()
    assert "more.json" in refused()
    masks(tmp_path / "masks")
    data = tmp_path / "masks"
    for file in (data / "images").iterdir():
        file.rename(file.with_stem(f"x{file.stem}"))
    assert "none of its masks has the name of an image" in refused()


def test_a_dry_run_leaves_nothing_and_a_real_one_can_be_searched(tmp_path: Path) -> None:
    classes(tmp_path / "data")
    out = tmp_path / "out"
    options = ("init", str(tmp_path / "data"), "--out", str(out), "--budget", "20s")
    dry = rfsearch(*options, "--device", "cpu", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "[training]" in dry.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["data"]
    assert rfsearch(*options, "--device", "cpu").exit_code == 0
    file = out / "experiment.toml"
    text = file.read_text().replace("epochs = 40", "epochs = 1")
    text = re.sub("baselines = .*", "baselines = []", text)
    file.write_text(text.replace("trained_trials = 3", "trained_trials = 1"))
    ran = rfsearch("run", str(out), "--device", "cpu")
    assert ran.exit_code == 0, ran.output
    assert (out / "trials.csv").is_file()
    assert "must be a new or empty folder" in rfsearch(*options).stderr
