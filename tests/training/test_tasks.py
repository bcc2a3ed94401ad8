from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from helpers import architecture, stage_dict
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pyramid import FakePyramid
from safetensors.torch import save_file
from squares import boxed, masked
from strategies import architectures

from rfsearch.data.datasets import ImageData
from rfsearch.data.tile_data import detection_data, segmentation_data
from rfsearch.data.tiles import AreaTiling
from rfsearch.field.receptive_field import ReceptiveField, window
from rfsearch.network.architecture import Architecture
from rfsearch.retrofit.pretrained import PretrainedConfig
from rfsearch.training import speed, task_erf
from rfsearch.training.classification import ClassificationTask
from rfsearch.training.config import TrainingConfig
from rfsearch.training.detection import DetectionTask, detector
from rfsearch.training.segmentation import SegmentationNetwork, SegmentationTask
from rfsearch.training.task_erf import mirror
from rfsearch.training.tasks import task_for

sides = st.integers(1, 12)


def data(seed: int = 0, channels: int = 1) -> ImageData:
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.integers(0, 256, size=(40, channels, 12, 16), dtype=np.uint8))
    labels = torch.from_numpy(np.arange(40) % 3)
    return ImageData(images[:32], labels[:32], images[32:], labels[32:], ("a", "b", "c"))


def task(seed: int = 0, data_seed: int = 0, **options: Any) -> ClassificationTask:
    training = TrainingConfig(epochs=1, batch_size=16, seed=seed)
    return ClassificationTask(data(data_seed), training, device="cpu", **options)


# -- mirrored images --------------------------------------------------------------------------


def numbered(height: int, width: int) -> torch.Tensor:
    """An image whose pixels are all different."""
    return torch.arange(height * width).reshape(1, 1, height, width)


@given(height=sides, width=sides, side=st.integers(1, 50))
def test_every_pixel_comes_from_the_image_and_neighbours_stay_close(
    height: int, width: int, side: int
) -> None:
    seen = mirror(numbered(height, width), side)
    assert seen.shape == (1, 1, side, side)
    rows, columns = seen[0, 0] // width, seen[0, 0] % width
    assert 0 <= int(rows.min()) <= int(rows.max()) < height
    assert not rows.diff(dim=1).any()
    assert not columns.diff(dim=0).any()
    assert (rows.diff(dim=0).abs() <= 1).all()
    assert (columns.diff(dim=1).abs() <= 1).all()


@given(height=sides, width=sides, margin=st.integers(0, 30))
def test_the_middle_is_the_image(height: int, width: int, margin: int) -> None:
    image = numbered(height, width)
    side = max(height, width) + margin
    seen = mirror(image, side)
    top, left = (side - height + 1) // 2, (side - width + 1) // 2
    assert torch.equal(seen[..., top : top + height, left : left + width], image)


@given(pixels=sides, margin=st.integers(0, 30))
def test_the_margins_are_reflections(pixels: int, margin: int) -> None:
    side = pixels + 2 * margin
    row = mirror(numbered(pixels, pixels), side)[0, 0, margin] % pixels
    reach = min(pixels, margin)
    inside = row[margin : margin + reach]
    assert torch.equal(row[margin - reach : margin], inside.flip(0))
    inside = row[margin + pixels - reach : margin + pixels]
    assert torch.equal(row[margin + pixels : margin + pixels + reach], inside.flip(0))


@pytest.mark.parametrize(("side", "top"), [(4, 1), (3, 1), (2, 2), (6, 0)])
def test_a_smaller_side_crops_the_middle(side: int, top: int) -> None:
    image = numbered(6, 6)
    assert torch.equal(mirror(image, side), image[..., top : top + side, top : top + side])


def test_images_and_channels_stay_apart() -> None:
    images = torch.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    seen = mirror(images, 10)
    assert seen.shape == (2, 3, 10, 10)
    for image, wide in zip(images, seen, strict=True):
        assert torch.equal(mirror(image[None], 10)[0], wide)


# -- networks ---------------------------------------------------------------------------------


def weights(architecture: Architecture, of: ClassificationTask) -> torch.Tensor:
    state = of.build(architecture).state_dict()
    return torch.cat([value.flatten().float() for value in state.values()])


