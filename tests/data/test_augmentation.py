from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from helpers import batch_of
from test_detection import boxes, data_of
from test_loop import CPU, Watcher, config, easy_images, easy_task, numbered_task, tiny_model
from torch import nn

from rfsearch.data.augmentation import UNVARIED, Variation, augment
from rfsearch.data.datasets import IGNORED, ImageData, SegmentationData
from rfsearch.training._batches import TrainingBatches
from rfsearch.training.classification import ClassificationTask
from rfsearch.training.config import TrainingConfig
from rfsearch.training.detection import DetectionTask
from rfsearch.training.segmentation import SegmentationTask

IMAGE = [[1, 2, 3], [4, 5, 6]]


def varied(mirrored: bool, down: int, right: int, values: torch.Tensor, fill: int) -> torch.Tensor:
    variation = Variation(torch.tensor([mirrored]), torch.tensor([[down, right]]))
    return variation.apply(values, fill)


def drawn(seed: int, number: int = 500) -> Variation:
    return Variation.draw(number, 0.25, 3, torch.Generator().manual_seed(seed))


# -- images -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mirrored", "down", "right", "expected"),
    [
        (False, 0, 0, IMAGE),
        (True, 0, 0, [[3, 2, 1], [6, 5, 4]]),
        (False, 1, 0, [[9, 9, 9], [1, 2, 3]]),
        (False, -1, 0, [[4, 5, 6], [9, 9, 9]]),
        (False, 0, 1, [[9, 1, 2], [9, 4, 5]]),
        (True, 0, 2, [[9, 9, 3], [9, 9, 6]]),
        (False, 0, -5, [[9, 9, 9], [9, 9, 9]]),
    ],
)
def test_images_are_mirrored_then_moved(
    mirrored: bool, down: int, right: int, expected: list[list[int]]
) -> None:
    found = varied(mirrored, down, right, torch.tensor([IMAGE]), fill=9)
    assert found.tolist() == [expected]


def test_each_image_of_a_batch_is_varied_in_its_own_way_and_all_channels_alike() -> None:
    images = torch.randint(0, 256, (8, 3, 6, 5), dtype=torch.uint8)
    mirrored = torch.tensor([False, True] * 4)
    shifts = torch.tensor(list(product((-2, 1), (0, 3)))).repeat_interleave(2, dim=0)
    together = Variation(mirrored, shifts).apply(images, fill=7)
    assert together.dtype == torch.uint8
    for number, image in enumerate(images):
        down, right = shifts[number].tolist()
        for channel in range(3):
            alone = varied(bool(mirrored[number]), down, right, image[None, channel], fill=7)
            assert torch.equal(together[number, channel], alone[0])


def test_without_a_variation_images_are_left_alone() -> None:
    images = torch.rand(2, 1, 3, 3)
    assert UNVARIED.apply(images, fill=0.0) is images


def test_what_moves_in_has_the_mean_colour() -> None:
    images = easy_task().train_images
    batch = batch_of(0)
    (image,) = images.of(batch._replace(variation=Variation(None, torch.tensor([[3, 0]]))))
    assert torch.equal(image[:, :3], torch.zeros(1, 3, 8))
    assert torch.equal(image[:, 3:], images.of(batch)[0, :, :-3])


# -- what is drawn ----------------------------------------------------------------------------


def test_the_same_seed_draws_the_same() -> None:
    for first, second in zip(drawn(0), drawn(0), strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(drawn(0).shifts, drawn(1).shifts)
    assert not torch.equal(drawn(0).mirrored, drawn(1).mirrored)


def test_variations_have_their_frequency_and_range() -> None:
    variation = drawn(0, number=10_000)
    assert float(variation.mirrored.float().mean()) == pytest.approx(0.25, abs=0.02)
    for shifts in variation.shifts.unbind(1):
        counts = torch.bincount(shifts + 3, minlength=7)
        assert len(counts) == 7
        assert counts.min() > 0.8 * 10_000 / 7


def test_what_is_off_is_not_drawn() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert Variation.draw(5, 0.0, 0, generator) == UNVARIED
    assert torch.equal(generator.get_state(), before)


def trained(**values: Any) -> tuple[list[float], torch.Tensor]:
    model, curve = tiny_model(), []
    task = easy_task(learning_rate=0.001, **values)
    task.train(model, lambda _, score: curve.append(score))
    return curve, torch.cat([values.detach().flatten() for values in model.parameters()])


def test_an_augmented_training_depends_on_its_seed_alone() -> None:
    first, again, other = (trained(max_shift=1, seed=seed) for seed in (0, 0, 1))
    assert first[0] == again[0]
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])
    assert not torch.equal(first[1], trained(seed=0)[1])


def test_an_augmented_training_sees_the_same_images_with_their_own_labels() -> None:
    models = []
    for share in (0.0, 1.0):  # Constant images look the same when mirrored.
        torch.manual_seed(0)
        models.append(Watcher())
        numbered_task(64, horizontal_flip=share).train(models[-1])
    plain, mirrored = models
    for first, second in zip(plain.batches, mirrored.batches, strict=True):
        assert torch.equal(first, second)
    assert torch.equal(plain.linear.weight, mirrored.linear.weight)


# -- what is done to each image alone ---------------------------------------------------------

ALL = {"min_scale": 0.5, "color_jitter": 0.5, "auto_augment": "rand"}


