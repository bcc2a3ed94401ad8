"""Images that are read from their files while a network learns from those before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rfsearch.device_images import memory_format
from rfsearch.file_images import usual_workers

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from rfsearch.augmentation import Batch
    from rfsearch.device_images import Normalizer
    from rfsearch.file_images import ImageFiles


class StreamedImages:
    """Image files that give the same batches as a `DeviceImages` of their pixels.

    Which images a batch has and how they vary is drawn before they are read, so that it does not
    depend on the processes that read them; pixels are varied on the device.

    Args:
        files: The images.
        normalize: Statistics of the training images.
        device: Where batches go.
        workers: Processes that read; None for as many as are usual.
    """

    def __init__(
        self,
        files: ImageFiles,
        normalize: Normalizer,
        device: torch.device,
        workers: int | None = None,
    ) -> None:
        self.files, self.device = files, device
        self.normalize = normalize.to(device)
        self.workers = usual_workers() if workers is None else workers

    def __len__(self) -> int:
        return len(self.files)

    def load(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches, each with the pixels of its images."""
        planned = list(batches)
        read = self.files.batches([b.numbers for b in planned], self.workers, self.device)
        for batch, pixels in zip(planned, read, strict=True):
            yield batch._replace(pixels=pixels.to(self.device, non_blocking=True))

    def of(self, batch: Batch) -> Tensor:
        """The images of a batch from `load`, normalised and varied."""
        assert batch.pixels is not None, "only what was loaded can be used"
        images = batch.variation.apply(self.normalize(batch.pixels), fill=0.0)
        return images.contiguous(memory_format=memory_format(self.device))

    def batches(self, size: int) -> Iterator[tuple[slice, Tensor]]:
        """All images in order, normalised, with their places."""
        parts = [slice(n, min(n + size, len(self))) for n in range(0, len(self), size)]
        places = [range(part.start, part.stop) for part in parts]
        read = self.files.batches(places, self.workers, self.device)
        for part, pixels in zip(parts, read, strict=True):
            images = self.normalize(pixels.to(self.device, non_blocking=True))
            yield part, images.contiguous(memory_format=memory_format(self.device))
