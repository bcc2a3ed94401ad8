from __future__ import annotations

import math
from collections.abc import Callable
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from helpers import batch_of
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from squares import masked, write_boxed, write_masked
from test_device_memory import segmenter
from torch import nn

from rfsearch.basics import limits
from rfsearch.data import _pixel_reader as pixel_reader
from rfsearch.data import device_memory, read_ahead
from rfsearch.data._array_cache import ArrayFile
from rfsearch.data.augmentation import Variation
from rfsearch.data.boxed_images import coco_images
from rfsearch.data.datasets import DetectionData, SegmentationData
from rfsearch.data.device_images import DeviceImages, Normalizer
from rfsearch.data.loading_errors import LoadingError
from rfsearch.data.masked_images import masked_images
from rfsearch.data.package_images import nuclei, trees
from rfsearch.data.read_ahead import ReadLater
from rfsearch.data.streamed_images import StreamedImages
from rfsearch.data.tile_cuts import Cuts
from rfsearch.data.tile_data import BoxedImage, MaskedImage, detection_data, segmentation_data
from rfsearch.data.tiles import AreaTiling, Tiling
from rfsearch.space.space import SearchSpace
from rfsearch.training import segmentation
from rfsearch.training.config import TrainingConfig
from rfsearch.training.detection import DetectionTask
from rfsearch.training.segmentation import SegmentationTask

pytestmark = pytest.mark.usefixtures("cache")
CPU = torch.device("cpu")
NAMES = ("background", "dim", "bright")
TRAINING = {"epochs": 2, "batch_size": 8, "horizontal_flip": 0.5}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_boxed(tmp_path / "boxed")
    return write_masked(tmp_path)


def segmented(folder: Path, in_memory: bool | None, **options: Any) -> SegmentationData:
    tiling = Tiling(**{"image_size": 32, "valid_share": 0.34} | options, in_memory=in_memory)
    parts = folder / "images", folder / "masks"
    return masked_images(*parts, NAMES, tiling, folder / "instances")


def detected(folder: Path, in_memory: bool | None) -> DetectionData:
    tiling = Tiling(image_size=32, valid_share=0.34, in_memory=in_memory)
    return coco_images(folder / "boxed" / "boxes.json", folder / "boxed", tiling)


def same_tensors(kept: Any, later: Any) -> None:
    """Data that is read later gives what is kept, as a whole and in any order."""
    assert isinstance(kept, torch.Tensor)
    assert not isinstance(later, torch.Tensor)
    assert later.shape == tuple(kept.shape)
    assert len(later) == len(kept)
    whole = later[:]
    assert whole.dtype == kept.dtype
    assert torch.equal(whole, kept)
    some = [len(kept) - 1, 0, len(kept) // 2]
    assert torch.equal(later[some], kept[some])
    assert torch.equal(later[:2], kept[:2])


# -- the same as in memory --------------------------------------------------------------------


def small_segmenter(task: SegmentationTask) -> nn.Module:
    return segmenter()


def small_detector(task: DetectionTask) -> nn.Module:
    return task.build(SearchSpace.load("toy")[0])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("kind", "read", "build", "extra"),
    [
        (SegmentationTask, segmented, small_segmenter, {"max_shift": 3}),
        (DetectionTask, detected, small_detector, {}),
    ],
)
def test_training_is_the_same(
    folder: Path, workers: int, kind: Any, read: Any, build: Any, extra: dict[str, Any]
) -> None:
    found = []
    for in_memory in (True, False):
        config = TrainingConfig(**TRAINING | extra, loader_workers=workers)
        task = kind(read(folder, in_memory), config, CPU)
        assert isinstance(task.data.train_images, torch.Tensor) == in_memory
        curve: list[float] = []
        model = build(task)
        result = task.train(model, lambda _, score, curve=curve: curve.append(score))
        found.append((curve, result.by_scale, list(model.state_dict().values())))
    (curve, by_scale, weights), (their_curve, their_scale, their_weights) = found
    assert curve == their_curve
    assert not math.isnan(by_scale.small)
    assert by_scale[0] == their_scale[0]
    for one, other in zip(weights, their_weights, strict=True):
        assert torch.equal(one, other)


def test_erf_images_and_statistics_are_the_same(folder: Path) -> None:
    kept, later = (
        SegmentationTask(segmented(folder, in_memory), TrainingConfig(), CPU)
        for in_memory in (True, False)
    )
    for mine, theirs in zip(
        *(vars(Normalizer.of(t.data.train_images)).values() for t in (kept, later)), strict=True
    ):
        assert torch.equal(mine, theirs)
    assert (kept.in_chans, kept.input_size) == (later.in_chans, later.input_size)
    assert torch.equal(kept.erf_images, later.erf_images)


def stored(values: NDArray[Any], file: Path) -> ArrayFile:
    np.save(file, values)
    return ArrayFile(file, values.shape)


def small_boxes(height: int, width: int) -> NDArray[np.float64]:
    """Boxes of 2 px in a grid, so that no tile is without."""
    y, x = np.mgrid[1 : height - 2 : 5, 1 : width - 2 : 5].reshape(2, -1)
    return np.stack([x, y, x + 2, y + 2], axis=1).astype(float)


