"""Annotated images cut into tiles: data for segmentation and detection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from rfsearch.data._tile_objects import (
    MIN_VISIBLE,
    NO_OBJECTS,
    MaskObjects,
    areas,
    number_objects,
    sides,
)
from rfsearch.data.datasets import (
    IGNORED,
    Boxes,
    DetectionData,
    Instances,
    Pixels,
    SegmentationData,
)
from rfsearch.data.read_ahead import ReadLater
from rfsearch.data.tile_cuts import (
    Array,
    Cuts,
    Tile,
    are_stored,
    check_tiles_fit,
    each_tile,
)
from rfsearch.data.tiles import (
    TRAIN_STEP,
    AreaTiling,
    NoSplitError,
    Origin,
    Split,
    split_images,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class BoxedImage:
    """An image with the boxes of its objects.

    Attributes:
        pixels: `(height, width, channels)`, uint8; in memory, or in a file that is read in parts.
        corners: Left, top, right and bottom of each object in px, `(objects, 4)`.
        labels: Class of each, from 0.
        ignored: Whether it is neither learned nor counted.
        origin: Where it comes from, if that is known of all images.
    """

    pixels: Array
    corners: NDArray[np.float64]
    labels: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    origin: Origin | None = None


@dataclass(frozen=True, eq=False)
class MaskedImage:
    """An image with the class of every pixel.

    Attributes:
        pixels: `(height, width, channels)`, uint8; in memory, or in a file that is read in parts.
        classes: `(height, width)`, uint8: from 0, or `IGNORED`; where `pixels` are.
        instances: Number of the object of every pixel, 0 for none; None where that is unknown.
        origin: Where it comes from, if that is known of all images.
    """

    pixels: Array
    classes: Array
    instances: Array | None = None
    origin: Origin | None = None


def detection_data(
    images: Sequence[BoxedImage], class_names: tuple[str, ...], tiling: AreaTiling, source: str
) -> DetectionData:
    """Cut images with boxes into tiles.

    A box is cut at the tile's border; if less than half of it is left, it is ignored there. Tiles
    of images in memory are kept there; those of images in files are cut when they are needed.

    Args:
        images: At the resolution of the network's input.
        class_names: One name per class.
        tiling: How to cut and to split.
        source: What to call the images if they do not do.

    Raises:
        NoSplitError: If a part has no tile, or no object.
    """
    pixels = [image.pixels for image in images]
    check_tiles_fit(pixels, tiling, source, masks=False)
    corners = [i.corners for i in images]
    splits = split_images(_sizes(pixels, tiling), corners, tiling, _origins(images))
    parts = _tiles(splits, tiling, source)
    boxes = [
        tuple(_boxes_in(images[tile.image], tile, tiling.image_size) for tile in each_tile(part))
        for part in parts
    ]
    for name, of_part in zip(("training", "validation"), boxes, strict=True):
        if not any((~found.ignored).any() for found in of_part):
            raise NoSplitError(f"{source}: there is no object in the tiles for {name}.")
    sizes = [
        sides(image.corners[split.train.touches(image.corners) & ~image.ignored])
        for image, split in zip(images, splits, strict=True)
    ]
    train, valid = _images(pixels, parts, tiling)
    return DetectionData(
        train_images=train,
        train_boxes=boxes[0],
        valid_images=valid,
        valid_boxes=boxes[1],
        class_names=class_names,
        object_sizes=np.concatenate(sizes),
        scale=tiling.scale,
    )


def segmentation_data(
    images: Sequence[MaskedImage], class_names: tuple[str, ...], tiling: AreaTiling, source: str
) -> SegmentationData:
    """Cut images with masks into tiles.

    The part of an object in a tile counts as an object if it is half of it or more. Where objects
    are not known one by one, tiles of the two parts share no pixel, but may show parts of the
    same object. Tiles of images in memory are kept there; those of images in files are cut when
    they are needed.

    Args:
        images: At the resolution of the network's input.
        class_names: One name per class.
        tiling: How to cut and to split.
        source: What to call the images if they do not do.

    Raises:
        NoSplitError: If a part has no tile, or shows fewer than two classes.
    """
    pixels, classes = [i.pixels for i in images], [i.classes for i in images]
    check_tiles_fit(pixels, tiling, source, masks=True)
    instances = [i.instances for i in images if i.instances is not None]
    known = len(instances) == len(images)
    objects = list(map(MaskObjects.of, instances)) if known else [NO_OBJECTS] * len(images)
    corners = [o.corners for o in objects]
    splits = split_images(_sizes(pixels, tiling), corners, tiling, _origins(images))
    parts = _tiles(splits, tiling, source)
    sizes = [
        sides(found.corners[split.train.touches(found.corners)])
        for found, split in zip(objects, splits, strict=True)
    ]
    train, valid = _images(pixels, parts, tiling)
    train_masks, valid_masks = (_cut(classes, part, tiling, IGNORED) for part in parts)
    for name, masks in (("training", train_masks), ("validation", valid_masks)):
        _check_classes(masks, class_names, f"{source}: the tiles for {name}")
    return SegmentationData(
        train_images=train,
        train_masks=train_masks,
        valid_images=valid,
        valid_masks=valid_masks,
        class_names=class_names,
        object_sizes=np.concatenate(sizes) if known else None,
        valid_instances=_instances(objects, instances, parts[1], tiling) if known else None,
        scale=tiling.scale,
    )


def _check_classes(masks: Pixels, class_names: tuple[str, ...], what: str) -> None:
    """Refuse masks of one class, which any network gets right that knows no other."""
    shown: set[int] = set()
    for place in range(len(masks)):
        shown |= {*np.unique(np.asarray(masks[[place]])).tolist()} - {IGNORED}
        if len(shown) > 1:
            return
    only = ", ".join(repr(class_names[one]) for one in shown)
    raise NoSplitError(
        f"{what} must show two classes or more, but show {only or 'ignored pixels alone'}."
    )


def _instances(
    objects: list[MaskObjects], masks: list[Array], tiles: NDArray[np.int64], tiling: AreaTiling
) -> Instances:
    numbers, sizes = number_objects(objects, Cuts(tuple(masks), tiles, tiling.image_size))
    return Instances(numbers if are_stored(masks) else numbers[:], sizes)


def _boxes_in(image: BoxedImage, tile: Tile, side: int) -> Boxes:
    _, top, left = tile
    bounds = (left, top, left + side, top + side)
    clipped = image.corners.copy()
    for axis in (0, 1):
        clipped[:, axis::2] = clipped[:, axis::2].clip(bounds[axis], bounds[axis + 2])
    visible, whole = areas(clipped), areas(image.corners)
    kept = visible > 0
    ignored = image.ignored[kept] | (visible < MIN_VISIBLE * whole)[kept]
    inside = clipped[kept] - np.array([left, top, left, top])
    return Boxes(
        torch.from_numpy(inside.astype(np.float32)),
        torch.from_numpy(image.labels[kept]),
        torch.from_numpy(ignored),
    )


def _tiles(
    splits: list[Split], tiling: AreaTiling, source: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The tiles for training and for validation, `(tiles, 3)` each; see `Cuts`."""
    side = tiling.image_size
    step = max(1, round(TRAIN_STEP * side))
    train = [(n, *at) for n, split in enumerate(splits) for at in split.train.tiles(side, step)]
    valid = [(n, *at) for n, split in enumerate(splits) for at in split.valid.apart(side)]
    for name, part in (("training", train), ("validation", valid)):
        if not part:
            raise NoSplitError(
                f"{source}: there is no room for a tile of {side}x{side} px for {name}, clear of "
                "the other part's objects: choose a smaller `image_size`, or give more images."
            )
    return np.array(train, np.int64), np.array(valid, np.int64)


