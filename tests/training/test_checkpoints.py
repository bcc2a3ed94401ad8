from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import architecture
from torch import nn

from rfsearch.data.sources import digit_scenes
from rfsearch.network.model import build_model
from rfsearch.training.checkpoints import (
    Checkpoint,
    Checkpoints,
    Epoch,
    TrainingProgress,
    TrainingState,
)
from rfsearch.training.classification import ClassificationTask
from rfsearch.training.config import TrainingConfig
from rfsearch.training.loop import TrainingResult

CPU = torch.device("cpu")
CONFIG = TrainingConfig(epochs=4, batch_size=16)
#: Everything on that is random, or that a checkpoint holds.
VARIED = {
    "epochs": 4, "batch_size": 16, "ema_decay": 0.9, "keep_best": True, "horizontal_flip": 0.5,
    "max_shift": 2, "min_scale": 0.5, "color_jitter": 0.5, "auto_augment": "rand", "mixup": 0.4,
    "cutmix": 0.4, "label_smoothing": 0.1,
}  # fmt: skip


@pytest.fixture(scope="module")
def task() -> ClassificationTask:
    data = digit_scenes(object_size=8, canvas_size=16, num_train=64, num_valid=32)
    return ClassificationTask(data, CONFIG, CPU)


def network(width: int = 4) -> torch.nn.Module:
    """With dropout, which draws from the global random numbers."""
    torch.manual_seed(0)
    model = build_model(architecture(width=width), 1, 10)
    model.head.drop = torch.nn.Dropout(0.2)
    return model


def stop_after(last: int, seen: list[int]) -> object:
    def report(epoch: int, score: float) -> None:
        seen.append(epoch)
        if epoch == last:
            raise KeyboardInterrupt

    return report


def interrupted(
    task: ClassificationTask,
    checkpoint: Checkpoint,
    after: int,
    model: torch.nn.Module | None = None,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        task.train(model or network(), stop_after(after, []), checkpoint)  # type: ignore[arg-type]


def resumed(
    task: ClassificationTask, checkpoint: Checkpoint
) -> tuple[TrainingResult, torch.nn.Module]:
    model = network()
    return task.train(model, checkpoint=checkpoint), model


def state(model: torch.nn.Module) -> TrainingState:
    return TrainingState(model, torch.optim.AdamW(model.parameters()))


@pytest.mark.parametrize(
    "config",
    [CONFIG, TrainingConfig(steps=14, batch_size=16), TrainingConfig(**VARIED)],
)
@pytest.mark.parametrize("after", [1, 3, 4])
def test_a_resumed_training_ends_like_an_uninterrupted_one(
    tmp_path: Path, task: ClassificationTask, after: int, config: TrainingConfig
) -> None:
    task = replace(task, training=config)
    checkpoint = Checkpoint(tmp_path / "trial-0")
    interrupted(task, checkpoint, after)
    result, model = resumed(task, checkpoint)
    whole = network()
    expected = task.train(whole)
    assert str(result._replace(seconds=0)) == str(expected._replace(seconds=0))
    assert result.epochs == 4
    for name, tensor in whole.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_a_resumed_training_reports_the_earlier_epochs_too(
    tmp_path: Path, task: ClassificationTask
) -> None:
    checkpoint = Checkpoint(tmp_path / "trial-0")
    interrupted(task, checkpoint, 2)
    seen: list[int] = []
    task.train(network(), stop_after(-1, seen), checkpoint)  # type: ignore[arg-type]
    assert seen == [1, 2, 3, 4]


def test_the_time_before_the_interruption_counts(tmp_path: Path, task: ClassificationTask) -> None:
    checkpoint = Checkpoint(tmp_path / "trial-0")
    interrupted(task, checkpoint, 1)
    content = torch.load(checkpoint.file, weights_only=True)
    done = TrainingProgress.model_validate_json(content["progress"])
    assert (len(done.history), done.updates, done.share) == (1, 4, 0.25)
    later = done.model_copy(update={"seconds": 1000.0}).model_dump_json()
    torch.save(content | {"progress": later}, checkpoint.file)
    result, _ = resumed(task, checkpoint)
    assert result.epochs == 4
    assert result.seconds > 1000


def test_without_a_checkpoint_nothing_is_loaded(tmp_path: Path) -> None:
    model = network()
    assert not Checkpoint(tmp_path / "none").load(state(model))


def changed(file: Path, **parts: object) -> None:
    """Replace or (None) take away what a checkpoint says."""
    content = torch.load(file, weights_only=True) | parts
    torch.save({key: value for key, value in content.items() if value is not None}, file)


def flip(file: Path, place: float) -> None:
    content = bytearray(file.read_bytes())
    content[int(len(content) * place)] ^= 255
    file.write_bytes(content)


DAMAGES: list[Callable[[Path], object]] = [
    lambda file: file.write_bytes(b""),
    lambda file: file.write_bytes(b"garbage " * 20),
    lambda file: file.write_bytes(file.read_bytes()[:-100]),
    lambda file: torch.save([], file),
    *(partial(flip, place=place) for place in (0.3, 0.5, 0.7)),
    *(
        partial(changed, **{part: value})
        for part in ("weights", "optimizer", "progress")
        for value in (None, {}, "garbage", 5, [])
    ),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_not_used(
    tmp_path: Path, task: ClassificationTask, damage: Callable[[Path], object]
) -> None:
    checkpoint = Checkpoint(tmp_path / "trial-0")
    interrupted(task, checkpoint, 1)
    damage(checkpoint.file)
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.warns(UserWarning, match="not a usable checkpoint"):
        assert not checkpoint.load(state(model))
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)


def test_the_checkpoint_of_another_network_is_not_used(
    tmp_path: Path, task: ClassificationTask
) -> None:
    checkpoint = Checkpoint(tmp_path / "trial-0")
    interrupted(task, checkpoint, 1)
    other = network(width=8)
    with pytest.warns(UserWarning, match="it is of another network"):
        assert not checkpoint.load(state(other))


@pytest.mark.parametrize("missing", ["averaged", "best"])
def test_averaged_and_best_weights_must_be_there_too(
    tmp_path: Path, task: ClassificationTask, missing: str
) -> None:
    task = replace(task, training=TrainingConfig(**VARIED))
    checkpoint = Checkpoint(tmp_path / "trial-0")
    interrupted(task, checkpoint, 1)
    weights = torch.load(checkpoint.file, weights_only=True)["weights"]
    changed(checkpoint.file, weights={name: weights[name] for name in weights if name != missing})
    with pytest.warns(UserWarning, match="not a usable checkpoint"):
        result, _ = resumed(task, checkpoint)
    assert [one.number for one in result.history] == [0, 1, 2, 3, 4]


def test_a_training_with_an_identity_goes_on_from_its_own_checkpoint_alone(
    tmp_path: Path, task: ClassificationTask
) -> None:
    own = Checkpoint(tmp_path / "checkpoint", {"settings": "a", "images": "b"})
    interrupted(task, own, 1)
    for identity, what in (({"settings": "x"}, "settings"), ({"images": "x"}, "images")):
        other = Checkpoint(own.folder, own.identity | identity)
        reason = f"it is that of a training with other {what}"
        expected = rf"checkpoint: cannot be gone on from \({reason}\); remove it to start anew\.$"
        with pytest.raises(ValueError, match=expected):
            resumed(task, other)
    interrupted(task, own, 2)
    own.file.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="cannot be gone on from") as error:
        resumed(task, own)
    assert "\n" not in str(error.value)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("pwned",)


