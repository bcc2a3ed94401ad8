"""Images that stay in their files until they are needed, read ahead by other processes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from rfsearch.image_files import read_image
from rfsearch.limits import machine_memory
from rfsearch.loading_errors import LoadingError, loading_errors

#: Largest share of the memory, of the machine or of its GPU, that images are kept in.
MEMORY_SHARE = 0.25
#: Images that are read at a time to look at all of them.
_SURVEYED = 64


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images in files that read like a tensor `(images, channels, height, width)`, uint8.

    Attributes:
        paths: Of the files.
        size: `(height, width)` in px; images are resized to cover it and cropped in the middle.
        mode: `"L"` for grey, `"RGB"` for colour.
    """

    paths: tuple[str, ...]
    size: tuple[int, int]
    mode: str

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Images, channels, height and width."""
        return len(self), 1 if self.mode == "L" else 3, *self.size

    @property
    def num_bytes(self) -> int:
        """How much memory the images take as a tensor."""
        images, channels, height, width = self.shape
        return images * channels * height * width

    def __getitem__(self, places: slice | Sequence[int]) -> Tensor:
        """Read some of the images.

        Raises:
            LoadingError: If a file is not a readable image; it names the file.
        """
        chosen = range(len(self))[places] if isinstance(places, slice) else places
        try:
            images = [read_image(self.paths[place], self.size) for place in chosen]
        except ValueError as error:
            raise LoadingError(str(error)) from None
        arrays = np.stack([np.asarray(image.convert(self.mode)) for image in images])
        pixels = torch.from_numpy(arrays.reshape(*arrays.shape[:3], -1))
        return pixels.permute(0, 3, 1, 2).contiguous()

    def batches(
        self, places: Iterable[Sequence[int]], workers: int, device: torch.device
    ) -> Iterator[Tensor]:
        """Read one batch after the other, ahead of their use and in their order.

        Args:
            places: Of the images of each batch.
            workers: Processes that read; 0 reads in this one. They end with the iteration.
            device: What the batches are for.
        """
        loader: DataLoader[Any] = DataLoader(
            self,  # type: ignore[arg-type]  # which needs no more than `__getitem__`
            batch_size=None,
            sampler=list(places),
            num_workers=workers,
            pin_memory=device.type == "cuda",
            # It draws a seed for its processes, and must not from what dropout is drawn from.
            generator=torch.Generator(),
        )
        yield from loader

    @cached_property
    def value_counts(self) -> Tensor:
        """How often each value occurs in each channel, `(channels, 256)`, by reading all images.

        Raises:
            LoadingError: If a file is not a readable image; it names the file.
        """
        places = [range(len(self))[n : n + _SURVEYED] for n in range(0, len(self), _SURVEYED)]
        with loading_errors():
            batches = self.batches(places, usual_workers(), torch.device("cpu"))
            return torch.stack([count_values(batch) for batch in batches]).sum(dim=0)


def count_values(images: Tensor) -> Tensor:
    """How often each value occurs in each channel of uint8 images, `(channels, 256)`, int64."""
    channels = images.unbind(1)
    return torch.stack([torch.bincount(c.flatten(), minlength=256) for c in channels])


def usual_workers() -> int:
    """As many processes as are good at reading ahead without crowding out what computes."""
    if hasattr(os, "sched_getaffinity"):
        return min(4, len(os.sched_getaffinity(0)))
    return min(4, os.cpu_count() or 1)


def fits_memory(num_bytes: int) -> bool:
    """Whether so much data may be kept in the memory of this machine, and of its GPU."""
    limits = [machine_memory()]
    if torch.cuda.is_available():
        limits.append(torch.cuda.get_device_properties(0).total_memory)
    return num_bytes <= MEMORY_SHARE * min(limits)
