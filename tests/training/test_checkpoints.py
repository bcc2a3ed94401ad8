from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from helpers import architecture

from rfsearch.data.sources import digit_scenes
from rfsearch.network.model import build_model
from rfsearch.training.checkpoints import Checkpoint, Checkpoints, TrainingProgress
from rfsearch.training.classification import ClassificationLesson
from rfsearch.training.config import TrainingConfig
from rfsearch.training.training import TrainingResult, train

CPU = torch.device("cpu")
CONFIG = TrainingConfig(epochs=4, batch_size=16)


@pytest.fixture(scope="module")
def lesson() -> ClassificationLesson:
    data = digit_scenes(object_size=8, canvas_size=16, num_train=64, num_valid=32)
    return ClassificationLesson(data, CPU)


def network(width: int = 4) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(architecture(width=width), 1, 10)


def stop_after(last: int, seen: list[int]) -> object:
    def report(epoch: int, score: float) -> None:
        seen.append(epoch)
        if epoch == last:
            raise KeyboardInterrupt

    return report


def interrupted(
    lesson: ClassificationLesson,
    checkpoint: Checkpoint,
    after: int,
    config: TrainingConfig = CONFIG,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(
            network(), lesson, config, device=CPU, checkpoint=checkpoint,
            report=stop_after(after, []),  # type: ignore[arg-type]
        )  # fmt: skip


def resumed(
    lesson: ClassificationLesson, checkpoint: Checkpoint, config: TrainingConfig = CONFIG
) -> tuple[TrainingResult, torch.nn.Module]:
    model = network()
    return train(model, lesson, config, device=CPU, checkpoint=checkpoint), model


def optimizer(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters())


@pytest.mark.parametrize("config", [CONFIG, TrainingConfig(steps=14, batch_size=16)])
@pytest.mark.parametrize("after", [1, 3, 4])
def test_a_resumed_training_ends_like_an_uninterrupted_one(
    tmp_path: Path, lesson: ClassificationLesson, after: int, config: TrainingConfig
) -> None:
    checkpoint = Checkpoint(tmp_path / "trial-0")
    interrupted(lesson, checkpoint, after, config)
    result, model = resumed(lesson, checkpoint, config)
    whole = network()
    expected = train(whole, lesson, config, device=CPU)
    assert (result.score, result.epochs) == (expected.score, 4)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_a_resumed_training_reports_the_earlier_epochs_too(
    tmp_path: Path, lesson: ClassificationLesson
) -> None:
    checkpoint = Checkpoint(tmp_path / "trial-0")
    interrupted(lesson, checkpoint, 2)
    seen: list[int] = []
    train(
        network(), lesson, CONFIG, device=CPU, checkpoint=checkpoint,
        report=stop_after(-1, seen),  # type: ignore[arg-type]
    )  # fmt: skip
    assert seen == [1, 2, 3, 4]


def test_the_time_before_the_interruption_counts(
    tmp_path: Path, lesson: ClassificationLesson
) -> None:
    checkpoint = Checkpoint(tmp_path / "trial-0")
    interrupted(lesson, checkpoint, 1)
    file = checkpoint.folder / "last" / "progress.json"
    done = TrainingProgress.model_validate_json(file.read_text())
    assert (len(done.scores), done.updates, done.share) == (1, 4, 0.25)
    file.write_text(done.model_copy(update={"seconds": 1000.0}).model_dump_json())
    result, _ = resumed(lesson, checkpoint)
    assert result.epochs == 4
    assert result.seconds > 1000


def test_without_a_checkpoint_nothing_is_loaded(tmp_path: Path) -> None:
    model = network()
    assert Checkpoint(tmp_path / "none").load(model, optimizer(model), CPU) is None


@pytest.mark.parametrize("file", ["weights.safetensors", "optimizer.pt", "progress.json"])
@pytest.mark.parametrize("content", [b"", b"{}", b"garbage " * 20, None])
def test_a_damaged_checkpoint_is_not_used(
    tmp_path: Path, lesson: ClassificationLesson, file: str, content: bytes | None
) -> None:
    checkpoint = Checkpoint(tmp_path / "trial-0")
    interrupted(lesson, checkpoint, 1)
    if content is None:
        (checkpoint.folder / "last" / file).unlink()
    else:
        (checkpoint.folder / "last" / file).write_bytes(content)
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.warns(UserWarning, match="not a usable checkpoint"):
        assert checkpoint.load(model, optimizer(model), CPU) is None
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)


def test_the_checkpoint_of_another_network_is_not_used(
    tmp_path: Path, lesson: ClassificationLesson
) -> None:
    checkpoint = Checkpoint(tmp_path / "trial-0")
    interrupted(lesson, checkpoint, 1)
    other = network(width=8)
    with pytest.warns(UserWarning, match="it is of another network"):
        assert checkpoint.load(other, optimizer(other), CPU) is None


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("pwned",)


def test_a_checkpoint_runs_no_code(
    tmp_path: Path, lesson: ClassificationLesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = Checkpoint(tmp_path / "trial-0")
    interrupted(lesson, checkpoint, 1)
    torch.save(Evil(), checkpoint.folder / "last" / "optimizer.pt")
    model = network()
    with pytest.warns(UserWarning, match="not a usable checkpoint"):
        assert checkpoint.load(model, optimizer(model), CPU) is None
    assert not (tmp_path / "pwned").exists()
    pickle.loads(pickle.dumps(Evil()))  # The trap does work.
    assert (tmp_path / "pwned").exists()


def test_a_full_disk_does_not_end_the_training(
    tmp_path: Path, lesson: ClassificationLesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint(tmp_path / "trial-0")
    interrupted(lesson, checkpoint, 1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.save", full)
    with pytest.warns(UserWarning, match=r"no checkpoint could be written \(.*No space left"):
        result, _ = resumed(lesson, checkpoint)
    assert result.epochs == 4
    assert [path.name for path in checkpoint.folder.iterdir()] == ["last"]  # Whole, of epoch 1.


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


def test_a_removed_checkpoint_is_gone(tmp_path: Path, lesson: ClassificationLesson) -> None:
    checkpoint = Checkpoint(tmp_path / "trial-0")
    interrupted(lesson, checkpoint, 1)
    checkpoint.remove()
    assert not checkpoint.folder.exists()
    checkpoint.remove()
