from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from squares import boxed, write_boxed

from rfsearch.data.boxed_images import coco_images, voc_images
from rfsearch.data.datasets import DetectionData
from rfsearch.data.tiles import Tiling

TILING = Tiling(image_size=32, valid_share=0.34)
GOOD = {"image_id": 0, "category_id": 10, "bbox": [2, 2, 8, 8]}


def load(folder: Path, tiling: Tiling = TILING) -> DetectionData:
    return coco_images(folder / "boxes.json", folder, tiling)


def write_voc(folder: Path, number: int = 3) -> Path:
    """The images of `write_boxed` with XML files beside them."""
    write_boxed(folder, number)
    for n in range(number):
        objects = "".join(
            f"<object><name>{'dim' if label == 0 else 'bright'}</name><bndbox><xmin>{left:g}"
            f"</xmin><ymin>{top:g}</ymin><xmax>{right:g}</xmax><ymax>{bottom:g}</ymax></bndbox>"
            "</object>"
            for (left, top, right, bottom), label in zip(
                boxed(seed=n).corners, boxed(seed=n).labels, strict=True
            )
        )
        text = f"<annotation><filename>{n}.png</filename>{objects}</annotation>"
        (folder / f"{n}.xml").write_text(text)
    return folder


def corners_of(data: DetectionData) -> list[list[list[float]]]:
    return [found.corners.tolist() for found in (*data.train_boxes, *data.valid_boxes)]


def refusal(folder: Path, tiling: Tiling = TILING) -> str:
    """The one line that says what is wrong."""
    with pytest.raises(ValueError, match=r"\S") as error:
        load(folder, tiling)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_images_and_boxes_of_a_coco_file(tmp_path: Path) -> None:
    data = load(write_boxed(tmp_path))
    assert data.class_names == ("dim", "bright")
    assert (data.in_chans, data.image_size) == (1, (32, 32))
    # Two of three images of 64x96 px train, in tiles 16 px apart.
    assert (len(data.train_images), len(data.valid_images)) == (2 * 3 * 5, 2 * 3)
    assert data.object_sizes is not None
    assert len(data.object_sizes) == 24
    for image, found in zip(data.train_images, data.train_boxes, strict=True):
        for (left, top, right, bottom), label in zip(
            found.corners.int().tolist(), found.labels.tolist(), strict=True
        ):
            assert (image[0, top:bottom, left:right] == 120 + 120 * label).all()


def test_voc_files_say_the_same(tmp_path: Path) -> None:
    write_voc(tmp_path)
    coco, voc = load(tmp_path), voc_images(tmp_path, tmp_path, TILING)
    assert set(voc.class_names) == {"dim", "bright"}
    assert corners_of(voc) == corners_of(coco)
    assert voc.object_sizes == pytest.approx(coco.object_sizes)


def test_images_are_resized_with_their_boxes(tmp_path: Path) -> None:
    write_boxed(tmp_path)
    half = load(tmp_path, Tiling(image_size=32, valid_share=0.34, scale=0.5))
    whole = load(tmp_path, Tiling(image_size=64, valid_share=0.34))
    assert half.object_sizes == pytest.approx(np.asarray(whole.object_sizes) / 2)
    assert half.train_boxes[0].corners.numpy() == pytest.approx(
        whole.train_boxes[0].corners.numpy() / 2
    )


def test_a_crowd_is_not_learned(tmp_path: Path) -> None:
    data = load(write_boxed(tmp_path, annotations=[GOOD | {"image_id": n} for n in range(3)] + [
        {"image_id": n, "category_id": 11, "bbox": [40, 10, 20, 20], "iscrowd": 1}
        for n in range(3)
    ]))  # fmt: skip
    for found in (*data.train_boxes, *data.valid_boxes):
        assert (found.ignored | (found.labels == 0)).all()
    assert any(found.ignored.any() for found in data.valid_boxes)
    assert data.object_sizes == pytest.approx([8, 8])


# -- what is left out and counted -------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "counted"),
    [
        ({"bbox": [2, 2, 0, 8]}, "1 x empty box"),
        ({"bbox": [2, 2, 8, -1]}, "1 x empty box"),
        ({"bbox": [200, 2, 8, 8]}, "1 x box outside its image"),
        ({"bbox": [2, -9, 8, 8]}, "1 x box outside its image"),
        ({"bbox": [2, 2, 8]}, "1 x object without a box"),
        ({"bbox": None}, "1 x object without a box"),
        ({"category_id": 77}, "1 x object of an unknown category"),
        ({"image_id": 77}, "1 x object on an unknown image"),
    ],
)
def test_bad_objects_are_left_out_and_counted(
    tmp_path: Path, changes: dict[str, Any], counted: str
) -> None:
    good = [GOOD | {"image_id": n} for n in range(3)]
    write_boxed(tmp_path, annotations=[*good, GOOD | changes])
    with pytest.warns(UserWarning, match="skipped") as caught:
        data = load(tmp_path)
    (said,) = (str(warning.message) for warning in caught)
    assert said.partition(";")[0].rstrip(".") == f"{tmp_path / 'boxes.json'}: skipped {counted}"
    write_boxed(tmp_path, annotations=good)
    assert corners_of(data) == corners_of(load(tmp_path))


def test_missing_images_are_left_out_and_counted(tmp_path: Path) -> None:
    write_boxed(tmp_path, number=4)
    (tmp_path / "2.png").unlink()
    with pytest.warns(UserWarning, match="skipped") as caught:
        data = load(tmp_path)
    assert [str(warning.message) for warning in caught] == [
        f"{tmp_path / 'boxes.json'}: skipped 1 x image whose file is missing, such as "
        f"{tmp_path / '2.png'}, 12 x object on such an image."
    ]
    assert len(data.train_images) + len(data.valid_images) == 2 * 3 * 5 + 2 * 3


def test_a_box_that_is_partly_outside_is_cut(tmp_path: Path) -> None:
    write_boxed(tmp_path, annotations=[
        {"image_id": n, "category_id": 10, "bbox": [-4, -2, 10, 10]} for n in range(3)
    ])  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = load(tmp_path)
    assert data.train_boxes[0].corners.tolist() == [[0, 0, 6, 8]]
    assert data.object_sizes == pytest.approx([np.sqrt(6 * 8)] * 2)


# -- what is refused --------------------------------------------------------------------------


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    file = write_boxed(tmp_path) / "boxes.json"
    file.write_text(file.read_text()[:-40])
    assert refusal(tmp_path).startswith(f"{file}: not a JSON file (")


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write_boxed(tmp_path)
    (tmp_path / "1.png").write_bytes(b"nothing")
    assert refusal(tmp_path).startswith(f"{tmp_path / '1.png'}: not a readable image (")


def test_a_folder_without_the_images_is_named(tmp_path: Path) -> None:
    write_boxed(tmp_path)
    for file in tmp_path.glob("*.png"):
        file.unlink()
    with pytest.warns(UserWarning, match="3 x image whose file is missing"):
        line = refusal(tmp_path)
    assert line == f"{tmp_path / 'boxes.json'}: none of its images is in {tmp_path}."


def test_annotations_without_objects_are_refused(tmp_path: Path) -> None:
    write_boxed(tmp_path, annotations=[])
    assert "boxes.json: there is no object in the tiles for training" in refusal(tmp_path)


def test_grey_and_colour_images_go_together(tmp_path: Path) -> None:
    write_boxed(tmp_path)
    with Image.open(tmp_path / "0.png") as image:
        image.convert("RGB").save(tmp_path / "0.png")
    assert load(tmp_path).in_chans == 3
