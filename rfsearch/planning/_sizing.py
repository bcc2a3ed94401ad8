"""At which resolution images are looked at, in which tiles, and on how fine a map.

All sides are in px. "Native" is the resolution of the images as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rfsearch.planning._found import Kind
from rfsearch.target.target import MAX_SCALE_RATIO, REACH_PER_STRIDE, ScaleTarget

if TYPE_CHECKING:
    from rfsearch.planning._survey import Survey

#: Units of the output map that the smallest object spans at least.
UNITS = int(REACH_PER_STRIDE[0])
#: The same of whole images, which nothing has to be located in.
UNITS_OF_WHOLE = 1
#: Finest and coarsest stride of a single output map.
STRIDES = (2, 4, 8)
#: Objects larger than that are shrunk if the smallest stay resolvable: cost grows with the square.
LARGE = 48
#: Sides of tiles: multiples, least and most.
MULTIPLE, SMALLEST_TILE, LARGEST_TILE = 32, 32, 512
#: Objects of whole images without any other hint, as shares of the image's side.
ASSUMED = (0.3, 0.6)
#: Longest side of an image that is classified as a whole.
_LARGEST_WHOLE = 128


@dataclass(frozen=True)
class Sizing:
    """What a network sees.

    Attributes:
        scale: By what images are resized.
        input_size: Side of a tile or of a whole image.
        target: The objects at that scale, from the 5 % to the 95 % quantile.
        max_output_stride: On a map of this stride the smallest of them spans `UNITS` units.
        longest: Longest side of any object at that scale; 0 if unknown.
        is_assumed: Whether object sizes are assumed, not measured.
    """

    scale: float
    input_size: int
    target: ScaleTarget
    max_output_stride: int
    longest: float
    is_assumed: bool = False

    @property
    def needs_levels(self) -> bool:
        """Whether one receptive field cannot serve all objects."""
        return not self.target.axes and (
            self.target.max_size > MAX_SCALE_RATIO * self.target.min_size
        )


def size_up(survey: Survey, kind: Kind) -> Sizing:
    """Decide the resolution.

    Raises:
        ValueError: If objects are too small to be resolved at four times the resolution.
    """
    if kind == "classification":
        return _whole_images(survey)
    native = ScaleTarget.from_boxes(survey.heights, survey.widths, quiet=True)
    scale = scale_for(native.shortest, native.max_size)
    target = scaled(native, scale)
    longest = float(max(survey.heights.max(), survey.widths.max())) * scale
    usual = float(np.quantile(np.maximum(survey.heights, survey.widths), 0.95)) * scale
    whole = MULTIPLE * math.ceil(survey.sides.max() * scale / MULTIPLE)  # Of the largest image.
    tile = min(tile_for(usual, longest), whole)
    return Sizing(scale, tile, target, stride_for(target.shortest), longest)


def scale_for(smallest: float, largest: float) -> float:
    """By what to resize, so that the smallest object is resolved and the largest is not dear.

    Args:
        smallest: Shortest side of the smallest object at native resolution.
        largest: Side of the largest.

    Raises:
        ValueError: If four times the resolution is not enough.

    >>> scale_for(10, 30), scale_for(40, 160), scale_for(2, 5)
    (1.0, 0.3, 2.0)
    """
    least = UNITS * STRIDES[0] / smallest
    if least > 4:
        raise ValueError(
            f"The smallest objects must span at least 1 px, but the 5 % quantile of their shorter "
            f"sides is {smallest:.2g} px."
        )
    if least > 1:
        return math.ceil(least * 100) / 100
    # Twice what is needed at least, so that a stride of 4 px still resolves the smallest.
    wanted = max(LARGE / largest, 2 * least)
    return 1.0 if wanted >= 1 else math.ceil(wanted * 100) / 100


def tile_for(usual: float, longest: float) -> int:
    """Side of tiles that hold the largest object, and most objects twice over.

    >>> tile_for(30, 40), tile_for(10, 100), tile_for(300, 4000)
    (64, 128, 512)
    """
    needed = max(2 * usual, longest, SMALLEST_TILE)
    return min(LARGEST_TILE, MULTIPLE * math.ceil(needed / MULTIPLE))


def stride_for(smallest: float, units: int = UNITS) -> int:
    """The coarsest stride on which an object of that side spans so many units."""
    return max(stride for stride in (1, *STRIDES) if stride == 1 or units * stride <= smallest)


def scaled(target: ScaleTarget, scale: float) -> ScaleTarget:
    """A target of resized images, to 0.1 px."""

    def rounded(pair: tuple[float, float]) -> tuple[float, float]:
        return max(0.1, round(pair[0] * scale, 1)), max(0.1, round(pair[1] * scale, 1))

    if target.height is not None and target.width is not None:
        return ScaleTarget.apart(rounded(target.height), rounded(target.width), quiet=True)
    return ScaleTarget(*rounded((target.min_size, target.max_size)), quiet=True)


def _whole_images(survey: Survey) -> Sizing:
    """Images are resized to cover a square, and cropped."""
    side = float(np.median(survey.sides.min(axis=1)))
    input_size = max(16, min(_LARGEST_WHOLE, 8 * math.ceil(side / 8)))
    scale = input_size / side
    if len(survey.heights):
        longest = float(max(survey.heights.max(), survey.widths.max())) * scale
        sizes = survey.sizes * scale
        target = scaled(ScaleTarget.from_sizes(sizes, quiet=True), 1)
        return Sizing(
            scale, input_size, target, stride_for(target.shortest, UNITS_OF_WHOLE), longest
        )
    target = scaled(ScaleTarget(ASSUMED[0] * input_size, ASSUMED[1] * input_size, quiet=True), 1)
    return Sizing(
        scale,
        input_size,
        target,
        stride_for(target.shortest, UNITS_OF_WHOLE),
        0.0,
        is_assumed=True,
    )
