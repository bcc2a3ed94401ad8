"""What is read whenever it is needed, by other processes ahead of its use."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from rfsearch.data.loading_errors import loading_errors

#: Values that are read at a time to look at all of them.
_SURVEYED = 2**24


class ReadLater(ABC):
    """Images or masks that are read when they are needed, and indexed like a tensor of them."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of the tensor: the number of images first."""

    @abstractmethod
    def __getitem__(self, places: slice | Sequence[int]) -> Tensor:
        """Read some of the images.

        Raises:
            LoadingError: If they cannot be read; it names the file.
        """

    def __len__(self) -> int:
        return self.shape[0]

    @cached_property
    def value_counts(self) -> Tensor:
        """How often each value occurs in each channel, `(channels, 256)`, by reading all images.

        Raises:
            LoadingError: If they cannot be read; it names the file.
        """
        return self._count_values()

    def read_once(self) -> Self:
        """The same, all of which have been read: what is broken is told of before a search begins.

        Raises:
            LoadingError: If they cannot be read; it names the file.
        """
        _ = self.value_counts
        return self

    def _count_values(self) -> Tensor:
        size = max(1, _SURVEYED // math.prod(self.shape[1:]))
        places = [range(len(self))[n : n + size] for n in range(0, len(self), size)]
        counts = torch.zeros(self.shape[1], 256, dtype=torch.int64)
        with loading_errors():
            for part in _ahead(_Counts(self), places, usual_workers(), torch.device("cpu")):
                counts += part
        return counts


class _Counts:
    """What is counted of images, as a data set: the images need not leave the process."""

    def __init__(self, images: ReadLater) -> None:
        self.images = images

    def __getitem__(self, places: Sequence[int]) -> Tensor:
        return count_values(self.images[places])


class _Together:
    """Several of these as one data set, whose items are batches."""

    def __init__(self, sources: Sequence[ReadLater]) -> None:
        self.sources = sources

    def __getitem__(self, places: Sequence[int]) -> tuple[Tensor, ...]:
        return tuple(source[places] for source in self.sources)


def read_ahead(
    sources: Sequence[ReadLater],
    places: Iterable[Sequence[int]],
    workers: int,
    device: torch.device,
) -> Iterator[tuple[Tensor, ...]]:
    """Read one batch after the other, ahead of their use and in their order.

    Args:
        sources: What to read of each image, such as its pixels and its mask.
        places: Of the images of each batch.
        workers: Processes that read; 0 reads in this one. They end with the iteration.
        device: What the batches are for.
    """
    for batch in _ahead(_Together(sources), places, workers, device):
        yield tuple(batch)


def _ahead(
    items: Any, places: Iterable[Sequence[int]], workers: int, device: torch.device
) -> Iterator[Any]:
    yield from DataLoader(
        items,
        batch_size=None,
        sampler=list(places),
        num_workers=workers,
        pin_memory=device.type == "cuda",
        # It draws a seed for its processes, and must not from what dropout is drawn from.
        generator=torch.Generator(),
    )


def count_values(images: Tensor | ReadLater) -> Tensor:
    """How often each value occurs in each channel of uint8 images, `(channels, 256)`, int64."""
    if isinstance(images, ReadLater):
        return images.value_counts
    channels = images.unbind(1)
    return torch.stack([torch.bincount(c.flatten(), minlength=256) for c in channels])


def usual_workers() -> int:
    """As many processes as are good at reading ahead without crowding out what computes."""
    if hasattr(os, "sched_getaffinity"):
        return min(4, len(os.sched_getaffinity(0)))
    return min(4, os.cpu_count() or 1)
