"""What lessons have in common: images for training and validation on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rfsearch.device_images import DeviceImages, Normalizer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from rfsearch.augmentation import Batch
    from rfsearch.datasets import TaskData


class ImageLesson:
    """Images on a device, normalised by the statistics of those for training.

    Args:
        data: The images.
        device: Where they are moved to as a whole.
        batch_size: Images of a training batch.
    """

    def __init__(self, data: TaskData, device: torch.device, batch_size: int = 64) -> None:
        normalize = Normalizer.of(data.train_images)
        self.train = DeviceImages(data.train_images, normalize, device)
        self.valid = DeviceImages(data.valid_images, normalize, device)
        self.device = device
        self.num_classes = len(data.class_names)
        self.batch_size = batch_size

    @property
    def num_images(self) -> int:
        """How many images there are to train on."""
        return len(self.train)

    def weight(self, batch: Batch) -> Tensor | int:
        """How many things the loss of some training images is a mean over: images."""
        return batch.size
