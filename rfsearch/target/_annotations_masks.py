"""Objects from images of masks, whose values are the objects (instances) or their classes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rfsearch.basics.images import read_numbers
from rfsearch.target.annotations import AnnotatedImage, AnnotatedObject, Annotations, Box

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Formats that keep values as they are, which JPEG does not.
MASK_SUFFIXES = (".bmp", ".gif", ".png", ".tif", ".tiff")
#: Class of all objects of instance masks.
_ONLY_CLASS = "object"


def read_masks(path: Path, semantic: bool = False) -> Annotations:
    """Read one mask, or all in a folder and its subfolders; 0 is the background.

    Args:
        path: Images of one channel with 8, 16 or 32 bits, or with a palette, whose indices count.
        semantic: Whether values are classes. Then every connected component (over edges and
            corners) is an object, and the classes are named by their values; else every value
            is an object, of which all parts are in one box.

    Raises:
        ValueError: If there is no mask, or a file is not a readable image of one channel; it
            names the file.
    """
    files = _files(path) if path.is_dir() else [path]
    images, objects, in_parts = [], [], []
    for number, file in enumerate(files):
        mask = read_numbers(file)
        name = str(file.relative_to(path if path.is_dir() else path.parent))
        images.append(AnnotatedImage(name, (mask.shape[0], mask.shape[1])))
        in_parts.append(not semantic and _is_one_value_in_parts(mask))
        found = _components(mask) if semantic else _instances(mask)
        objects += [AnnotatedObject(number, label, box) for label, box in found]
    if all(in_parts):
        warnings.warn(
            f"{path}: every mask holds one value, in several places. If values are classes instead"
            " of objects, read them as semantic masks.",
            stacklevel=2,
        )
    names = {one.label for one in objects if one.label is not None}
    return Annotations(
        source=path,
        images=tuple(images),
        objects=tuple(objects),
        class_names=tuple(sorted(names, key=lambda name: (len(name), name))),
        are_masks=True,
    )


def _files(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in MASK_SUFFIXES)
    if not files:
        known = ", ".join(MASK_SUFFIXES)
        raise ValueError(f"{folder}: there is no mask ({known}) in this folder or its subfolders.")
    return files


def _instances(mask: NDArray[np.integer[Any]]) -> Iterator[tuple[str, Box]]:
    # Values are numbered anew: they may be as sparse as 32 bits allow.
    values, numbers = np.unique(mask, return_inverse=True)
    numbers = numbers.reshape(mask.shape) + 1
    boxes = _boxes(numbers)
    return ((_ONLY_CLASS, box) for value, box in zip(values, boxes, strict=True) if value != 0)


def _components(mask: NDArray[np.integer[Any]]) -> Iterator[tuple[str, Box]]:
    from scipy.ndimage import label

    for value in np.unique(mask[mask != 0]):
        numbers, _ = label(mask == value, structure=np.ones((3, 3)))
        yield from ((str(value), box) for box in _boxes(numbers))


def _is_one_value_in_parts(mask: NDArray[np.integer[Any]]) -> bool:
    from scipy.ndimage import label

    inside = mask[mask != 0]
    if not inside.size or inside.min() != inside.max():
        return False
    _, num_parts = label(mask, structure=np.ones((3, 3)))
    return bool(num_parts > 1)


def _boxes(numbers: NDArray[np.integer[Any]]) -> list[Box]:
    """The tight boxes of the values 1, 2, ... of a map that holds all of them."""
    from scipy.ndimage import find_objects

    return [Box(x.start, y.start, x.stop, y.stop) for y, x in find_objects(numbers)]
