"""Images that are read from their files while a network learns from those before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from rfsearch.data.device_images import DeviceImages, ImagePart, Images, Normalizer
from rfsearch.data.read_ahead import ReadLater, read_ahead, usual_workers

if TYPE_CHECKING:
    import torch

    from rfsearch.data.augmentation import Batch
    from rfsearch.data.datasets import Pixels


def images_on(
    device: torch.device,
    pixels: Pixels,
    normalize: Normalizer,
    workers: int | None = None,
    masks: Pixels | None = None,
) -> Images:
    """Images for a device: moved there as a whole, or where they are read later, in batches.

    Args:
        device: Where they are used.
        pixels: The images.
        normalize: Statistics of the training images.
        workers: Processes that read; None for as many as are usual.
        masks: What is known of each pixel, where that is learned.
    """
    if isinstance(pixels, ReadLater):
        assert not isinstance(masks, Tensor), "masks are read with their images"
        return StreamedImages(pixels, normalize, device, workers, masks)
    assert not isinstance(masks, ReadLater), "masks are kept with their images"
    return DeviceImages(pixels, normalize, device, masks)


class StreamedImages(Images):
    """Images in files that give the same batches as a `DeviceImages` of their pixels.

    Which images a batch has and how they vary is drawn before they are read, so that it does not
    depend on the processes that read them; pixels are varied on the device.

    Args:
        images: The images.
        normalize: Statistics of the training images.
        device: Where batches go.
        workers: Processes that read; None for as many as are usual.
        masks: What is known of each pixel, where that is learned.
    """

    def __init__(
        self,
        images: ReadLater,
        normalize: Normalizer,
        device: torch.device,
        workers: int | None = None,
        masks: ReadLater | None = None,
    ) -> None:
        super().__init__(normalize, device)
        self.sources = [images] if masks is None else [images, masks]
        self.workers = usual_workers() if workers is None else workers

    def __len__(self) -> int:
        return len(self.sources[0])

    def load(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches, each with the pixels of its images, and their masks."""
        planned = list(batches)
        read = self._read([batch.numbers for batch in planned])
        for batch, (pixels, masks) in zip(planned, read, strict=True):
            yield batch._replace(pixels=pixels, masks=masks)

    def batches(self, size: int) -> Iterator[ImagePart]:
        """All images in order, normalised, with their places and masks."""
        places = [range(n, min(n + size, len(self))) for n in range(0, len(self), size)]
        for part, (pixels, masks) in zip(places, self._read(places), strict=True):
            images = self._ready(self.normalize(pixels))
            yield ImagePart(slice(part.start, part.stop), images, masks)

    def _read(
        self, places: Iterable[range | tuple[int, ...]]
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        for read in read_ahead(self.sources, places, self.workers, self.device):
            pixels, *masks = (values.to(self.device, non_blocking=True) for values in read)
            yield pixels, masks[0] if masks else None

    def _pixels(self, batch: Batch) -> Tensor:
        assert batch.pixels is not None, "only what was loaded can be used"
        return batch.pixels

    def _masks(self, batch: Batch) -> Tensor:
        assert batch.masks is not None, "only what was loaded can be used"
        return batch.masks
