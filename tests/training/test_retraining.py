from __future__ import annotations

import csv
import itertools
import multiprocessing
import multiprocessing.connection
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from experiments_on_folders import write_images
from helpers import architecture, refusal, rfsearch, stage_dict
from PIL import Image
from studies import stored_study

from rfsearch.data.device_images import Normalizer
from rfsearch.data.sources import image_folder
from rfsearch.network.network_folder import InputFormat, create_network, load_network
from rfsearch.training.retraining import RetrainingResult, retrain, starting_network
from rfsearch.training.retraining_classifier import ClassifierCourse
from rfsearch.training.retraining_data import Loaders, LoadingConfig, folder_loaders
from rfsearch.training.retraining_run import EpochResult, RetrainingConfig, Run

CPU = torch.device("cpu")
LOADING = LoadingConfig(batch_size=16, split_seed=3)
CONFIG = RetrainingConfig(epochs=3, learning_rate=0.01, warmup=0, loading=LOADING)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "images")


def form_of(images: Path, *classes: str) -> InputFormat:
    statistics = Normalizer.of(image_folder(images, image_size=16, seed=3).train_images)
    mean, std = (float(one) / 255 for one in (statistics.mean, statistics.std))
    return InputFormat((16, 16), (mean,), (std,), classes or ("bright", "dark"))


def loaders_of(images: Path, form: InputFormat | None = None, **options: Any) -> Loaders:
    loading = LOADING.model_copy(update=options)
    return folder_loaders(images, form or form_of(images), loading, device=CPU)


def run(
    images: Path,
    checkpoint: Path,
    config: RetrainingConfig = CONFIG,
    report: Callable[[EpochResult], None] = lambda _: None,
) -> RetrainingResult:
    arch = architecture(stage_dict(width=8, stride=2))
    fresh = create_network(arch, form_of(images))
    model, _ = starting_network(
        fresh, arch, form_of(images), ("bright", "dark"), config.seed, from_scratch=True
    )
    course = ClassifierCourse(loaders_of(images), config, CPU)
    return retrain(model, course, config, checkpoint, device=CPU, report=report)


# -- images -----------------------------------------------------------------------------------


def test_the_validation_images_are_those_of_the_search(images: Path) -> None:
    data = image_folder(images, image_size=16, seed=3)
    ours = torch.cat([batch for batch, _ in loaders_of(images).valid])
    labels = torch.cat([batch for _, batch in loaders_of(images).valid])
    torch.testing.assert_close(ours, Normalizer.of(data.train_images)(data.valid_images))
    assert torch.equal(labels, data.valid_labels)
    assert len(ours) == 16


def test_training_and_validation_images_are_different_ones(images: Path) -> None:
    loaders = loaders_of(images)
    train, valid = (
        {path for path, _ in one.dataset.samples} for one in (loaders.train, loaders.valid)
    )
    assert len(train) == 64
    assert not train & valid


def test_a_folder_that_is_split(images: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "train", count=20)
    write_images(tmp_path / "val", count=5)
    loaders = loaders_of(tmp_path, form_of(images))
    assert len(loaders.train.dataset) == 40
    assert len(loaders.valid.dataset) == 10


def test_classes_keep_the_order_of_the_network(images: Path) -> None:
    turned = loaders_of(images, form_of(images, "dark", "bright"))
    assert turned.class_names == ("dark", "bright")
    for path, label in turned.train.dataset.samples:
        assert Path(path).parent.name == turned.class_names[label]
    other = loaders_of(images, form_of(images, "cat", "dog"))
    assert other.class_names == ("bright", "dark")


