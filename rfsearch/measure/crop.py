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
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rfsearch.basics.axes import ByAxis
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
        image: Sides of the images, in px.
        kept: What of each axis is left, in px.
        unit: The unit in the map of what is left; its field is in pixels of that.
    """

    image: tuple[int, ...]
    kept: ByAxis[Interval]
    unit: Unit

    @classmethod
    def whole(cls, image: tuple[int, ...], unit: Unit) -> Crop:
        """All of images of these sides in px."""
        return cls(image, ByAxis(*(Interval(0, side) for side in image)), unit)

    @property
    def size(self) -> tuple[int, ...]:
        """Sides of what is left, in px."""
        return tuple(axis.size for axis in self.kept)

    def of(self, images: Tensor) -> Tensor:
        """What is left of images, whose last dimensions are the axes."""
        return images[_inside(self.kept)]

    def in_image(self, grid: NDArray[np.float64]) -> NDArray[np.float64]:
        """A map of what is left as that of the image: zero elsewhere."""
        whole = np.zeros(self.image)
        whole[_inside(self.kept)] = grid
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
    kept = ByAxis(*map(_cut, unit.field, size, unit.place.period))
    if math.prod(axis.size for axis in kept) > _LARGEST_SHARE * math.prod(size):
        return whole
    crop = _crop(model, whole, read, kept)
    larger = _crop(model, whole, read, ByAxis(*map(_grown, kept, size, unit.place.period)))
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


def _crop(model: ResolvedModel, whole: Crop, read: Read, kept: ByAxis[Interval]) -> Crop | None:
    """A crop in which the unit is found at its place; None if it is not."""
    unit = whole.unit
    assert unit.place is not None
    steps = zip(unit.place.position, kept, unit.place.stride, strict=True)
    position = tuple(int(units - cut.start / stride) for units, cut, stride in steps)
    try:
        found = traced_unit(model.at(tuple(axis.size for axis in kept)), read, position=position)
    except ValueError:  # Such as a model that takes images of one size alone.
        return None
    place = Place(position, unit.place.stride, unit.place.period)
    if found.field != _moved(unit.field, kept) or found.place != place:
        return None
    return Crop(whole.image, kept, found)


def _inside(kept: ByAxis[Interval]) -> tuple[Any, ...]:
    """Index of a part of something whose last dimensions are the axes."""
    return (..., *(slice(*axis) for axis in kept))


def _moved(spans: ByAxis[Interval], kept: ByAxis[Interval]) -> ByAxis[Interval]:
    """Parts of an image as parts of what is left of it."""
    pairs = zip(spans, kept, strict=True)
    return ByAxis(*(Interval(one.start - cut.start, one.stop - cut.start) for one, cut in pairs))


@torch.no_grad()
def _agree(model: ResolvedModel, read: Read, crop: Crop, larger: Crop) -> bool:
    """Whether the unit has the same value in both, on noise: what is added does not matter."""
    noise = torch.Generator().manual_seed(0)
    image = torch.randn(1, model.in_chans, *larger.size, generator=noise)
    module = model.module
    image = image.to(next(module.parameters(), image))
    inside = image[_inside(_moved(crop.kept, larger.kept))]
    # What a model remembers of the first size that it sees must not be of these.
    shared: dict[int, Any] = {id(one): one for one in (*module.parameters(), *module.buffers())}
    module = copy.deepcopy(module, shared)
    try:
        value = read(module, image)[(slice(None), *larger.unit.index)]
        other = read(module, inside)[(slice(None), *crop.unit.index)]
    except RuntimeError:
        return False
    return bool((value - other).norm() <= _ROUNDING * value.norm())
