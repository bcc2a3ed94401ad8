from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers import architecture, batch_of, stage_dict
from pyramid import FakePyramid
from squares import boxed
from torch import nn

from rfsearch.data.datasets import Boxes, DetectionData
from rfsearch.data.tile_data import detection_data
from rfsearch.data.tiles import AreaTiling
from rfsearch.network.model import build_model
from rfsearch.retrofit.changes import retrofit
from rfsearch.target.target import ScaleTarget
from rfsearch.training.config import TrainingConfig
from rfsearch.training.detection import (
    ANCHOR_SIDE,
    FIRST_DISTANCE,
    HEAD_WIDTH,
    DetectionTask,
    detector,
)
from rfsearch.training.scores import Scores
from rfsearch.training.traced_network import TracedNetwork

CPU = torch.device("cpu")
Corners = tuple[float, float, float, float]


def boxes(
    *corners: Corners, labels: list[int] | None = None, ignored: tuple[int, ...] = ()
) -> Boxes:
    return Boxes(
        torch.tensor(corners, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels or [0] * len(corners), dtype=torch.int64),
        torch.tensor([n in ignored for n in range(len(corners))], dtype=torch.bool),
    )


def data_of(*truth: Boxes) -> DetectionData:
    images = torch.zeros((len(truth), 1, 200, 200), dtype=torch.uint8)
    return DetectionData(images, truth, images, truth, ("a", "b"))


def score(truth: list[Boxes], found: list[tuple[list[Corners], list[float], list[int]]]) -> Scores:
    """What detections of some images are worth, in batches of two."""

    class Fixed(nn.Module):
        seen = 0

        def forward(self, images: torch.Tensor) -> list[dict[str, torch.Tensor]]:
            assert not self.training
            part = found[self.seen : self.seen + len(images)]
            self.seen += len(images)
            return [
                {
                    "boxes": torch.tensor(corners).reshape(-1, 4),
                    "scores": torch.tensor(scores),
                    "labels": torch.tensor(labels, dtype=torch.int64),
                }
                for corners, scores, labels in part
            ]

    task = DetectionTask(data_of(*truth), TrainingConfig(batch_size=2), CPU)
    return task.evaluate(Fixed().eval())


def small_detector(stride: int = 2) -> nn.Module:
    arch = architecture(stage_dict(width=16, stride=stride, kernels=(3, 3)), stride=2, width=16)
    return detector(build_model(arch, 1, 0), num_classes=2)


# -- metric -----------------------------------------------------------------------------------

SMALL, MEDIUM, LARGE = (0, 0, 10, 10), (20, 20, 60, 60), (80, 80, 180, 180)


def test_everything_found_is_worth_one_at_every_scale() -> None:
    scores = score(
        [boxes(SMALL, MEDIUM, LARGE)], [([SMALL, MEDIUM, LARGE], [0.9, 0.8, 0.7], [0] * 3)]
    )
    assert (scores.value, scores.ap50, *scores.by_scale) == pytest.approx((1, 1, 1, 1, 1))


def test_average_precision_by_hand() -> None:
    # In order of their scores: right, wrong, right, of four objects in three images. Up to a
    # recall of 1/4 the precision is 1, up to 1/2 it is 2/3, beyond it is 0: COCO looks at the
    # recalls 0, 0.01, ..., 1.
    truth = [boxes(SMALL), boxes(SMALL, (30, 0, 40, 10)), boxes(SMALL)]
    wrong = (100, 100, 110, 110)
    found = [([SMALL], [0.9], [0]), ([wrong, SMALL], [0.8, 0.7], [0, 0]), ([], [], [])]
    expected = (26 * 1 + 25 * 2 / 3) / 101
    scores = score(truth, found)
    assert scores.value == pytest.approx(expected)
    assert scores.ap50 == pytest.approx(expected)
    assert scores.by_scale.small == pytest.approx(expected)
    assert math.isnan(scores.by_scale.medium)
    assert math.isnan(scores.by_scale.large)


def test_an_overlap_of_two_thirds_counts_at_four_of_ten_thresholds() -> None:
    # 8 of 12 px wide: right at overlaps of 50, 55, 60 and 65 %.
    scores = score([boxes((0, 0, 10, 10))], [([(2, 0, 12, 10)], [0.9], [0])])
    assert scores.value == pytest.approx(0.4)
    assert scores.ap50 == pytest.approx(1)


def test_a_box_of_another_class_is_wrong() -> None:
    scores = score([boxes(SMALL, labels=[1])], [([SMALL], [0.9], [0])])
    assert scores.value == pytest.approx(0)


def test_detections_of_ignored_objects_do_not_count() -> None:
    truth = [boxes(SMALL, MEDIUM, ignored=(1,))]
    scores = score(truth, [([MEDIUM, SMALL], [0.9, 0.8], [0, 0])])
    assert scores.value == pytest.approx(1)
    assert math.isnan(scores.by_scale.medium)


# -- network ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(48, 48), (47, 53)])
def test_anchors_stand_at_the_centres_of_the_receptive_fields(size: tuple[int, int]) -> None:
    arch = architecture(
        stage_dict(width=8, stride=2),
        stage_dict(width=8, stride=2, downsample="max_pool"),
        stride=2,
    )
    model = detector(build_model(arch, 1, 0), 2)
    images = torch.zeros(2, 1, *size)
    maps = list(model.backbone(images).values())
    ready, _ = model.transform(images)
    anchors = model.anchor_generator(ready, maps)
    rows, columns = maps[0].shape[-2:]
    field = arch.receptive_field()
    assert len(anchors) == 2
    for corners in anchors:
        assert corners.shape == (rows * columns, 4)
        centers = (corners[:, :2] + corners[:, 2:]) / 2
        for row, column in ((0, 0), (rows - 1, 1), (2, columns - 1)):
            x, y = centers[row * columns + column].tolist()
            # Pixel 0 covers 0 to 1.
            assert (x, y) == (field.center_of(column) + 0.5, field.center_of(row) + 0.5)
        assert (corners[:, 2:] - corners[:, :2] == ANCHOR_SIDE * 8).all()


