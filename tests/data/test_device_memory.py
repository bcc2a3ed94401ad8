from __future__ import annotations

import gc
import math
import weakref
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from helpers import batch_of
from test_detection import boxes, data_of
from test_loop import config, easy_images, easy_task, numbered_task
from test_objective import CONSTRAINT, DEEP, FITS, SPACE, WatchedTask, states, tiny_data
from torch import Tensor, nn

from rfsearch.data.augmentation import Examples, Variation
from rfsearch.data.datasets import IGNORED, SegmentationData
from rfsearch.data.device_memory import Gradients, device_memory, fewest_images
from rfsearch.search.baselines import enqueue_baselines
from rfsearch.search.objective import Objective
from rfsearch.training.config import TrainingConfig
from rfsearch.training.detection import DetectionTask
from rfsearch.training.loop import train
from rfsearch.training.segmentation import SegmentationTask
from rfsearch.training.task import Task

pytestmark = pytest.mark.usefixtures("small_heap")
CPU = torch.device("cpu")
#: Options that vary and mix images.
VARIED = {
    "min_scale": 0.5, "color_jitter": 0.5, "auto_augment": "trivial", "mixup": 0.4, "cutmix": 0.4,
    "horizontal_flip": 0.5, "max_shift": 2,
}  # fmt: skip
MESSAGE = "CUDA out of memory. Tried to allocate 20.00 GiB.\nMore lines of advice."


