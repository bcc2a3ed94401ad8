from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from rfsearch.data.datasets import ImageData
from rfsearch.training.classification import ClassificationTask
from rfsearch.training.config import TrainingConfig

CPU = torch.device("cpu")
BRIGHTNESS = [10, 20, 30, 200, 210, 220, 230, 240, 250, 5]
LABELS = [0, 0, 1, 1, 1, 1, 1, 1, 0, 1]


class Threshold(nn.Module):
    """Calls an image class 1 if its mean is above zero, in evaluation mode only."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert not self.training
        above = images.mean(dim=(1, 2, 3))
        return torch.stack([-above, above], dim=1)


def task(batch_size: int = 64, sizes: list[float] | None = None) -> ClassificationTask:
    images = torch.tensor(BRIGHTNESS, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2)
    labels = torch.tensor(LABELS)
    valid_sizes = None if sizes is None else np.array(sizes)
    data = ImageData(images, labels, images, labels, ("a", "b"), valid_sizes=valid_sizes)
    return ClassificationTask(data, TrainingConfig(batch_size=batch_size), CPU)


@pytest.mark.parametrize("batch_size", [2, 3, 64])
def test_accuracy_by_hand(batch_size: int) -> None:
    # The mean of the images is 141.5: the third, the ninth and the last are taken for the other.
    scores = task(batch_size).evaluate(Threshold().eval())
    assert scores.value == pytest.approx(0.7)
    assert all(math.isnan(score) for score in (*scores.by_scale, scores.ap50))


def test_accuracy_by_the_scale_of_the_object() -> None:
    sizes = [10, 31.9, 20, 32, 50, 95, 95, 96, 300, 96]
    found = task(sizes=sizes).evaluate(Threshold().eval()).by_scale
    assert found.small == pytest.approx(2 / 3)
    assert found.medium == pytest.approx(1)
    assert found.large == pytest.approx(1 / 3)


def test_nothing_to_evaluate_is_refused() -> None:
    images = torch.zeros((2, 1, 2, 2), dtype=torch.uint8)
    labels = torch.zeros(2, dtype=torch.int64)
    data = ImageData(images, labels, images[:0], labels[:0], ("a", "b"))
    with pytest.raises(ValueError, match="at least one image"):
        ClassificationTask(data, device=CPU).evaluate(Threshold().eval())
