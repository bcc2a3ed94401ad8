"""Annotated objects as they are read from any format, before anything is left out or resized."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

#: Relative difference of areas that are the same.
_ROUNDING = 0.01


class Box(NamedTuple):
    """A tight box in px of its image; the right and the lower edge are not part of it."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def is_empty(self) -> bool:
        """Whether its width or height is not above zero."""
        return self.right <= self.left or self.bottom <= self.top

    def clip(self, size: tuple[int, int]) -> Box:
        """The part inside an image of `(height, width)` px; empty if it lies outside.

        >>> Box(-5, 10, 20, 30).clip((25, 40))
        Box(left=0, top=10, right=20, bottom=25)
        """
        height, width = size
        return Box(
            max(self.left, 0), max(self.top, 0), min(self.right, width), min(self.bottom, height)
        )


class AnnotatedImage(NamedTuple):
    """An image that annotations speak of.

    Attributes:
        file: Where it should be: a path relative to the folder of images.
        size: `(height, width)` in px, or None if the annotations do not say.
    """

    file: str
    size: tuple[int, int] | None


class AnnotatedObject(NamedTuple):
    """One object as annotated, whatever may be wrong with it.

    Attributes:
        image: Index of its image, or None if that is not in the annotations.
        label: Name of its class, or None if it has none that is known.
        box: Its box, or None if there are no four finite numbers.
        is_crowd: Whether it stands for a group of objects that nobody told apart.
        area: As annotated, in px, or None. It is that of a mask, so at most the box's.
    """

    image: int | None
    label: str | None
    box: Box | None
    is_crowd: bool = False
    area: float | None = None


@dataclass(frozen=True)
class Annotations:
    """What a file or folder of annotations holds.

    Attributes:
        source: The file or folder.
        images: All images, those without objects included.
        objects: All objects, in the order of the file.
        class_names: All classes, those without objects included.
        are_masks: Whether every pixel is annotated, not only boxes.
        notes: What the reader took for granted, in words.
    """

    source: Path
    images: tuple[AnnotatedImage, ...]
    objects: tuple[AnnotatedObject, ...]
    class_names: tuple[str, ...]
    are_masks: bool = False
    notes: tuple[str, ...] = ()


def box_of(values: Iterable[Any]) -> Box | None:
    """A box of left, top, right and bottom, or None if these are no four finite numbers.

    >>> box_of(["1", 2, 3.5, 4]), box_of([1, 2, 3, None]), box_of([1, 2, 3, "nan"])
    (Box(left=1.0, top=2.0, right=3.5, bottom=4.0), None, None)
    """
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError, OverflowError):
        return None
    if len(numbers) != len(Box._fields) or not all(map(math.isfinite, numbers)):
        return None
    return Box(*numbers)


def box_around(points: Iterable[Sequence[Any]]) -> Box | None:
    """The box around points `(x, y)` in px, or None if these are none, or not all finite numbers.

    >>> box_around([(1, 2), ("5", 0), (3, 7)]), box_around([]), box_around([(1, None)])
    (Box(left=1.0, top=0.0, right=5.0, bottom=7.0), None, None)
    """
    try:
        corners = [(float(x), float(y)) for x, y in points]
    except (TypeError, ValueError, OverflowError):
        return None
    if not corners or not all(math.isfinite(edge) for corner in corners for edge in corner):
        return None
    across, down = zip(*corners, strict=True)
    return Box(min(across), min(down), max(across), max(down))


def size_of(height: Any, width: Any, place: str) -> tuple[int, int] | None:
    """`(height, width)` of an image in px, or None if one is not known: missing, empty or zero.

    Raises:
        ValueError: If one is anything else than a whole number; it names the place.

    >>> size_of("480", 640, "a.json"), size_of(0, 0, "a.json"), size_of(None, 640, "a.json")
    ((480, 640), None, None)
    """
    sides = [_side(value, name, place) for value, name in ((height, "height"), (width, "width"))]
    return (sides[0], sides[1]) if all(sides) else None