class Limited:
    """A task on a device that has memory for so many images at a time."""

    def __init__(self, task: Task, limit: int) -> None:
        self.task, self.limit, self.sizes = task, limit, list[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def loss(self, model: nn.Module, examples: Examples) -> Tensor:
        self.sizes.append(examples.size)
        loss = self.task.loss(model, examples)  # What it allocates must not stay.
        if examples.size > self.limit:
            raise torch.OutOfMemoryError(MESSAGE)
        return loss


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


SLOW = {"optimizer": "sgd", "learning_rate": 0.05, "epochs": 2}


def some(task: Task, number: int, **options: Any) -> Examples:
    """Some of a task's images."""
    return task.examples(batch_of(*range(number), **options))


def masked_task(**values: Any) -> SegmentationTask:
    """Images of whose pixels the class is known of all, half or none."""
    images = easy_images(64, 8).train_images
    masks = (images[:, 0] // 70).clamp_max(2)
    masks[::3, :4] = IGNORED
    masks[::5] = IGNORED
    data = SegmentationData(images, masks, images, masks, ("a", "b", "c"), None, None)
    return SegmentationTask(data, config(**SLOW | values), CPU)


def boxed_task() -> DetectionTask:
    return DetectionTask(data_of(*[boxes((10.0, 20.0, 50.0, 80.0))] * 5), device=CPU)


def trained(model: nn.Module, task: Any) -> dict[str, Tensor]:
    train(model, task)
    return model.state_dict()


@pytest.mark.parametrize("batch_size", [32, 7])
def test_halves_give_the_weights_that_whole_batches_give(batch_size: int) -> None:
    task = easy_task(batch_size=batch_size, **SLOW)
    limited = Limited(task, (batch_size + 1) // 2)
    before = classifier().state_dict()
    whole = trained(classifier(), task)
    halves = trained(classifier(), limited)
    assert limited.sizes[:3] == [batch_size, (batch_size + 1) // 2, batch_size // 2]
    for name, expected in whole.items():
        torch.testing.assert_close(halves[name], expected, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(before[name], expected, rtol=1e-2, atol=1e-3)


def test_halves_count_by_the_pixels_that_are_known() -> None:
    whole = trained(segmenter(), masked_task())
    halves = trained(segmenter(), Limited(masked_task(), 16))
    for name, expected in whole.items():
        torch.testing.assert_close(halves[name], expected, rtol=1e-4, atol=1e-5)


def test_halves_without_a_known_pixel_change_nothing() -> None:
    task = masked_task(weight_decay=0.0)
    task.train_images.masks[:] = IGNORED
    before = segmenter().state_dict()
    after = trained(segmenter(), Limited(task, 16))
    for name, expected in before.items():
        assert torch.equal(after[name], expected)


@pytest.mark.parametrize("options", [{}, VARIED])
def test_loss_and_gradients_of_the_halves_are_those_of_the_batch(options: dict[str, Any]) -> None:
    task, models = easy_task(**options), (classifier(), classifier())
    chosen, halved = some(task, 9), Gradients(Limited(task, 5))
    losses = [Gradients(task).add(models[0], chosen), halved.add(models[1], chosen)]
    torch.testing.assert_close(*losses)
    assert halved.halved
    assert not losses[0].requires_grad
    for whole, of_halves in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(of_halves.grad, whole.grad)
        assert whole.grad.abs().max() > 0


def test_once_halved_later_batches_are_halved_at_once() -> None:
    limited = Limited(easy_task(epochs=1), 16)
    result = train(classifier(), limited)
    assert limited.sizes == [32, *[16] * 8]
    assert result.halved
    assert not train(classifier(), easy_task(epochs=1)).halved


def test_batches_are_halved_once_only() -> None:
    limited = Limited(easy_task(), 8)
    expected = r"^A batch of 16 images does not fit into memory \(CUDA out of .* GiB\.\)\.$"
    with pytest.raises(torch.OutOfMemoryError, match=expected):
        train(classifier(), limited)
    assert limited.sizes == [32, 16]


def small_batch(size: int) -> Limited:
    return Limited(numbered_task(size, epochs=1), 2)


def normalised() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_no_half_is_a_single_image() -> None:
    limited = small_batch(3)
    with pytest.raises(torch.OutOfMemoryError, match=r"^A batch of 3 images does not fit"):
        train(normalised(), limited)
    assert limited.sizes == [3]
    limited = small_batch(4)
    train(normalised(), limited)
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
    task, model = easy_task(), FailsBackward()
    chosen, halved = some(task, 32), Gradients(task)
    halved.add(model, chosen)
    assert halved.halved
    found = model.second.weight.grad
    model.zero_grad()
    Gradients(task)._add_halves(model, chosen)
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

    task = easy_task()
    Gradients(Limited(task, 16)).add(Watched(), some(task, 32))
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

    def train(self, model: Any, report: Any = None, *_: Any) -> Any:
        first = len(self.models) == 1
        limit = (16 if self.halves else 8) if first else 1000
        return train(model, Limited(self, limit), report=lambda one: report(one.number, one.score))


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
    enqueue_baselines(study, ["test_resnet.r160_in1k"])
    trial = study.ask()
    assert math.isnan(Objective(SPACE, CONSTRAINT, task)(trial))
    assert trial.user_attrs["rejected_by"] == "baseline"
    assert trial.user_attrs["reason"].startswith("A batch of 16 images does not fit into memory")
    assert task.models[0]() is None


@pytest.mark.parametrize("batch_size", range(2, 12))
def test_the_fewest_images_are_those_that_training_falls_back_to(batch_size: int) -> None:
    task = easy_task()
    for limit, trains in (
        (fewest_images(batch_size), True),
        (fewest_images(batch_size) - 1, False),
    ):
        gradients = Gradients(Limited(task, limit))
        with nullcontext() if trains else pytest.raises(torch.OutOfMemoryError):
            gradients.add(classifier(), some(task, batch_size))


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


@pytest.mark.parametrize("task", [easy_task(**VARIED), masked_task(), boxed_task()])
def test_halves_are_those_of_the_varied_and_mixed_images(task: Task) -> None:
    variation = Variation.draw(5, 0.5, 0, torch.Generator().manual_seed(0))
    whole = some(task, 5, variation=variation)
    first, second = whole.halves()
    assert (first.size, second.size) == (3, 2)
    assert torch.equal(torch.cat([first.images, second.images]), whole.images)
    assert str([*first.truth, *second.truth]) == str([*whole.truth])
