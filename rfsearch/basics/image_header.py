"""Opening an image, and its size without reading its pixels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


@contextmanager
def open_image(file: Path) -> Iterator[Image.Image]:
    """Open an image; its pixels are read when they are used inside, where nothing else may fail.

    Raises:
        ValueError: If the file is not a readable image; it names the file.
    """
    from PIL import Image

    try:
        with Image.open(file) as image:
            yield image
    # Broken files make Pillow raise SyntaxError, TypeError, struct.error and many more.
    except Exception as error:
        raise ValueError(f"{file}: not a readable image ({error}).") from None


def image_size(file: Path) -> tuple[int, int] | None:
    """`(height, width)` of an image in px, or None if there is no such file.

    Raises:
        ValueError: If there is one that is not a readable image; it names the file.
    """
    try:
        is_there = file.is_file()
    except OSError:  # Such as a name that is too long for any file.
        is_there = False
    if not is_there:
        return None
    with open_image(file) as image:
        return image.height, image.width
