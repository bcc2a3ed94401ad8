"""Where tiles are cut out of large images, so that none for training shows what validates.

An image is divided by one straight line into an area for training and one for validation, or lies
in one of them as a whole. Every object that reaches into the validation area belongs to
validation, and tiles for training keep clear of all of them: no pixel is in tiles of both parts,
and no object can be seen in both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from rfsearch.basics.limits import ImageSide, Seed
from rfsearch.basics.validation import FrozenData

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Distance of neighbouring tiles for training over their side. Validation tiles do not overlap.
TRAIN_STEP = 0.5


class NoSplitError(ValueError):
    """A part of the images has no tile, or shows nothing that could be learned."""


class Origin(NamedTuple):
    """Where an image comes from.

    Attributes:
        name: Path of its file, from the folder of images on.
        first: Number of the first image whose file has the same bytes.
    """

    name: str
    first: int


class AreaTiling(FrozenData):
    """How images become tiles, each image divided into an area for training and one to validate.

    An image too small for that, which needs two tiles side by side, is for training.

    Attributes:
        image_size: Side of a tile, which is the network's input, in px.
        scale: By what images are resized before, together with their objects.
        valid_share: Share of the images' area for validation; at least a row of tiles.
        seed: Of the split.
        in_memory: Whether tiles are kept in memory; else images are decoded into a cache, and
            tiles cut out of them whenever they are needed, which gives the same scores. By default
            they are kept if they take at most a quarter of the memory of the machine, and of its
            GPU.
    """

    image_size: Annotated[ImageSide, Field(ge=8)]
    scale: Annotated[float, Field(gt=0, le=16)] = 1.0
    valid_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    seed: Seed = 0
    in_memory: bool | None = None

    @property
    def by_image(self) -> bool:
        """Whether whole images are for training or for validation."""
        return False


class Tiling(AreaTiling):
    """How images become tiles, with a choice.

    Attributes:
        split: `"images"` takes `valid_share` of the images as a whole for validation, at least
            one; `"areas"` divides each.
        valid: Patterns of the names of images that validate, such as `"val/*"`, as whole images;
            empty leaves it to chance.
    """

    split: Literal["images", "areas"] = "images"
    valid: Annotated[tuple[str, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _names_whole_images(self) -> Self:
        if self.valid and not self.by_image:
            raise ValueError('`valid` names whole images, so `split` must be "images".')
        return self

    @property
    def by_image(self) -> bool:
        """Whether whole images are for training or for validation."""
        return self.split == "images"


class Area(NamedTuple):
    """A part of an image, in px; `bottom` and `right` are outside."""

    top: int
    left: int
    bottom: int
    right: int

    def tiles(self, side: int, step: int) -> list[tuple[int, int]]:
        """Top left corners of tiles in the area, at most `step` px apart and evenly spread.

        >>> Area(0, 0, 10, 25).tiles(10, 10)
        [(0, 0), (0, 8), (0, 15)]
        """
        rows = _positions(self.top, self.bottom, side, step)
        columns = _positions(self.left, self.right, side, step)
        return [(row, column) for row in rows for column in columns]

    def apart(self, side: int) -> list[tuple[int, int]]:
        """Top left corners of as many tiles as fit without overlap, evenly spread.

        >>> Area(0, 0, 10, 25).apart(10)
        [(0, 0), (0, 15)]
        """
        rows, columns = (
            [] if stop - start < side else _spread(start, stop - side, (stop - start) // side)
            for start, stop in ((self.top, self.bottom), (self.left, self.right))
        )
        return [(row, column) for row in rows for column in columns]

    def touches(self, corners: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which boxes `(boxes, 4)`, as left, top, right, bottom, reach into the area."""
        left, top, right, bottom = corners.T
        across = (left < self.right) & (right > self.left)
        touching: NDArray[np.bool_] = across & (top < self.bottom) & (bottom > self.top)
        return touching


#: An area without a pixel.
NOWHERE = Area(0, 0, 0, 0)


class Split(NamedTuple):
    """The areas of one image."""

    train: Area
    valid: Area


def split_images(
    sizes: list[tuple[int, int]],
    boxes: list[NDArray[np.float64]],
    tiling: AreaTiling,
    origins: Sequence[Origin] = (),
) -> list[Split]:
    """The areas of some images for training and for validation.

    Args:
        sizes: Height and width of each image in px.
        boxes: Left, top, right and bottom of each image's objects in px, `(objects, 4)`.
        tiling: How to split.
        origins: Of each image; of whole images copies are then in one part.
    """
    rng = np.random.default_rng(tiling.seed)
    if tiling.by_image:
        whole = [Area(0, 0, *size) for size in sizes]
        return [
            Split(NOWHERE, area) if validates else Split(area, NOWHERE)
            for area, validates in zip(
                whole, _valid(len(sizes), tiling, origins, rng), strict=True
            )
        ]
    return [
        _divide(size, corners, tiling, rng) for size, corners in zip(sizes, boxes, strict=True)
    ]


def _valid(
    number: int, tiling: AreaTiling, origins: Sequence[Origin], rng: np.random.Generator
) -> list[bool]:
    """Which of some images validate as a whole."""
    patterns = tiling.valid if isinstance(tiling, Tiling) else ()
    if not patterns:
        first = [one.first for one in origins] or range(number)
        return list(map(bool, draw_validation(first, tiling.valid_share, rng)))
    chosen = [any(fnmatch(one.name, pattern) for pattern in patterns) for one in origins]
    if not any(chosen):
        raise ValueError(
            f"`valid` must be patterns of names of images, but none of the {number} is like "
            f"{' or '.join(map(repr, patterns))}."
        )
    return [chosen[one.first] for one in origins]


def draw_validation(
    first: Sequence[int] | NDArray[np.int64], share: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Which of some images validate: a share of the different ones, at least one, with copies.

    Args:
        first: For each image the number of the first that is the same.
        share: Of the different ones.
        rng: Draws them.
    """
    different = np.unique(first)
    drawn = rng.permutation(different)[: max(1, round(share * len(different)))]
    return np.isin(first, drawn)


def _divide(
    size: tuple[int, int],
    corners: NDArray[np.float64],
    tiling: AreaTiling,
    rng: np.random.Generator,
) -> Split:
    """Divide an image by a line across its longer side, at a random end of it."""
    height, width = size
    at_the_end = bool(rng.integers(2))
    down = height > width or (height == width and bool(rng.integers(2)))
    length, tile = max(size), tiling.image_size
    depth = min(max(round(tiling.valid_share * length), tile), length - tile)
    if depth < tile:  # Too small to be divided.
        return Split(Area(0, 0, *size), NOWHERE)

    def part(start: int, stop: int) -> Area:
        return Area(start, 0, stop, width) if down else Area(0, start, height, stop)

    valid = part(length - depth, length) if at_the_end else part(0, depth)
    of_valid = corners[valid.touches(corners)]
    first, last = (1, 3) if down else (0, 2)
    if at_the_end:
        stop = min([length - depth, *(math.floor(low) for low in of_valid[:, first])])
        return Split(part(0, max(0, stop)), valid)
    start = max([depth, *(math.ceil(high) for high in of_valid[:, last])])
    return Split(part(min(start, length), length), valid)


def _positions(start: int, stop: int, side: int, step: int) -> list[int]:
    free = stop - side - start
    return [] if free < 0 else _spread(start, stop - side, math.ceil(free / step) + 1)


def _spread(first: int, last: int, number: int) -> list[int]:
    return [round(position) for position in np.linspace(first, last, number).tolist()]