def test_what_is_done_to_an_image_depends_on_it_and_its_seed_alone() -> None:
    images = torch.randint(0, 256, (3, 3, 12, 10), dtype=torch.uint8)
    data = ImageData(images, torch.arange(3) % 2, images, torch.arange(3) % 2, ("a", "b"))
    transform = ClassificationTask(data, TrainingConfig(**ALL), CPU)._transform
    before = torch.get_rng_state()
    together = augment(images, (5, 6, 7), transform)
    assert torch.equal(torch.get_rng_state(), before)
    assert (together.shape, together.dtype) == (images.shape, torch.uint8)
    torch.rand(9)
    for image, seed, expected in zip(images, (5, 6, 7), together, strict=True):
        assert torch.equal(augment(image[None], (seed,), transform)[0], expected)
    assert not torch.equal(augment(images[:1], (8,), transform)[0], together[0])


@pytest.mark.parametrize("name", [*ALL, "off"])
def test_each_of_these_can_be_on_alone(name: str) -> None:
    task = easy_task(**{key: value for key, value in ALL.items() if key == name})
    batch = batch_of(*range(8))
    varied, plain = task.examples(batch).images, easy_task().examples(batch).images
    assert torch.equal(varied, plain) == (name == "off")
    assert varied.shape == plain.shape


@pytest.mark.parametrize("kind", ["trivial", "rand", "imagenet"])
@pytest.mark.parametrize("channels", [1, 3])
def test_torchvisions_policies_take_grey_and_colour(kind: str, channels: int) -> None:
    images = torch.randint(0, 256, (40, channels, 8, 8), dtype=torch.uint8)
    data = ImageData(images, torch.arange(40) % 2, images, torch.arange(40) % 2, ("a", "b"))
    task = ClassificationTask(data, TrainingConfig(auto_augment=kind), CPU)
    assert task.examples(batch_of(*range(40))).images.isfinite().all()


def test_images_are_varied_anew_in_each_epoch() -> None:
    batches = TrainingBatches(20, config(batch_size=4, **ALL), CPU)
    seeds = [{seed for batch in batches.epoch(n) for seed in batch.seeds} for n in (1, 2, 1)]
    assert len(seeds[0] | seeds[1]) == 40
    assert seeds[0] == seeds[2]


# -- truth ------------------------------------------------------------------------------------


class Seen(nn.Module):
    """Keeps what it is given."""

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__()
        self.num_classes = num_classes

    def forward(self, images: torch.Tensor, targets: Any = None) -> Any:
        self.images, self.targets = images, targets
        if targets is not None:
            return {"loss": images.sum()}
        return images.new_zeros(len(images), self.num_classes, *images.shape[2:])


def test_masks_move_with_their_images_and_nothing_is_learned_of_what_moves_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    masks = torch.randint(0, 3, (6, 5, 7), dtype=torch.uint8)
    images = 50 + 40 * masks[:, None]
    data = SegmentationData(images, masks, images, masks, ("a", "b", "c"))
    seen: list[torch.Tensor] = []

    def cross_entropy(scores: torch.Tensor, truth: torch.Tensor, **_: Any) -> torch.Tensor:
        seen.append(truth)
        return scores.sum()

    monkeypatch.setattr("rfsearch.training.segmentation.F.cross_entropy", cross_entropy)
    model, task = Seen(3), SegmentationTask(data, device=CPU)
    variation = Variation.draw(6, 0.5, 2, torch.Generator().manual_seed(0))
    task.loss(model, task.examples(batch_of(*range(6), variation=variation)))
    (truth,) = seen
    colours = task.normalize(50 + 40 * torch.arange(3.0)[None, None, None]).flatten()
    inside = truth != IGNORED
    assert 0 < int((~inside).sum()) < inside.numel() / 2
    assert torch.equal(model.images[:, 0][inside], colours[truth[inside]])
    assert bool((model.images[:, 0][~inside] == 0).all())


def test_boxes_are_mirrored_with_their_images() -> None:
    data = data_of(boxes((10.0, 20.0, 50.0, 80.0), (0.0, 0.0, 200.0, 5.0)), boxes(), boxes())
    data.train_images[0, 0, 20:80, 10:50] = 255
    task, model = DetectionTask(data, device=CPU), Seen()
    variation = Variation(torch.tensor([True, True, False]))
    task.loss(model, task.examples(batch_of(0, 1, 2, variation=variation)))
    found, empty, _ = (target["boxes"] for target in model.targets)
    assert found.tolist() == [[150.0, 20.0, 190.0, 80.0], [0.0, 0.0, 200.0, 5.0]]
    assert empty.shape == (0, 4)
    rows, columns = torch.where(model.images[0, 0] > 0)
    assert (int(rows.min()), int(rows.max()) + 1) == (20, 80)
    assert (int(columns.min()), int(columns.max()) + 1) == (150, 190)
    task.loss(model, task.examples(batch_of(0, variation=Variation(torch.tensor([False])))))
    assert model.targets[0]["boxes"][0].tolist() == [10.0, 20.0, 50.0, 80.0]


def test_boxes_that_would_be_cut_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`max_shift` must be 0 for detection, .* but got 4"):
        DetectionTask(data_of(boxes()), TrainingConfig(max_shift=4))
    DetectionTask(data_of(boxes()), TrainingConfig(horizontal_flip=0.5))


def test_images_are_not_moved_out_of_sight() -> None:
    with pytest.raises(ValueError, match=r"`max_shift < side of the images` .* got 8 and 8"):
        ClassificationTask(easy_images(), TrainingConfig(max_shift=8))
    ClassificationTask(easy_images(), TrainingConfig(max_shift=7))
