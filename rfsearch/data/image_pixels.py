"""Pixels of images and numbers of masks, resized by a factor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from rfsearch.basics import images
from rfsearch.basics.limits import check_memory
from rfsearch.target.mask_values import read_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray


def read_pixels(file: Path, scale: float = 1.0) -> NDArray[np.uint8]:
    """An image in grey or RGB, `(height, width, channels)`; see `rfsearch.basics.images`.

    Args:
        file: The image.
        scale: Factor by which height and width are resized.

    Raises:
        ValueError: If it is not a readable image of one or three channels; it names the file.
    """
    pixels = images.read_pixels(file)
    channels = pixels.shape[2]
    size = _resized(pixels.shape, scale)
    if size == pixels.shape[:2]:
        return pixels
    _check_memory(file, size, channels)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    resized = np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR))
    return resized.reshape(*size, -1)


def pixel_shape(file: Path, scale: float = 1.0) -> tuple[int, int, int]:
    """Height, width and channels of what `read_pixels` would read, by the file's header alone.

    Raises:
        ValueError: If it is not an image of one or three channels; it names the file.
    """
    header = images.read_header(file)
    return *_resized(header.size, scale), header.channels


def read_numbers(file: Path, scale: float = 1.0) -> NDArray[np.integer[Any]]:
    """A mask, whose values are numbers: `(height, width)`; see `rfsearch.target.mask_values`.

    Args:
        file: The image.
        scale: Factor by which height and width are resized; numbers are never mixed.

    Raises:
        ValueError: If it is not a readable mask.
    """
    numbers = read_mask(file)
    height, width = _resized(numbers.shape, scale)
    _check_memory(file, (height, width), 8)
    rows = ((np.arange(height) + 0.5) * numbers.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * numbers.shape[1] / width).astype(int)
    return numbers[np.ix_(rows, columns)]


def _check_memory(file: Path, size: tuple[int, int], bytes_per_pixel: int) -> None:
    height, width = size
    check_memory(height * width * bytes_per_pixel, f"{file}: {height}x{width} px after resizing")


def _resized(shape: tuple[int, ...], scale: float) -> tuple[int, int]:
    height, width = (max(1, round(pixels * scale)) for pixels in shape[:2])
    return height, width
