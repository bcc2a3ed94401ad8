"""Whether annotations and image files belong together: the one comparison of their sizes.

Boxes and masks are of upright images. An image that was annotated as its sensor lay, or resized
after it was annotated, would be learned with objects in the wrong places, so both are refused.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rfsearch.basics.images import ImageHeader, is_file, read_header

if TYPE_CHECKING:
    from rfsearch.target.annotations import Annotations, Box

#: By how much of its image's side a box may reach over the border, and by how many px at least.
_OVERHANG, _OVERHANG_PX = 0.05, 2.0


def read_headers(
    annotations: Annotations, folder: Path, *, unsized_only: bool = False
) -> list[ImageHeader | None]:
    """The headers of annotated images, after they were compared with the annotations.

    Args:
        annotations: Of the images.
        folder: Where their file names start.
        unsized_only: Whether only images are looked at whose size is not annotated.

    Returns:
        One for each image; None where there is no file, or none was looked at.

    Raises:
        ValueError: If a file is no image, or not of the size that it was annotated at.
    """
    boxes: dict[int, list[Box]] = defaultdict(list)
    for one in annotations.objects:
        if one.image is not None and one.box is not None:
            boxes[one.image].append(one.box)
    headers: list[ImageHeader | None] = []
    uncertain: list[Path] = []
    for number, image in enumerate(annotations.images):
        file = folder / image.file
        if (unsized_only and image.size) or not is_file(file):
            headers.append(None)
            continue
        header = read_header(file)
        headers.append(header)
        if image.size is not None:
            check_size(annotations.source, file, image.size, header)
        else:
            _check_boxes(annotations.source, file, boxes[number], header.size)
        if header.orientation != 1 and (not image.size or header.size == header.stored_size):
            uncertain.append(file)
    warn_of_turned(annotations.source, uncertain)
    return headers


def check_size(source: Path, file: Path, stated: tuple[int, int], header: ImageHeader) -> None:
    """Refuse an image that has not the `(height, width)` it was annotated at.

    Raises:
        ValueError: If it has another; it names the annotations and the file.
    """
    if stated == header.size:
        return
    message = (
        f"{source}: {file} must be {stated[0]}x{stated[1]} px as annotated, but is "
        f"{header.size[0]}x{header.size[1]} px (height x width)"
    )
    if stated == header.stored_size:
        message += (
            f" upright: it was annotated before its EXIF orientation, {header.orientation}, was "
            "heeded. Save it as it was annotated, without an orientation"
        )
    raise ValueError(f"{message}.")


def warn_of_turned(source: Path, uncertain: list[Path]) -> None:
    """Say which images are turned where no annotated size tells how they were annotated."""
    if uncertain:
        warnings.warn(
            f"{source}: the annotations are taken as those of upright images, but for "
            f"{len(uncertain)} images with an EXIF orientation their sizes do not tell; the first"
            f" is {uncertain[0]}.",
            stacklevel=4,
        )


def _check_boxes(source: Path, file: Path, boxes: Iterable[Box], size: tuple[int, int]) -> None:
    """Refuse an image whose annotated size is not known if boxes reach far over its border."""
    height, width = size
    for box in boxes:
        if box.is_empty:
            continue
        right, bottom = box.right - width, box.bottom - height
        if right > _tolerance(width) or bottom > _tolerance(height):
            raise ValueError(
                f"{source}: {file} is {height}x{width} px (height x width), but a box reaches to "
                f"x={box.right:g}, y={box.bottom:g} px. If the image was resized after it was "
                "annotated, resize the boxes too; if not, state its size in the annotations."
            )


def _tolerance(side: int) -> float:
    return max(_OVERHANG_PX, _OVERHANG * side)
