"""The objects in masks that number them, and in tiles of these."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from scipy.ndimage import find_objects

from rfsearch.data.tile_cuts import NumberedCuts, each_tile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rfsearch.data.tile_cuts import Array, Cuts

#: Share of an object that a tile must hold for the object to be learned or counted there.
MIN_VISIBLE = 0.5


class MaskObjects(NamedTuple):
    """The objects of one image.

    Attributes:
        numbers: That they have in its mask, in ascending order.
        corners: Left, top, right and bottom of each in px, `(objects, 4)`.
        pixels: How many each has.
    """

    numbers: NDArray[np.int64]
    corners: NDArray[np.float64]
    pixels: NDArray[np.int64]

    @classmethod
    def of(cls, mask: Array) -> MaskObjects:
        """Those of a mask `(height, width)` whose values number the objects, 0 being none."""
        values = mask[:, :]
        # The appended 0 makes 0 the first number, also where each pixel belongs to an object.
        places, numbers = pd.factorize(np.append(values, 0), sort=True)
        found = find_objects(places[:-1].reshape(values.shape))
        corners = [(x.start, y.start, x.stop, y.stop) for y, x in found]
        pixels = np.bincount(places[:-1], minlength=len(numbers))
        return cls(numbers[1:], np.array(corners, float).reshape(-1, 4), pixels[1:])


#: Of an image whose objects are not known.
NO_OBJECTS = MaskObjects(np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0, np.int64))


def number_objects(
    objects: list[MaskObjects], cuts: Cuts
) -> tuple[NumberedCuts, NDArray[np.float64]]:
    """Number the objects anew over all tiles, where a tile holds enough of them.

    Args:
        objects: Of each image.
        cuts: Tiles of the images' masks.

    Returns:
        The tiles with the new numbers, and the side of each object's box in px.
    """
    known: list[NDArray[np.int64]] = []
    sizes: list[NDArray[np.float64]] = []
    for place, tile in enumerate(each_tile(cuts.tiles)):
        found = objects[tile.image]
        inside = cuts[[place]].numpy()
        shown = np.searchsorted(found.numbers, inside[inside > 0])
        visible = np.bincount(shown, minlength=len(found.numbers))
        kept = (visible > 0) & (visible >= MIN_VISIBLE * found.pixels)
        known.append(found.numbers[kept])
        sizes.append(sides(found.corners[kept]))
    first = 1 + np.cumsum([0, *map(len, known)])[:-1]
    return NumberedCuts(cuts, tuple(known), first), np.concatenate(sizes)


def sides(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Side in px of a square with the area of each box `(boxes, 4)`."""
    return np.sqrt(areas(corners))


def areas(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area in px of each box `(boxes, 4)`, as left, top, right and bottom."""
    area: NDArray[np.float64] = np.prod(corners[:, 2:] - corners[:, :2], axis=1)
    return area
