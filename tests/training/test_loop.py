from __future__ import annotations

import math
import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from helpers import batch_of
from pydantic import ValidationError
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import nn

from rfsearch.data.augmentation import Variation
from rfsearch.data.datasets import ImageData
from rfsearch.training._optimizers import fused as fused_option
from rfsearch.training.classification import ClassificationTask
from rfsearch.training.config import TrainingConfig
from rfsearch.training.loop import TrainingResult
from rfsearch.training.scores import ScaleScores

if TYPE_CHECKING:
    from torch import Tensor

CPU = torch.device("cpu")


def easy_images(num_train: int = 128, num_valid: int = 64) -> ImageData:
    """Noise in which the left or the right half is brighter."""
    rng = np.random.default_rng(0)
    total = num_train + num_valid
    labels = rng.integers(0, 2, size=total)
    images = rng.integers(0, 120, size=(total, 1, 8, 8))
    for image, label in zip(images, labels, strict=True):
        image[:, :, 4 * label : 4 * label + 4] += 60
    pixels, classes = torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(labels)
    return ImageData(
        pixels[:num_train],
        classes[:num_train],
        pixels[num_train:],
        classes[num_train:],
        ("left", "right"),
    )


def numbered_images(num_images: int) -> ImageData:
    """Constant images, each as bright as its number."""
    numbers = torch.arange(num_images)
    images = numbers.to(torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2).contiguous()
    return ImageData(images, numbers % 2, images[:4], numbers[:4] % 2, ("even", "odd"))


def easy_task(device: torch.device = CPU, **values: Any) -> ClassificationTask:
    return ClassificationTask(easy_images(), config(**values), device)


def numbered_task(num_images: int, **values: Any) -> ClassificationTask:
    return ClassificationTask(numbered_images(num_images), config(**values), CPU)


def tiny_model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 64, 2),
    )