@given(
    sizes=st.lists(st.tuples(st.integers(30, 60), st.integers(30, 60)), min_size=2, max_size=3),
    side=st.integers(8, 70),
    colours=st.booleans(),
    kind=st.sampled_from([np.uint8, np.uint16, np.uint32, np.int64]),
)
@settings(max_examples=12)  # Each kind of number comes several times.
def test_all_that_is_known_of_tiles_is_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[tuple[int, int]],
    side: int,
    colours: bool,
    kind: type[np.integer[Any]],
) -> None:
    folder = tmp_path_factory.mktemp("arrays")
    tiling = Tiling(image_size=side, valid_share=0.5)
    in_memory, in_files = [], []
    for n, size in enumerate(sizes):
        mask = masked(*size, number=3, seed=n)
        pixels = np.repeat(mask.pixels, 3, axis=2) if colours and n == 0 else mask.pixels
        # Numbers with gaps, the highest as high as can be.
        numbers = (np.iinfo(kind).max - 3 + mask.instances).astype(kind)
        numbers[mask.instances == 0] = 0
        arrays = pixels, mask.classes, numbers
        in_memory.append(arrays)
        in_files.append(tuple(stored(a, folder / f"{n} {k}.npy") for k, a in enumerate(arrays)))
    kept, later = (
        segmentation_data([MaskedImage(*arrays) for arrays in images], NAMES, tiling, "x")
        for images in (in_memory, in_files)
    )
    for name in ("train_images", "train_masks", "valid_images", "valid_masks"):
        same_tensors(getattr(kept, name), getattr(later, name))
    same_tensors(kept.valid_instances.numbers, later.valid_instances.numbers)
    assert (kept.valid_instances.sizes == later.valid_instances.sizes).all()
    assert (kept.object_sizes == later.object_sizes).all()
    kept, later = (
        detection_data(
            [
                BoxedImage(pixels, corners, np.zeros(len(corners), int), corners[:, 0] > 40)
                for (pixels, *_), corners in zip(images, starmap(small_boxes, sizes), strict=True)
            ],
            NAMES[:1],
            tiling,
            "x",
        )
        for images in (in_memory, in_files)
    )
    same_tensors(kept.train_images, later.train_images)
    same_tensors(kept.valid_images, later.valid_images)
    for mine, theirs in zip(kept.train_boxes, later.train_boxes, strict=True):
        assert all(torch.equal(*pair) for pair in zip(mine, theirs, strict=True))


def test_the_images_of_a_batch_have_their_own_masks(folder: Path) -> None:
    kept, later = segmented(folder, True), segmented(folder, False)
    normalize = Normalizer.of(kept.train_images)
    assert isinstance(kept.train_images, torch.Tensor)
    assert isinstance(later.train_images, Cuts)
    resident = DeviceImages(kept.train_images, normalize, CPU, kept.train_masks)
    streamed = StreamedImages(later.train_images, normalize, CPU, 0, later.train_masks)
    variation = Variation.draw(3, 0.5, 2, torch.Generator().manual_seed(0))
    batch = batch_of(5, 3, 8, variation=variation)
    (loaded,) = streamed.load([batch])
    assert torch.equal(resident.of(batch), streamed.of(loaded))
    assert torch.equal(resident.masks_of(batch), streamed.masks_of(loaded))


def test_scores_do_not_depend_on_how_many_images_are_compared_at_a_time(folder: Path) -> None:
    data = segmented(folder, False)
    found, masks = (data.valid_masks[:] for _ in range(2))
    found[:, ::2] = 1
    scores = []
    for size in (1, 4, 100):
        judge = segmentation._Judge(3, data.valid_instances, CPU)
        for start in range(0, len(masks), size):
            part = slice(start, start + size)
            judge.add(part, found[part], masks[part])
        scores.append(judge.scores())
    assert 0 < scores[0].value < 1
    assert 0 < scores[0].by_scale.small < 1
    assert all(repr(other) == repr(scores[0]) for other in scores)


def test_values_are_counted_in_parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = segmented(folder, True).train_images
    for surveyed in (1, 5 * 32 * 32, 2**24):
        monkeypatch.setattr(read_ahead, "_SURVEYED", surveyed)
        later = segmented(folder, False).train_images
        counts = ReadLater._count_values(later)
        assert torch.equal(counts, read_ahead.count_values(kept))


@pytest.mark.usefixtures("installed_images")
def test_images_inside_packages_can_be_read_later(cache: Path) -> None:
    for load, options in (
        (nuclei, {"image_size": 128, "valid_share": 0.25}),
        (lambda tiling: trees(tiling, 1), {"image_size": 256}),
    ):
        kept, later = (load(AreaTiling(**options, in_memory=choice)) for choice in (True, False))
        same_tensors(kept.train_images, later.train_images)
        assert later.object_sizes.tolist() == kept.object_sizes.tolist()
    # Of nuclei pixels, classes and numbers; of trees pixels; and the counts of both.
    assert len(list(cache.rglob("*.npy"))) == 6


