from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers import architecture, batch_of, stage_dict
from pyramid import FakePyramid
from squares import masked
from torch import nn

from rfsearch.data.datasets import IGNORED, Instances, SegmentationData
from rfsearch.data.tile_data import segmentation_data
from rfsearch.data.tiles import AreaTiling
from rfsearch.network.model import build_model
from rfsearch.training.config import TrainingConfig
from rfsearch.training.segmentation import SegmentationNetwork, SegmentationTask

CPU = torch.device("cpu")
NAMES = ("background", "dim", "bright")


class Fixed(nn.Module):
    """Predicts the same classes for all images, whatever they show."""

    def __init__(self, classes: list[list[int]]) -> None:
        super().__init__()
        self.scores = nn.functional.one_hot(torch.tensor(classes), 3).permute(2, 0, 1).float()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert not self.training
        return self.scores.expand(len(images), -1, -1, -1)


def data_of(
    masks: list[list[list[int]]], numbers: list[list[list[int]]] | None = None, *sizes: float
) -> SegmentationData:
    truth = torch.tensor(masks, dtype=torch.uint8)
    images = truth[:, None] * 20
    instances = None if numbers is None else Instances(torch.tensor(numbers), np.array(sizes))
    return SegmentationData(images, truth, images, truth, NAMES, None, instances)


# -- metric -----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [2, 64])
def test_mean_intersection_over_union_by_hand(batch_size: int) -> None:
    # Over the pixels of both images, the ignored one left out.
    data = data_of([[[0, 0, 1], [1, 2, 2]], [[0, 1, 1], [1, 2, IGNORED]]])
    scores = SegmentationTask(data, TrainingConfig(batch_size=batch_size), CPU).evaluate(
        Fixed([[0, 0, 1], [1, 1, 2]]).eval()
    )
    # Class 0: 3 right of 3 true, 4 predicted. Class 1: 4 of 5, 6 predicted. Class 2: 1 of 3, 1.
    by_class = [3 / 4, 4 / (5 + 6 - 4), 1 / (3 + 1 - 1)]
    assert scores.value == pytest.approx(np.mean(by_class))
    assert all(math.isnan(score) for score in (*scores.by_scale, scores.ap50))


def test_a_class_that_is_nowhere_does_not_count() -> None:
    data = data_of([[[0, 0, 1], [1, 1, 1]]])
    scores = SegmentationTask(data, device=CPU).evaluate(Fixed([[0, 0, 0], [1, 1, 1]]).eval())
    assert scores.value == pytest.approx((2 / 3 + 3 / 4) / 2)


def test_objects_most_of_whose_pixels_are_right_are_found() -> None:
    # Predicted right: both pixels of object 1, half of object 2 and of object 3, all of object 4.
    masks = [[[1, 1, 1], [2, 2, 2]], [[1, 0, 0], [2, 2, 2]]]
    numbers = [[[1, 1, 2], [2, 0, 0]], [[3, 0, 0], [3, 4, 4]]]
    data = data_of(masks, numbers, 10.0, 31.0, 40.0, 200.0)
    found = (
        SegmentationTask(data, device=CPU).evaluate(Fixed([[1, 1, 1], [0, 2, 2]]).eval()).by_scale
    )
    assert (found.small, found.medium, found.large) == (0.5, 0.0, 1.0)


# -- loss -------------------------------------------------------------------------------------


def test_the_loss_is_the_mean_cross_entropy_of_the_known_pixels() -> None:
    data = data_of([[[0, IGNORED], [2, 1]], [[0, 0], [1, IGNORED]]])
    torch.manual_seed(0)
    scores = torch.randn(2, 3, 2, 2)

    class Given(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return scores

    task = SegmentationTask(data, device=CPU)
    loss = task.loss(Given(), task.examples(batch_of(0, 1)))
    logs = scores.log_softmax(dim=1)
    known = [(0, 0, 0, 0), (0, 2, 1, 0), (0, 1, 1, 1), (1, 0, 0, 0), (1, 0, 0, 1), (1, 1, 1, 0)]
    assert loss.item() == pytest.approx(-np.mean([float(logs[place]) for place in known]))


def test_images_without_a_known_pixel_have_no_loss() -> None:
    data = data_of([[[IGNORED, IGNORED]]])
    network = SegmentationNetwork(build_model(architecture(), 1, 0), 3)
    task = SegmentationTask(data, device=CPU)
    assert task.loss(network, task.examples(batch_of(0))).item() == 0


# -- network and training ---------------------------------------------------------------------


@pytest.mark.parametrize("size", [(16, 16), (17, 23)])
def test_scores_have_the_size_of_the_image(size: tuple[int, int]) -> None:
    network = SegmentationNetwork(build_model(architecture(stride=2), 1, 0), 3)
    assert network(torch.zeros(2, 1, *size)).shape == (2, 3, *size)


def test_of_a_pyramid_the_finest_map_is_read() -> None:
    pyramid = FakePyramid()
    network = SegmentationNetwork(pyramid, 3)
    scores = network(torch.rand(1, 1, 32, 32))
    scores.sum().backward()
    assert pyramid.fine.weight.grad is not None
    assert pyramid.coarse.weight.grad is None


def test_a_few_images_are_learned_by_heart() -> None:
    data = segmentation_data([masked()], NAMES, AreaTiling(image_size=32), "x")
    same = SegmentationData(
        *(data.train_images[:4], data.train_masks[:4]) * 2, class_names=data.class_names
    )
    torch.manual_seed(0)
    arch = architecture(stage_dict(width=16, kernels=(3, 3)), width=16)
    network = SegmentationNetwork(build_model(arch, 1, 0), 3)
    task = SegmentationTask(same, TrainingConfig(epochs=60, batch_size=4), CPU)
    network.eval()
    assert task.evaluate(network).value < 0.5
    assert task.train(network).score > 0.95