def test_images_are_grey_or_in_colour_as_the_network_takes_them(images: Path) -> None:
    form = InputFormat((16, 24), (0.1, 0.2, 0.3), (1.0, 1.0, 1.0), ("bright", "dark"))
    batch, _ = next(iter(loaders_of(images, form).train))
    assert batch.shape == (16, 3, 16, 24)
    torch.testing.assert_close(batch[:, 0] - batch[:, 2], torch.full((16, 16, 24), 0.2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root / "nothing", "nothing: not a folder of classes with images"),
        (lambda root: write_images(root, ("a", "b"), count=1), "must have 2 images or more"),
        (lambda root: write_images(root, ("a",), count=2), "2 classes or more to tell apart"),
        (lambda root: write_images(root, count=4), r"`batch_size <= training images` must hold"),
        (lambda root: write_images(root / "train").parent, "must have the same classes"),
    ],
)
def test_folders_that_cannot_be_used(
    images: Path, tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        loaders_of(make(tmp_path / "data"), form_of(images))


def test_a_file_that_is_no_image_is_named(images: Path, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "data")
    (folder / "dark" / "3.png").write_text("nonsense")
    with pytest.raises(ValueError, match=r"dark/3\.png: not a readable image"):
        list(itertools.chain(loaders_of(folder).train, loaders_of(folder).valid))


def test_sixteen_bit_greys_are_scaled(images: Path, tmp_path: Path) -> None:
    for name in ("bright", "dark"):
        (tmp_path / name).mkdir()
        for number in range(10):
            Image.new("I;16", (16, 16), 257 * 100).save(tmp_path / name / f"{number}.png")
    form = InputFormat((16, 16), (0.0,), (1.0,), ("bright", "dark"))
    batch, _ = next(iter(loaders_of(tmp_path, form).valid))
    torch.testing.assert_close(batch, torch.full_like(batch, 100 / 255))


# -- training ---------------------------------------------------------------------------------


def test_it_learns_what_the_images_show(tmp_path: Path) -> None:
    """Two classes that differ in brightness alone, by more than their noise."""
    images = write_images(tmp_path / "images")
    for path in (images / "dark").iterdir():
        Image.open(path).point(lambda value: value // 2).save(path)
    config = CONFIG.model_copy(update={"epochs": 8})
    result = run(images, tmp_path / "checkpoint.pt", config)
    assert [one.epoch for one in result.history] == list(range(9))
    assert result.best.ema_score >= 0.9
    assert result.history[-1].loss < result.history[1].loss


def test_best_are_the_first_best_averaged_weights(images: Path, tmp_path: Path) -> None:
    result = run(images, tmp_path / "checkpoint.pt")
    highest = max(one.ema_score for one in result.history)
    assert result.best == next(one for one in result.history if one.ema_score == highest)


@pytest.mark.parametrize("stop", [1, 2])
def test_an_interrupted_training_ends_as_one_in_one_go(
    images: Path, tmp_path: Path, stop: int
) -> None:
    def interrupt(one: EpochResult) -> None:
        if one.epoch == stop:
            raise KeyboardInterrupt

    whole = run(images, tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "parts.pt", report=interrupt)
    continued: list[int] = []
    parts = run(images, tmp_path / "parts.pt", report=lambda one: continued.append(one.epoch))
    assert continued == list(range(stop + 1, 4))
    assert str(parts.history) == str(whole.history)
    assert all(torch.equal(v, whole.weights[name]) for name, v in parts.weights.items())
    last, expected = (
        torch.load(tmp_path / name, weights_only=True) for name in ("parts.pt", "whole.pt")
    )
    for part in ("model", "ema"):
        assert all(torch.equal(v, expected[part][name]) for name, v in last[part].items())


def test_plain_labels_without_mixing(images: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"mixup": 0.0, "epochs": 1})
    result = run(images, tmp_path / "checkpoint.pt", config)
    assert 0 < result.history[1].loss < 2


def test_a_loss_that_is_not_finite(images: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"optimizer": "sgd", "learning_rate": 1e30})
    with pytest.raises(FloatingPointError, match=r"The training loss is (nan|inf) in epoch"):
        run(images, tmp_path / "checkpoint.pt", config)


class RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"nonsense"),
        lambda file: torch.save({"config": {}}, file),
        lambda file: torch.save({"config": RunsCode()}, file),
    ],
)
def test_a_checkpoint_that_cannot_be_used(
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], object],
) -> None:
    monkeypatch.chdir(tmp_path)
    damage(tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint\.pt: cannot be gone on from \(.*\); remove"):
        run(images, tmp_path / "checkpoint.pt")
    assert not (tmp_path / "ran").exists()


# -- the command ------------------------------------------------------------------------------


def train(network: Path, data: Path, *options: str | Path) -> Any:
    fixed = ("--workers", "0", "--device", "cpu", "--no-onnx")
    return rfsearch("train", network, "--data", data, *fixed, *options)


def settings(folder: Path, text: str = "epochs = 1") -> Path:
    file = folder / "training.toml"
    file.write_text(f"{text}\n[loading]\nbatch_size = 16\n")
    return file


def test_training_begins_where_the_search_ended(
    searched: Path, exported: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = train(
        exported,
        searched / "images",
        "--out",
        out,
        "--config",
        settings(tmp_path),
        "--epochs",
        "2",
    )
    assert result.exit_code == 0, result.output
    with (out / "training.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert float(rows[0]["accuracy"]) == pytest.approx(stored_study(searched).trials[0].value)
    names = {path.name for path in exported.iterdir()} - {"model.onnx"}
    assert {path.name for path in out.iterdir()} == names | {"training.csv"}
    lines = [line.split() for line in result.stdout.splitlines()]
    (start,) = (line for line in lines if line[:1] == ["start"])
    assert start[1:4] == ["0", "-", f"{float(rows[0]['accuracy']):.4f}"]
    assert "trained to convergence on `images`" in (out / "README.md").read_text()
    best = max(float(row["ema_accuracy"]) for row in rows)
    assert f"| validation accuracy | {best:.4f} |" in (out / "README.md").read_text()
    assert "epoch 2/2: loss " in result.stderr


def test_in_place_and_with_other_classes(exported: Path, tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", ("one", "three", "two"))
    before, _ = load_network(exported)
    (exported / "model.onnx").touch()
    result = train(exported, data, "--config", settings(tmp_path))
    assert result.exit_code == 0, result.output
    after, form = load_network(exported)
    assert form.class_names == ("one", "three", "two")
    assert after.num_classes == 3
    assert after.architecture == before.architecture
    left = {path.name for path in exported.iterdir()}
    assert not left & {"checkpoint.pt", "model.onnx"}


def test_mistakes_are_one_line(exported: Path, images: Path, tmp_path: Path) -> None:
    assert "config.json: cannot be read" in refusal(train(tmp_path, images))
    assert "not a folder of classes" in refusal(train(exported, tmp_path / "nothing"))
    wrong = settings(tmp_path, "epochs = 0")
    assert "training.toml: epochs: " in refusal(train(exported, images, "--config", wrong))
    options = ("--config", settings(tmp_path), "--out", tmp_path)
    assert "must be a new or an empty folder" in refusal(train(exported, images, *options))
    diverging = settings(tmp_path, 'optimizer = "sgd"\nlearning_rate = 1e30\nepochs = 3')
    result = train(exported, images, "--config", diverging)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].endswith("A lower learning_rate may help.")


def break_an_image(images: Path) -> None:
    for file in sorted(images.rglob("*.png"))[::2]:  # Some of both parts.
        file.write_bytes(b"nonsense")


def kill_a_reader(images: Path) -> None:
    # The youngest: those of earlier trainings end when their tracebacks are collected.
    reader = max(multiprocessing.active_children(), key=lambda process: process.pid or 0)
    reader.kill()
    # Until it is dead: beside other work an epoch might be over before.
    multiprocessing.connection.wait([reader.sentinel])


@pytest.mark.parametrize(
    ("damage", "workers", "message"),
    [
        (break_an_image, "0", ".png: not a readable image"),
        (break_an_image, "2", ".png: not a readable image"),
        (kill_a_reader, "2", "A process that reads images has ended"),
    ],
)
def test_what_breaks_while_it_trains_is_one_line_and_what_was_trained_is_kept(
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
    workers: str,
    message: str,
) -> None:
    data, learn = write_images(tmp_path / "data"), Run.train_epoch

    def damage_and_learn(run: Run, epoch: int) -> float:
        if epoch == 2:
            damage(data)
        return learn(run, epoch)

    options = ("--config", settings(tmp_path, "epochs = 3"), "--workers", workers)
    with monkeypatch.context() as patched:
        patched.setattr(Run, "train_epoch", damage_and_learn)
        result = train(exported, data, *options)
    assert result.exit_code == 2, result.output
    assert "epoch 1/3" in result.stderr
    assert "epoch 2/3" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert "Traceback" not in result.output
    shutil.rmtree(data)
    write_images(data)
    result = train(exported, data, *options)
    assert result.exit_code == 0, result.output
    assert "epoch 1/3" not in result.stderr
    assert "epoch 3/3" in result.stderr


def test_a_full_disk_ends_in_one_line(
    exported: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        # As torch says it.
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")

    monkeypatch.setattr("torch.save", full)
    out = tmp_path / "out"
    result = train(exported, images, "--out", out, "--config", settings(tmp_path))
    assert result.exit_code == 2
    line = result.stderr.splitlines()[-1]
    assert line.startswith(f"error: {out / 'checkpoint.pt'}: no checkpoint can be written ([enf")
    assert list(out.iterdir()) == []


def test_an_interrupt_says_how_to_go_on(
    exported: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rfsearch.training.retraining.retrain", interrupt)
    result = train(exported, images, "--config", settings(tmp_path))
    assert result.exit_code == 130
    assert "run again to go on" in result.stderr