def test_anchors_of_an_enlarged_image_stand_at_fractions_of_a_pixel() -> None:
    layers = nn.Sequential(nn.Conv2d(1, 8, 3, stride=4, padding=1))
    enlarged = retrofit(layers, {"0": {"scale": 3.0}}, 32)
    network = TracedNetwork(enlarged, in_chans=1, num_classes=0, input_size=(32, 32))
    model = detector(network, 2)
    images = torch.zeros(1, 1, 32, 32)
    maps = list(model.backbone(images).values())
    (corners,) = model.anchor_generator(model.transform(images)[0], maps)
    centers = (corners[:24, 0] + corners[:24, 2]) / 2
    # Every fourth of three units in a pixel, from the middle of the first.
    torch.testing.assert_close(centers, torch.arange(24) * 4 / 3 + 1 / 6)


def test_every_level_of_a_pyramid_has_its_anchors_and_its_gradients() -> None:
    pyramid = FakePyramid()
    model = detector(pyramid, 2)
    images = torch.rand(1, 1, 32, 32)
    target = {
        "boxes": torch.tensor([[2.0, 2, 9, 9], [4, 4, 30, 30]]),
        "labels": torch.tensor([0, 1]),
    }
    sum(model.train()(images, [target]).values()).backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0
    anchors = model.anchor_generator(
        model.transform(images)[0], list(model.backbone(images).values())
    )
    sides = anchors[0][:, 2] - anchors[0][:, 0]
    assert sides.tolist() == [ANCHOR_SIDE * 2] * 16**2 + [ANCHOR_SIDE * 4] * 8**2


def test_levels_learn_the_objects_of_their_part_of_the_target() -> None:
    model = detector(FakePyramid(), 2)
    matched: list[torch.Tensor] = []

    def capture(targets: Any, outputs: Any, anchors: Any, indices: list[torch.Tensor]) -> Any:
        matched.extend(indices)
        return {}

    model.head.compute_loss = capture
    strides = {"P1": 2, "P2": 4}
    parts = ScaleTarget(10, 28).split(strides)
    sides = [10.0, 12.0, 14.0, 20.0, 24.0, 28.0]
    for side in sides:
        corners = torch.tensor([[16 - side / 2, 16 - side / 2, 16 + side / 2, 16 + side / 2]])
        target = {"boxes": corners, "labels": torch.tensor([0])}
        model.train()(torch.rand(1, 1, 32, 32), [target])
        fine, coarse = (indices >= 0 for indices in matched.pop().split([16**2, 8**2]))
        assert bool(fine.any()) == (side <= parts["P1"].max_size)
        assert bool(coarse.any()) == (side >= parts["P2"].min_size)


def test_gradients_reach_all_of_the_network() -> None:
    model = small_detector()
    data = detection_data([boxed()], ("dim", "bright"), AreaTiling(image_size=32), "x")
    task = DetectionTask(data, device=CPU)
    task.loss(model.train(), task.examples(batch_of(0, 1, 2, 3))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_boxes_begin_with_a_size() -> None:
    # From none, where the rectifier behind them begins, some networks never learn a box.
    torch.manual_seed(0)
    model = small_detector()
    maps = list(model.backbone(torch.rand(2, 1, 32, 32)).values())
    distances = model.head.regression_head(maps)[0].detach()
    assert distances.min() > 0
    assert float(distances.mean()) == pytest.approx(FIRST_DISTANCE, rel=0.2)


def test_the_head_is_the_same_for_all_networks() -> None:
    heads = [small_detector(stride).head for stride in (1, 2)]
    shapes = [[tuple(p.shape) for p in head.parameters()] for head in heads]
    assert shapes[0] == shapes[1]
    assert shapes[0][0] == (HEAD_WIDTH, HEAD_WIDTH, 3, 3)


def test_images_without_objects_can_be_learned_from() -> None:
    data = data_of(boxes(), boxes(SMALL, ignored=(0,)))
    task = DetectionTask(data, device=CPU)
    loss = task.loss(small_detector().train(), task.examples(batch_of(0, 1))).item()
    assert math.isfinite(loss)
    assert loss > 0


def test_training_leaves_the_global_random_numbers_alone() -> None:
    data = detection_data([boxed()], ("dim", "bright"), AreaTiling(image_size=32), "x")
    model = small_detector()
    before = torch.get_rng_state()
    DetectionTask(data, TrainingConfig(epochs=1, batch_size=8), CPU).train(model)
    assert torch.equal(torch.get_rng_state(), before)


# -- training ---------------------------------------------------------------------------------


def test_a_few_images_are_learned_by_heart() -> None:
    data = detection_data([boxed(number=14)], ("dim", "bright"), AreaTiling(image_size=32), "x")
    chosen = [n for n, found in enumerate(data.train_boxes) if not found.ignored.any()][:4]
    assert len(chosen) == 4
    images, truth = data.train_images[chosen], tuple(data.train_boxes[n] for n in chosen)
    same = DetectionData(images, truth, images, truth, data.class_names)
    task = DetectionTask(same, TrainingConfig(epochs=60, batch_size=4), CPU)
    torch.manual_seed(0)
    model = small_detector()
    assert task.evaluate(model.eval()).ap50 < 0.2
    result = task.train(model)
    assert result.ap50 > 0.9
    assert result.score > 0.5
    assert np.isnan(result.by_scale.medium)
