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
    """Open an image; its pixels are read when they are used inside.

    Raises:
        ValueError: If the file is not a readable image; it names the file.
    """
    from PIL import Image

    try:
        with Image.open(file) as image:
            yield image
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file}: not a readable image ({error}).") from None


def image_size(file: Path) -> tuple[int, int] | None:
    """`(height, width)` of an image in px, or None if there is no such file.

    Raises:
        ValueError: If there is one that is not a readable image; it names the file.
    """
    if not file.is_file():
        return None
    with open_image(file) as image:
        return image.height, image.width
