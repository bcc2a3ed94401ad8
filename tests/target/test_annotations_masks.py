from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotated import write
from PIL import Image

from rfsearch.target._annotations_masks import read_masks
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
    found = read_masks(save(tmp_path / "a.png", mask), semantic=True)
    assert found.objects == (
        AnnotatedObject(0, "2", FIRST),
        AnnotatedObject(0, "10", Box(0, 0, 1, 1)),
        AnnotatedObject(0, "10", SECOND),
        AnnotatedObject(0, "10", Box(0, 7, 1, 8)),
    )
    assert found.class_names == ("2", "10")


def test_components_are_joined_over_corners(tmp_path: Path) -> None:
    found = read_masks(save(tmp_path / "a.png", two_objects(255)), semantic=True)
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


def test_classes_read_as_objects_are_noticed(tmp_path: Path) -> None:
    mask = np.zeros((8, 8))
    mask[0, 0] = mask[5, 5] = 255
    with pytest.warns(UserWarning, match="one value, in several places.*semantic masks"):
        read_masks(save(tmp_path / "a.png", mask))
    assert len(read_masks(tmp_path / "a.png", semantic=True).objects) == 2
    # A second mask with two values can only be one of objects.
    save(tmp_path / "b.png", two_objects(1, 2))
    assert len(read_masks(tmp_path).objects) == 3


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