def _side(value: Any, name: str, place: str) -> int:
    """A side of an image in px; 0 if it is not known."""
    try:
        number = float(0 if value in (None, "") else value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if number >= 0 and number.is_integer():
        return int(number)
    raise ValueError(f"{place}: {name} must be a whole number of px, but got {value!r:.40}.")


def checked(annotations: Annotations) -> Annotations:
    """The annotations, unless they contradict themselves as a whole; for readers to return.

    Raises:
        ValueError: If two images are the same file, or boxes are not in px or not what their
            format says; it names the file, the image or object, and the value.
    """
    files: set[str] = set()
    for image in annotations.images:
        if image.file and image.file in files:
            raise ValueError(f"{annotations.source}: two images are the same file, {image.file}.")
        files.add(image.file)
    boxes = [one for one in annotations.objects if one.box and not one.box.is_empty]
    _refuse_normalised(annotations, boxes)
    _refuse_corners(annotations, boxes)
    return annotations


def reasons(annotations: Annotations) -> list[str | None]:
    """Why each object cannot be used, as `rfsearch.target.object_scales` names it, or None."""
    found: list[str | None] = []
    seen: set[AnnotatedObject] = set()
    for one in annotations.objects:
        reason = _reason(one)
        itself = one._replace(area=None)
        if reason is None and itself in seen:
            reason = "duplicate"
        seen.add(itself)
        found.append(reason)
    return found


def _reason(one: AnnotatedObject) -> str | None:
    if one.image is None:
        return "missing_image"
    if one.label is None:
        return "unknown_category"
    if one.box is None:
        return "no_box"
    if one.box.is_empty:
        return "empty_box"
    if one.area is not None and not one.is_crowd and _is_more(one.area, one.box):
        return "contradiction"
    return None


def _is_more(area: float, box: Box) -> bool:
    """Whether a box cannot hold an area, of which masks may have a pixel more on each side."""
    width, height = box.right - box.left, box.bottom - box.top
    return area > (width + 1) * (height + 1) * (1 + _ROUNDING)


def _refuse_normalised(annotations: Annotations, boxes: list[AnnotatedObject]) -> None:
    edges = [edge for one in boxes for edge in one.box or ()]
    if edges and min(edges) >= 0 and max(edges) <= 1 and any(edge % 1 for edge in edges):
        raise ValueError(
            f"{annotations.source}: boxes must be in px, but none reaches further than 1: "
            f"{_named(annotations, boxes[0])} is a share of the image's size."
        )


def _refuse_corners(annotations: Annotations, boxes: list[AnnotatedObject]) -> None:
    """Refuse boxes whose annotated areas say that width and height are right and bottom."""
    wrong, right = [], 0
    for one in boxes:
        if one.box is None or one.area is None or one.is_crowd:
            continue
        left, top = one.box.left, one.box.top
        width, height = one.box.right - left, one.box.bottom - top
        as_box, as_corners = width * height, (width - left) * (height - top)
        if math.isclose(one.area, as_box, rel_tol=_ROUNDING):
            right += 1
        elif width > left and math.isclose(one.area, as_corners, rel_tol=_ROUNDING):
            wrong.append(one)
    if len(wrong) > right:
        raise ValueError(
            f"{annotations.source}: boxes must be left, top, width and height, but the area of "
            f"{_named(annotations, wrong[0])} is {wrong[0].area:g} px, as if they were corners."
        )


def _named(annotations: Annotations, one: AnnotatedObject) -> str:
    number = next(n for n, other in enumerate(annotations.objects, start=1) if other is one)
    where = "" if one.image is None else f" on {annotations.images[one.image].file or one.image}"
    return f"object {number}{where}, {', '.join(f'{edge:g}' for edge in one.box or ())},"
