"""NIfTI-1 files, in which volumes and their masks are kept: the values and the voxels' sizes."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rfsearch.basics.files import open_file
from rfsearch.basics.limits import check_memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIXES = (".nii", ".nii.gz")
_HEADER = 352
#: Whole numbers and floats by their codes.
_KINDS = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}


class Volume(NamedTuple):
    """What a file holds.

    Attributes:
        values: `(depth, height, width)`, or of fewer axes.
        spacing: Sides of a voxel along each axis, in mm.
    """

    values: NDArray[Any]
    spacing: tuple[float, ...]


def read_nifti(path: Path) -> Volume:
    """Read a volume; the last axis is the first one of the file, as in most tools.

    Raises:
        ValueError: If it is no such file, is truncated, or the memory does not hold it.
    """
    with open_file(path) as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        file: Any = gzip.GzipFile(fileobj=raw) if zipped else raw
        try:
            header = file.read(_HEADER)
            order = next(one for one in "<>" if struct.unpack_from(f"{one}i", header)[0] == 348)
            count, *sides = struct.unpack_from(f"{order}8h", header, 40)
            kind = np.dtype(f"{order}{_KINDS[struct.unpack_from(f'{order}h', header, 70)[0]]}")
            pixels = struct.unpack_from(f"{order}8f", header, 76)
            offset, slope, shift = struct.unpack_from(f"{order}3f", header, 108)
            shape = tuple(sides[:count])
            if not 1 <= count <= 7 or min(shape) < 1 or header[344:347] != b"n+1":
                raise ValueError("its header is none")
            size = math.prod(shape) * kind.itemsize
            check_memory(size, str(path))
            file.read(max(0, int(offset) - _HEADER))
            values = np.frombuffer(file.read(size), kind).reshape(shape, order="F").T
        except (OSError, EOFError, ValueError, KeyError, StopIteration, struct.error) as error:
            reason = str(error) or "its header is none"
            raise ValueError(f"{path}: not a NIfTI file ({reason}).") from None
    values = values.reshape(values.shape[max(0, count - 3) :]) if count > 3 else values
    if slope not in (0, 1) or (slope and shift):
        values = values * slope + shift
    spacing = [float(abs(one)) or 1.0 for one in pixels[1 : values.ndim + 1]]
    return Volume(values, tuple(spacing[::-1]))
