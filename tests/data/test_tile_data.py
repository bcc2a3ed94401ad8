from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, reject
from hypothesis import strategies as st
from squares import boxed, masked, numbered_pixels, pixel_numbers

from rfsearch.data.datasets import IGNORED
from rfsearch.data.tile_data import BoxedImage, MaskedImage, detection_data, segmentation_data
from rfsearch.data.tiles import AreaTiling, Tiling

NAMES = ("dim", "bright")
MASK_NAMES = ("background", *NAMES)


def one_box(*corners: float, size: tuple[int, int] = (16, 16)) -> BoxedImage:
    pixels = np.full((*size, 1), 100, np.uint8)
    return BoxedImage(pixels, np.array([corners]), np.zeros(1, np.int64), np.zeros(1, bool))


# -- leakage ----------------------------------------------------------------------------------


@given(st.integers(40, 90), st.integers(40, 90), st.integers(0, 3))
def test_no_pixel_is_in_both_parts_of_segmentation_data(
    height: int, width: int, seed: int
) -> None:
    image = masked(height, width, number=6, seed=seed)
    classes = (np.indices((height, width)).sum(axis=0) % 2).astype(np.uint8)
    numbered = MaskedImage(numbered_pixels(height, width), classes, image.instances)
    data = segmentation_data([numbered], MASK_NAMES, AreaTiling(image_size=16, seed=seed), "x")
    parts = [pixel_numbers(part.numpy()) for part in (data.train_images, data.valid_images)]
    assert not parts[0] & parts[1]
    # Nor is a pixel of an object that the other part shows.
    assert image.instances is not None
    of_pixels = image.instances.ravel()
    seen = [set(of_pixels[list(part)].tolist()) - {0} for part in parts]
    assert not seen[0] & seen[1]
    assert data.valid_instances is not None
    assert int(data.valid_instances.numbers.max()) == len(data.valid_instances.sizes)


@given(st.integers(64, 90), st.integers(64, 90), st.integers(0, 3))
def test_no_object_is_in_both_parts_of_detection_data(height: int, width: int, seed: int) -> None:
    image = boxed(height, width, number=14, seed=seed)
    numbered = BoxedImage(
        numbered_pixels(height, width), image.corners, image.labels, image.ignored
    )
    tiling = AreaTiling(image_size=24, valid_share=0.5, seed=seed)
    try:
        data = detection_data([numbered], NAMES, tiling, "x")
    except ValueError:  # No room for a tile.
        reject()
    parts = [pixel_numbers(part.numpy()) for part in (data.train_images, data.valid_images)]
    assert not parts[0] & parts[1]
    for left, top, right, bottom in image.corners.astype(int):
        inside = {y * width + x for y in range(top, bottom) for x in range(left, right)}
        assert not (inside & parts[0] and inside & parts[1])


def test_whole_images_are_in_one_part_each() -> None:
    images = [
        MaskedImage(np.full((20, 20, 1), n, np.uint8), np.eye(20, dtype=np.uint8))
        for n in range(10)
    ]
    data = segmentation_data(images, MASK_NAMES, Tiling(image_size=8, valid_share=0.3), "x")
    train, valid = (set(p.unique().tolist()) for p in (data.train_images, data.valid_images))
    assert (len(train), len(valid)) == (7, 3)
    assert not train & valid


# -- tiles ------------------------------------------------------------------------------------


def test_masks_and_instances_stay_with_their_pixels() -> None:
    data = segmentation_data([masked()], MASK_NAMES, AreaTiling(image_size=24), "x")
    for images, masks in (
        (data.train_images, data.train_masks),
        (data.valid_images, data.valid_masks),
    ):
        brightness = images[:, 0]
        assert torch.equal(masks == 0, brightness < 50)
        assert torch.equal(masks == 1, brightness == 120)
        assert torch.equal(masks == 2, brightness == 240)
    assert data.valid_instances is not None
    assert ((data.valid_masks > 0) | (data.valid_instances.numbers == 0)).all()


def test_boxes_stay_with_their_pixels() -> None:
    data = detection_data([boxed()], NAMES, AreaTiling(image_size=32), "x")
    checked = 0
    for images, boxes in (
        (data.train_images, data.train_boxes),
        (data.valid_images, data.valid_boxes),
    ):
        assert len(images) == len(boxes)
        for image, found in zip(images, boxes, strict=True):
            for (left, top, right, bottom), label in zip(
                found.corners.int().tolist(), found.labels.tolist(), strict=True
            ):
                assert (image[0, top:bottom, left:right] == 120 + 120 * label).all()
                checked += 1
    assert checked > 12


