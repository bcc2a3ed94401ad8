"""Tiles that are cut out of images, or of masks, when they are needed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rfsearch.basics.limits import check_memory
from rfsearch.data._array_cache import ArrayFile, cached_result
from rfsearch.data.device_memory import fits_memory
from rfsearch.data.read_ahead import ReadLater
from rfsearch.data.tiles import TRAIN_STEP, AreaTiling

#: An array in memory, or in a file of which parts are read.
Array = NDArray[Any] | ArrayFile

#: Bytes of truth for each pixel: a class and the number of an object.
_MASK_BYTES = 9
#: Bytes that Python needs for a tile beside its pixels, and for one with boxes.
_TILE_BYTES, _BOXES_BYTES = 300, 2_000


class Tile(NamedTuple):
    """A square part of an image: its number, and the row and column that the tile begins at."""

    image: int
    top: int
    left: int


def each_tile(tiles: NDArray[np.int64]) -> Iterator[Tile]:
    """The tiles of an array `(tiles, 3)`, one by one."""
    return (Tile(*tile) for tile in tiles.tolist())


@dataclass(frozen=True, eq=False)
class Cuts(ReadLater):
    """Tiles as `(tiles, height, width)`, or `(tiles, channels, height, width)`.

    Attributes:
        arrays: The images, `(height, width, channels)`, or masks, `(height, width)`.
        tiles: The fields of each `Tile`, `(tiles, 3)`.
        side: Of a tile in px. What it shows beyond the image has the value `fill`.
        channels: Of a tile, which a grey image has several times; None for masks.
        fill: Value of what is beyond the image.
    """

    arrays: tuple[Array, ...]
    tiles: NDArray[np.int64]
    side: int
    channels: int | None = None
    fill: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor of all tiles."""
        channels = () if self.channels is None else (self.channels,)
        return len(self.tiles), *channels, self.side, self.side

    def __getitem__(self, places: slice | Sequence[int]) -> Tensor:
        """Cut some of the tiles.

        Raises:
            LoadingError: If the file of an array cannot be read; it names the file.
        """
        chosen = self.tiles[places if isinstance(places, slice) else list(places)]
        cut = torch.from_numpy(np.stack([self._cut(tile) for tile in each_tile(chosen)]))
        return cut if self.channels is None else cut.permute(0, 3, 1, 2).contiguous()

    def _count_values(self) -> Tensor:
        """Those of arrays in the cache are counted once, and not when every search begins."""
        stored = [array for array in self.arrays if isinstance(array, ArrayFile)]
        if len(stored) < len(self.arrays):
            return super()._count_values()
        tiles = hashlib.sha256(self.tiles.tobytes()).hexdigest()
        what = f"values of {self.shape} from {tiles}"
        counts = cached_result(stored, what, lambda: ReadLater._count_values(self).numpy())
        return torch.from_numpy(counts[:, :])

    def _cut(self, tile: Tile) -> NDArray[Any]:
        image, top, left = tile
        cut = self.arrays[image][top : top + self.side, left : left + self.side]
        if self.channels is not None and cut.shape[2] < self.channels:
            cut = np.repeat(cut, self.channels, axis=2)
        if cut.shape[:2] == (self.side, self.side):
            return cut
        whole = np.full((self.side, self.side, *cut.shape[2:]), self.fill, cut.dtype)
        whole[: cut.shape[0], : cut.shape[1]] = cut
        return whole


@dataclass(frozen=True, eq=False)
class NumberedCuts(ReadLater):
    """Tiles whose objects are numbered anew: `(tiles, height, width)`, int64.

    Attributes:
        cuts: The tiles with the numbers that objects have in their images.
        known: Of each tile the objects that are numbered, by their numbers there, in ascending
            order; all others become 0.
        first: The new number of the first of these in each tile; the others follow it.
    """

    cuts: Cuts
    known: tuple[NDArray[np.int64], ...]
    first: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor of all tiles."""
        return self.cuts.shape

    def __getitem__(self, places: slice | Sequence[int]) -> Tensor:
        """Cut and number some of the tiles.

        Raises:
            LoadingError: If the file of an array cannot be read; it names the file.
        """
        chosen = range(len(self))[places] if isinstance(places, slice) else places
        cut = self.cuts[places].numpy()
        new = [
            _numbered(numbers, self.known[place], int(self.first[place]))
            for numbers, place in zip(cut, chosen, strict=True)
        ]
        return torch.from_numpy(np.stack(new))


def _numbered(numbers: NDArray[Any], known: NDArray[np.int64], first: int) -> NDArray[np.int64]:
    if not len(known):
        return np.zeros(numbers.shape, np.int64)
    place = np.searchsorted(known, numbers).clip(max=len(known) - 1)
    return np.where(known[place] == numbers, first + place, 0)


# -- memory ----------------------------------------------------------------------------


def are_stored(arrays: list[Array]) -> bool:
    """Whether images lie in a cache, out of which tiles are cut when they are needed."""
    return any(isinstance(array, ArrayFile) for array in arrays)


def tiles_fit(shapes: Sequence[tuple[int, ...]], tiling: AreaTiling, *, masks: bool) -> bool:
    """Whether there is room to keep the tiles of images in memory.

    Args:
        shapes: Height, width and channels of the images.
        tiling: How they will be cut.
        masks: Whether the class and the object of each pixel are kept, too.
    """
    return fits_memory(_num_tiles(shapes, tiling) * _pixel_bytes(shapes, tiling, masks))


def check_tiles_fit(pixels: list[Array], tiling: AreaTiling, source: str, *, masks: bool) -> None:
    """Refuse tiles that are too many or too large to be held.

    Args:
        pixels: The images.
        tiling: How they will be cut.
        source: What they are, for the message.
        masks: Whether the class and the object of each pixel are kept, too.

    Raises:
        ValueError: If the memory of the machine is too small.
    """
    shapes = [image.shape for image in pixels]
    in_memory = 0 if are_stored(pixels) else _pixel_bytes(shapes, tiling, masks)
    num_bytes = _num_tiles(shapes, tiling) * (in_memory + (_TILE_BYTES if masks else _BOXES_BYTES))
    side = tiling.image_size
    check_memory(num_bytes, f"{source}: tiles of {side}x{side} px from {len(shapes):,} images")


def _num_tiles(shapes: Sequence[tuple[int, ...]], tiling: AreaTiling) -> float:
    """About how many tiles images have, each image once itself included."""
    side = tiling.image_size
    places = sum(max(height, side) * max(width, side) for height, width, _ in shapes)
    # Each pixel is in the image and, where it is trained on, in several tiles.
    return places / side**2 * (1 + 1 / TRAIN_STEP**2)


def _pixel_bytes(shapes: Sequence[tuple[int, ...]], tiling: AreaTiling, masks: bool) -> int:
    """What a tile takes in memory."""
    channels = max((shape[2] for shape in shapes), default=0)
    return tiling.image_size**2 * (channels + (_MASK_BYTES if masks else 0))
