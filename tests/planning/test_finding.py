"""Data as people keep it: split already, with other suffixes, beside files that are no boxes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rfsearch.planning._finding import find_data
from rfsearch.planning._loading import load
from rfsearch.planning._sizing import size_up
from rfsearch.planning._survey import survey


def image(file: Path, size: tuple[int, int] = (40, 60), seed: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, size).astype(np.uint8)
    Image.fromarray(pixels).save(file)


def coco(file: Path, names: list[str], sides: tuple[int, ...] = (10, 14)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": n, "file_name": name} for n, name in enumerate(names)]
    boxes = [
        {"id": 9 * n + k, "image_id": n, "category_id": 1, "bbox": [2 + 16 * k, 3, side, side]}
        for n in range(len(names))
        for k, side in enumerate(sides)
    ]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cell"}]}
    file.write_text(json.dumps(content))


def test_files_of_boxes_named_train_and_val_are_one_set_that_is_split(tmp_path: Path) -> None:
    for part, names in (("train2017", ["a.png", "b.png"]), ("val2017", ["a.png"])):
        for seed, name in enumerate(names):
            image(tmp_path / part / name, seed=seed + len(names))
        coco(tmp_path / "annotations" / f"instances_{part}.json", names)
    found = find_data(tmp_path)
    assert found.valid == ("val2017/*",)
    assert found.annotations is not None
    assert [one.file for one in found.annotations.images] == [
        "train2017/a.png", "train2017/b.png", "val2017/a.png"
    ]  # fmt: skip
    assert [one.image for one in found.annotations.objects] == [0, 0, 1, 1, 2, 2]


def test_images_of_both_parts_may_lie_together(tmp_path: Path) -> None:
    for seed, name in enumerate("abc"):
        image(tmp_path / "images" / f"{name}.png", seed=seed)
    coco(tmp_path / "train.json", ["a.png", "c.png"])
    coco(tmp_path / "val.json", ["b.png"])
    found = find_data(tmp_path)
    assert found.valid == ("images/b.png",)
    assert len(found.files) == 3


def test_yolo_stays_split_and_leaves_tests_out(tmp_path: Path) -> None:
    for seed, part in enumerate(("train", "val", "test")):
        image(tmp_path / "images" / part / "a.png", seed=seed)
        labels = tmp_path / "labels" / part / "a.txt"
        labels.parent.mkdir(parents=True)
        labels.write_text("0 0.5 0.5 0.3 0.3")
    found = find_data(tmp_path)
    assert found.valid == ("images/val/*",)
    assert found.ignored == "1 images for tests"
    assert [file.parent.name for file in found.files] == ["train", "val"]


def test_an_image_with_another_suffix_counts(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "a.xml").write_text(
        "<annotation><filename>a.tif</filename><object><name>tree</name><bndbox><xmin>1</xmin>"
        "<ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
    )
    found = find_data(tmp_path)
    assert found.files == (tmp_path / "a.png",)
    assert found.annotations is not None
    assert "the suffix of 1 image files, which is another" in found.annotations.notes


def test_folders_of_voc_say_what_values_of_masks_are(tmp_path: Path) -> None:
    image(tmp_path / "JPEGImages" / "a.png")
    mask = np.zeros((40, 60), np.uint8)
    mask[2:9, 2:9], mask[20:30, 2:9], mask[2:9, 30:40] = 5, 7, 5
    for name in ("SegmentationClass", "SegmentationObject"):
        (tmp_path / name).mkdir()
        Image.fromarray(mask).save(tmp_path / name / "a.png")
        found = find_data(tmp_path)
        assert found.source.name == "SegmentationClass"
        assert found.semantic
    (tmp_path / "SegmentationClass" / "a.png").unlink()
    assert not find_data(tmp_path).semantic


def test_a_table_of_something_else_does_not_hide_classes(tmp_path: Path) -> None:
    for n in range(2):
        image(tmp_path / "cat" / f"{n}.png")
        image(tmp_path / "dog" / f"{n}.png")
    with (tmp_path / "notes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "photographer"], ["0.png", "A"]])
    assert find_data(tmp_path).kind == "classification"
    (tmp_path / "other").mkdir()
    (tmp_path / "notes.csv").rename(tmp_path / "other" / "notes.csv")
    with pytest.raises(ValueError, match="must have the columns image_path, xmin"):
        find_data(tmp_path / "other")


@pytest.mark.parametrize(
    ("number", "size", "split"), [(1, (64, 160), "areas"), (2, (48, 48), "images")]
)
def test_few_images_are_divided_if_they_are_large_enough(
    number: int, size: tuple[int, int], split: str, tmp_path: Path
) -> None:
    data, stage = tmp_path / "data", tmp_path / "stage"
    names = [f"{n}.png" for n in range(number)]
    for seed, name in enumerate(names):
        image(data / name, size, seed)
    coco(data / "boxes.json", names, (10, 12, 10) if number == 2 else (10,) * 9)
    stage.mkdir()
    found = find_data(data)
    files = {"source": "coco", "annotations": str(data / "boxes.json"), "images": str(data)}
    loaded, table, _ = load(found, files, size_up(survey(found), found.kind), stage)
    assert table["split"] == split
    assert len(loaded.train_images)
    assert len(loaded.valid_images)


def test_one_small_image_cannot_be_split(tmp_path: Path) -> None:
    image(tmp_path / "a.png", (32, 32))
    coco(tmp_path / "boxes.json", ["a.png"], (12,))
    found = find_data(tmp_path)
    files = {"source": "coco", "annotations": "boxes.json", "images": "."}
    with pytest.raises(ValueError, match=r"cannot be split .* no room for a tile of 32x32 px"):
        load(found, files, size_up(survey(found), found.kind), tmp_path)
