"""Measuring on the part of an image that a unit sees: the same gradients for less arithmetic.

The gradient of a unit that sees a part of an image alone is zero elsewhere, so that the image may
be cut down to that part. What is left must lie in the network as before: strides, padding at the
image's own border and whatever depends on an image's size. Whole periods of all layers are cut,
and two proofs are asked for: the unit's field, traced again in the cut image, is at the same
place, and adding periods to the cut image does not change the unit's value. Where either fails,
the image stays whole.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import starmap
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rfsearch.field.unit_grid import Interval
from rfsearch.measure.read import Read
from rfsearch.measure.unit import Place, Unit, traced_unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rfsearch.models.resolved import ResolvedModel

#: A crop with more than this share of the image's area does not pay for its proofs.
_LARGEST_SHARE = 0.5
#: Values that are the same but for rounding differ by at most this share of them.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Crop:
    """A part of images, and a unit that sees nothing of the rest.

    Attributes:
        image: `(height, width)` of the images, in px.
        rows: Rows of the images that are left, in px.
        columns: Columns of the images that are left, in px.
        unit: The unit in the map of what is left; its field is in pixels of that.
    """

    image: tuple[int, int]
    rows: Interval
    columns: Interval
    unit: Unit

    @classmethod
    def whole(cls, image: tuple[int, int], unit: Unit) -> Crop:
        """All of images of `(height, width)` px."""
        height, width = image
        return cls(image, Interval(0, height), Interval(0, width), unit)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what is left, in px."""
        return self.rows.size, self.columns.size

    def of(self, images: Tensor) -> Tensor:
        """What is left of images `(..., height, width)`."""
        return images[..., slice(*self.rows), slice(*self.columns)]

    def in_image(self, grid: NDArray[np.float64]) -> NDArray[np.float64]:
        """A map of what is left, `(height, width)`, as that of the image: zero elsewhere."""
        whole = np.zeros(self.image)
        whole[slice(*self.rows), slice(*self.columns)] = grid
        return whole


def find_crop(model: ResolvedModel, unit: Unit, read: Read) -> Crop:
    """The smallest part of the model's images in which a unit's gradient is as in the whole.

    That is the whole image where the unit sees most of it, where it sees all of it through a
    global layer, and where the proofs fail.

    Args:
        model: In evaluation mode, with its batch statistics set.
        unit: A unit of the map that `read` returns.
        read: Returns the map.
    """
    size = model.input_size
    whole = Crop.whole(size, unit)
    if unit.place is None or unit.covers(size) > _LARGEST_SHARE:
        return whole
    axes = zip((unit.rows, unit.columns), size, unit.place.period, strict=True)
    rows, columns = starmap(_cut, axes)
    if rows.size * columns.size > _LARGEST_SHARE * size[0] * size[1]:
        return whole
    crop = _crop(model, whole, read, rows, columns)
    sides = zip((rows, columns), size, unit.place.period, strict=True)
    larger = _crop(model, whole, read, *starmap(_grown, sides))
    if crop is None or larger is None or not _agree(model, read, crop, larger):
        return whole
    return crop


def _cut(field: Interval, pixels: int, period: int) -> Interval:
    """The pixels that are left when whole periods outside the field are cut from both sides."""
    before = max(0, field.start) // period
    after = (pixels - min(pixels, field.stop)) // period
    return Interval(before * period, pixels - after * period)


def _grown(kept: Interval, pixels: int, period: int) -> Interval:
    """More of the image at both sides, unequally: what is in the middle does not stay there."""
    return Interval(max(0, kept.start - period), min(pixels, kept.stop + 2 * period))


def _crop(
    model: ResolvedModel, whole: Crop, read: Read, rows: Interval, columns: Interval
) -> Crop | None:
    """A crop in which the unit is found at its place; None if it is not."""
    unit = whole.unit
    assert unit.place is not None
    start = rows.start, columns.start
    steps = zip(unit.place.position, start, unit.place.stride, strict=True)
    row, column = (int(units - cut / stride) for units, cut, stride in steps)
    try:
        found = traced_unit(model.at((rows.size, columns.size)), read, position=(row, column))
    except ValueError:  # Such as a model that takes images of one size alone.
        return None
    moved = tuple(
        Interval(axis.start - cut, axis.stop - cut)
        for axis, cut in zip((unit.rows, unit.columns), start, strict=True)
    )
    place = Place((row, column), unit.place.stride, unit.place.period)
    if (found.rows, found.columns) != moved or found.place != place:
        return None
    return Crop(whole.image, rows, columns, found)


@torch.no_grad()
def _agree(model: ResolvedModel, read: Read, crop: Crop, larger: Crop) -> bool:
    """Whether the unit has the same value in both, on noise: what is added does not matter."""
    noise = torch.Generator().manual_seed(0)
    image = torch.randn(1, model.in_chans, *larger.size, generator=noise)
    module = model.module
    image = image.to(next(module.parameters(), image))
    row, column = crop.rows.start - larger.rows.start, crop.columns.start - larger.columns.start
    inside = image[..., row : row + crop.rows.size, column : column + crop.columns.size]
    # What a model remembers of the first size that it sees must not be of these.
    shared: dict[int, Any] = {id(one): one for one in (*module.parameters(), *module.buffers())}
    module = copy.deepcopy(module, shared)
    try:
        value = read(module, image)[(slice(None), *larger.unit.index)]
        other = read(module, inside)[(slice(None), *crop.unit.index)]
    except RuntimeError:
        return False
    return bool((value - other).norm() <= _ROUNDING * value.norm())
