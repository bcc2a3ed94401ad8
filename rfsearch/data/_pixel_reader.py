"""Reading images and masks that tiles are cut from: into memory, or into the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rfsearch.data._array_cache import ArrayFile, cached_array, cached_result
from rfsearch.data.image_pixels import pixel_shape, read_numbers, read_pixels
from rfsearch.data.tile_cuts import tiles_fit
from rfsearch.target.mask_values import distinct_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rfsearch.data.tile_cuts import Array
    from rfsearch.data.tiles import AreaTiling
    from rfsearch.target.mask_values import ClassValues

_ALL = (slice(None),)


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

    def values(self, file: Path) -> NDArray[np.int64]:
        """All values of a mask, in ascending order."""
        found = self._read(file, "values", lambda: distinct_values(read_numbers(file, self.scale)))
        return found[_ALL]

    def classes(self, file: Path, values: ClassValues) -> Array:
        """The class of each pixel, `(height, width)`, uint8: from 0, or `IGNORED`.

        Raises:
            ValueError: If there is a value without a meaning.
        """
        what = f"classes {values.values}, ignored {sorted(values.ignored)}"
        return self._read(file, what, lambda: values.classes(read_numbers(file, self.scale), file))

    def counts(self, classes: Array) -> NDArray[np.int64]:
        """How many pixels of a mask have each class, `(256,)`."""

        def count() -> NDArray[np.int64]:
            return np.bincount(classes[:, :].ravel(), minlength=256)

        if isinstance(classes, ArrayFile):
            return cached_result([classes], "classes counted", count)[_ALL]
        return count()

    def instances(self, file: Path, ignored: frozenset[int] = frozenset()) -> Array:
        """The number of the object of each pixel, 0 for none: `(height, width)`, integers."""
        what = f"instances, ignored {sorted(ignored)}"
        return self._read(file, what, lambda: _instances(file, self.scale, ignored))

    def foreground(self, file: Path) -> Array:
        """Whether each pixel has an object, `(height, width)`, uint8: 0 or 1."""
        return self._read(
            file, "foreground", lambda: (read_numbers(file, self.scale) > 0).astype(np.uint8)
        )

    def _read(self, file: Path, what: str, read: Callable[[], NDArray[Any]]) -> Array:
        return read() if self.in_memory else cached_array(file, f"{what} x {self.scale}", read)


def _instances(file: Path, scale: float, ignored: frozenset[int]) -> NDArray[Any]:
    values = read_numbers(file, scale)
    if values.min() < 0 and values.min() not in ignored:
        raise ValueError(f"{file}: objects must be numbered from 1, but one is {values.min()}.")
    values = np.where(np.isin(values, [*ignored]), 0, values)
    narrow = np.min_scalar_type(values.max())
    # torch does not take 64 bits without a sign.
    return values.astype(narrow if narrow.itemsize <= 4 else np.int64)
