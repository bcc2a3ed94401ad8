"""Learning to classify images: cross entropy, and accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torchmetrics.functional.classification import multiclass_accuracy

from rfsearch.data.device_images import autocast
from rfsearch.training._image_lesson import ImageLesson
from rfsearch.training.scale_scores import ScaleScores, share_by_scale
from rfsearch.training.training import Scores

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rfsearch.data.augmentation import Batch
    from rfsearch.data.datasets import ImageData


class ClassificationLesson(ImageLesson):
    """Labelled images on a device; the model maps a batch of them to class scores.

    The score is the share of validation images that are classified right; by scale, among the
    images whose object is small, medium or large, where that is known.
    """

    def __init__(
        self,
        data: ImageData,
        device: torch.device,
        batch_size: int = 64,
        workers: int | None = None,
    ) -> None:
        super().__init__(data, device, batch_size, workers)
        self.train_labels = data.train_labels.to(device)
        self.valid_labels = data.valid_labels.to(device)
        self.valid_sizes = data.valid_sizes

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross entropy of some training images."""
        with autocast(self.device):
            scores = model(self.train.of(batch))
            return F.cross_entropy(scores.float(), self.train_labels[batch.chosen])

    def evaluate(self, model: nn.Module) -> Scores:
        """Accuracy on the validation images.

        Raises:
            ValueError: If there is no image.
        """
        if not len(self.valid):
            raise ValueError("There must be at least one image to evaluate, but there is none.")
        predicted = torch.empty_like(self.valid_labels)
        for part in self.valid.batches(4 * self.batch_size):
            with autocast(self.device):
                predicted[part.place] = model(part.images).argmax(dim=1)
        accuracy = multiclass_accuracy(
            predicted, self.valid_labels, self.num_classes, average="micro"
        )
        return Scores(float(accuracy), self._by_scale(predicted == self.valid_labels))

    def _by_scale(self, right: Tensor) -> ScaleScores:
        if self.valid_sizes is None:
            return ScaleScores()
        return share_by_scale(right.cpu().numpy(), self.valid_sizes)
