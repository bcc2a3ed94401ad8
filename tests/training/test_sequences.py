"""Classifying what has one or three axes."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
import torch
from torch import Tensor

from rfsearch.data.augmentation import Variation
from rfsearch.data.datasets import ImageData
from rfsearch.data.device_images import Normalizer
from rfsearch.search.objective import Objective
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.space import SearchSpace
from rfsearch.training.classification import ClassificationTask
from rfsearch.training.config import TrainingConfig

CLASSES = ("nothing", "event")


def events(axes: int, number: int = 96) -> tuple[Tensor, Tensor]:
    """Noise, some of it with a bump of 6 samples along each axis at a random place."""
    generator = torch.Generator().manual_seed(axes)
    sides = {1: (64,), 3: (12, 12, 12)}[axes]
    inputs = torch.randn((number, 2, *sides), generator=generator)
    labels = torch.arange(number) % 2
    for one in inputs[1::2]:
        at = [int(torch.randint(side - 6, (1,), generator=generator)) for side in sides]
        one[(slice(None), *(slice(start, start + 6) for start in at))] += 4
    return inputs, labels


def data(axes: int) -> ImageData:
    inputs, labels = events(axes)
    return ImageData(inputs[:64], labels[:64], inputs[64:], labels[64:], CLASSES)


def space(axes: int) -> SearchSpace:
    stage = {"block": "basic", "depth": 1, "width": 8, "kernel_size": 3, "dilation": [1, 2, 4]}
    return SearchSpace(axes=axes, stem={"kernel_size": 3, "stride": 1, "width": 8}, stages=[stage])


@pytest.mark.parametrize("axes", [1, 3])
def test_a_search_trains_such_networks(axes: int) -> None:
    constraint = RFConstraint(theoretical=(5, None), effective=(5, 20), max_gridding=0.1)
    training = TrainingConfig(epochs=8, batch_size=16, max_shift=2, horizontal_flip=0.5)
    task = ClassificationTask(data(axes), training)
    objective = Objective(space(axes), constraint, task)
    study = optuna.create_study(direction="maximize")
    study.enqueue_trial({"stage1_dilation": 1})
    study.enqueue_trial({"stage1_dilation": 4})  # It leaves gaps.
    study.optimize(objective, n_trials=2)
    trained, rejected = study.trials
    assert trained.value is not None
    assert trained.value >= 0.85
    assert trained.user_attrs["erf_clipped"] == 0
    # One block of two windows: the measured field is what it is at initialisation.
    assert abs(trained.user_attrs["erf_init"] - trained.user_attrs["erf_expected"]) <= 2
    assert rejected.user_attrs["rejected_by"] == "gridding"


def test_shifts_move_along_each_axis() -> None:
    volume = torch.zeros(1, 1, 5, 5, 5)
    volume[0, 0, 2, 2, 2] = 1
    moved = Variation(None, torch.tensor([[1, -1, 2]])).apply(volume, 0)
    assert moved.nonzero().tolist() == [[0, 0, 3, 1, 4]]


def test_real_numbers_are_normalised_by_channel() -> None:
    inputs = torch.randn(50, 2, 40) * torch.tensor([3.0, 0.01])[:, None] + 7
    inputs = torch.cat([inputs, torch.full((50, 1, 40), 5.0)], dim=1)
    normalised = Normalizer.of(inputs)(inputs)
    assert torch.allclose(normalised.mean(dim=(0, 2)), torch.zeros(3), atol=1e-4)
    assert torch.allclose(normalised.std(dim=(0, 2)), torch.tensor([1.0, 1.0, 0.0]), atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": torch.zeros(64, 64)}, r"`train_images` must be \(images, channels"),
        ({"valid_images": torch.zeros(32, 2, 63)}, r"sides of `train_images`, \(2, 64\), but got"),
        (
            {"train_images": torch.zeros(64, 2, 64).double()},
            "uint8 or float32, but got",
        ),
        ({"train_images": torch.full((64, 2, 64), torch.nan)}, "`train_images` must be finite"),
        (
            {"valid_labels": torch.zeros(31).long()},
            "`valid_labels` must be one int64 for each",
        ),
        ({"train_labels": torch.full((64,), 2)}, "must be from 0 to 1, one for each of `class_na"),
    ],
)
def test_data_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    inputs, labels = events(1)
    parts = {
        "train_images": inputs[:64],
        "train_labels": labels[:64],
        "valid_images": inputs[64:],
        "valid_labels": labels[64:],
    }
    with pytest.raises(ValueError, match=message):
        ImageData(**(parts | changes), class_names=CLASSES)


@pytest.mark.parametrize(
    "option",
    [{"min_scale": 0.5}, {"color_jitter": 0.1}, {"auto_augment": "rand"}, {"cutmix": 1.0}],
)
def test_what_only_images_have_is_refused(option: dict[str, Any]) -> None:
    (name,) = option
    with pytest.raises(ValueError, match=f"`{name}` is for images of uint8, .* and are float32"):
        ClassificationTask(data(1), TrainingConfig(epochs=1, **option))


def test_a_space_of_images_is_refused() -> None:
    task = ClassificationTask(data(1), TrainingConfig(epochs=1))
    anything = RFConstraint(theoretical=None, effective=None)
    with pytest.raises(ValueError, match=r"`axes` of the space must be .* inputs, 1, but is 2"):
        Objective(space(2), anything, task)
