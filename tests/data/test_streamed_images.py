from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from experiments_on_folders import write_experiment
from PIL import Image
from test_device_memory import VARIED
from test_objective import CONSTRAINT, FITS, SPACE, states
from torch import nn

from rfsearch.data import device_memory
from rfsearch.data._file_images import ImageFiles
from rfsearch.data.datasets import ImageData
from rfsearch.data.device_images import Normalizer
from rfsearch.data.loading_errors import LoadingError
from rfsearch.data.sources import image_folder
from rfsearch.data.streamed_images import StreamedImages
from rfsearch.search.experiment import Experiment
from rfsearch.search.objective import Objective
from rfsearch.training.classification import ClassificationTask
from rfsearch.training.config import TrainingConfig

pytestmark = pytest.mark.usefixtures("small_heap")
CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of noise of 16 px in colour, one brighter."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("dark", "bright")):
        (tmp_path / name).mkdir()
        for number in range(40):
            pixels = rng.integers(0, 200, size=(16, 16, 3)) + 20 * label
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name / f"{number}.png")
    return tmp_path


def read(folder: Path, *, in_memory: bool | None) -> ImageData:
    return image_folder(folder, image_size=16, in_memory=in_memory)


def task_of(folder: Path, *, in_memory: bool, **training: Any) -> ClassificationTask:
    fixed = {"epochs": 2, "batch_size": 16, "max_shift": 2, "horizontal_flip": 0.5}
    data = read(folder, in_memory=in_memory)
    return ClassificationTask(data, TrainingConfig(**fixed | training), CPU, num_erf_images=2)


def model() -> nn.Module:
    """With dropout, whose random numbers come from the seed."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3),
        nn.Linear(4 * 14 * 14, 2),
    )  # fmt: skip


def trained(task: ClassificationTask) -> tuple[list[float], list[Any]]:
    """Curve and weights."""
    curve: list[float] = []
    network = model()
    task.train(network, lambda _, score: curve.append(score))
    return curve, list(network.state_dict().values())


def wait_for_readers() -> None:
    """Until those that were told to end have ended; some versions of torch do not wait for it."""
    deadline = time.monotonic() + 60
    while multiprocessing.active_children():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def no_other_processes() -> None:
    """Those of earlier tests end with the loaders that the tracebacks there still hold."""
    gc.collect()
    wait_for_readers()


# -- the same as in memory --------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "options"), [(1, {}), (0, VARIED), (2, VARIED)])
def test_training_is_the_same_however_many_processes_read(
    folder: Path, workers: int, options: dict[str, Any]
) -> None:
    curve, weights = trained(task_of(folder, in_memory=True, **options))
    streamed = task_of(folder, in_memory=False, loader_workers=workers, **options)
    assert isinstance(streamed.data.train_images, ImageFiles)
    their_curve, their_weights = trained(streamed)
    assert curve == their_curve
    for one, other in zip(weights, their_weights, strict=True):
        assert torch.equal(one, other)
    assert not multiprocessing.active_children()


def test_images_statistics_and_labels_are_the_same(folder: Path) -> None:
    kept, streamed = (read(folder, in_memory=choice) for choice in (True, False))
    for one, other in (
        (kept.train_images, streamed.train_images),
        (kept.valid_images, streamed.valid_images),
    ):
        assert other.shape == tuple(one.shape)
        assert torch.equal(other[:], one)
        assert torch.equal(other[:3], one[:3])
        for mine, theirs in zip(*map(vars, map(Normalizer.of, (one, other))), strict=True):
            assert mine == theirs
    assert torch.equal(kept.train_labels, streamed.train_labels)
    assert (streamed.in_chans, streamed.image_size) == (3, (16, 16))


# -- the choice -------------------------------------------------------------------------------


def test_images_are_streamed_where_they_exceed_a_share_of_the_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = 80 * 3 * 16 * 16
    for memory, is_kept in ((4 * taken, True), (4 * taken - 4, False)):
        monkeypatch.setattr(device_memory, "machine_memory", lambda memory=memory: memory)
        assert isinstance(read(folder, in_memory=None).train_images, torch.Tensor) == is_kept


def test_how_images_are_read_is_no_part_of_what_a_study_is_about(tmp_path: Path) -> None:
    home = write_experiment(tmp_path / "experiment")
    before = Experiment.load(home, "cpu")
    file = home / "experiment.toml"
    text = file.read_text().replace("image_size = 16", "image_size = 16\nin_memory = false")
    file.write_text(text.replace("batch_size = 16", "batch_size = 16\nloader_workers = 0"))
    after = Experiment.load(home, "cpu")
    assert isinstance(after.task.data.train_images, ImageFiles)
    assert after.task.training.loader_workers == 0
    assert before.identity == after.identity


# -- what goes wrong --------------------------------------------------------------------------


def test_a_broken_image_is_told_of_before_a_search_begins(folder: Path) -> None:
    (folder / "dark" / "7.png").write_bytes((folder / "dark" / "7.png").read_bytes()[:60])
    with pytest.raises(ValueError, match=r"^\S+dark/7\.png: not a readable image \(.*\)\.$"):
        read(folder, in_memory=False)


def break_images(folder: Path) -> None:
    for file in list(folder.rglob("*.png")):
        file.with_suffix(".kept").hardlink_to(file)
        broken = file.with_suffix(".broken")
        broken.write_bytes(b"nonsense")
        broken.replace(file)  # There is always an image for those who read meanwhile.


def mend_images(folder: Path) -> None:
    for file in folder.rglob("*.kept"):
        file.rename(file.with_suffix(".png"))


def kill_a_reader(_: Path) -> None:
    multiprocessing.active_children()[0].kill()
    time.sleep(5)  # torch's signal handler ends this.


@pytest.mark.parametrize(
    ("damage", "workers", "reason"),
    [
        (break_images, 0, ".png: not a readable image ("),
        (break_images, 1, ".png: not a readable image ("),
        (kill_a_reader, 1, "A process that reads images has ended (DataLoader worker (pid "),
    ],
)
def test_a_trial_whose_images_cannot_be_read_fails_and_the_study_goes_on(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
    workers: int,
    reason: str,
) -> None:
    task = task_of(folder, in_memory=False, loader_workers=workers)
    whole, calls = StreamedImages.of, []

    def of(images: StreamedImages, *batch: Any) -> Any:
        calls.append(batch)
        if len(calls) == 1:
            damage(folder)
        return whole(images, *batch)

    def mend(_: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        wait_for_readers()
        mend_images(folder)

    monkeypatch.setattr(StreamedImages, "of", of)
    study = optuna.create_study(direction="maximize")
    for _ in range(2):
        study.enqueue_trial(FITS)
    study.optimize(Objective(SPACE, CONSTRAINT, task), n_trials=2, callbacks=[mend])
    assert states(study.trials) == ["FAIL", "COMPLETE"]
    first = study.trials[0]
    assert first.user_attrs["rejected_by"] == "training"
    assert reason in first.user_attrs["reason"]
    assert "\n" not in first.user_attrs["reason"]


def test_reading_a_broken_file_names_it(folder: Path) -> None:
    files = read(folder, in_memory=False).train_images
    break_images(folder)
    with pytest.raises(LoadingError, match=r"^\S+\.png: not a readable image \(.*\)\.$"):
        files[:2]