def test_what_a_task_says_of_its_data() -> None:
    rgb = ClassificationTask(data(channels=3), device="cpu")
    assert (rgb.in_chans, rgb.num_classes, rgb.input_size) == (3, 3, (12, 16))
    model = rgb.build(architecture())
    assert model(rgb.data.train_images[:2].float()).shape == (2, 3)


def test_weights_depend_on_the_seed_alone() -> None:
    arch = architecture()
    torch.manual_seed(1)
    first = weights(arch, task(data_seed=0))
    torch.manual_seed(2)
    assert torch.equal(weights(arch, task(data_seed=1)), first)
    assert not torch.equal(weights(arch, task(seed=1)), first)


def test_building_leaves_the_global_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    task().build(architecture())
    assert torch.equal(torch.get_rng_state(), before)


def test_training_changes_the_network_and_is_the_same_each_time() -> None:
    results = []
    for _ in range(2):
        of = task()
        model = of.build(architecture())
        before = model.stem[0].conv.weight.detach().clone()
        accuracy = of.train(model).score
        after = model.stem[0].conv.weight.detach()
        assert not torch.equal(before, after)
        results.append((accuracy, after))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


# -- effective receptive fields ---------------------------------------------------------------


@settings(max_examples=15)
@given(architectures(widths=(16,), max_field=80, max_stride=16, stem_kinds=("conv",)))
def test_the_input_covers_the_receptive_field(arch: Architecture) -> None:
    of = task(num_erf_images=2)
    try:
        erf = of.measure_erf(of.build(arch))
    except ValueError as error:
        # The one unit that is looked at may be dead in so narrow a network, for both images.
        assume("No gradient reaches the input" not in str(error))
        raise
    field = arch.receptive_field()
    assert erf.clipped == 0
    assert erf.map.shape[0] == erf.map.shape[1]
    assert field.size <= erf.map.shape[0] <= field.size + 3 * field.stride
    assert 0 < erf.size <= field.size
    assert erf.num_images <= 2


def test_a_receptive_field_larger_than_the_largest_input_is_clipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(task_erf, "LARGEST_ERF_INPUT", 128)
    arch = architecture(stage_dict(width=4, kernels=(7,) * 2, dilation=16), width=4)
    assert arch.receptive_field().size > 128
    of = task(num_erf_images=1)
    erf = of.measure_erf(of.build(arch))
    assert erf.map.shape == (128, 128)
    assert 0 < erf.clipped < 1


def test_measuring_is_the_same_each_time_and_leaves_the_model_alone() -> None:
    of = task()
    model = of.build(architecture())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = of.measure_erf(model), of.measure_erf(model)
    assert np.array_equal(first.map, second.map)
    assert first.calibrated
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("number", [3, 8])
def test_the_erf_is_measured_on_so_many_validation_images(number: int) -> None:
    # Also where fewer of them would give the size well enough.
    of = task(num_erf_images=number)
    # Wide enough that every image reaches the unit in the middle.
    wide = of.build(architecture(stage_dict(width=64), width=64))
    assert of.measure_erf(wide).num_images == number


# -- the other tasks --------------------------------------------------------------------------


def tiled(kind: type[SegmentationTask | DetectionTask], seed: int = 0) -> Any:
    training = TrainingConfig(epochs=1, batch_size=8, seed=seed)
    tiling = AreaTiling(image_size=32)
    if kind is SegmentationTask:
        data = segmentation_data([masked()], ("none", "dim", "bright"), tiling, "x")
        return SegmentationTask(data, training, device="cpu", num_erf_images=2)
    boxes = detection_data([boxed()], ("dim", "bright"), tiling, "x")
    return DetectionTask(boxes, training, device="cpu", num_erf_images=2)


other_tasks = pytest.mark.parametrize("kind", [SegmentationTask, DetectionTask])


@other_tasks
def test_a_trained_network_begins_with_statistics_of_the_images(
    kind: type[SegmentationTask], tmp_path: Path
) -> None:
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.safetensors")
    of = tiled(kind)
    config = PretrainedConfig(retrofit="test_resnet", checkpoint="weights.safetensors")
    space = config.load(tmp_path, of.input_size, of.in_chans)
    model = of.build(space.build(**space.given))
    seen = [value for name, value in model.named_buffers() if name.endswith("num_batches_tracked")]
    assert seen
    assert all(number > 0 for number in seen)
    assert of.train(model).epochs == 1


