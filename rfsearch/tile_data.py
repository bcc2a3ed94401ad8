"""Annotated images cut into tiles: data for segmentation and detection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from scipy.ndimage import find_objects

from rfsearch.datasets import IGNORED, Boxes, DetectionData, Instances, SegmentationData
from rfsearch.limits import check_memory
from rfsearch.tiles import TRAIN_STEP, AreaTiling, Split, split_images

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

#: Share of an object that a tile must hold for the object to be learned or counted there.
MIN_VISIBLE = 0.5
#: What Python needs to know of a tile beside its pixels.
_BYTES_PER_TILE = 300


@dataclass(frozen=True, eq=False)
class BoxedImage:
    """An image with the boxes of its objects.

    Attributes:
        pixels: `(height, width, channels)`, uint8.
        corners: Left, top, right and bottom of each object in px, `(objects, 4)`.
        labels: Class of each, from 0.
        ignored: Whether it is neither learned nor counted.
    """

    pixels: NDArray[np.uint8]
    corners: NDArray[np.float64]
    labels: NDArray[np.int64]
    ignored: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class MaskedImage:
    """An image with the class of every pixel.

    Attributes:
        pixels: `(height, width, channels)`, uint8.
        classes: `(height, width)`, uint8: from 0, or `IGNORED`.
        instances: Number of the object of every pixel, 0 for none; None where that is unknown.
    """

    pixels: NDArray[np.uint8]
    classes: NDArray[np.uint8]
    instances: NDArray[np.int64] | None = None


class Tile(NamedTuple):
    """A square part of an image."""

    image: int
    rows: slice
    columns: slice


def detection_data(
    images: Sequence[BoxedImage], class_names: tuple[str, ...], tiling: AreaTiling, source: str
) -> DetectionData:
    """Cut images with boxes into tiles.

    A box is cut at the tile's border; if less than half of it is left, it is ignored there.

    Args:
        images: At the resolution of the network's input.
        class_names: One name per class.
        tiling: How to cut and to split.
        source: What to call the images if they do not do.

    Raises:
        ValueError: If a part has no tile, or no object.
    """
    _check_memory([i.pixels.shape for i in images], tiling.image_size, 0, source)
    padded = [
        BoxedImage(_padded(i.pixels, tiling.image_size), i.corners, i.labels, i.ignored)
        for i in images
    ]
    splits = split_images(
        [i.pixels.shape[:2] for i in padded], [i.corners for i in padded], tiling
    )
    train, valid = _tiles(splits, tiling, source)
    parts = [
        tuple(_boxes_in(padded[tile.image], tile) for tile in part) for part in (train, valid)
    ]
    for name, boxes in zip(("training", "validation"), parts, strict=True):
        if not any((~found.ignored).any() for found in boxes):
            raise ValueError(f"{source}: there is no object in the tiles for {name}.")
    pixels = _same_channels([image.pixels for image in padded])
    sizes = [
        _sides(image.corners[split.train.touches(image.corners) & ~image.ignored])
        for image, split in zip(padded, splits, strict=True)
    ]
    return DetectionData(
        train_images=_stack(pixels, train),
        train_boxes=parts[0],
        valid_images=_stack(pixels, valid),
        valid_boxes=parts[1],
        class_names=class_names,
        object_sizes=np.concatenate(sizes),
    )


def segmentation_data(
    images: Sequence[MaskedImage], class_names: tuple[str, ...], tiling: AreaTiling, source: str
) -> SegmentationData:
    """Cut images with masks into tiles.

    The part of an object in a tile counts as an object if it is half of it or more. Where objects
    are not known one by one, tiles of the two parts share no pixel, but may show parts of the
    same object.

    Args:
        images: At the resolution of the network's input.
        class_names: One name per class.
        tiling: How to cut and to split.
        source: What to call the images if they do not do.

    Raises:
        ValueError: If a part has no tile.
    """
    side = tiling.image_size
    _check_memory([i.pixels.shape for i in images], side, 9, source)
    known = all(image.instances is not None for image in images)
    pixels = _same_channels([_padded(image.pixels, side) for image in images])
    classes = [_padded(image.classes, side, IGNORED) for image in images]
    objects = [_objects(i.instances if known else None) for i in images]
    splits = split_images([i.shape[:2] for i in pixels], [o.corners for o in objects], tiling)
    train, valid = _tiles(splits, tiling, source)
    sizes = [
        _sides(found.corners[split.train.touches(found.corners)])
        for found, split in zip(objects, splits, strict=True)
    ]
    numbers = [_padded(o.numbers, side) for o in objects]
    return SegmentationData(
        train_images=_stack(pixels, train),
        train_masks=_stack(classes, train),
        valid_images=_stack(pixels, valid),
        valid_masks=_stack(classes, valid),
        class_names=class_names,
        object_sizes=np.concatenate(sizes) if known else None,
        valid_instances=_instances(objects, numbers, valid) if known else None,
    )


class _Objects(NamedTuple):
    """The objects of one image; number `n` of `numbers` is row `n - 1` of the others."""

    numbers: NDArray[np.int64]
    corners: NDArray[np.float64]
    pixels: NDArray[np.int64]


def _objects(instances: NDArray[np.int64] | None) -> _Objects:
    if instances is None:
        instances = np.zeros((1, 1), np.int64)
    numbers = np.unique(np.append(instances, 0), return_inverse=True)[1][:-1]
    numbers = numbers.reshape(instances.shape)
    found = [(x.start, y.start, x.stop, y.stop) for y, x in find_objects(numbers)]
    corners = np.array(found, float).reshape(-1, 4)
    return _Objects(numbers, corners, np.bincount(numbers.ravel())[1:])


def _instances(
    objects: list[_Objects], numbers: list[NDArray[np.int64]], tiles: list[Tile]
) -> Instances:
    """The objects of which a tile holds enough, numbered anew over all tiles."""
    cut: list[NDArray[np.int64]] = []
    sizes: list[NDArray[np.float64]] = []
    for tile in tiles:
        found = objects[tile.image]
        inside = numbers[tile.image][tile.rows, tile.columns]
        visible = np.bincount(inside.ravel(), minlength=len(found.pixels) + 1)[1:]
        kept = (visible > 0) & (visible >= MIN_VISIBLE * found.pixels)
        new = np.zeros(len(kept) + 1, np.int64)
        new[1:][kept] = 1 + sum(len(of_tile) for of_tile in sizes) + np.arange(kept.sum())
        cut.append(new[inside])
        sizes.append(_sides(found.corners[kept]))
    return Instances(torch.from_numpy(np.stack(cut)), np.concatenate(sizes))


def _boxes_in(image: BoxedImage, tile: Tile) -> Boxes:
    top, left = tile.rows.start, tile.columns.start
    bounds = (left, top, tile.columns.stop, tile.rows.stop)
    clipped = image.corners.copy()
    for axis in (0, 1):
        clipped[:, axis::2] = clipped[:, axis::2].clip(bounds[axis], bounds[axis + 2])
    visible, whole = _areas(clipped), _areas(image.corners)
    kept = visible > 0
    ignored = image.ignored[kept] | (visible < MIN_VISIBLE * whole)[kept]
    inside = clipped[kept] - np.array([left, top, left, top])
    return Boxes(
        torch.from_numpy(inside.astype(np.float32)),
        torch.from_numpy(image.labels[kept]),
        torch.from_numpy(ignored),
    )


def _areas(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    area: NDArray[np.float64] = np.prod(corners[:, 2:] - corners[:, :2], axis=1)
    return area


def _sides(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(_areas(corners))


def _tiles(splits: list[Split], tiling: AreaTiling, source: str) -> tuple[list[Tile], list[Tile]]:
    side = tiling.image_size
    step = max(1, round(TRAIN_STEP * side))
    train = [(n, at) for n, split in enumerate(splits) for at in split.train.tiles(side, step)]
    valid = [(n, at) for n, split in enumerate(splits) for at in split.valid.apart(side)]
    for name, part in (("training", train), ("validation", valid)):
        if not part:
            raise ValueError(
                f"{source}: there is no room for a tile of {side}x{side} px for {name}, clear of "
                "the other part's objects: choose a smaller `image_size`, or give more images."
            )
    return list(_cut(train, side)), list(_cut(valid, side))


def _cut(places: list[tuple[int, tuple[int, int]]], side: int) -> Iterator[Tile]:
    for image, (top, left) in places:
        yield Tile(image, slice(top, top + side), slice(left, left + side))


def _check_memory(shapes: Sequence[tuple[int, ...]], side: int, truth: int, source: str) -> None:
    """Refuse tiles too many or too large to be held, with `truth` bytes for each pixel."""
    places = sum(max(height, side) * max(width, side) for height, width, _ in shapes)
    channels = max(shape[2] for shape in shapes)
    # Each pixel is in the image and, where it is trained on, in several tiles.
    copies = 1 + 1 / TRAIN_STEP**2
    num_bytes = places * copies * (channels + truth + _BYTES_PER_TILE / side**2)
    check_memory(num_bytes, f"{source}: tiles of {side}x{side} px from {len(shapes):,} images")


def _padded(values: NDArray[Any], side: int, fill: int = 0) -> NDArray[Any]:
    """Rows below and columns to the right until the image holds a tile."""
    missing = [(0, max(0, side - pixels)) for pixels in values.shape[:2]]
    return np.pad(values, missing + [(0, 0)] * (values.ndim - 2), constant_values=fill)


def _same_channels(pixels: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Grey images become RGB if others are."""
    most = max(image.shape[2] for image in pixels)
    return [np.repeat(i, most, axis=2) if i.shape[2] < most else i for i in pixels]


def _stack(images: list[NDArray[Any]], tiles: list[Tile]) -> Tensor:
    """Tiles as `(tiles, height, width)`, or `(tiles, channels, height, width)`."""
    cut = torch.from_numpy(np.stack([images[t.image][t.rows, t.columns] for t in tiles]))
    return cut.permute(0, 3, 1, 2).contiguous() if cut.ndim == 4 else cut
