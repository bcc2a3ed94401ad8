"""Annotated objects as they are read from any format, before anything is left out or resized."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


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
    """

    image: int | None
    label: str | None
    box: Box | None
    is_crowd: bool = False


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


def size_of(height: Any, width: Any) -> tuple[int, int] | None:
    """`(height, width)` in px, or None if these are no two numbers of at least one.

    >>> size_of("480", 640), size_of(0, 0), size_of(None, 640)
    ((480, 640), None, None)
    """
    try:
        size = int(float(height)), int(float(width))
    except (TypeError, ValueError, OverflowError):
        return None
    return size if min(size) >= 1 else None
