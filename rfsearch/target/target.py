"""Object scales to see, and the px ranges for receptive fields that follow from them.

The rule, in one place. Let `largest` be the side of the largest object in px:

- ERF size between `ERF_PER_OBJECT[0]` and `ERF_PER_OBJECT[1]` times `largest`;
- theoretical receptive field at least `MIN_TRF_PER_OBJECT` times `largest`;
- at most `MAX_GRIDDING` of the pixels inside the theoretical receptive field left untouched;
- at least `MIN_UNITS_PER_OBJECT` units of the finest output map across the *smallest* object, so a
  stride of at most its side.

The constants come from digits among fragments of digits. At equal parameters and equal training
the best networks had an ERF of 1.5 to 2.4 tight boxes, and above 3 accuracy fell, for objects of
12, 18 and 24 px (`experiments/erf_and_accuracy`); where costs differ too, the best had 2.5 to
3.4 times the largest. What narrower and wider ranges, and fewer or more untouched pixels, would
save and lose is in `experiments/search_cost`. They are a start, not a law.

A pyramid's levels share the objects by the side of an object in strides of the level:

- a level is meant for `OBJECT_PER_STRIDE` strides, and two neighbours meet in the geometric middle
  of where the finer ends and the coarser begins; at strides that double, that is the same place;
- a level reaches `REACH_PER_STRIDE` strides: the finest level serves down to the lower end (below
  two strides an object does not span two units of the map), the coarsest up to the upper end, and
  neighbours whose strides are far apart, by a factor of 8 at most, meet within their reach.

Objects that are elongated (`rfsearch.target._elongation`) have a range of heights and one of
widths, and the same rule holds along each axis. A pyramid's levels cannot share them.

Four to eight strides are what the anchors of RetinaNet cover: 32 to 64 px on the level of stride
8 (torchvision, `models/detection/retinanet.py`). The published FCOS goes by the distance to an
object's *farthest side*, 4 to 8 strides, which is a side of 8 to 16 strides: one octave more, and
still within the reach. `rfsearch.training.detection` halves its anchors, so that it trains by this
rule.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import InitVar, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from rfsearch.basics.axes import AXIS_NAMES, by_x, on_axis
from rfsearch.basics.limits import MAX_INPUT_SIDE
from rfsearch.basics.ranges import Range
from rfsearch.network.levels import split_range
from rfsearch.target._elongation import elongation

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from rfsearch.target._resizing import Resize
    from rfsearch.target.scales import Format

#: ERF size over the size of the largest object: lowest and highest that fit.
ERF_PER_OBJECT = (1.0, 3.5)
#: Theoretical receptive field over the size of the largest object: lowest that fits.
MIN_TRF_PER_OBJECT = 1.5
#: Largest share of the pixels inside the theoretical receptive field, along an axis, that no path
#: touches.
MAX_GRIDDING = 0.1
#: Fewest units of the finest output map across the smallest object.
MIN_UNITS_PER_OBJECT = 1.0
#: Largest over smallest object that one receptive field can fit.
MAX_SCALE_RATIO = 3.0
#: Side of an object over the stride of the pyramid's level that is meant for it.
OBJECT_PER_STRIDE = (4.0, 8.0)
#: The same at the ends of a pyramid, and where strides are far apart: what a level can serve.
REACH_PER_STRIDE = (2.0, 16.0)

Quantiles = tuple[float, float]


@dataclass(frozen=True)
class ScaleTarget:
    """The range of object scales that a network must see.

    A scale is the side of an object's tight box at the network's input resolution, sqrt(width x
    height), in px. Of a sequence it is an object's length, in samples.

    Attributes:
        min_size: Smallest object, in px.
        max_size: Largest object, in px.
        height: Lowest and highest object, in px, where objects are elongated; `apart` makes such a
            target.
        width: Narrowest and widest object, in px, likewise.
        quiet: Not kept. Whether to leave out the warning that repeats `advice`.

    Raises:
        ValueError: If `0 < min_size <= max_size` does not hold, of either axis where both are
            given, or no image is as large.
    """

    min_size: float
    max_size: float
    height: Quantiles | None = None
    width: Quantiles | None = None
    quiet: InitVar[bool] = False

    def __post_init__(self, quiet: bool) -> None:
        if (self.height is None) != (self.width is None):
            raise ValueError(
                "`height` and `width` of a target must be given together or not at all, but got "
                f"height={self.height} and width={self.width}."
            )
        for axis in self.axes:
            self.along(axis)
        if not 0 < self.min_size <= self.max_size < math.inf:
            raise ValueError(
                "`0 < min_size <= max_size` must hold for a target, "
                f"but got min_size={self.min_size:g} and max_size={self.max_size:g}."
            )
        if self.max_size > MAX_INPUT_SIDE:
            raise ValueError(
                f"The objects of a target must be {MAX_INPUT_SIDE:,} px large at most, as images "
                f"are, but got {self.max_size:g} px."
            )
        if not quiet and (advice := self.advice):
            warnings.warn(advice, stacklevel=3)

    @classmethod
    def from_sizes(
        cls, sizes: ArrayLike, quantiles: Quantiles = (0.05, 0.95), *, quiet: bool = False
    ) -> Self:
        """Target that spans these quantiles of measured object sizes.

        Args:
            sizes: Sides of tight boxes in px, any shape.
            quantiles: Lower and upper quantile, in [0, 1].
            quiet: Whether to leave out the warning that repeats `advice`.

        Raises:
            ValueError: If there are no sizes, or one is not a positive number.
        """
        values = np.asarray(sizes, dtype=float).ravel()
        if not len(values):
            raise ValueError("`sizes` must hold at least one object size, but it is empty.")
        if not (np.isfinite(values) & (values > 0)).all():
            worst = values[~(np.isfinite(values) & (values > 0))][0]
            raise ValueError(f"`sizes` must be positive numbers of px, but got {worst:g}.")
        low, high = quantiles
        if not 0 <= low <= high <= 1:
            raise ValueError(f"`0 <= low <= high <= 1` must hold, but got {quantiles=}.")
        smallest, largest = (float(np.quantile(values, share)) for share in quantiles)
        return cls(smallest, largest, quiet=quiet)

    @classmethod
    def apart(cls, height: Quantiles, width: Quantiles, *, quiet: bool = False) -> Self:
        """Target of elongated objects, whose heights and widths are ranges of their own.

        Args:
            height: Lowest and highest object, in px.
            width: Narrowest and widest object, in px.
            quiet: Whether to leave out the warning that repeats `advice`.

        Raises:
            ValueError: If `0 < low <= high` does not hold along an axis.

        >>> ScaleTarget.apart(height=(8, 12), width=(100, 140)).along("height").theoretical.low
        18.0
        """
        scales = [math.sqrt(max(0.0, h * w)) for h, w in zip(height, width, strict=True)]
        low, high = scales
        return cls(low, high, (height[0], height[1]), (width[0], width[1]), quiet)

    @classmethod
    def from_boxes(
        cls,
        heights: ArrayLike,
        widths: ArrayLike,
        quantiles: Quantiles = (0.05, 0.95),
        *,
        quiet: bool = False,
    ) -> Self:
        """Target that spans these quantiles of measured boxes.

        Of elongated objects they are those of heights and of widths, else those of the scales.

        Args:
            heights: Of tight boxes in px, any shape.
            widths: The same.
            quantiles: As for `from_sizes`.
            quiet: As for `from_sizes`.

        Raises:
            ValueError: As for `from_sizes`.
        """
        sides = [np.asarray(values, dtype=float).ravel() for values in (heights, widths)]
        with np.errstate(over="ignore", invalid="ignore"):
            whole = cls.from_sizes(np.sqrt(sides[0] * sides[1]), quantiles, quiet=True)
        if elongation(*sides).is_marked:
            along = [cls.from_sizes(values, quantiles, quiet=True) for values in sides]
            ranges = ((one.min_size, one.max_size) for one in along)
            return cls.apart(*ranges, quiet=quiet)
        return cls(whole.min_size, whole.max_size, quiet=quiet)

    @classmethod
    def from_coco(
        cls,
        path: str | Path,
        input_size: int | tuple[int, int] | None = None,
        resize: Resize | None = None,
        *,
        quantiles: Quantiles = (0.05, 0.95),
        classes: Sequence[str] = (),
        images: str | Path | None = None,
    ) -> Self:
        """Target that spans the objects of a COCO file.

        `from_voc` (a file or folder), `from_masks` (the same) and `from_csv` are alike. Objects
        that cannot be used are left out, with a warning that counts them, crowds excepted;
        `rfs.read_scales` gives all sizes, by class, and the counts.

        Args:
            path: The annotations.
            input_size: Of the network in px, one side or `(height, width)`.
            resize: How images are made to fit it: `"none"` (tiles or crops at native resolution),
                `"stretch"`, `"letterbox"` or `"shorter"`; see `rfsearch.target._resizing`. None is
                `"letterbox"` or, without an input size, `"none"`.
            quantiles: Lower and upper quantile of the objects' sizes, in [0, 1].
            classes: Names of the classes to look at; all by default.
            images: Folder of the images, if they are to be checked or their sizes are not
                annotated.

        Raises:
            ValueError: If the annotations cannot be read, or hold no object that can be used.
        """
        return cls._from_file("coco", path, input_size, resize, quantiles, classes, images)

    @classmethod
    def from_voc(
        cls,
        path: str | Path,
        input_size: int | tuple[int, int] | None = None,
        resize: Resize | None = None,
        *,
        quantiles: Quantiles = (0.05, 0.95),
        classes: Sequence[str] = (),
        images: str | Path | None = None,
    ) -> Self:
        """Target that spans the objects of Pascal VOC files; see `from_coco`."""
        return cls._from_file("voc", path, input_size, resize, quantiles, classes, images)

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        input_size: int | tuple[int, int] | None = None,
        resize: Resize | None = None,
        *,
        quantiles: Quantiles = (0.05, 0.95),
        classes: Sequence[str] = (),
        images: str | Path | None = None,
    ) -> Self:
        """Target that spans the boxes of a table; see `from_coco`, `annotations_csv.read_csv`."""
        return cls._from_file("csv", path, input_size, resize, quantiles, classes, images)

    @classmethod
    def from_masks(
        cls,
        path: str | Path,
        input_size: int | tuple[int, int] | None = None,
        resize: Resize | None = None,
        *,
        quantiles: Quantiles = (0.05, 0.95),
        classes: Sequence[str] = (),
        semantic: bool | None = None,
        background: int | Literal["none"] | None = None,
        ignored: Collection[int] | None = None,
    ) -> Self:
        """Target that spans the objects of masks; see `from_coco`.

        Args:
            path: One mask or a folder of them.
            input_size: As in `from_coco`.
            resize: As in `from_coco`.
            quantiles: As in `from_coco`.
            classes: Values of semantic masks as text, such as `("1", "2")`; all by default.
            semantic: Whether values are classes, whose connected components are the objects, or
                objects. None asks where that makes a difference.
            background: Its value; "none" if there is none. None is 0, if that is plausible.
            ignored: Values of what is not looked at; None goes by `rfsearch.target.mask_values`.

        Raises:
            ValueError: If a mask cannot be read, it must be stated what its values mean, or there
                is no object.
        """
        return cls._from_file(
            "masks",
            path,
            input_size,
            resize,
            quantiles,
            classes,
            reading={"semantic": semantic, "background": background, "ignored": ignored},
        )

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        input_size: int | tuple[int, int] | None = None,
        resize: Resize | None = None,
        *,
        quantiles: Quantiles = (0.05, 0.95),
        classes: Sequence[str] = (),
        images: str | Path | None = None,
    ) -> Self:
        """Target that spans the objects in any format of `rfs.read_scales`; see `from_coco`."""
        return cls._from_file("auto", path, input_size, resize, quantiles, classes, images)

    @classmethod
    def _from_file(
        cls,
        format: Format | Literal["auto"],
        path: str | Path,
        input_size: int | tuple[int, int] | None,
        resize: Resize | None,
        quantiles: Quantiles,
        classes: Sequence[str],
        images: str | Path | None = None,
        reading: Mapping[str, Any] = MappingProxyType({}),
    ) -> Self:
        from rfsearch.target.scales import read_scales

        scales = read_scales(
            path,
            input_size,
            resize,
            format=format,
            images=images,
            classes=classes,
            **reading,
        )
        # Groups are left out on purpose in every evaluation, so they need no warning.
        wrong = scales.skipped._replace(crowd=0)
        if wrong.total:
            warnings.warn(f"{path}: {wrong.total} objects were skipped ({wrong}).", stacklevel=3)
        target = cls.from_boxes(scales.heights, scales.widths, quantiles, quiet=True)
        if advice := target.advice:
            warnings.warn(advice, stacklevel=3)
        return target

    @property
    def advice(self) -> str | None:
        """What to know of this target, or None: whether one receptive field can fit all of it."""
        for axis in self.axes:
            if (found := self.along(axis).advice) is not None:
                return found.replace("px", f"px in {axis}", 1)
        ratio = self.max_size / self.min_size
        if ratio <= MAX_SCALE_RATIO or self.axes:
            return None
        return (
            f"Objects of {self.min_size:g} to {self.max_size:g} px differ by a factor of "
            f"{ratio:.1f}: above {MAX_SCALE_RATIO:g}, one receptive field cannot fit all of them."
            " The search fits the largest; consider a feature pyramid, whose levels each have a "
            "receptive field and a part of the target of their own."
        )

    def beyond(self, image_size: tuple[int, ...]) -> str | None:
        """What to know where objects are larger than images of so many px a side, or None.

        >>> ScaleTarget(100, 300).beyond((224, 224))
        'objects of up to 300 px are larger than the images of 224x224 px that should show them.'
        """
        sides = zip(self.axes, image_size, strict=False)
        fits = [self.along(axis).max_size <= side for axis, side in sides]
        typical = math.prod(image_size) ** (1 / len(image_size))
        if all(fits) if fits else self.max_size <= typical:
            return None
        return (
            f"objects of up to {self.max_size:g} px are larger than the images of "
            f"{by_x(image_size)} px that should show them."
        )

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes whose ranges are apart; none where one range is that of all."""
        return () if self.height is None else AXIS_NAMES[2]

    def along(self, axis: str) -> ScaleTarget:
        """The target along an axis: one range, that of the axis where they are apart.

        Raises:
            ValueError: If they are, and there is no such axis.
        """
        if self.height is None or self.width is None:
            return self
        low, high = on_axis({"height": self.height, "width": self.width}, axis)
        return ScaleTarget(low, high, quiet=True)

    @property
    def shortest(self) -> float:
        """The shorter side of the smallest objects, in px."""
        return min((self.along(axis).min_size for axis in self.axes), default=self.min_size)

    def __repr__(self) -> str:
        """What makes it."""
        if self.height is None:
            return f"ScaleTarget(min_size={self.min_size}, max_size={self.max_size})"
        return f"ScaleTarget.apart(height={self.height}, width={self.width})"

    @property
    def in_words(self) -> str:
        """Its ranges, in px."""
        if self.height is None or self.width is None:
            return f"{self.min_size:g} to {self.max_size:g} px"
        height, width = (f"{low:g} to {high:g} px" for low, high in (self.height, self.width))
        return f"height {height}, width {width}"

    @property
    def theoretical(self) -> Range:
        """Theoretical receptive fields that fit, in px.

        Raises:
            ValueError: If heights and widths are apart: ask `along` an axis.
        """
        return Range(MIN_TRF_PER_OBJECT * self._largest(), math.inf)

    @property
    def effective(self) -> Range:
        """ERF sizes that fit, in px.

        Raises:
            ValueError: As for `theoretical`.
        """
        low, high = ERF_PER_OBJECT
        return Range(low * self._largest(), high * self._largest())

    def _largest(self) -> float:
        if self.axes:
            raise ValueError(
                f"The target has a range for each of {', '.join(self.axes)} ({self.in_words}), so "
                "that there is no single one: ask for it along an axis."
            )
        return self.max_size

    def split(self, strides: Mapping[str, int]) -> dict[str, ScaleTarget]:
        """Share the objects among the levels of a pyramid.

        Args:
            strides: Stride of each level in px, by name.

        Returns:
            The part of each level, by name, the finest first. Parts meet at their ends and
            together are the whole target. A level without a part is left out.

        Raises:
            ValueError: If strides are not positive and different, or no level serves some of the
                objects; it says which, and which level to add. If heights and widths are apart.

        >>> ScaleTarget(12, 30).split({"P2": 4, "P3": 8, "P4": 16})
        {'P2': ScaleTarget(min_size=12, max_size=30)}
        >>> ScaleTarget(12, 36).split({"P2": 4, "P3": 8})["P3"]
        ScaleTarget(min_size=32.0, max_size=36)
        """
        if self.axes:
            raise ValueError(
                "Levels share objects by one size, but the target has heights and widths apart "
                f"({self.in_words})."
            )
        parts = split_range(
            self.min_size, self.max_size, strides, OBJECT_PER_STRIDE, REACH_PER_STRIDE
        )
        return {name: ScaleTarget(low, high, quiet=True) for name, (low, high) in parts.items()}
