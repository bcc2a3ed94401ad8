"""What lessons have in common: images for training and validation on a device."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch import Tensor

from rfsearch.data.device_images import DeviceImages, Images, Normalizer
from rfsearch.data.read_ahead import ReadLater
from rfsearch.data.streamed_images import StreamedImages

if TYPE_CHECKING:
    import torch

    from rfsearch.data.augmentation import Batch
    from rfsearch.data.datasets import Pixels, TaskData


class ImageLesson:
    """Images on a device, normalised by the statistics of those for training.

    Args:
        data: The images.
        device: Where they are moved to: as a whole, or where they are read later, in batches.
        batch_size: Images of a training batch.
        workers: Processes that read; None for as many as are usual.
        masks: What is known of each pixel of the images for training and for validation.
        normalize: Other statistics than those of the images for training.
    """

    def __init__(
        self,
        data: TaskData,
        device: torch.device,
        batch_size: int = 64,
        workers: int | None = None,
        masks: tuple[Pixels | None, Pixels | None] = (None, None),
        normalize: Normalizer | None = None,
    ) -> None:
        known = normalize or Normalizer.of(data.train_images)

        def images_of(pixels: Pixels, masks: Pixels | None) -> Images:
            if isinstance(pixels, ReadLater):
                assert not isinstance(masks, Tensor), "masks are read with their images"
                return StreamedImages(pixels, known, device, workers, masks)
            assert not isinstance(masks, ReadLater), "masks are kept with their images"
            return DeviceImages(pixels, known, device, masks)

        self.train = images_of(data.train_images, masks[0])
        self.valid = images_of(data.valid_images, masks[1])
        self.device = device
        self.num_classes = len(data.class_names)
        self.batch_size = batch_size

    @property
    def num_images(self) -> int:
        """How many images there are to train on."""
        return len(self.train)

    def load(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """Bring the images of training batches to the device, where they are not yet."""
        return self.train.load(batches)

    def weight(self, batch: Batch) -> Tensor | int:
        """How many things the loss of some training images is a mean over: images."""
        return batch.size
