"""What a training may have beside a budget: averaged weights, the best ones, regularisation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers import batch_of
from test_detection import boxes, data_of
from test_loop import CPU, Watcher, easy_images, easy_task, numbered_task, tiny_model
from test_segmentation import data_of as masked_data_of
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from rfsearch.training.classification import ClassificationTask
from rfsearch.training.config import TrainingConfig, to_convergence
from rfsearch.training.detection import DetectionTask
from rfsearch.training.loop import TrainingResult, train
from rfsearch.training.segmentation import SegmentationTask


def weights(model: nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten().double() for value in model.state_dict().values()])


# -- averaged weights -------------------------------------------------------------------------


def test_weights_are_averaged_by_timms_rule() -> None:
    """The decay grows with the updates: 1 - updates ** (-2 / 3), at most the one asked for."""
    model, seen = tiny_model(), list[Tensor]()
    hook = register_optimizer_step_post_hook(lambda *_: seen.append(model[4].weight.clone()))
    try:
        easy_task(ema_decay=0.6).train(model)
    finally:
        hook.remove()
    expected = torch.zeros_like(seen[0])
    for number, after in enumerate(seen, start=1):
        decay = min(0.6, 1 - number ** (-2 / 3))
        expected = decay * expected + (1 - decay) * after
    assert len(seen) == 12
    torch.testing.assert_close(model[4].weight, expected)


def test_averaged_weights_are_what_is_judged_and_left() -> None:
    task, model, judged = easy_task(ema_decay=0.9), tiny_model(), list[Tensor]()

    class Watched(ClassificationTask):
        def evaluate(self, model: nn.Module) -> Any:
            judged.append(weights(model))
            return super().evaluate(model)

    watched = Watched(task.data, task.training, CPU)
    result = train(model, watched)
    assert len(judged) == 3  # Once an epoch.
    assert torch.equal(judged[-1], weights(model))
    assert task.evaluate(model.eval()).value == result.score
    plain = tiny_model()
    easy_task().train(plain)
    assert not torch.equal(weights(plain), weights(model))


# -- the best weights -------------------------------------------------------------------------


class Scripted(ClassificationTask):
    """Gives scores by a script, whatever the network is worth."""

    def evaluate(self, model: nn.Module) -> Any:
        self.seen.append(weights(model))
        return super().evaluate(model)._replace(value=next(self.script))


def scripted(*script: float, **values: Any) -> tuple[TrainingResult, nn.Module, list[Tensor]]:
    plain = easy_task(epochs=3, **values)
    task, model = Scripted(plain.data, plain.training, CPU), tiny_model()
    vars(task).update(script=iter([*script, script[-1]]), seen=[])
    return train(model, task), model, vars(task)["seen"]


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ((0.1, 0.2, 0.3, 0.4), 3),
        ((0.1, 0.5, 0.3, 0.5), 1),  # The first of equals.
        ((0.9, 0.2, 0.3, 0.4), 0),  # Training makes it worse.
    ],
)
def test_the_best_weights_are_left_those_before_training_included(
    scores: tuple[float, ...], best: int
) -> None:
    result, model, seen = scripted(*scores, keep_best=True)
    assert [one.score for one in result.history] == list(scores)
    assert [one.number for one in result.history] == [0, 1, 2, 3]
    assert math.isnan(result.history[0].loss)
    assert result.best == result.history[best]
    assert torch.equal(weights(model), seen[best])
    if best == 0:
        assert torch.equal(weights(model), weights(tiny_model()))


def test_without_that_the_last_weights_are_left() -> None:
    result, model, seen = scripted(0.5, 0.3, 0.4)
    assert [one.number for one in result.history] == [1, 2, 3]
    assert result.score == 0.4
    assert torch.equal(weights(model), seen[-1])


def test_the_history_has_the_mean_loss_of_each_epoch() -> None:
    task, losses = numbered_task(70, epochs=2), list[float]()

    class Noted(ClassificationTask):
        def loss(self, model: nn.Module, examples: Any) -> Tensor:
            loss = super().loss(model, examples)
            losses.append(loss.item())
            return loss

    result = train(Watcher(), Noted(task.data, task.training, CPU))
    for one, part in zip(result.history, (losses[:2], losses[2:]), strict=True):
        assert one.loss == pytest.approx(sum(part) / 2)


# -- labels -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"mixup": 1.0}, {"cutmix": 1.0}, {"mixup": 1, "cutmix": 1}])
def test_images_are_mixed_with_their_labels(options: dict[str, float]) -> None:
    """Images that are as bright as their class: the mean of a mixed one tells its label."""
    data = numbered_task(8).data
    data.train_images[:] = data.train_labels[:, None, None, None]
    task = ClassificationTask(data, TrainingConfig(**options), CPU)
    torch.manual_seed(0)
    images, labels = task.examples(batch_of(*range(8)))
    assert torch.allclose(labels.sum(1), torch.ones(8))
    brightness = (images * task.normalize.std + task.normalize.mean).mean(dim=(1, 2, 3))
    assert torch.allclose(brightness, labels[:, 1], atol=1e-5)
    assert ((labels > 0) & (labels < 1)).any() or "cutmix" in options


def test_label_smoothing_by_hand() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.5, 0.0]])

    class Fixed(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return logits

    task = ClassificationTask(easy_images(), TrainingConfig(label_smoothing=0.2), CPU)
    examples = task.examples(batch_of(0, 1))
    truth = 0.8 * nn.functional.one_hot(examples.truth, 2) + 0.1
    expected = -(truth * logits.log_softmax(1)).sum(1).mean()
    assert torch.allclose(task.loss(Fixed(), examples), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"mixup": 0.2, "label_smoothing": 0.1},
        {"cutmix": 0.5},
        {"min_scale": 0.8, "color_jitter": 0.2},
        {"auto_augment": "rand"},
        {"ema_decay": 0.5, "keep_best": True},
    ],
)
def test_an_easy_set_is_learned_with_them(options: dict[str, Any]) -> None:
    assert easy_task(epochs=8, **options).train(tiny_model()).score > 0.9


# -- tasks that do not have them ---------------------------------------------------------------


@pytest.mark.parametrize("task", ["segmentation", "detection"])
@pytest.mark.parametrize(
    ("option", "value", "off"),
    [
        ("mixup", 0.3, "0.0"),
        ("cutmix", 1.0, "0.0"),
        ("label_smoothing", 0.1, "0.0"),
        ("min_scale", 0.8, "1.0"),
        ("color_jitter", 0.2, "0.0"),
        ("auto_augment", "rand", "'none'"),
    ],
)
def test_options_of_classifiers_are_refused_for_others(
    task: str, option: str, value: Any, off: str
) -> None:
    kind, data = {
        "segmentation": (SegmentationTask, masked_data_of([[[0, 1], [2, 0]]])),
        "detection": (DetectionTask, data_of(boxes())),
    }[task]
    with pytest.raises(ValueError, match="for classifiers only") as error:
        kind(data, TrainingConfig(**{option: value}), CPU)
    assert str(error.value) == (
        f"training: `{option}` must be {off} for {task}, since it is for classifiers only, but "
        f"got {value!r}."
    )
    kind(data, TrainingConfig(ema_decay=0.9, keep_best=True, horizontal_flip=0.5), CPU)


def test_values_for_convergence_give_way_to_those_that_are_given() -> None:
    config = TrainingConfig(**to_convergence("classification", {"mixup": 0.0, "seed": 3}))
    assert (config.epochs, config.mixup, config.label_smoothing, config.seed) == (100, 0, 0.1, 3)
    assert config.min_scale == 0.8
    assert (config.learning_rate, config.weight_decay, config.warmup) == (0.002, 0.05, 0.05)
    assert (config.ema_decay, config.keep_best) == (0.9998, True)
    by_time = TrainingConfig(**to_convergence("detection", {"seconds": 60}))
    assert (by_time.epochs, by_time.mixup, by_time.min_scale) == (None, 0, 1)
    DetectionTask(data_of(boxes()), by_time, CPU)