@pytest.mark.parametrize("highest", [200, 2**16 - 1, 2**32 - 1, 2**40, 2**60])
def test_numbers_of_objects_may_be_of_any_size(tmp_path: Path, highest: int) -> None:
    write_masked(tmp_path)
    for n in range(3):
        numbers = masked(seed=n).instances
        numbers[numbers > 0] += highest - 12
        (tmp_path / "instances" / f"{n}.png").unlink()
        tifffile.imwrite(tmp_path / "instances" / f"{n}.tif", numbers)
    kept, later = segmented(tmp_path, True), segmented(tmp_path, False)
    assert len(kept.valid_instances.sizes) > 10
    assert kept.valid_instances.sizes.tolist() == later.valid_instances.sizes.tolist()
    same_tensors(kept.valid_instances.numbers, later.valid_instances.numbers)


def test_what_processes_share_is_let_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch that is held keeps a file open, of which there may be 1024 or so."""
    config = TrainingConfig(batch_size=2, loader_workers=1)
    task = SegmentationTask(segmented(folder, False), config, CPU)
    held: list[int] = []
    compare = segmentation._Judge._compare

    def watch(judge: Any) -> None:
        held.append(len(judge.waiting))
        compare(judge)

    monkeypatch.setattr(segmentation._Judge, "_compare", watch)
    task.evaluate(segmenter())
    assert max(held) == 1


# -- the choice -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "bytes_per_pixel"), [(segmented, 1 + 9), (detected, 1)], ids=["masks", "boxes"]
)
def test_tiles_are_kept_where_they_take_a_share_of_the_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch, read: Any, bytes_per_pixel: int
) -> None:
    # Each pixel once in the images and four times in tiles that overlap by halves.
    taken = 3 * 64 * 96 * 5 * bytes_per_pixel
    for memory, is_kept in ((4 * taken, True), (4 * taken - 4, False)):
        monkeypatch.setattr(device_memory, "machine_memory", lambda memory=memory: memory)
        assert isinstance(read(folder, None).train_images, torch.Tensor) == is_kept


def test_images_that_exceed_the_memory_can_be_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"SC_PHYS_PAGES": 128, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(limits.os, "sysconf", sizes.__getitem__)
    with pytest.raises(ValueError, match="tiles of 32x32 px from 3 images must fit into the mem"):
        segmented(folder, True)
    assert len(segmented(folder, None).train_images) == 2 * 3 * 5


# -- the cache --------------------------------------------------------------------------------


def test_images_are_decoded_and_counted_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = segmented(folder, False), detected(folder, False)

    def decode(*_: Any) -> Any:
        raise AssertionError("the cache has it")

    for data in before:
        Normalizer.of(data.train_images)
    monkeypatch.setattr(pixel_reader, "read_pixels", decode)
    monkeypatch.setattr(pixel_reader, "read_numbers", decode)
    monkeypatch.setattr(ReadLater, "_count_values", decode)
    for mine, theirs in zip(
        before, (segmented(folder, False), detected(folder, False)), strict=True
    ):
        assert torch.equal(mine.train_images[:], theirs.train_images[:])
        assert torch.equal(mine.train_images.value_counts, theirs.train_images.value_counts)
    with pytest.raises(AssertionError, match="the cache has it"):
        _ = before[0].valid_images.value_counts
    with pytest.raises(AssertionError, match="the cache has it"):
        segmented(folder, False, scale=0.5, image_size=16)


@pytest.mark.parametrize("part", ["images", "masks", "instances"])
def test_a_broken_file_is_told_of_before_a_search_begins(folder: Path, part: str) -> None:
    file = folder / part / "1.png"
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(ValueError, match=rf"^{file}: not a readable image \(.*\)\.$"):
        segmented(folder, False)


def test_classes_without_a_name_are_refused_from_the_cache_too(folder: Path) -> None:
    segmented(folder, False)
    tiling = Tiling(image_size=32, in_memory=False)
    with pytest.raises(ValueError, match=r"0\.png: the value 2 is no class"):
        masked_images(folder / "images", folder / "masks", NAMES[:2], tiling)


def forget(cache: Path) -> None:
    for file in cache.rglob("*.npy"):
        file.unlink()


def cut_off(cache: Path) -> None:
    for file in cache.rglob("*.npy"):
        file.write_bytes(file.read_bytes()[:200])


@pytest.mark.parametrize("damage", [forget, cut_off])
def test_what_the_cache_has_lost_ends_the_training_with_the_reason(
    folder: Path, cache: Path, damage: Callable[[Path], None]
) -> None:
    config = TrainingConfig(**TRAINING, loader_workers=0)
    task = SegmentationTask(segmented(folder, False), config, CPU)
    _ = task.train_images
    damage(cache)
    with pytest.raises(LoadingError, match=r"\.npy: cannot be read from the cache \(") as error:
        task.train(segmenter())
    assert "\n" not in str(error.value)