class Watcher(nn.Module):
    """A linear classifier that notes the batches it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.batches: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.batches.append(images[:, 0, 0, 0].detach().clone())
        scores: Tensor = self.linear(images.flatten(1))
        return scores

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.batches]


def config(**values: Any) -> TrainingConfig:
    return TrainingConfig(**{"epochs": 3, "batch_size": 32, **values})


# -- learning ---------------------------------------------------------------------------------


def test_an_easy_set_is_learned() -> None:
    result = easy_task().train(tiny_model())
    assert result.score > 0.95
    assert result.epochs == 3
    assert result.seconds > 0


@pytest.mark.gpu
def test_an_easy_set_is_learned_on_cuda() -> None:
    reported: list[float] = []
    model = tiny_model()
    task = easy_task(torch.device("cuda"))
    result = task.train(model, lambda _, accuracy: reported.append(accuracy))
    assert result.score > 0.95
    assert reported[-1] == result.score
    assert {parameter.device.type for parameter in model.parameters()} == {"cuda"}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "sgd", "learning_rate": 0.05},
        {"optimizer": "adamw", "scheduler": "none"},
        {"scheduler": "step", "warmup": 0.0},
    ],
)
def test_other_optimizers_and_schedulers_learn_too(options: dict[str, Any]) -> None:
    assert easy_task(**options).train(tiny_model()).score > 0.95


def test_the_same_seed_gives_the_same_result() -> None:
    curves = []
    models = []
    for seed in (0, 0, 1):
        curve: list[tuple[int, float]] = []
        model = tiny_model()
        task = easy_task(seed=seed, learning_rate=0.001)
        task.train(model, lambda *one, curve=curve: curve.append(one))
        curves.append(curve)
        models.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert curves[0] == curves[1]
    assert torch.equal(models[0], models[1])
    assert not torch.equal(models[0], models[2])


def test_what_is_random_in_a_network_depends_on_the_seed_alone() -> None:
    def curve(seed: int, global_seed: int) -> list[float]:
        model, scores = nn.Sequential(tiny_model(), nn.Dropout(0.5)), list[float]()
        torch.manual_seed(global_seed)
        slow = easy_task(seed=seed, learning_rate=0.0005)
        slow.train(model, lambda _, score: scores.append(score))
        return [*scores, *model[0][0].weight.flatten().tolist()]

    assert curve(0, 1) == curve(0, 2)
    assert curve(0, 1) != curve(1, 1)


def test_training_leaves_the_global_random_numbers_alone() -> None:
    model = tiny_model()
    torch.manual_seed(1), random.seed(2), np.random.seed(3)  # noqa: NPY002
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    easy_task(epochs=1, seed=2**32 - 1, mixup=0.5, color_jitter=0.5).train(model)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]  # noqa: NPY002


# -- speed ------------------------------------------------------------------------------------


def plain_training(model: nn.Module, data: ImageData, epochs: int, size: int) -> list[float]:
    """The same training written out, image by image where possible; the accuracies."""
    images = data.train_images.float()
    mean, std = images.mean(dim=(0, 2, 3)), images.std(dim=(0, 2, 3))
    optimizer = create_optimizer_v2(model, opt="adamw", lr=0.008, weight_decay=0.01)
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=100,
        updates_per_epoch=100,
        warmup_epochs=20,
        warmup_lr=0.008 / 100,
        step_on_epochs=False,
    )
    per_epoch, curve = len(images) // size, []
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(epoch + 1)
        order = torch.randperm(len(images), generator=generator).tolist()
        model.train()
        for step in range(per_epoch):
            scheduler.step_update(
                round((epoch * per_epoch + step) / (per_epoch * epochs) * 10_000)
            )
            chosen = order[step * size : (step + 1) * size]
            pixels = torch.stack([(data.train_images[i].float() - mean) / std for i in chosen])
            truth = torch.stack([data.train_labels[i] for i in chosen])
            loss = nn.functional.cross_entropy(model(pixels), truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            found = [model((one[None].float() - mean) / std).argmax() for one in data.valid_images]
        right = torch.stack(found) == data.valid_labels
        curve.append(float(right.float().mean()))
    return curve


def test_the_fast_loop_gives_what_a_plain_loop_gives() -> None:
    data, curve = easy_images(), []
    fast, plain = tiny_model(), tiny_model()
    plain.to(memory_format=torch.channels_last)  # Elsewhere sums would round otherwise.
    easy_task().train(fast, lambda _, accuracy: curve.append(accuracy))
    assert curve == plain_training(plain, data, epochs=3, size=32)
    for ours, theirs in zip(fast.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_a_step_asks_the_device_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # A meta tensor has no values, so that whatever needs one on the host is an error.
    monkeypatch.setattr("rfsearch.training.task.check_device", lambda device: None)
    meta = torch.device("meta")
    model = tiny_model().to(meta)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=0.1, weight_decay=0.01)
    task = easy_task(meta)
    variation = Variation.draw(8, 0.5, 2, torch.Generator()).to(meta)
    batch = batch_of(*range(8), variation=variation)
    loss = task.loss(model, task.examples(batch._replace(chosen=batch.chosen.to(meta))))
    loss.backward()
    optimizer.step()
    assert loss.is_meta
    with pytest.raises(RuntimeError, match="meta"):
        float(loss)


@pytest.mark.gpu
def test_a_step_does_not_wait_for_cuda() -> None:
    cuda = torch.device("cuda")
    model, task = tiny_model().to(cuda), easy_task(cuda)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=0.1, **fused_option("adamw", cuda))
    variation = Variation.draw(8, 0.5, 2, torch.Generator()).to(cuda)
    batch = batch_of(*range(8), variation=variation)
    batch = batch._replace(chosen=batch.chosen.to(cuda))
    for mode in ("default", "error"):  # What is set up in the first step may wait.
        torch.cuda.set_sync_debug_mode(mode)
        try:
            task.loss(model, task.examples(batch)).backward()
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    ("optimizer", "device", "fused"),
    [
        ("adamw", "cuda", True),
        ("sgd", "cuda", True),
        ("lion", "cuda", False),
        ("adamw", "cpu", False),
    ],
)
def test_optimizers_that_can_are_fused_on_cuda(optimizer: str, device: str, fused: bool) -> None:
    options = fused_option(optimizer, torch.device(device))
    assert options == ({"fused": True} if fused else {})
    create_optimizer_v2(tiny_model(), opt=optimizer, lr=0.1, **options)


# -- batches ----------------------------------------------------------------------------------


def test_a_last_batch_that_is_not_full_is_left_out() -> None:
    model = Watcher()
    numbered_task(70, epochs=2).train(model)
    assert model.sizes == [32, 32, 32, 32]


def test_fewer_images_than_a_batch_make_one_batch() -> None:
    model = Watcher()
    numbered_task(10, epochs=2).train(model)
    assert model.sizes == [10, 10]


def test_each_epoch_sees_each_image_once_in_another_order() -> None:
    model = Watcher()
    numbered_task(64, epochs=2).train(model)
    epochs = [torch.cat(model.batches[:2]), torch.cat(model.batches[2:])]
    assert [len(epoch.unique()) for epoch in epochs] == [64, 64]
    assert not torch.equal(epochs[0], epochs[1])


# -- budget -----------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_epochs_are_reported_once_each(epochs: int) -> None:
    seen: list[int] = []
    accuracies: list[float] = []

    def report(epoch: int, accuracy: float) -> None:
        seen.append(epoch)
        accuracies.append(accuracy)

    result = easy_task(epochs=epochs).train(tiny_model(), report=report)
    assert seen == list(range(1, epochs + 1))
    assert result.epochs == epochs
    assert result.score == accuracies[-1]


def test_a_budget_in_seconds_ends_training(monkeypatch: pytest.MonkeyPatch) -> None:
    # An update takes a second by the clock, and nothing else does.
    model = Watcher()
    clock = SimpleNamespace(perf_counter=lambda: float(len(model.batches)))
    monkeypatch.setattr("rfsearch.training._run.time", clock)
    seen: list[int] = []
    result = numbered_task(64, epochs=None, seconds=5).train(
        model, report=lambda epoch, _: seen.append(epoch)
    )
    assert model.sizes == [32] * 5
    assert seen == [1, 2, 3]
    assert result.epochs == 3
    assert result.seconds == 5


@pytest.mark.parametrize(
    ("limits", "updates"),
    [
        ({"epochs": 1000, "seconds": 1e-9}, 1),
        ({"epochs": 2, "seconds": 1e6}, 4),
        ({"epochs": None, "seconds": 1e-9}, 1),
        ({"epochs": 2, "steps": 3}, 3),
        ({"epochs": 2, "steps": 5}, 4),
        ({"epochs": None, "steps": 5}, 5),
        ({"epochs": None, "steps": 5, "seconds": 1e-9}, 1),
    ],
)
def test_training_ends_at_whichever_limit_comes_first(
    limits: dict[str, Any], updates: int
) -> None:
    model = Watcher()
    result = numbered_task(64, **limits).train(model)
    assert len(model.sizes) == updates
    assert 0 <= result.score <= 1


def history(model: nn.Module, **limits: Any) -> list[tuple[int, float]]:
    """The epochs with their scores, of a training that is slow enough to have a curve."""
    curve: list[tuple[int, float]] = []
    easy_task(learning_rate=0.0005, **limits).train(model, lambda *one: curve.append(one))
    return curve


def test_as_many_steps_as_epochs_have_give_the_same_curve() -> None:
    by_epochs, by_steps = tiny_model(), tiny_model()
    curve = history(by_epochs, epochs=3)  # 128 images in batches of 32.
    assert history(by_steps, epochs=None, steps=3 * 4) == curve
    assert len({score for _, score in curve}) > 1
    for ours, theirs in zip(by_epochs.parameters(), by_steps.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_last_epoch_that_is_incomplete_is_reported() -> None:
    assert [epoch for epoch, _ in history(tiny_model(), epochs=None, steps=9)] == [1, 2, 3]
    assert [epoch for epoch, _ in history(tiny_model(), epochs=None, steps=3)] == [1]


@pytest.mark.parametrize(
    ("given", "epochs"),
    [({}, 5), ({"steps": 9}, None), ({"seconds": 9}, None), ({"epochs": 2}, 2)],
)
def test_the_default_number_of_epochs_limits_no_other_budget(
    given: dict[str, int], epochs: int | None
) -> None:
    assert TrainingConfig(**given).epochs == epochs


def test_the_learning_rate_rises_then_falls() -> None:
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def watched(self: torch.optim.AdamW, *arguments: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", watched)
        numbered_task(64, epochs=10, learning_rate=0.01, warmup=0.25).train(Watcher())
    assert len(rates) == 20
    assert rates[0] == pytest.approx(0.0001)
    assert 0.008 < max(rates) <= 0.01
    top = rates.index(max(rates))
    assert top == 5
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 0.001


# -- what can go wrong ------------------------------------------------------------------------


def test_an_error_in_report_ends_training() -> None:
    seen: list[int] = []

    def report(epoch: int, _: float) -> None:
        seen.append(epoch)
        if epoch == 2:
            raise LookupError("enough")

    with pytest.raises(LookupError, match=r"^enough$"):
        easy_task(epochs=5).train(tiny_model(), report=report)
    assert seen == [1, 2]


@pytest.mark.parametrize("options", [{}, {"keep_best": True, "ema_decay": 0.9}])
def test_training_can_be_ended_after_any_batch(options: dict[str, Any]) -> None:
    """Of training, and of validation, by averaged weights, too."""
    task = easy_task(epochs=2, batch_size=8, **options)
    calls, last = 0, 10**6

    def after_batch() -> bool:
        nonlocal calls
        calls += 1
        if calls == last:
            raise KeyboardInterrupt
        return True

    network = tiny_model()
    result = task.train(network, after_batch=after_batch)  # type: ignore[arg-type]
    judged = len(result.history) + (bool(options) and result.best is not result.history[-1])
    assert calls == 2 * 128 // 8 + judged * 64 // 32
    total = calls
    plain = task.train(tiny_model())
    assert str(result._replace(seconds=0)) == str(plain._replace(seconds=0))
    task.evaluate(network)
    assert calls == total
    for last in (*range(1, total, 3), total):  # Of training, and of each validation.
        calls = 0
        with pytest.raises(KeyboardInterrupt):
            task.train(tiny_model(), after_batch=after_batch)  # type: ignore[arg-type]
        assert calls == last


@pytest.mark.parametrize(("value", "name"), [(math.nan, "nan"), (math.inf, "nan")])
def test_scores_that_are_not_finite_end_training(value: float, name: str) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, images: Tensor) -> Tensor:
            return self.weight * torch.full((len(images), 2), value)

    seen: list[int] = []
    with pytest.raises(FloatingPointError, match=f"training loss is {name} in epoch 1"):
        easy_task().train(Broken(), report=lambda epoch, _: seen.append(epoch))
    assert seen == []


def test_a_learning_rate_that_is_far_too_large_ends_training() -> None:
    wild = easy_task(optimizer="sgd", learning_rate=1e30, warmup=0.0)
    with pytest.raises(FloatingPointError, match="training loss is nan in epoch"):
        wild.train(tiny_model())


# -- configuration ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, "epoch\n.*Extra inputs"),
        ({"epochs": 0}, "epochs\n.*greater than or equal to 1"),
        ({"epochs": 2.5}, "epochs\n.*valid integer"),
        ({"steps": 0}, "steps\n.*greater than or equal to 1"),
        ({"seconds": 0}, "seconds\n.*greater than 0"),
        ({"batch_size": 1}, "batch_size\n.*greater than or equal to 2"),
        ({"learning_rate": -1.0}, "learning_rate\n.*greater than 0"),
        ({"weight_decay": -1.0}, "weight_decay\n.*greater than or equal to 0"),
        ({"horizontal_flip": 1.5}, "horizontal_flip\n.*less than or equal to 1"),
        ({"max_shift": -1}, "max_shift\n.*greater than or equal to 0"),
        ({"warmup": 1.0}, "warmup\n.*less than 1"),
        ({"ema_decay": 1.0}, "ema_decay\n.*less than 1"),
        ({"min_scale": 0.0}, "min_scale\n.*greater than 0"),
        ({"color_jitter": 2.0}, "color_jitter\n.*less than or equal to 1"),
        ({"auto_augment": "rand-m9"}, "auto_augment\n.*'none', 'trivial', 'rand' or 'imagenet'"),
        ({"mixup": -0.1}, "mixup\n.*greater than or equal to 0"),
        ({"cutmix": -0.1}, "cutmix\n.*greater than or equal to 0"),
        ({"label_smoothing": 1.1}, "label_smoothing\n.*less than or equal to 1"),
        ({"seed": -1}, "seed\n.*greater than or equal to 0"),
        ({"epochs": None}, "`epochs`, `steps` or `seconds` must be given"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainingConfig(**values)


def test_whole_numbers_are_fine_where_a_fraction_may_be() -> None:
    assert TrainingConfig(seconds=3, learning_rate=1).seconds == 3.0


def test_results_have_names() -> None:
    result = TrainingResult(0.5, 2, 1.5)
    assert (result.score, result.epochs, result.seconds) == (0.5, 2, 1.5)
    assert result.by_scale._fields == ScaleScores._fields == ("small", "medium", "large")
    assert all(math.isnan(score) for score in (*result.by_scale, result.ap50))
