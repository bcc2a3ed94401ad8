from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from annotated import coco, write, write_coco

from rfsearch.target.annotations import AnnotatedImage, AnnotatedObject, Box
from rfsearch.target.annotations_coco import read_coco

if TYPE_CHECKING:
    from pathlib import Path


def test_boxes_are_left_top_width_height(tmp_path: Path) -> None:
    found = read_coco(write_coco(tmp_path, coco([10, 20, 30, 40.5])))
    assert found.images == (AnnotatedImage("a.png", (80, 100)),)
    assert found.objects == (AnnotatedObject(0, "screw", Box(10, 20, 40, 60.5)),)
    assert found.class_names == ("screw",)
    assert not found.are_masks


def object_of(folder: Path, **values: Any) -> AnnotatedObject:
    entry = coco([1, 2, 3, 4])["annotations"][0] | values
    return read_coco(write_coco(folder, coco(annotations=[entry]))).objects[0]


def test_ids_may_be_text_and_in_any_order(tmp_path: Path) -> None:
    content = coco(
        images=[{"id": "b"}, {"id": "a", "file_name": "x/a.png", "height": 0, "width": 0}],
        categories=[{"id": 2, "name": "nut"}, {"id": 1}, {"id": 3, "name": 1.0}],
        annotations=[{"image_id": "a", "category_id": 1, "bbox": [0, 0, 1, 1]}],
    )
    found = read_coco(write_coco(tmp_path, content))
    assert found.images == (AnnotatedImage("", None), AnnotatedImage("x/a.png", None))
    assert found.objects[0].image == 1
    assert found.objects[0].label == "1"
    assert found.class_names == ("nut", "1", "1.0")


def test_crowds_are_marked(tmp_path: Path) -> None:
    assert object_of(tmp_path, iscrowd=1).is_crowd
    assert not object_of(tmp_path, iscrowd=0).is_crowd


@pytest.mark.parametrize("wrong", [8, None, "8", "", 7.5, [7], {}])
def test_images_that_are_not_listed(tmp_path: Path, wrong: Any) -> None:
    assert object_of(tmp_path, image_id=wrong).image is None


@pytest.mark.parametrize("wrong", [4, None, "screw", [3]])
def test_categories_that_are_not_listed(tmp_path: Path, wrong: Any) -> None:
    assert object_of(tmp_path, category_id=wrong).label is None


@pytest.mark.parametrize(
    "wrong", [None, [], [1, 2, 3], "1234", {"x": 1}, [1, 2, None, 4], [1, 2, float("nan"), 4]]
)
def test_boxes_that_are_none(tmp_path: Path, wrong: Any) -> None:
    assert object_of(tmp_path, bbox=wrong).box is None


def test_annotations_that_are_no_objects(tmp_path: Path) -> None:
    content = coco(annotations=[5, None, "x"])
    found = read_coco(write_coco(tmp_path, content)).objects
    assert found == (AnnotatedObject(None, None, None),) * 3


def test_a_truncated_file(tmp_path: Path) -> None:
    text = json.dumps(coco())
    for length in (0, 1, len(text) // 2, len(text) - 1):
        with pytest.raises(ValueError, match=r"a\.json: not a JSON file \(.*\)\.$"):
            read_coco(write(tmp_path / "a.json", text[:length]))


def test_a_file_nested_too_deeply(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.json: not a JSON file"):
        read_coco(write(tmp_path / "a.json", "[" * 200_000))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([{"image_id": 1, "bbox": [1, 2, 3, 4]}], "it must hold an object, but holds a list"),
        (3, "it must hold an object, but holds a int"),
        ({}, "it has no list `images`, but nothing"),
        ({"type": "FeatureCollection"}, "it has no list `images`, but type"),
        (coco(annotations={}), "it has no list `annotations`, but images, categories, annotat"),
        (coco(images=[{"name": "x"}]), '`images` must hold .* `id`, but it holds {"name"'),
        (coco(images=["a.png"]), '`images` must hold objects with an `id`, but it holds "a.png"'),
        (coco(categories=[{"id": [1]}]), "`categories` must hold objects with an `id`"),
    ],
)
def test_files_of_another_format(tmp_path: Path, content: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"coco\.json: not a COCO file: {reason}"):
        read_coco(write_coco(tmp_path, content))
