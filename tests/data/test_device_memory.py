from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from helpers import batch_of
from test_objective import CONSTRAINT, DEEP, FITS, SPACE, WatchedTask, states, tiny_data
from test_training import config, easy_images, numbered_images
from torch import Tensor, nn

from rfsearch.data.augmentation import Batch, Variation
from rfsearch.data.datasets import IGNORED, SegmentationData
from rfsearch.data.device_memory import Gradients, device_memory, fewest_images
from rfsearch.search.baselines import enqueue_baselines, run_baseline
from rfsearch.search.objective import Objective
from rfsearch.training.classification import ClassificationLesson
from rfsearch.training.config import TrainingConfig
from rfsearch.training.segmentation import SegmentationLesson
from rfsearch.training.training import Lesson, train

CPU = torch.device("cpu")
MESSAGE = "CUDA out of memory. Tried to allocate 20.00 GiB.\nMore lines of advice."


@dataclass
class Limited:
    """A lesson on a device that has memory for so many images at a time."""

    lesson: Lesson
    limit: int
    sizes: list[int] = field(default_factory=list)

    @property
    def num_images(self) -> int:
        return self.lesson.num_images

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        self.sizes.append(batch.size)
        loss = self.lesson.loss(model, batch)  # What it allocates must not stay.
        if batch.size > self.limit:
            raise torch.OutOfMemoryError(MESSAGE)
        return loss

    def weight(self, batch: Batch) -> Tensor | int:
        return self.lesson.weight(batch)

    def load(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        return self.lesson.load(batches)

    def evaluate(self, model: nn.Module) -> Any:
        return self.lesson.evaluate(model)


def classifier(seed: int = 0) -> nn.Module:
    """Without batch statistics."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(),
        nn.Linear(256, 2),
    )  # fmt: skip


def segmenter() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))


def easy_lesson() -> ClassificationLesson:
    return ClassificationLesson(easy_images(), CPU)


def masked_lesson() -> SegmentationLesson:
    """Images of whose pixels the class is known of all, half or none."""
    images = easy_images(64, 8).train_images
    masks = (images[:, 0] // 70).clamp_max(2)
    masks[::3, :4] = IGNORED
    masks[::5] = IGNORED
    return SegmentationLesson(
        SegmentationData(images, masks, images, masks, ("a", "b", "c"), None, None), CPU
    )


def trained(model: nn.Module, lesson: Lesson, **changes: Any) -> dict[str, Tensor]:
    options = {"optimizer": "sgd", "learning_rate": 0.05, "epochs": 2} | changes
    train(model, lesson, config(**options), device=CPU)
    return model.state_dict()


@pytest.mark.parametrize("batch_size", [32, 7])
def test_halves_give_the_weights_that_whole_batches_give(batch_size: int) -> None:
    limited = Limited(easy_lesson(), (batch_size + 1) // 2)
    before = classifier().state_dict()
    whole = trained(classifier(), easy_lesson(), batch_size=batch_size)
    halves = trained(classifier(), limited, batch_size=batch_size)
    assert limited.sizes[:3] == [batch_size, (batch_size + 1) // 2, batch_size // 2]
    for name, expected in whole.items():
        torch.testing.assert_close(halves[name], expected, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(before[name], expected, rtol=1e-2, atol=1e-3)


def test_halves_count_by_the_pixels_that_are_known() -> None:
    whole = trained(segmenter(), masked_lesson())
    halves = trained(segmenter(), Limited(masked_lesson(), 16))
    for name, expected in whole.items():
        torch.testing.assert_close(halves[name], expected, rtol=1e-4, atol=1e-5)


def test_halves_without_a_known_pixel_change_nothing() -> None:
    lesson = masked_lesson()
    lesson.train.masks[:] = IGNORED
    before = segmenter().state_dict()
    after = trained(segmenter(), Limited(lesson, 16), weight_decay=0.0)
    for name, expected in before.items():
        assert torch.equal(after[name], expected)


def test_the_loss_of_the_halves_is_that_of_the_batch() -> None:
    chosen, model = batch_of(*range(9)), classifier()
    whole = Gradients(easy_lesson()).add(model, chosen)
    halved = Gradients(Limited(easy_lesson(), 5))
    model.zero_grad()
    torch.testing.assert_close(halved.add(model, chosen), whole)
    assert halved.halved
    assert not whole.requires_grad


def test_once_halved_later_batches_are_halved_at_once() -> None:
    limited = Limited(easy_lesson(), 16)
    result = train(classifier(), limited, config(epochs=1), device=CPU)
    assert limited.sizes == [32, *[16] * 8]
    assert result.halved
    assert not train(classifier(), easy_lesson(), config(epochs=1), device=CPU).halved


def test_batches_are_halved_once_only() -> None:
    limited = Limited(easy_lesson(), 8)
    expected = r"^A batch of 16 images does not fit into memory \(CUDA out of .* GiB\.\)\.$"
    with pytest.raises(torch.OutOfMemoryError, match=expected):
        train(classifier(), limited, config(), device=CPU)
    assert limited.sizes == [32, 16]


def small_batch(size: int) -> Limited:
    return Limited(ClassificationLesson(numbered_images(size), CPU), 2)


def normalised() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_no_half_is_a_single_image() -> None:
    limited = small_batch(3)
    with pytest.raises(torch.OutOfMemoryError, match=r"^A batch of 3 images does not fit"):
        train(normalised(), limited, config(epochs=1), device=CPU)
    assert limited.sizes == [3]
    limited = small_batch(4)
    train(normalised(), limited, config(epochs=1), device=CPU)
    assert limited.sizes == [4, 2, 2]


class _Fails(torch.autograd.Function):
    """Runs out of memory on the way back, when a part of the gradients is there already."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        if len(gradients[0]) > 16:
            raise torch.OutOfMemoryError(MESSAGE)
        return gradients[0]


class FailsBackward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = classifier(), nn.Linear(2, 2)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.second(_Fails.apply(self.first(images)))
        return scores


def test_gradients_of_a_batch_that_failed_half_way_do_not_count() -> None:
    chosen, model = batch_of(*range(32)), FailsBackward()
    halved = Gradients(easy_lesson())
    halved.add(model, chosen)
    assert halved.halved
    found = model.second.weight.grad
    model.zero_grad()
    Gradients(easy_lesson())._add_halves(model, chosen)
    assert found is not None
    torch.testing.assert_close(found, model.second.weight.grad)


def test_what_the_whole_batch_took_is_free_before_the_halves_begin() -> None:
    seen: list[tuple[int, int]] = []
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = classifier()

        def forward(self, images: Tensor) -> Tensor:
            seen.append((len(images), len(alive)))
            scores: Tensor = self.network(images)
            alive.add(scores)
            return scores

    Gradients(Limited(easy_lesson(), 16)).add(Watched(), batch_of(*range(32)))
    assert seen[:2] == [(32, 0), (16, 0)]


# -- the study goes on ------------------------------------------------------------------------


@dataclass(frozen=True)
class LimitedTask(WatchedTask):
    """A real task with memory for 8 images, for the first network only; it watches them all."""

    models: list[weakref.ref[nn.Module]] = field(default_factory=list)
    alive: list[int] = field(default_factory=list)
    halves: bool = False

    def build(self, candidate: Any) -> nn.Module:
        self.alive.append(sum(model() is not None for model in self.models))
        model = super().build(candidate)
        self.models.append(weakref.ref(model))
        return model

    def train(self, model: Any, report: Any = None, checkpoint: Any = None) -> Any:
        first = len(self.models) == 1
        limit = (16 if self.halves else 8) if first else 1000
        lesson = Limited(self._lesson, limit)
        return train(model, lesson, self.training, device=self.training_device, report=report)


def limited_task(device: str = "cpu", **options: Any) -> LimitedTask:
    training = TrainingConfig(epochs=1, batch_size=32)
    return LimitedTask(tiny_data(), training, device, num_erf_images=2, **options)


def two_trials(task: LimitedTask) -> list[optuna.trial.FrozenTrial]:
    study = optuna.create_study(direction="maximize")
    for params in (FITS, DEEP):
        study.enqueue_trial(params)
    study.optimize(Objective(SPACE, CONSTRAINT, task), n_trials=2)
    return study.trials


def test_too_little_memory_fails_a_trial_with_a_reason_and_the_study_goes_on() -> None:
    task = limited_task()
    failed, complete = two_trials(task)
    assert states([failed, complete]) == ["FAIL", "COMPLETE"]
    assert failed.user_attrs["rejected_by"] == "training"
    assert failed.user_attrs["reason"] == (
        "A batch of 16 images does not fit into memory (CUDA out of memory. Tried to allocate "
        "20.00 GiB.)."
    )
    assert failed.user_attrs["train_seconds"] > 0


def test_nothing_holds_a_network_that_has_failed() -> None:
    task = limited_task()
    gc.disable()  # The second trial must find the memory free, whenever the collector runs.
    try:
        two_trials(task)
    finally:
        gc.enable()
    assert task.alive == [0, 0]


def test_halved_batches_are_noted() -> None:
    halved, whole = two_trials(limited_task(halves=True))
    assert states([halved, whole]) == ["COMPLETE", "COMPLETE"]
    assert halved.user_attrs["batch_halved"] is True
    assert "batch_halved" not in whole.user_attrs


@pytest.mark.parametrize("place", ["measure_erf", "build"])
def test_too_little_memory_elsewhere_is_a_reason_too(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError(MESSAGE)

    with monkeypatch.context() as patch:
        patch.setattr(LimitedTask, place, fail)
        trial, _ = two_trials(limited_task())
    assert trial.user_attrs["rejected_by"] == "training"
    assert trial.user_attrs["reason"] == MESSAGE.splitlines()[0]


def test_a_baseline_that_does_not_fit_says_so() -> None:
    task = limited_task()
    study = optuna.create_study(direction="maximize")
    enqueue_baselines(study, ["test_resnet.r160_in1k"], seed=0)
    trial = study.ask()
    assert math.isnan(run_baseline(trial, task, lambda: None))
    assert trial.user_attrs["rejected_by"] == "baseline"
    assert trial.user_attrs["reason"].startswith("A batch of 16 images does not fit into memory")
    assert task.models[0]() is None


@pytest.mark.parametrize("batch_size", range(2, 12))
def test_the_fewest_images_are_those_that_training_falls_back_to(batch_size: int) -> None:
    for limit, trains in (
        (fewest_images(batch_size), True),
        (fewest_images(batch_size) - 1, False),
    ):
        gradients = Gradients(Limited(easy_lesson(), limit))
        with nullcontext() if trains else pytest.raises(torch.OutOfMemoryError):
            gradients.add(classifier(), batch_of(*range(batch_size)))


def test_the_memory_of_the_machine_is_that_of_linux() -> None:
    lines = Path("/proc/meminfo").read_text().splitlines()
    (total,) = (line.split()[1] for line in lines if line.startswith("MemTotal:"))
    assert device_memory(CPU) == pytest.approx(int(total) / 1024)


@pytest.mark.gpu
def test_the_memory_of_the_gpu_is_the_devices() -> None:
    total = torch.cuda.mem_get_info()[1]
    assert device_memory(torch.device("cuda")) == pytest.approx(total / 2**20, rel=0.02)


@pytest.mark.gpu
def test_the_memory_of_the_gpu_is_free_after_a_failure() -> None:
    used = []
    for _ in range(3):  # Libraries keep what they take at the first time.
        study = optuna.create_study(direction="maximize")
        study.enqueue_trial(FITS)
        study.optimize(Objective(SPACE, CONSTRAINT, limited_task("cuda")), n_trials=1)
        assert states(study.trials) == ["FAIL"]
        used.append((torch.cuda.memory_allocated(), torch.cuda.memory_reserved()))
    assert used[2] == used[1]


def test_halves_keep_their_variations() -> None:
    variation = Variation.draw(5, 0.5, 2, torch.Generator().manual_seed(0))
    first, second = batch_of(*range(5), variation=variation).halves()
    assert (first.numbers, second.numbers) == ((0, 1, 2), (3, 4))
    assert first.variation.mirrored is not None is not second.variation.shifts
    images = torch.rand(5, 1, 6, 6)
    varied = [half.variation.apply(images[half.chosen], 0.0) for half in (first, second)]
    assert torch.equal(torch.cat(varied), variation.apply(images, 0.0))
