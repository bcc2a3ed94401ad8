"""What lessons have in common: images for training and validation on a device."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rfsearch.device_images import DeviceImages, Normalizer
from rfsearch.file_images import ImageFiles
from rfsearch.streamed_images import StreamedImages

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from rfsearch.augmentation import Batch
    from rfsearch.datasets import TaskData


class ImageLesson:
    """Images on a device, normalised by the statistics of those for training.

    Args:
        data: The images.
        device: Where they are moved to: as a whole, or where they are files, in batches.
        batch_size: Images of a training batch.
        workers: Processes that read files; None for as many as are usual.
    """

    def __init__(
        self,
        data: TaskData,
        device: torch.device,
        batch_size: int = 64,
        workers: int | None = None,
    ) -> None:
        normalize = Normalizer.of(data.train_images)
        self.train, self.valid = (
            StreamedImages(images, normalize, device, workers)
            if isinstance(images, ImageFiles)
            else DeviceImages(images, normalize, device)
            for images in (data.train_images, data.valid_images)
        )
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
