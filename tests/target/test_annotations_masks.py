from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotated import write
from PIL import Image

from rfsearch.target._annotations_masks import MaskReading, read_masks
from rfsearch.target.annotations import AnnotatedImage, AnnotatedObject, Box


def save(path: Path, values: Any, dtype: Any = np.uint8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, dtype=dtype)).save(path)
    return path


def two_objects(*values: int) -> np.ndarray[Any, Any]:
    """Two rectangles that touch at a corner only, in a mask of 8 x 12 px."""
    mask = np.zeros((8, 12), dtype=np.int64)
    mask[1:4, 2:7] = values[0]
    mask[4:6, 7:11] = values[-1]
    return mask


FIRST, SECOND, BOTH = Box(2, 1, 7, 4), Box(7, 4, 11, 6), Box(2, 1, 11, 6)


def test_values_are_objects(tmp_path: Path) -> None:
    found = read_masks(save(tmp_path / "a.png", two_objects(9, 3)))
    assert found.images == (AnnotatedImage("a.png", (8, 12)),)
    # In the order of their values.
    assert found.objects == (
        AnnotatedObject(0, "object", SECOND),
        AnnotatedObject(0, "object", FIRST),
    )
    assert found.are_masks


@pytest.mark.parametrize(
    ("suffix", "dtype", "values"),
    [("png", np.uint16, (65535, 300)), ("tif", np.uint16, (40000, 300)),
     ("tif", np.int32, (2**31 - 1, 300)), ("gif", np.uint8, (200, 3))],
)  # fmt: skip
def test_16_and_32_bits(
    tmp_path: Path, suffix: str, dtype: type[np.integer[Any]], values: tuple[int, int]
) -> None:
    found = read_masks(save(tmp_path / f"a.{suffix}", two_objects(*values), dtype))
    assert [one.box for one in found.objects] == [SECOND, FIRST]


def test_indices_of_a_palette_count(tmp_path: Path) -> None:
    image = Image.fromarray(two_objects(1, 2).astype(np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 255, 0, 0, 255, 0, 0] + [0] * 759)
    image.save(tmp_path / "a.png")
    assert [one.box for one in read_masks(tmp_path / "a.png").objects] == [FIRST, SECOND]


def test_all_parts_of_an_object_are_in_one_box(tmp_path: Path) -> None:
    mask = two_objects(5)
    mask[0, 0] = 6
    found = read_masks(save(tmp_path / "a.png", mask))
    assert [one.box for one in found.objects] == [BOTH, Box(0, 0, 1, 1)]


def test_components_are_the_objects_of_semantic_masks(tmp_path: Path) -> None:
    mask = two_objects(2, 10)
    mask[0, 0] = mask[7, 0] = 10
    found = read_masks(save(tmp_path / "a.png", mask), MaskReading(semantic=True))
    assert found.objects == (
        AnnotatedObject(0, "2", FIRST),
        AnnotatedObject(0, "10", Box(0, 0, 1, 1)),
        AnnotatedObject(0, "10", SECOND),
        AnnotatedObject(0, "10", Box(0, 7, 1, 8)),
    )
    assert found.class_names == ("2", "10")


def test_components_are_joined_over_corners(tmp_path: Path) -> None:
    found = read_masks(save(tmp_path / "a.png", two_objects(255)), MaskReading(semantic=True))
    assert found.objects == (AnnotatedObject(0, "255", BOTH),)


def test_one_bit(tmp_path: Path) -> None:
    Image.fromarray(two_objects(1) > 0).save(tmp_path / "a.png")
    assert read_masks(tmp_path / "a.png").objects == (AnnotatedObject(0, "object", BOTH),)


def test_a_folder_and_its_subfolders(tmp_path: Path) -> None:
    save(tmp_path / "b" / "2.tif", two_objects(1, 2))
    save(tmp_path / "1.png", np.zeros((3, 4)))
    write(tmp_path / "readme.txt", "")
    found = read_masks(tmp_path)
    assert found.images == (AnnotatedImage("1.png", (3, 4)), AnnotatedImage("b/2.tif", (8, 12)))
    assert [one.image for one in found.objects] == [1, 1]


def test_whether_values_are_classes_is_asked_where_it_matters(tmp_path: Path) -> None:
    mask = np.zeros((8, 8))
    mask[0, 0] = mask[5, 5] = 255
    save(tmp_path / "a.png", mask)
    with pytest.raises(ValueError, match=r"1 of 1 lie in several places, such as 255 in 2\. St"):
        read_masks(tmp_path / "a.png")
    for semantic, number in ((True, 2), (False, 1)):
        assert len(read_masks(tmp_path / "a.png", MaskReading(semantic)).objects) == number
    # Connected objects are the same in both ways.
    save(tmp_path / "a.png", two_objects(1, 2))
    assert boxes(tmp_path) == [FIRST, SECOND]
    assert boxes(tmp_path, semantic=True) == [FIRST, SECOND]


def boxes(path: Path, **options: Any) -> list[Box | None]:
    return [one.box for one in read_masks(path, MaskReading(**options)).objects]


def void_ring(*values: int) -> np.ndarray[Any, Any]:
    """Objects of 10 x 12 px, and rings of 255 around them, in a mask of 40 x 40 px."""
    mask = np.zeros((40, 40), np.uint8)
    for number, value in enumerate(values):
        left = 3 + 18 * number
        mask[3:17, left - 2 : left + 14] = 255
        mask[5:15, left : left + 12] = value
    return mask


def fields(*values: int) -> np.ndarray[Any, Any]:
    """Fields of 9 x 9 px beside each other, above a background of 0."""
    return np.kron([values, [0] * len(values)], np.ones((9, 9)))


