"""Pixels of images and masks of any depth, whole or resized by a factor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from PIL import Image

from rfsearch.basics.image_header import open_image
from rfsearch.basics.limits import check_memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TIFF = (".tif", ".tiff")


def read_pixels(file: Path, scale: float = 1.0) -> NDArray[np.uint8]:
    """An image in grey or RGB, `(height, width, channels)`.

    Values of more than 8 bits are scaled, from the darkest pixel of the image to its brightest.

    Args:
        file: Anything that Pillow or, for TIFF, tifffile can read.
        scale: Factor by which height and width are resized.

    Raises:
        ValueError: If it is not a readable image of one or three channels; it names the file.
    """
    values = _read(file, as_colours=True)
    channels = _channels(file, values.shape, values.dtype.kind)
    pixels = _to_8_bit(values.reshape(*values.shape[:2], -1)[..., :channels], file)
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
    try:
        with _open_single(file) as image:
            size, channels = (image.height, image.width), 1 if _is_grey(image.mode) else 3
    except ValueError:
        if not _is_tiff(file):
            raise
        with _open_tiff(file) as tiff:
            shape, kind = tiff.series[0].shape, np.dtype(tiff.series[0].dtype).kind
        channels = _channels(file, shape, kind)
        size = (shape[0], shape[1])
    return *_resized(size, scale), channels


def read_numbers(file: Path, scale: float = 1.0) -> NDArray[np.int64]:
    """An image of one channel whose values are numbers, not shades: `(height, width)`.

    Args:
        file: With 8, 16 or 32 bits, or with a palette, whose indices are the numbers.
        scale: Factor by which height and width are resized; numbers are never mixed.

    Raises:
        ValueError: If it is not a readable image of one channel of whole numbers from 0.
    """
    values = _read(file, as_colours=False)
    if values.ndim != 2 or values.dtype.kind not in "uib" or values.min() < 0:
        raise ValueError(
            f"{file}: a mask must have one channel of whole numbers from 0, but has the shape "
            f"{values.shape} and the type {values.dtype}."
        )
    height, width = _resized(values.shape, scale)
    _check_memory(file, (height, width), 8)
    rows = ((np.arange(height) + 0.5) * values.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * values.shape[1] / width).astype(int)
    return values[np.ix_(rows, columns)].astype(np.int64)


def _read(file: Path, as_colours: bool) -> NDArray[Any]:
    try:
        with _open_single(file) as image:
            if as_colours and image.mode[0] not in "IF":
                return np.asarray(image.convert("L" if _is_grey(image.mode) else "RGB"))
            return np.asarray(image)
    except ValueError:
        if not _is_tiff(file):
            raise
    with _open_tiff(file) as tiff:
        return tiff.asarray()


@contextmanager
def _open_single(file: Path) -> Iterator[Image.Image]:
    with open_image(file) as image:
        if (frames := getattr(image, "n_frames", 1)) != 1:
            raise ValueError(f"it holds {frames} images")
        yield image


def _is_tiff(file: Path) -> bool:
    return file.suffix.lower() in _TIFF and file.is_file()


@contextmanager
def _open_tiff(file: Path) -> Iterator[tifffile.TiffFile]:
    try:
        with tifffile.TiffFile(file) as tiff:
            yield tiff
    except Exception as error:  # tifffile has no common class of errors
        raise ValueError(f"{file}: not a readable image ({error}).") from None


def _is_grey(mode: str) -> bool:
    """Whether an image of Pillow's mode has one channel."""
    return mode in ("1", "L") or mode[0] in "IF"


def _channels(file: Path, shape: tuple[int, ...], kind: str) -> int:
    """Of an array that is an image: 1 or 3, as transparency does not count."""
    channels = 1 if len(shape) == 2 else shape[-1]
    if len(shape) not in (2, 3) or channels not in (1, 3, 4) or kind not in "uif":
        raise ValueError(f"{file}: must be an image in grey or RGB, but has the shape {shape}.")
    return min(channels, 3)


def _to_8_bit(values: NDArray[Any], file: Path) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ValueError(f"{file}: must hold finite values, but its brightest pixel is {high}.")
    scaled = (values.astype(np.float64) - low) * (255 / max(high - low, 1e-12))
    return scaled.round().astype(np.uint8)


def _check_memory(file: Path, size: tuple[int, int], bytes_per_pixel: int) -> None:
    height, width = size
    check_memory(height * width * bytes_per_pixel, f"{file}: {height}x{width} px after resizing")


def _resized(shape: tuple[int, ...], scale: float) -> tuple[int, int]:
    height, width = (max(1, round(pixels * scale)) for pixels in shape[:2])
    return height, width