def test_a_checkpoint_runs_no_code(
    tmp_path: Path, task: ClassificationTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = Checkpoint(tmp_path / "trial-0")
    interrupted(task, checkpoint, 1)
    torch.save(Evil(), checkpoint.file)
    model = network()
    with pytest.warns(UserWarning, match="not a usable checkpoint"):
        assert not checkpoint.load(state(model))
    assert not (tmp_path / "pwned").exists()
    pickle.loads(pickle.dumps(Evil()))  # The trap does work.
    assert (tmp_path / "pwned").exists()


def test_a_full_disk_does_not_end_the_training(
    tmp_path: Path, task: ClassificationTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint(tmp_path / "trial-0")
    interrupted(task, checkpoint, 1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.save", full)
    with pytest.warns(UserWarning, match=r"no checkpoint could be written \(.*No space left"):
        result, _ = resumed(task, checkpoint)
    assert result.epochs == 4
    assert [path.name for path in checkpoint.folder.iterdir()] == ["last.pt"]  # Whole, of epoch 1.


def as_state(score: float) -> TrainingState:
    """The state of a training that has come to a score, with a weight that is the same."""
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, score)
    progress = TrainingProgress(history=(Epoch(1, 0.0, score),))
    return TrainingState(model, torch.optim.SGD(model.parameters()), None, None, progress)


def save_until_killed(step: int, checkpoint: Checkpoint) -> None:
    """Save, and be killed before one of the steps by which Python changes files."""

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal step
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            step -= 1
            if step < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    checkpoint.save(as_state(2.0))


def test_a_kill_at_any_moment_leaves_the_last_checkpoint_or_the_new_one(tmp_path: Path) -> None:
    left, context = [], multiprocessing.get_context("fork")
    for step in range(1000):
        checkpoint = Checkpoint(tmp_path / str(step))
        checkpoint.save(as_state(1.0))
        process = context.Process(target=save_until_killed, args=(step, checkpoint))
        process.start()
        process.join()
        found = as_state(0.0)
        assert checkpoint.load(found)
        left.append((found.progress.history[0].score, found.model.weight.item()))
        if not process.exitcode:
            break
        assert process.exitcode == -signal.SIGKILL
    assert set(left) == {(1.0, 1.0), (2.0, 2.0)}
    assert left == sorted(left)
    assert len(left) > 5


@pytest.mark.parametrize("name", ["../../etc", "/etc", "a/b", "\0", "", "x" * 5000, "ünï"])
def test_checkpoints_stay_in_their_folder_whatever_the_study_is_called(
    tmp_path: Path, name: str
) -> None:
    folder = Checkpoints(tmp_path, name).of(3).folder
    folder.mkdir(parents=True)
    assert folder.resolve().parent.parent == tmp_path.resolve()
    assert folder.name == "trial-3"


def test_studies_do_not_share_checkpoints(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path, "a").of(0) != Checkpoints(tmp_path, "b").of(0)


def test_a_removed_checkpoint_is_gone(tmp_path: Path, task: ClassificationTask) -> None:
    checkpoint = Checkpoint(tmp_path / "trial-0")
    interrupted(task, checkpoint, 1)
    checkpoint.remove()
    assert not checkpoint.folder.exists()
    checkpoint.remove()
