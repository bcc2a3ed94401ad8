"""Reading images: the one place where files become pixels, upright, and headers sizes.

Cameras store images as the sensor lies, and how to turn them in the EXIF orientation. What is
read here is turned already, its size too, as in every program that shows images. Values of more
than 8 bits are scaled from the darkest pixel of the image to its brightest, so that none of the
levels that it uses are lost; images of 8 bits stay as they are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rfsearch.basics.files import open_file

if TYPE_CHECKING:
    import tifffile
    from numpy.typing import NDArray
    from PIL import ImageFile

_TIFF = (".tif", ".tiff")
_ORIENTATION = 274
#: Orientations that exchange height and width.
_ON_ITS_SIDE = (5, 6, 7, 8)
#: Chunks of a PNG file that may say its orientation.
_PNG_TEXTS = (b"eXIf", b"iTXt", b"tEXt", b"zTXt")
#: Formats that change values, which are no shades in masks.
_LOSSY = ("JPEG", "MPO")


class ImageHeader(NamedTuple):
    """What is known of an image without its pixels.

    Attributes:
        size: `(height, width)` in px, upright.
        channels: 1 for grey, 3 for colours.
        orientation: By EXIF: how the stored pixels have to be turned, 1 for not at all.
    """

    size: tuple[int, int]
    channels: int
    orientation: int

    @property
    def stored_size(self) -> tuple[int, int]:
        """`(height, width)` in px before the pixels are turned."""
        return self.size[::-1] if self.orientation in _ON_ITS_SIDE else self.size


def is_file(path: Path) -> bool:
    """Whether there is a regular file of that name, which may be too long for any."""
    try:
        return path.is_file()
    except OSError:
        return False


def read_header(file: Path) -> ImageHeader:
    """The upright size and the channels of an image.

    Raises:
        ValueError: If it is not an image of one or three channels; it names the file.
    """
    try:
        with _open_single(file) as image:
            turned = _orientation(image)
            height, width = image.height, image.width
            # Pillow itself turns TIFF files, their size included.
            if turned in _ON_ITS_SIDE and image.format != "TIFF":
                height, width = width, height
            return ImageHeader((height, width), 1 if _is_grey(image.mode) else 3, turned)
    except ValueError:
        if not _is_tiff(file):
            raise
    with _open_tiff(file) as tiff:
        shape, kind = tiff.series[0].shape, np.dtype(tiff.series[0].dtype).kind
    channels = _channels(file, shape, kind)
    return ImageHeader((shape[0], shape[1]), channels, 1)


def read_pixels(file: Path) -> NDArray[np.uint8]:
    """An upright image in grey or RGB, `(height, width, channels)`.

    Args:
        file: Anything that Pillow or, for TIFF, tifffile can read.

    Raises:
        ValueError: If it is not a readable image of one or three channels; it names the file.
    """
    values = _read(file, as_colours=True)
    channels = _channels(file, values.shape, values.dtype.kind)
    return _to_8_bit(values.reshape(*values.shape[:2], -1)[..., :channels], file)


def read_numbers(file: Path) -> NDArray[np.integer[Any]]:
    """An upright image of one channel whose values are numbers, not shades: `(height, width)`.

    Args:
        file: With 8, 16 or 32 bits, or with a palette, whose indices are the numbers.

    Raises:
        ValueError: If it is not a readable image of one channel of whole numbers, or is stored in
            a way that changes them; it names the file.
    """
    values = _read(file, as_colours=False)
    if values.ndim != 2 or values.dtype.kind not in "uib":
        raise ValueError(
            f"{file}: a mask must have one channel of whole numbers, but has the shape "
            f"{values.shape} and the type {values.dtype}."
        )
    return values.astype(np.uint8) if values.dtype == bool else values


def _read(file: Path, as_colours: bool) -> NDArray[Any]:
    from PIL import ImageOps

    try:
        with _open_single(file) as image:
            if _loses_bits(image):
                raise ValueError("it has colours of 16 bits: save it as TIFF, or with 8 bits")
            is_lossy = _is_lossy(image)
            upright = ImageOps.exif_transpose(image)
            if as_colours and image.mode[0] not in "IF":
                upright = upright.convert("L" if _is_grey(image.mode) else "RGB")
            values = np.asarray(upright)
    except ValueError:
        if not _is_tiff(file):
            raise
        with _open_tiff(file) as tiff:
            return tiff.asarray()
    if is_lossy and not as_colours:
        raise ValueError(f"{file}: a mask must not be stored as JPEG, which changes its numbers.")
    return values


@contextmanager
def _open_single(file: Path) -> Iterator[ImageFile.ImageFile]:
    """Open an image; its pixels are read when used inside, where nothing else may fail."""
    from PIL import Image, UnidentifiedImageError

    with open_file(file) as opened:
        try:
            with Image.open(opened) as image:
                frames = getattr(image, "n_frames", 1)
                # Phones store previews, and maps of brightness, behind the image.
                if frames != 1 and image.format != "MPO":
                    raise ValueError(f"it holds {frames} images")
                yield image
        except UnidentifiedImageError:
            raise ValueError(f"{file}: not a readable image (of no known format).") from None
        # Broken files make Pillow raise SyntaxError, TypeError, struct.error and many more.
        except Exception as error:
            raise ValueError(f"{file}: not a readable image ({error}).") from None


def _orientation(image: ImageFile.ImageFile) -> int:
    from PIL import Image, PngImagePlugin

    if isinstance(image, PngImagePlugin.PngImageFile):
        # Pillow would decode all pixels to see whether it comes behind them.
        if _png_has_late_texts(image):
            image.load()
        found = Image.Image.getexif(image).get(_ORIENTATION, 1)
    else:
        found = image.getexif().get(_ORIENTATION, 1)
    return found if found in range(2, 9) else 1


def _png_has_late_texts(image: ImageFile.ImageFile) -> bool:
    """Whether texts come behind the pixels; the file is left as it was."""
    assert image.fp is not None, "it was opened just now"
    place, seen_pixels = image.fp.tell(), False
    image.fp.seek(8)
    found = False
    while not found and len(start := image.fp.read(8)) == 8:
        length, name = struct.unpack(">I4s", start)
        seen_pixels |= name == b"IDAT"
        found = seen_pixels and name in _PNG_TEXTS
        image.fp.seek(length + 4, 1)
    image.fp.seek(place)
    return found


def _loses_bits(image: ImageFile.ImageFile) -> bool:
    """Whether Pillow would keep 8 of the 16 bits of a colour, as it does with no warning."""
    if not image.tile or _is_grey(image.mode):
        return False
    stored = image.tile[0].args
    return ";16" in str(stored[0] if isinstance(stored, tuple) else stored)


def _is_lossy(image: ImageFile.ImageFile) -> bool:
    return image.format in _LOSSY or image.info.get("compression") == "jpeg"


def _is_tiff(file: Path) -> bool:
    return file.suffix.lower() in _TIFF and is_file(file)


@contextmanager
def _open_tiff(file: Path) -> Iterator[tifffile.TiffFile]:
    import tifffile

    try:
        with tifffile.TiffFile(file) as tiff:
            turned = tiff.pages.first.tags.valueof(_ORIENTATION, 1)
            if turned != 1:
                raise ValueError(f"its values cannot be turned by orientation {turned}")
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
