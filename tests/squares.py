"""Small annotated images that several test files need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rfsearch.data.tile_data import BoxedImage, MaskedImage


def numbered_pixels(height: int, width: int) -> NDArray[np.uint8]:
    """An RGB image whose pixels are all different."""
    number = np.arange(height * width).reshape(height, width)
    return np.stack([number // 65536, number // 256 % 256, number % 256], axis=2).astype(np.uint8)


def pixel_numbers(images: NDArray[np.uint8]) -> set[int]:
    """The numbers in tiles `(images, 3, height, width)` of `numbered_pixels`, but for 0."""
    red, green, blue = images.astype(np.int64).transpose(1, 0, 2, 3)
    return set((red * 65536 + green * 256 + blue).ravel().tolist()) - {0}


def squares(
    height: int, width: int, number: int, seed: int, sides: tuple[int, int] = (7, 12)
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.int64]]:
    """Bright squares of two classes on dark noise that do not overlap: pixels, corners, labels."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 50, size=(height, width, 1), dtype=np.uint8)
    taken = np.zeros((height, width), bool)
    corners: list[tuple[int, int, int, int]] = []
    labels: list[int] = []
    while len(corners) < number:
        side = int(rng.integers(*sides))
        top, left = int(rng.integers(0, height - side)), int(rng.integers(0, width - side))
        place = np.s_[max(0, top - 2) : top + side + 2, max(0, left - 2) : left + side + 2]
        if taken[place].any():
            continue
        label = int(rng.integers(2))
        taken[top : top + side, left : left + side] = True
        pixels[top : top + side, left : left + side] = 120 + 120 * label
        corners.append((left, top, left + side, top + side))
        labels.append(label)
    return pixels, np.array(corners, float).reshape(-1, 4), np.array(labels, np.int64)


def boxed(height: int = 64, width: int = 96, number: int = 12, seed: int = 0) -> BoxedImage:
    """Squares with their boxes."""
    pixels, corners, labels = squares(height, width, number, seed)
    return BoxedImage(pixels, corners, labels, np.zeros(number, bool))


def masked(height: int = 64, width: int = 96, number: int = 12, seed: int = 0) -> MaskedImage:
    """Squares with their masks: background, dim and bright, each an instance."""
    pixels, corners, labels = squares(height, width, number, seed)
    classes = np.zeros((height, width), np.uint8)
    instances = np.zeros((height, width), np.int64)
    for n, ((left, top, right, bottom), label) in enumerate(
        zip(corners.astype(int), labels, strict=True), start=1
    ):
        classes[top:bottom, left:right] = label + 1
        instances[top:bottom, left:right] = n
    return MaskedImage(pixels, classes, instances)


def write_boxed(folder: Path, number: int = 3, **changes: Any) -> Path:
    """Images and a COCO file `boxes.json`, whose lists `changes` replaces."""
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for n in range(number):
        image = boxed(seed=n)
        Image.fromarray(image.pixels[..., 0]).save(folder / f"{n}.png")
        height, width = image.pixels.shape[:2]
        images.append({"id": n, "file_name": f"{n}.png", "height": height, "width": width})
        for (left, top, right, bottom), label in zip(
            image.corners.tolist(), image.labels.tolist(), strict=True
        ):
            bbox = [left, top, right - left, bottom - top]
            annotations.append({"image_id": n, "category_id": 10 + label, "bbox": bbox})
    categories = [{"id": 10, "name": "dim"}, {"id": 11, "name": "bright"}]
    content = {"images": images, "annotations": annotations, "categories": categories} | changes
    (folder / "boxes.json").write_text(json.dumps(content))
    return folder


def write_masked(folder: Path, number: int = 3) -> Path:
    """Folders `images`, `masks` and `instances` with files of the same names."""
    for n in range(number):
        image = masked(seed=n)
        assert image.instances is not None
        for name, values in (
            ("images", image.pixels[..., 0]),
            ("masks", image.classes),
            ("instances", image.instances.astype(np.uint16)),
        ):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(folder / name / f"{n}.png")
    return folder
