from __future__ import annotations

import csv
import itertools
import multiprocessing
import multiprocessing.connection
import shutil
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from experiments_on_folders import write_images
from helpers import refusal, rfsearch
from studies import stored_study

from rfsearch.network.network_folder import load_network
from rfsearch.training.classification import ClassificationTask
from rfsearch.training.scores import Scores

pytestmark = pytest.mark.usefixtures("plain_cards")
#: What experiments on folders set, which such trainings do not.
SETTINGS = "epochs = 1\nbatch_size = 16\n"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "images")


def train(network: Path, data: Path, *options: str | Path) -> Any:
    fixed = ("--device", "cpu", "--no-onnx")
    return rfsearch("train", network, "--data", data, *fixed, *options)


def settings(folder: Path, text: str = SETTINGS) -> Path:
    file = folder / "training.toml"
    file.write_text(text)
    return file


def epochs_of(out: Path) -> list[dict[str, str]]:
    with (out / "training.csv").open() as file:
        return list(csv.DictReader(file))


def test_training_begins_where_the_search_ended(
    searched: Path, exported: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ("--config", settings(tmp_path), "--epochs", "2", "--split-seed", "0")
    result = train(exported, searched / "images", "--out", out, *options)
    assert result.exit_code == 0, result.output
    rows = epochs_of(out)
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert list(rows[0]) == ["epoch", "loss", "accuracy"]
    assert float(rows[0]["accuracy"]) == pytest.approx(stored_study(searched).trials[0].value)
    names = {path.name for path in exported.iterdir()} - {"model.onnx"}
    assert {path.name for path in out.iterdir()} == names | {"training.csv"}
    lines = [line.split() for line in result.stdout.splitlines()]
    (start,) = (line for line in lines if line[:1] == ["start"])
    assert start[1:4] == ["0", "-", f"{float(rows[0]['accuracy']):.4f}"]
    best = max(float(row["accuracy"]) for row in rows)
    assert f"| validation accuracy | {best:.4f} |" in (out / "README.md").read_text()
    assert "epoch 2/2: loss " in result.stderr


@pytest.mark.parametrize(
    ("options", "said", "row"),
    [
        ("", "which these are: epoch 0 of 2 epochs (the best)", "0 of 2 epochs (the best)"),
        ("keep_best = false\n", "trained on `images`: epoch 2 of 2 epochs", "2 of 2 epochs"),
    ],
)
def test_the_card_says_what_was_trained(
    exported: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: str,
    said: str,
    row: str,
) -> None:
    falling = itertools.count(0.9, -0.1)
    monkeypatch.setattr(ClassificationTask, "evaluate", lambda *_: Scores(next(falling)))
    out, config = tmp_path / "out", settings(tmp_path, f"epochs = 2\nbatch_size = 16\n{options}")
    result = train(exported, images, "--out", out, "--config", config)
    assert result.exit_code == 0, result.output
    card = (out / "README.md").read_text()
    assert f"{said}." in card
    assert f"| trained | {row} |" in card
    assert "convergence" not in card
    start = [line for line in result.stdout.splitlines() if line.startswith("start ")]
    assert len(start) == (0 if "keep_best" in options else 1)


def test_an_experiment_says_which_images_and_how_many_at_a_time(
    searched: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks: list[ClassificationTask] = []
    evaluate = ClassificationTask.evaluate

    def noted(task: ClassificationTask, model: Any) -> Any:
        tasks.append(task)
        return evaluate(task, model)

    monkeypatch.setattr(ClassificationTask, "evaluate", noted)
    out = tmp_path / "out"
    result = train(exported, searched, "--out", out, "--epochs", "1")
    assert result.exit_code == 0, result.output
    assert tasks[0].training.batch_size == 16
    (first, _) = epochs_of(out)
    assert float(first["accuracy"]) == pytest.approx(stored_study(searched).trials[0].value)


def test_a_folder_that_is_split_is_taken_as_it_is(exported: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_images(data / "train", count=20)
    write_images(data / "val", count=5)
    write_images(data / "test", count=1)
    options = ("--config", settings(tmp_path), "--out", tmp_path / "out", "--from-scratch")
    with pytest.warns(UserWarning, match=r"left out: test\.$"):
        result = train(exported, data, *options)
    assert result.exit_code == 0, result.output
    assert all(float(row["accuracy"]) * 10 % 1 < 1e-6 for row in epochs_of(tmp_path / "out"))


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
        pytest.param(break_an_image, "1", ".png: not a readable image", marks=pytest.mark.slow),
        (kill_a_reader, "1", "A process that reads images has ended"),
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
    data, trained = write_images(tmp_path / "data"), list[int]()
    load, per_epoch, damaged = ClassificationTask.load, 4, list[Path]()

    def noted(task: ClassificationTask, batches: Iterable[Any]) -> Iterable[Any]:
        for batch in load(task, batches):
            trained.append(len(trained))
            if len(trained) == per_epoch + 1 and data not in damaged:
                damaged.append(data)
                damage(data)
            yield batch

    monkeypatch.setattr("rfsearch.data.sources.fits_memory", lambda _: False)
    monkeypatch.setattr(ClassificationTask, "load", noted)
    options = ("--config", settings(tmp_path, "epochs = 3\nbatch_size = 16"), "--workers")
    result = train(exported, data, *options, workers)
    assert result.exit_code == 2, result.output
    assert "epoch 1/3" in result.stderr
    assert "epoch 2/3" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert "Traceback" not in result.output
    shutil.rmtree(data)
    write_images(data)
    trained.clear()
    result = train(exported, data, *options, "0")
    assert result.exit_code == 0, result.output
    assert len(trained) == 2 * per_epoch
    assert "epoch 3/3" in result.stderr
    assert not (exported / "checkpoint").exists()


def test_the_checkpoint_of_another_training_is_refused(
    exported: Path, images: Path, tmp_path: Path
) -> None:
    out, file = tmp_path / "out", settings(tmp_path, "epochs = 2\nbatch_size = 16")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rfsearch.cli.train.typer.echo", interrupted)
        train(exported, images, "--out", out, "--config", file)
    assert [path.name for path in out.iterdir()] == ["checkpoint"]
    for options, what in (
        (("--epochs", "3"), "settings"),
        (("--valid-share", "0.3"), "images"),
        (("--from-scratch",), "first weights"),
    ):
        line = refusal(train(exported, images, "--out", out, "--config", file, *options))
        assert line == (
            f"error: {out / 'checkpoint'}: cannot be gone on from (it is that of a training with "
            f"other {what}); remove it to start anew."
        )
    result = train(exported, images, "--out", out, "--config", file, "--workers", "0")
    assert result.exit_code == 0, result.output


def test_a_full_disk_is_a_warning_while_it_trains(
    exported: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = torch.save

    def full(values: object, file: Any, **options: Any) -> None:
        if str(file).endswith("last.pt"):  # As torch says it.
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576")
        save(values, file, **options)

    monkeypatch.setattr("torch.save", full)
    out = tmp_path / "out"
    with pytest.warns(UserWarning, match=r"checkpoint: no checkpoint could be written \(\[enf"):
        result = train(exported, images, "--out", out, "--config", settings(tmp_path))
    assert result.exit_code == 0, result.output
    assert not (out / "checkpoint").exists()


@pytest.fixture(scope="module")
def uninterrupted(
    exported_once: Path, images: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, str]]:
    """The epochs of a training that nothing stops."""
    folder = tmp_path_factory.mktemp("whole")
    options = ("--config", settings(folder), "--epochs", "3")
    result = train(exported_once, images, "--out", folder / "out", *options)
    assert result.exit_code == 0, result.output
    return epochs_of(folder / "out")


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)],
)
def test_who_is_told_to_stop_keeps_the_last_epoch_and_says_how_to_go_on(
    exported: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: list[dict[str, str]],
    number: signal.Signals,
) -> None:
    """In the middle of the second epoch."""
    loss, batches, in_epoch = ClassificationTask.loss, 0, 4

    def told(task: ClassificationTask, model: Any, examples: Any) -> Any:
        nonlocal batches
        batches += 1
        if batches == in_epoch + 2:
            signal.raise_signal(number)
        return loss(task, model, examples)

    out, config = tmp_path / "out", settings(tmp_path)
    options = ("--out", out, "--config", config, "--epochs", "3")
    monkeypatch.setattr(ClassificationTask, "loss", told)
    result = train(exported, images, *options)
    assert result.exit_code == 128 + number
    lines = result.stderr.splitlines()
    assert [line.split(":")[0] for line in lines[:1]] == ["epoch 1/3"]
    again = " (Ctrl-C again to stop at once)" if number == signal.SIGINT else ""
    assert lines[1:] == [
        f"{number.name}: waiting for the running batch to end{again}.",
        "Interrupted; run again to go on after the last whole epoch.",
    ]
    assert batches == in_epoch + 2
    assert [path.name for path in (out / "checkpoint").iterdir()] == ["last.pt"]
    batches = 100
    assert train(exported, images, *options).exit_code == 0
    assert epochs_of(out) == uninterrupted


def test_a_batch_that_does_not_fit_is_one_line(
    exported: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nAdvice.")

    monkeypatch.setattr(ClassificationTask, "loss", fail)
    line = refusal(train(exported, images, "--config", settings(tmp_path)))
    assert line == (
        "error: A batch of 8 images does not fit into memory (CUDA out of memory.). Give a "
        "smaller `batch_size` in --config."
    )
