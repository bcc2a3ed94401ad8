"""Images that stay in their files until they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rfsearch.data.loading_errors import LoadingError
from rfsearch.data.read_ahead import ReadLater
from rfsearch.measure.image_files import read_image


@dataclass(frozen=True, eq=False)
class ImageFiles(ReadLater):
    """Images in files that read like a tensor `(images, channels, height, width)`, uint8.

    Attributes:
        paths: Of the files.
        size: `(height, width)` in px; images are resized to cover it and cropped in the middle.
        mode: `"L"` for grey, `"RGB"` for colour.
    """

    paths: tuple[str, ...]
    size: tuple[int, int]
    mode: str

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Images, channels, height and width."""
        return len(self.paths), 1 if self.mode == "L" else 3, *self.size

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
