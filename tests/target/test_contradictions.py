"""Annotations that contradict themselves, as a target and as data to learn read them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from annotated import coco, voc, voc_object, write, write_coco
from PIL import Image

from rfsearch.data.boxed_images import coco_images
from rfsearch.data.tiles import Tiling
from rfsearch.target.annotations import Box
from rfsearch.target.annotations_coco import read_coco
from rfsearch.target.annotations_voc import read_voc
from rfsearch.target.object_scales import Skipped
from rfsearch.target.scales import read_scales

if TYPE_CHECKING:
    from collections.abc import Callable

A_IMAGE = {"id": 7, "file_name": "a.png", "width": 100, "height": 80}
B_IMAGE = A_IMAGE | {"file_name": "b.png", "width": 1000, "height": 800}
NUT = {"id": 3, "name": "nut"}


def annotation(bbox: list[float], **others: Any) -> dict[str, Any]:
    return {"image_id": 7, "category_id": 3, "bbox": bbox, **others}


#: What is wrong with a whole COCO file, and what is said of it.
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "two images with one id": (
        {"images": [A_IMAGE, B_IMAGE]},
        r'`images` must have an `id` of their own each, but 7 is of .*"a\.png".*"b\.png"',
    ),
    "a number and a text": (
        {"images": [A_IMAGE, B_IMAGE | {"id": "7"}]},
        r"`images` must have an `id` of their own each, but 7 is of",
    ),
    "two categories with one id": (
        {"categories": [NUT, NUT | {"name": "screw"}]},
        r'`categories` must have .* but 3 is of .*"nut".* and of .*"screw"',
    ),
    "two images of one file": (
        {"images": [A_IMAGE, A_IMAGE | {"id": 8}]},
        r"two images are the same file, a\.png\.$",
    ),
    "corners": (
        {"annotations": [annotation([10, 20, 30, 50], area=600)]},
        r"width and height, but the area of object 1 on a\.png, 10, 20, 40, 70, is 600 px",
    ),
    "shares": (
        {"annotations": [annotation([0.1, 0.2, 0.3, 0.25])]},
        r"none reaches further than 1: object 1 on a\.png, 0\.1, 0\.2, 0\.4, 0\.45, is ",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_files_that_contradict_themselves(tmp_path: Path, name: str) -> None:
    changes, message = WRONG[name]
    path = write_coco(tmp_path, coco(**changes))
    with pytest.raises(ValueError, match=message) as error:
        read_coco(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"images": [A_IMAGE, A_IMAGE], "categories": [NUT, NUT]},
        # Areas of masks are less than those of their boxes, however corners would come out.
        {"annotations": [annotation([10, 20, 30, 50], area=1400)]},
        {"annotations": [annotation([10, 20, 30, 50], area=1500)]},
        {"annotations": [annotation([0, 0, 1, 1])]},
        {"annotations": [annotation([0.5, 0.5, 0.3, 0.5]), annotation([10, 20, 30, 50])]},
    ],
)
def test_files_that_do_not(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = write_coco(tmp_path, coco(**changes))
    number = len(changes.get("annotations", "abc"))
    assert len(read_scales(path)) == number


@pytest.mark.parametrize(("image_id", "category_id"), [("7", "3"), (7.0, 3.0), ("7", 3), (7, "3")])
@pytest.mark.parametrize("as_text", [False, True])
def test_ids_are_the_same_as_numbers_and_as_texts(
    tmp_path: Path, image_id: Any, category_id: Any, as_text: bool
) -> None:
    change = str if as_text else int
    path = write_coco(
        tmp_path,
        coco(
            images=[A_IMAGE | {"id": change(7)}],
            categories=[NUT | {"id": change(3)}],
            annotations=[{"image_id": image_id, "category_id": category_id, "bbox": [0, 0, 9, 9]}],
        ),
    )
    assert read_scales(path).sizes.tolist() == [9]


def test_what_was_looked_for_and_not_found_is_named(tmp_path: Path) -> None:
    path = write_coco(tmp_path, coco(annotations=[annotation([0, 0, 9, 9], image_id="x")]))
    with pytest.raises(ValueError, match=r'missing image; the image_id of annotation 1, "x", is'):
        read_scales(path)
    path = write_coco(tmp_path)
    with pytest.raises(ValueError, match=rf"1 files .* missing, the first is {tmp_path}/a\.png\)"):
        read_scales(path, images=tmp_path)


def test_what_is_wrong_with_one_object_is_counted(tmp_path: Path) -> None:
    boxes = [
        annotation([10, 10, 20, 20], area=390),
        annotation([10, 10, 20, 20], area=400),
        annotation([10, 10, 20, 20], iscrowd=1, area=4000),
        annotation([50, 10, 20, 20], area=441),
        annotation([50, 40, 20, 20], area=900),
    ]
    path = write_coco(tmp_path, coco(annotations=boxes))
    scales = read_scales(path)
    assert scales.sizes.tolist() == [20, 20]
    assert scales.skipped == Skipped(crowd=1, contradiction=1, duplicate=1)
    Image.fromarray(np.full((80, 100), 9, np.uint8)).save(tmp_path / "a.png")
    match = "1 x object that is annotated twice, 1 x box smaller than the annotated area"
    with pytest.warns(UserWarning, match=match):
        data = coco_images(path, tmp_path, Tiling(image_size=16, split="areas", valid_share=0.5))
    assert data.class_names == ("screw",)


def test_boxes_of_voc_files(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xml", voc(voc_object(0.1, 0.2, 0.4, 0.9)))
    with pytest.raises(ValueError, match=r"a\.xml: boxes must be in px, but none reaches"):
        read_voc(path)
    twice = voc_object(1, 2, 11, 12)
    scales = read_scales(write(tmp_path / "a.xml", voc(twice, twice)))
    assert (len(scales), scales.skipped) == (1, Skipped(duplicate=1))
    write(tmp_path / "b.xml", voc(twice))
    with pytest.raises(ValueError, match=r"two images are the same file, a\.png\.$"):
        read_scales(tmp_path)


HEAD = "filename,width,height,xmin,ymin,xmax,ymax\n"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a.png,20,10,5,6,25,16", r"those of the image a\.png, but object 1 has 10 and 20 px:"),
        (
            "a.png,100,80,5,6,25,16\na.png,30,10,0,0,9,9",
            "but object 2 has 10 and 30 px, unlike others",
        ),
        ("a.png,,,5,6,25,16\na.png,100,80,0,0,100,80\na.png,100,80,1,1,9,9", None),
    ],
)
def test_sizes_of_boxes_in_a_table(tmp_path: Path, rows: str, message: str | None) -> None:
    path = write(tmp_path / "a.csv", HEAD + rows)
    if message is None:
        assert len(read_scales(path)) == 3
        return
    with pytest.raises(ValueError, match=message):
        read_scales(path)


@pytest.mark.parametrize("read", [read_scales, read_coco])
def test_names_of_half_a_character_are_refused(tmp_path: Path, read: Callable[..., Any]) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(coco(categories=[NUT | {"name": "\ud800"}])))
    with pytest.raises(ValueError, match=r"a\.json: holds half a character, '\\ud800'"):
        read(path)


def test_nothing_is_said_of_good_files(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scales = read_scales(write_coco(tmp_path))
    assert (scales.notes, scales.skipped) == ((), Skipped())
    assert read_coco(tmp_path / "coco.json").objects[0].box == Box(10, 10, 30, 15)
