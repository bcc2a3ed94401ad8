"""Pixels and boxes belong together, whoever reads them: a target or the data to learn."""

from __future__ import annotations

import json
import warnings
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from rfsearch.data.boxed_images import coco_images, voc_images
from rfsearch.data.masked_images import masked_images
from rfsearch.data.tiles import Tiling
from rfsearch.target.scales import read_scales

if TYPE_CHECKING:
    from rfsearch.data.datasets import DetectionData

HEIGHT, WIDTH = 64, 96
#: Left, top, width and height in px of the bright object of each upright image.
BOXES = [(8 + 16 * n, 4 + 8 * n, 20, 12) for n in range(3)]
TILING = Tiling(image_size=32, valid_share=0.34)


def scene(box: tuple[int, int, int, int]) -> np.ndarray[Any, Any]:
    left, top, width, height = box
    values = np.full((HEIGHT, WIDTH), 20, np.uint8)
    values[top : top + height, left : left + width] = 230
    return values


def save(path: Path, values: np.ndarray[Any, Any], orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    turns = {1: 0, 3: 2, 6: 1, 8: -1}[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(np.ascontiguousarray(np.rot90(values, turns))).save(path, exif=exif)


def write_coco(folder: Path, suffix: str, size: tuple[int, int] | None = (HEIGHT, WIDTH)) -> Path:
    of_size = {} if size is None else {"height": size[0], "width": size[1]}
    content = {
        "images": [{"id": n, "file_name": f"{n}.{suffix}", **of_size} for n in range(3)],
        "categories": [{"id": 1, "name": "object"}],
        "annotations": [
            {"image_id": n, "category_id": 1, "bbox": list(box)} for n, box in enumerate(BOXES)
        ],
    }
    (folder / "a.json").write_text(json.dumps(content))
    return folder / "a.json"


def write_voc(folder: Path, suffix: str) -> Path:
    for n, (left, top, width, height) in enumerate(BOXES):
        edges = {"xmin": left, "ymin": top, "xmax": left + width, "ymax": top + height}
        box = "".join(f"<{name}>{value}</{name}>" for name, value in edges.items())
        (folder / f"{n}.xml").write_text(
            f"<annotation><filename>{n}.{suffix}</filename><object><name>object</name><bndbox>"
            f"{box}</bndbox></object></annotation>"
        )
    return folder


def brightness_inside(data: DetectionData) -> list[float]:
    """Of the boxes that are learned or count."""
    found = []
    for images, boxes in (
        (data.train_images, data.train_boxes), (data.valid_images, data.valid_boxes)
    ):  # fmt: skip
        for image, of_image in zip(images[:], boxes, strict=True):
            for left, top, right, bottom in of_image.corners.int().tolist():
                found.append(float(image[0, top:bottom, left:right].float().mean()))
    return found


@pytest.mark.parametrize(
    ("suffix", "orientation", "in_memory"),
    [
        # Images are read alike, whenever they are.
        pytest.param(*case, marks=[] if case[2] or case[1] == 6 else [pytest.mark.slow])
        for case in product(("jpg", "png", "webp", "tif"), (1, 3, 6, 8), (True, False))
    ],
)
def test_boxes_are_on_their_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, orientation: int, in_memory: bool
) -> None:
    monkeypatch.setenv("RFSEARCH_CACHE", str(tmp_path / "cache"))
    for n, box in enumerate(BOXES):
        save(tmp_path / f"{n}.{suffix}", scene(box), orientation)
    tiling = TILING.model_copy(update={"in_memory": in_memory})
    with warnings.catch_warnings():
        if orientation == 3:  # Upside down has the same size, so it is said.
            warnings.simplefilter("ignore")
        found = brightness_inside(coco_images(write_coco(tmp_path, suffix), tmp_path, tiling))
        target = read_scales(tmp_path / "a.json", images=tmp_path)
    assert min(found) > 215
    assert target.sizes == pytest.approx([np.sqrt(20 * 12)] * 3)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
@pytest.mark.parametrize("orientation", [6, 8])
def test_images_annotated_on_their_side_are_refused(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    for n, box in enumerate(BOXES):
        save(tmp_path / f"{n}.{suffix}", scene(box), orientation)
    path = write_coco(tmp_path, suffix, (WIDTH, HEIGHT))
    match = rf"a\.json: .*0\.{suffix} must be 96x64 .* is 64x96 .* EXIF orientation, {orientation}"
    with pytest.raises(ValueError, match=match):
        coco_images(path, tmp_path, TILING)
    with pytest.raises(ValueError, match=match):
        read_scales(path, images=tmp_path)


@pytest.mark.parametrize(("size", "orientation"), [(None, 6), ((HEIGHT, WIDTH), 3)])
def test_what_no_annotated_size_tells_is_said(
    tmp_path: Path, size: tuple[int, int] | None, orientation: int
) -> None:
    for n, box in enumerate(BOXES):
        save(tmp_path / f"{n}.jpg", scene(box), orientation)
    path = write_coco(tmp_path, "jpg", size)
    match = r"as those of upright images, but for 3 images with an EXIF .* first is .*0\.jpg"
    for read in (
        lambda: coco_images(path, tmp_path, TILING), lambda: read_scales(path, images=tmp_path)
    ):  # fmt: skip
        with pytest.warns(UserWarning, match=match) as caught:
            read()
        assert len(caught) == 1


@pytest.mark.parametrize("factor", [0.5, 2])
def test_images_that_were_resized_are_refused(tmp_path: Path, factor: float) -> None:
    for n, box in enumerate(BOXES):
        resized = Image.fromarray(scene(box)).resize((int(96 * factor), int(64 * factor)))
        save(tmp_path / f"{n}.png", np.asarray(resized))
    path = write_coco(tmp_path, "png")
    match = rf"0\.png must be 64x96 px as annotated, but is {64 * factor:g}x{96 * factor:g} px"
    with pytest.raises(ValueError, match=match):
        coco_images(path, tmp_path, TILING)
    with pytest.raises(ValueError, match=match):
        read_scales(path, images=tmp_path)


def test_resized_images_without_an_annotated_size_are_found_by_their_boxes(tmp_path: Path) -> None:
    for n, box in enumerate(BOXES):
        small = Image.fromarray(scene(box)).resize((WIDTH // 2, HEIGHT // 2))
        small.save(tmp_path / f"{n}.png")
    write_voc(tmp_path, "png")
    rows = [f"{n}.png,{x},{y},{x + w},{y + h}" for n, (x, y, w, h) in enumerate(BOXES)]
    table = tmp_path / "a.csv"
    table.write_text("\n".join(["image_path,xmin,ymin,xmax,ymax", *rows]))
    match = r"2\.png is 32x48 px .* reaches to x=60, y=32 px.*resized"
    for read in (
        lambda: voc_images(tmp_path, tmp_path, TILING),
        lambda: read_scales(tmp_path, 32, format="voc"),
        lambda: read_scales(table, 32),
        lambda: read_scales(table, images=tmp_path),
    ):
        with pytest.raises(ValueError, match=match):
            read()


@pytest.mark.parametrize("orientation", [1, 6])
def test_masks_are_as_upright_as_their_images(tmp_path: Path, orientation: int) -> None:
    for n, box in enumerate(BOXES):
        save(tmp_path / "images" / f"{n}.jpg", scene(box), orientation)
        save(tmp_path / "masks" / f"{n}.png", (scene(box) > 200).astype(np.uint8))
    folders = tmp_path / "images", tmp_path / "masks"
    data = masked_images(*folders, ("background", "object"), TILING)
    inside = data.train_images[:][:, 0][data.train_masks[:] == 1]
    assert inside.float().mean() > 215
    # The mask of an image as its sensor lay.
    save(tmp_path / "masks" / "1.png", np.rot90(scene(BOXES[1]) > 200).astype(np.uint8))
    with pytest.raises(ValueError, match=r"1\.png: .*1\.jpg must be 96x64 px as annotated"):
        masked_images(*folders, ("background", "object"), TILING)


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    for suffix in ("jpg", "png"):
        save(tmp_path / f"0.{suffix}", scene(BOXES[0]))
    with pytest.raises(ValueError, match=r"one file of a name, but has 0\.jpg and 0\.png"):
        masked_images(tmp_path, tmp_path, ("background", "object"), TILING)