@other_tasks
def test_all_tasks_answer_the_same_questions(kind: type[SegmentationTask]) -> None:
    of = tiled(kind)
    assert (of.in_chans, of.input_size) == (1, (32, 32))
    assert of.num_classes == len(of.data.class_names)
    assert of.metric in ("miou", "ap")
    made = task_for(of.data, of.training, "cpu")
    assert type(made) is kind


@other_tasks
def test_the_same_seed_gives_the_same_weights_and_the_same_training(
    kind: type[SegmentationTask],
) -> None:
    results, before = [], torch.get_rng_state()
    for seed in (0, 0, 1):
        of = tiled(kind, seed)
        model = of.build(architecture())
        reported: list[float] = []
        result = of.train(model, lambda _, score, to=reported: to.append(score))
        assert reported == [result.score]
        weights = torch.cat([p.detach().flatten() for p in model.parameters()])
        results.append((result.score, weights))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])
    assert not torch.equal(results[0][1], results[2][1])
    assert torch.equal(torch.get_rng_state(), before)


@other_tasks
def test_the_erf_is_that_of_the_map_which_the_head_reads(kind: type[SegmentationTask]) -> None:
    # An equal network without a head has the same ERF: the head is not looked at.
    of = tiled(kind)
    model = of.build(architecture(stage_dict(width=16), width=16))
    measured = of.measure_erf(model)
    bare = ClassificationTask(
        ImageData(
            of.data.train_images,
            torch.zeros(len(of.data.train_images), dtype=torch.int64),
            of.data.valid_images,
            torch.zeros(len(of.data.valid_images), dtype=torch.int64),
            ("a",),
        ),
        of.training,
        device="cpu",
        num_erf_images=2,
    )
    searched = model.get_submodule("backbone" if kind is SegmentationTask else "backbone.network")
    expected = bare.measure_erf(searched)
    assert measured.size == expected.size
    assert np.array_equal(measured.map, expected.map)
    assert measured.theoretical_size == 5


@pytest.mark.gpu
@other_tasks
def test_the_other_tasks_train_on_cuda(kind: type[SegmentationTask]) -> None:
    of = replace(tiled(kind), device="cuda")
    model = of.build(architecture(stage_dict(width=16), width=16))
    assert 0 <= of.train(model).score <= 1
    assert of.measure_erf(model).size > 0
    assert {p.device.type for p in model.parameters()} == {"cuda"}
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("level", "field"),
    [("P1", window(3, stride=2)), ("P2", FakePyramid().receptive_fields()["P2"])],
)
def test_each_level_of_a_pyramid_has_its_erf(level: str, field: ReceptiveField) -> None:
    torch.manual_seed(0)
    for of, model in (
        (tiled(SegmentationTask), SegmentationNetwork(FakePyramid(), 3)),
        (tiled(DetectionTask), detector(FakePyramid(), 2)),
    ):
        erf = of.measure_erf(model, level)
        assert erf.theoretical_size == field.size
        assert 1 <= erf.size <= field.size
        if level == "P2":  # The last, and so the one to be judged by.
            assert of.measure_erf(model).theoretical_size == field.size


def test_every_level_of_a_pyramid_is_measured_in_full() -> None:
    stages = [stage_dict(width=8, stride=2) for _ in range(3)]
    pyramid = architecture(*stages, neck={"kind": "fpn", "width": 8, "num_levels": 3})
    of = task(num_erf_images=2)
    model = of.build(pyramid)
    for level, field in pyramid.receptive_fields().items():
        erf = of.measure_erf(model, level)
        assert erf.clipped == 0
        assert 0 < erf.size <= field.size
        assert erf.map.shape[0] % pyramid.input_multiple == 0
    assert of.measure_erf(model).size == of.measure_erf(model, "P4").size


def test_time_of_an_epoch_is_that_of_its_updates_and_of_judging(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """32 images in two updates of 16, and 8 to judge; the fastest of what is timed counts."""
    times, trained = iter((9.0, 3.0, 5.0, 2.0, 4.0)), task()

    def seconds(call: Callable[[], object], _: torch.device) -> float:
        call()
        return next(times)

    monkeypatch.setattr(speed, "_seconds", seconds)
    network = architecture(stage_dict("basic", 8, 2, (3,)))
    assert speed.epoch_seconds(trained, network) == 2 * 3.0 + 8 / 16 * 2.0
    assert next(times, None) is None
