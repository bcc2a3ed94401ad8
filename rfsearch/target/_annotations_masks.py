"""Objects from images of masks, whose values are the objects (instances) or their classes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from rfsearch.target.annotations import AnnotatedImage, AnnotatedObject, Annotations, Box
from rfsearch.target.mask_values import distinct_values, ignored_values, read_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Formats that keep values as they are, which JPEG does not.
MASK_SUFFIXES = (".bmp", ".gif", ".png", ".tif", ".tiff")
#: Class of all objects of instance masks.
_ONLY_CLASS = "object"
#: Share of the values that lie in several places, from which on they may be classes.
_SPLIT = 0.2


class _Region(NamedTuple):
    """All pixels of one value in one mask, in one box, and their connected parts in one each."""

    image: int
    value: int
    box: Box
    parts: tuple[Box, ...]
    pixels: int


@dataclass(frozen=True)
class MaskReading:
    """How to read the values of masks.

    Attributes:
        semantic: Whether they are classes, whose connected components (over edges and corners)
            are the objects, and which are named by their values; else every value is an object,
            of which all parts are in one box. None asks where that makes a difference.
        background: The value of what is no object; "none" if there is none, and None for 0, if
            that is plausible.
        ignored: Values of what is not looked at; None goes by `rfsearch.target.mask_values`.
    """

    semantic: bool | None = None
    background: int | Literal["none"] | None = None
    ignored: Collection[int] | None = None


def read_masks(path: Path, reading: MaskReading | None = None) -> Annotations:
    """Read one mask, or all in a folder and its subfolders.

    Args:
        path: Images of one channel with 8, 16 or 32 bits, or with a palette, whose indices count.
        reading: What their values mean.

    Raises:
        ValueError: If there is no mask, a file is not a readable mask, or it must be stated what
            the values mean; it names the file.
    """
    how = reading or MaskReading()
    files = _files(path) if path.is_dir() else [path]
    images: list[AnnotatedImage] = []
    regions: list[_Region] = []
    for number, file in enumerate(files):
        mask = read_mask(file)
        name = str(file.relative_to(path if path.is_dir() else path.parent))
        images.append(AnnotatedImage(name, (mask.shape[0], mask.shape[1])))
        regions += _regions(mask, number, how)
    background, ignored = _meaning(path, images, regions, how)
    kept = [one for one in regions if one.value not in {background, *ignored}]
    semantic = _is_semantic(path, kept, how)
    objects = [
        AnnotatedObject(one.image, str(one.value) if semantic else _ONLY_CLASS, box)
        for one in kept
        for box in (one.parts if semantic else (one.box,))
    ]
    names = {one.label for one in objects if one.label is not None}
    return Annotations(
        source=path,
        images=tuple(images),
        objects=tuple(objects),
        class_names=tuple(sorted(names, key=lambda name: (len(name), name))),
        are_masks=True,
        notes=(_in_words(regions, background, ignored, semantic),),
    )


def _files(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in MASK_SUFFIXES)
    if not files:
        known = ", ".join(MASK_SUFFIXES)
        raise ValueError(f"{folder}: there is no mask ({known}) in this folder or its subfolders.")
    return files


def _regions(mask: NDArray[np.integer[Any]], image: int, how: MaskReading) -> Iterator[_Region]:
    """Those of all values, of which only what cannot be an object is not taken apart."""
    from scipy.ndimage import find_objects, label

    values = distinct_values(mask)
    # Values are numbered anew: they may be as sparse as 32 bits allow.
    numbers = np.searchsorted(values, mask) + 1
    places = find_objects(numbers)
    pixels = np.bincount(numbers.ravel())[1:]
    background = 0 if how.background is None else how.background
    for number, (value, (y, x)) in enumerate(zip(values.tolist(), places, strict=True), start=1):
        box = Box(x.start, y.start, x.stop, y.stop)
        parts = [box]
        if value != background and value not in (how.ignored or ()):
            inside, _ = label(numbers[y, x] == number, structure=np.ones((3, 3)))
            parts = [
                Box(x.start + c.start, y.start + r.start, x.start + c.stop, y.start + r.stop)
                for r, c in find_objects(inside)
            ]
        yield _Region(image, value, box, tuple(parts), int(pixels[number - 1]))


def _meaning(
    path: Path, images: list[AnnotatedImage], regions: list[_Region], how: MaskReading
) -> tuple[int | None, frozenset[int]]:
    """The values of the background, if there is one, and of what is not looked at."""
    found = {one.value for one in regions}
    ignored = ignored_values(found, how.ignored)
    if (lowest := min(found - ignored, default=0)) < 0:
        raise ValueError(
            f"{path}: the value {lowest} must be at least 0, or be stated to be ignored: "
            f"--ignored {lowest} (`ignored`)."
        )
    if how.background == "none":
        return None, ignored
    if how.background is not None:
        return how.background, ignored
    ask = "State it: --background VALUE, or none (`background`)."
    if 0 not in found:
        some = ", ".join(map(str, sorted(found)[:4]))
        raise ValueError(
            f"{path}: no mask has the value 0, so which of {some}{' ...' * (len(found) > 4)} is "
            f"the background? {ask}"
        )
    covering = [one for one in regions if one.value not in {0, *ignored} and _covers(one, images)]
    shown = {one.image for one in regions if one.value not in {0, *ignored}}
    if 2 * len({one.image for one in covering}) > len(shown):
        raise ValueError(
            f"{path}: is {covering[0].value} the background, or 0? As an object it would be as "
            f"large as the image, {images[covering[0].image].file}, and most masks have such a "
            f"one. {ask}"
        )
    return 0, ignored


def _covers(one: _Region, images: list[AnnotatedImage]) -> bool:
    """Whether a region reaches from border to border, and is most of its image."""
    height, width = images[one.image].size or (0, 0)
    return one.box == Box(0, 0, width, height) and 2 * one.pixels > height * width


def _is_semantic(path: Path, kept: list[_Region], how: MaskReading) -> bool:
    if how.semantic is not None:
        return how.semantic
    split = sum(len(one.parts) > 1 for one in kept)
    if split > _SPLIT * len(kept):
        example = next(one for one in kept if len(one.parts) > 1)
        raise ValueError(
            f"{path}: are values objects or classes? {split} of {len(kept)} lie in several places,"
            f" such as {example.value} in {len(example.parts)}. State it: --instances or "
            "--semantic (`semantic=False` or `True`)."
        )
    return False


def _in_words(
    regions: list[_Region], background: int | None, ignored: frozenset[int], semantic: bool
) -> str:
    others = "classes, whose connected parts are objects" if semantic else "objects"
    void = ", ".join(map(str, sorted(ignored & {one.value for one in regions})))
    return (
        f"background {'none' if background is None else background}, ignored {void or 'none'}, "
        f"others {others}"
    )