def test_a_box_is_cut_at_the_border_and_ignored_if_less_than_half_is_left() -> None:
    # Tiles at the columns 0, 8 and 16 of a 16x32 image; the object spans 11 to 19.
    images = [one_box(11, 4, 19, 10, size=(16, 32)) for _ in range(2)]
    data = detection_data(images, ("thing",), Tiling(image_size=16, valid_share=0.5), "x")
    found = [(b.corners.tolist(), b.ignored.tolist()) for b in data.train_boxes]
    assert found == [
        ([[11, 4, 16, 10]], [False]),
        ([[3, 4, 11, 10]], [False]),
        ([[0, 4, 3, 10]], [True]),
    ]
    assert data.object_sizes == pytest.approx([np.sqrt(8 * 6)])


def test_the_part_of_an_object_counts_if_it_is_half_or_more() -> None:
    instances = np.zeros((16, 32), np.int64)
    instances[4:10, 11:19] = 7  # 5 of 8 columns in the left tile, 3 in the right one.
    instances[12:14, 20:24] = 9
    image = MaskedImage(
        np.zeros((16, 32, 1), np.uint8), (instances > 0).astype(np.uint8), instances
    )
    data = segmentation_data(
        [image, image], ("no", "yes"), Tiling(image_size=16, valid_share=0.5), "x"
    )
    found = data.valid_instances
    assert found is not None
    counts = [np.bincount(tile.ravel(), minlength=3).tolist() for tile in found.numbers.numpy()]
    assert counts == [[256 - 30, 30, 0], [256 - 8, 0, 8]]
    assert found.sizes == pytest.approx([np.sqrt(8 * 6), np.sqrt(4 * 2)])
    assert (data.valid_masks[1] == 1).sum() == 18 + 8


def test_small_images_are_filled_up_and_the_filling_is_ignored() -> None:
    image = masked(20, 24, number=2)
    data = segmentation_data([image] * 4, MASK_NAMES, Tiling(image_size=32), "x")
    assert data.image_size == (32, 32)
    assert (data.train_masks[:, 20:] == IGNORED).all()
    assert (data.train_masks[:, :, 24:] == IGNORED).all()
    assert torch.equal(data.train_masks[0, :20, :24], torch.from_numpy(image.classes))
    assert not data.train_images[:, :, 20:].any()


def test_object_sizes_are_those_of_the_training_area_each_once() -> None:
    data = segmentation_data([masked(number=12)], MASK_NAMES, AreaTiling(image_size=16), "x")
    assert data.object_sizes is not None
    assert 6 <= len(data.object_sizes) <= 12
    assert set(data.object_sizes.tolist()) <= set(range(7, 12))


def test_without_instances_there_are_no_sizes_and_no_recall() -> None:
    image = masked()
    unknown = MaskedImage(image.pixels, image.classes)
    data = segmentation_data([unknown], MASK_NAMES, AreaTiling(image_size=16), "x")
    assert data.object_sizes is None
    assert data.valid_instances is None


def test_grey_and_colour_images_make_colour_tiles() -> None:
    grey = one_box(1, 1, 9, 9)
    colour = BoxedImage(np.zeros((16, 16, 3), np.uint8), grey.corners, grey.labels, grey.ignored)
    data = detection_data([grey, colour], ("thing",), Tiling(image_size=16), "x")
    assert data.in_chans == 3


# -- mistakes ---------------------------------------------------------------------------------


def test_images_without_room_for_both_parts_are_refused() -> None:
    for tiling in (Tiling(image_size=16), AreaTiling(image_size=16)):
        with pytest.raises(ValueError, match=r"^x: there is no room for a tile of 16x16 px for"):
            detection_data([one_box(1, 1, 9, 9)], ("thing",), tiling, "x")


def test_a_part_without_objects_is_refused() -> None:
    empty = BoxedImage(
        np.zeros((16, 16, 1), np.uint8),
        np.zeros((0, 4)),
        np.zeros(0, np.int64),
        np.zeros(0, bool),
    )
    with pytest.raises(ValueError, match=r"^x: there is no object in the tiles for "):
        detection_data([one_box(1, 1, 9, 9), empty], ("thing",), Tiling(image_size=16), "x")
