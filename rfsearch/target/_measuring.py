"""Measuring the objects of annotations, of which some cannot be used.

The reasons why stand in `rfsearch.target.object_scales`. A box that lies partly outside its image
is clipped to it, and counted as well. Image files are opened only if a folder of them is given, or
their size is needed and not annotated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rfsearch.target._resizing import resize_factors
from rfsearch.target.annotations import reasons
from rfsearch.target.image_sizes import read_headers
from rfsearch.target.object_scales import ObjectScales, Skipped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rfsearch.target._resizing import Resize
    from rfsearch.target.annotations import AnnotatedObject, Annotations, Box

#: Where an edge is a sum of floats, it may leave its image by so many px.
_NOISE = 1e-6


def measure_objects(
    annotations: Annotations,
    input_size: tuple[int, int] | None,
    resize: Resize,
    images: Path | None = None,
) -> ObjectScales:
    """Leave out what cannot be used, clip the others to their images, and resize them.

    Args:
        annotations: As read from a file.
        input_size: `(height, width)` of the network's input in px.
        resize: How images are made to fit it.
        images: Folder of the images. Then each must be there, and its size is checked.

    Raises:
        ValueError: If an image cannot be read or its size is not the annotated one.
    """
    sizes = _sizes(annotations, images, are_needed=resize != "none")
    is_missing = [size is None and (images is not None or resize != "none") for size in sizes]
    checked = [
        _check(one, reason, sizes, is_missing)
        for one, reason in zip(annotations.objects, reasons(annotations), strict=True)
    ]
    kept = [one for one in checked if isinstance(one, _Kept)]
    heights, widths = _resized(kept, sizes, input_size, resize)
    index = {name: number for number, name in enumerate(annotations.class_names)}
    return ObjectScales(
        heights=heights,
        widths=widths,
        labels=np.array([index[one.label] for one in kept], dtype=np.intp),
        class_names=annotations.class_names,
        num_images=len(annotations.images),
        skipped=Skipped(**Counter(one for one in checked if isinstance(one, str))),
        num_clipped=sum(one.is_clipped for one in kept),
        input_size=input_size,
        resize=resize,
        are_masks=annotations.are_masks,
        notes=annotations.notes + _missing(annotations, is_missing, images),
    )


def _missing(
    annotations: Annotations, is_missing: Sequence[bool], folder: Path | None
) -> tuple[str, ...]:
    """What was looked for and not found, in words."""
    if not any(is_missing):
        return ()
    source = annotations.source
    beside = folder or (source if source.is_dir() else source.parent)
    first = beside / annotations.images[is_missing.index(True)].file
    return (f"{sum(is_missing)} files of images are missing, the first is {first}",)


class _Kept(NamedTuple):
    """An object that can be used, clipped to its image, in px of that."""

    image: int
    label: str
    box: Box
    is_clipped: bool


def _check(
    one: AnnotatedObject,
    reason: str | None,
    sizes: Sequence[tuple[int, int] | None],
    is_missing: Sequence[bool],
) -> _Kept | str:
    """What is kept of an object, or the reason why it cannot be used."""
    if one.is_crowd:
        return "crowd"
    if one.image is None or is_missing[one.image]:
        return "missing_image"
    if reason is not None:
        return reason
    assert one.label is not None, "there is a reason to skip it"
    assert one.box is not None, "there is a reason to skip it"
    size = sizes[one.image]
    box = one.box.clip(size) if size else one.box
    if box.is_empty:
        return "outside"
    is_clipped = max(abs(edge - was) for edge, was in zip(box, one.box, strict=True)) > _NOISE
    return _Kept(one.image, one.label, box, is_clipped)


def _sizes(
    annotations: Annotations, folder: Path | None, are_needed: bool
) -> list[tuple[int, int] | None]:
    """Sizes of the images in px as annotated, or from their files; None if there is none."""
    stated = [image.size for image in annotations.images]
    if annotations.are_masks or (folder is None and (all(stated) or not are_needed)):
        return stated
    source = annotations.source
    beside = source if source.is_dir() else source.parent
    headers = read_headers(annotations, folder or beside, unsized_only=folder is None)
    found = [header and header.size for header in headers]
    return found if folder else [a or b for a, b in zip(stated, found, strict=True)]


def _resized(
    kept: Sequence[_Kept],
    sizes: Sequence[tuple[int, int] | None],
    input_size: tuple[int, int] | None,
    resize: Resize,
) -> NDArray[np.float64]:
    """Heights and widths of boxes in px at network resolution: `(2, boxes)`."""
    of_images = np.array([sizes[one.image] or (1, 1) for one in kept], float).reshape(-1, 2)
    boxes = np.array([one.box for one in kept], float).reshape(-1, 4)
    sides = boxes[:, [3, 2]] - boxes[:, [1, 0]]
    resized: NDArray[np.float64] = sides * resize_factors(of_images, input_size, resize)
    return resized.T