#: Values, how they are read, and the sides of the objects in px: height and width.
MEANINGS: dict[str, tuple[Any, dict[str, Any], list[tuple[int, int]]]] = {
    "VOC objects": (void_ring(1, 2), {}, [(10, 12), (10, 12)]),
    "VOC classes": (void_ring(15, 7), {"semantic": True}, [(10, 12), (10, 12)]),
    "void is stated": (void_ring(1, 254), {"ignored": [255]}, [(10, 12), (10, 12)]),
    "binary": (void_ring(255), {}, [(14, 16)]),
    "255 is one of many": (fields(254, 255), {}, [(9, 9)] * 2),
    "255 of 16 bits": (fields(255, 300), {}, [(9, 9)] * 2),
    "255 is stated to be one": (void_ring(1), {"ignored": []}, [(10, 12), (14, 16)]),
    "inverted": (255 - void_ring(255), {"background": 255}, [(14, 16)]),
    "from 1 on": (two_objects(2, 3) + 1, {"background": 1}, [(3, 5), (2, 4)]),
    "no background": (fields(1, 2)[:9], {"background": "none"}, [(9, 9)] * 2),
    "-1 is ignored": (fields(1, -1), {"ignored": [-1]}, [(9, 9)]),
}


@pytest.mark.parametrize("name", MEANINGS)
def test_what_values_mean(tmp_path: Path, name: str) -> None:
    values, options, sides = MEANINGS[name]
    dtype = np.uint8 if values.min() >= 0 and values.max() < 256 else np.int32
    path = save(tmp_path / "a.tif", values, dtype)
    found = [
        box and (box.bottom - box.top, box.right - box.left) for box in boxes(path, **options)
    ]
    assert found == sides


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        (255 - void_ring(255), np.uint8, "is 255 the background, or 0"),
        (two_objects(2, 3) + 1, np.uint8, "no mask has the value 0, so which of 1, 3, 4 is"),
        (np.full((9, 9), 255), np.uint8, "no mask has the value 0, so which of 255 is"),
        (fields(1, -1), np.int32, r"the value -1 must be at least 0, .*: --ignored -1"),
    ],
)
def test_what_values_may_mean_is_asked(
    tmp_path: Path, values: Any, dtype: type[np.integer[Any]], message: str
) -> None:
    path = save(tmp_path / "a.tif", values, dtype)
    with pytest.raises(ValueError, match=message) as error:
        read_masks(path)
    assert str(error.value).startswith(f"{path}: ")


def test_what_was_taken_for_granted_is_said(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", void_ring(1, 2))
    assert read_masks(path).notes == ("background 0, ignored 255, others objects",)
    assert read_masks(path, MaskReading(True, "none", [])).notes == (
        "background none, ignored none, others classes, whose connected parts are objects",
    )


def disc(side: int = 200) -> Image.Image:
    rows, columns = np.mgrid[:side, :side] - side / 2
    return Image.fromarray(np.where(rows**2 + columns**2 < (side / 3) ** 2, 255, 0).astype("u1"))


@pytest.mark.parametrize("size", [77, 130, 500])
def test_smoothed_edges_are_no_objects(tmp_path: Path, size: int) -> None:
    disc().resize((size, size), Image.Resampling.BILINEAR).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: not a mask but shades: .* smoothing"):
        read_masks(tmp_path)
    disc().resize((size, size), Image.Resampling.NEAREST).save(tmp_path / "a.png")
    assert len(read_masks(tmp_path).objects) == 1


def test_crowded_objects_thin_lines_and_single_pixels_are_masks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:200, :200]
    crowded, points, lines = np.zeros((3, 200, 200), np.uint8)
    for number, (row, column) in enumerate(rng.integers(0, 200, (60, 2)), start=1):
        crowded[(rows - row) ** 2 + (columns - column) ** 2 < rng.integers(3, 30) ** 2] = number
        points[row, column] = number
    for number in range(10):
        lines[20 * number], lines[:, 20 * number + 5] = number + 1, number + 20
    for name, values in (("a", crowded), ("b", points), ("c", lines)):
        save(tmp_path / f"{name}.png", values)
    assert len(read_masks(tmp_path, MaskReading(semantic=False)).objects) > 125


@pytest.mark.parametrize(("shape", "dtype"), [((4, 4, 3), np.uint8), ((4, 4), np.float32)])
def test_images_that_are_no_masks(
    tmp_path: Path, shape: tuple[int, ...], dtype: type[np.generic]
) -> None:
    file = save(tmp_path / "a.tif", np.zeros(shape), dtype)
    with pytest.raises(ValueError, match=r"a\.tif: a mask must have one channel .* but has the"):
        read_masks(file)


def test_a_stack_is_no_mask(tmp_path: Path) -> None:
    one = Image.fromarray(two_objects(1, 2).astype(np.uint8))
    one.save(tmp_path / "a.tif", save_all=True, append_images=[one, one])
    with pytest.raises(
        ValueError, match=r"a\.tif: a mask must have one channel .* the shape \(3, 8, 12\)"
    ):
        read_masks(tmp_path / "a.tif")


@pytest.mark.parametrize("share", [0, 0.5])
def test_a_broken_mask_among_good_ones(tmp_path: Path, share: float) -> None:
    save(tmp_path / "a.png", two_objects(1, 2))
    whole = save(tmp_path / "b.png", np.random.default_rng(0).integers(0, 9, (64, 64)))
    content = whole.read_bytes()
    whole.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"b\.png: not a readable image \(.*\)\.$"):
        read_masks(tmp_path)


def test_no_masks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no mask \(\.bmp, .*\) in this folder"):
        read_masks(tmp_path)
