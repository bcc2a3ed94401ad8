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

from rfsearch.data._array_cache import ArrayFile, cached_result
from rfsearch.data.read_ahead import ReadLater

#: An array in memory, or in a file of which parts are read.
Array = NDArray[Any] | ArrayFile


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