def _origins(images: Sequence[BoxedImage] | Sequence[MaskedImage]) -> list[Origin]:
    """Those of all images; none if one is unknown."""
    known = [one.origin for one in images if one.origin is not None]
    return known if len(known) == len(images) else []


def _images(
    pixels: list[Array], parts: tuple[NDArray[np.int64], NDArray[np.int64]], tiling: AreaTiling
) -> tuple[Pixels, Pixels]:
    """The tiles of both parts, whose statistics a search needs of those for training."""
    train, valid = (_cut(pixels, part, tiling) for part in parts)
    return train.read_once() if isinstance(train, ReadLater) else train, valid


def _cut(
    arrays: list[Array], tiles: NDArray[np.int64], tiling: AreaTiling, fill: int = 0
) -> Pixels:
    """Tiles of all images, with as many channels as the image that has most of them."""
    channels = max(a.shape[2] for a in arrays) if len(arrays[0].shape) == 3 else None
    cuts = Cuts(tuple(arrays), tiles, tiling.image_size, channels, fill)
    return cuts if are_stored(arrays) else cuts[:]


def _sizes(pixels: list[Array], tiling: AreaTiling) -> list[tuple[int, int]]:
    """Height and width of the images, if they are filled up until they hold a tile."""
    side = tiling.image_size
    return [(max(side, image.shape[0]), max(side, image.shape[1])) for image in pixels]
