"""Reading images and masks that tiles are cut from: into memory, or into the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rfsearch.data._array_cache import cached_array
from rfsearch.data.datasets import IGNORED
from rfsearch.data.image_pixels import pixel_shape, read_numbers, read_pixels
from rfsearch.data.tile_data import tiles_fit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rfsearch.data.tile_cuts import Array
    from rfsearch.data.tiles import AreaTiling


@dataclass(frozen=True)
class PixelReader:
    """Reads files into memory, or has what was read of them in the cache.

    Attributes:
        scale: Factor by which height and width are resized.
        in_memory: Whether into memory.
    """

    scale: float
    in_memory: bool

    @classmethod
    def of(cls, files: Sequence[Path], tiling: AreaTiling, *, masks: bool) -> PixelReader:
        """One that reads into memory if `tiling` says so or, if it says nothing, as there is room.

        Args:
            files: The images.
            tiling: How they will be cut into tiles.
            masks: Whether the class and the object of each pixel are read, too.

        Raises:
            ValueError: If a file is not a readable image; it names the file.
        """
        in_memory = tiling.in_memory
        if in_memory is None:
            shapes = [pixel_shape(file, tiling.scale) for file in files]
            in_memory = tiles_fit(shapes, tiling, masks=masks)
        return cls(tiling.scale, in_memory)

    def pixels(self, file: Path) -> Array:
        """An image, `(height, width, channels)`, uint8 (`image_pixels.read_pixels`)."""
        return self._read(file, "pixels", lambda: read_pixels(file, self.scale))

    def classes(self, file: Path, num_classes: int) -> Array:
        """The class of each pixel, `(height, width)`, uint8.

        Raises:
            ValueError: If there are others than `num_classes` from 0, and `IGNORED`.
        """
        return self._read(
            file, f"{num_classes} classes", lambda: _classes(file, self.scale, num_classes)
        )

    def instances(self, file: Path) -> Array:
        """The number of the object of each pixel, `(height, width)`, integers."""
        return self._read(file, "instances", lambda: _instances(file, self.scale))

    def foreground(self, file: Path) -> Array:
        """Whether each pixel has an object, `(height, width)`, uint8: 0 or 1."""
        return self._read(
            file, "foreground", lambda: (read_numbers(file, self.scale) > 0).astype(np.uint8)
        )

    def _read(self, file: Path, what: str, read: Callable[[], NDArray[Any]]) -> Array:
        return read() if self.in_memory else cached_array(file, f"{what} x {self.scale}", read)


def _instances(file: Path, scale: float) -> NDArray[Any]:
    values = read_numbers(file, scale)
    narrow = np.min_scalar_type(values.max())
    # torch does not take 64 bits without a sign.
    return values.astype(narrow) if narrow.itemsize <= 4 else values


def _classes(file: Path, scale: float, num_classes: int) -> NDArray[np.uint8]:
    values = read_numbers(file, scale)
    unknown = values[(values >= num_classes) & (values != IGNORED)]
    if unknown.size:
        raise ValueError(
            f"{file}: classes must be below {num_classes}, or {IGNORED} to be ignored, but there "
            f"is {int(unknown[0])}."
        )
    return values.astype(np.uint8)
