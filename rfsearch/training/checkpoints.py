"""A training's state after each epoch, so that another process can go on with it.

It is one file of what `torch.load(weights_only=True)` reads, so that loading it runs no code, and
one step brings it to its place: a process that is killed leaves the last one or the new one.
"""

from __future__ import annotations

import hashlib
import shutil
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import safetensors.torch
import torch
from pydantic import ConfigDict, Field

from rfsearch.basics.atomic import atomic_file
from rfsearch.basics.validation import FrozenData

if TYPE_CHECKING:
    from torch import Tensor, nn

#: What the file is called, in a folder of its own.
_LAST = "last.pt"
#: What the folder of a trial's checkpoint is called, before the number.
_TRIAL = "trial-"


class Epoch(NamedTuple):
    """What an epoch gave.

    Attributes:
        number: From 1; 0 is before training.
        loss: Mean loss of its batches; NaN before training.
        score: On the validation images after it.
    """

    number: int
    loss: float
    score: float


class TrainingProgress(FrozenData):
    """How far a training has come.

    Attributes:
        history: The epochs so far.
        updates: Of the weights, so far.
        share: Of the budget that is used up.
        seconds: Of training and validation so far.
        identity: What tells the training from others, by what it is of.
    """

    model_config = ConfigDict(ser_json_inf_nan="constants")

    history: Annotated[tuple[Epoch, ...], Field(strict=False)] = ()
    updates: int = 0
    share: float = 0.0
    seconds: float = 0.0
    identity: dict[str, str] = Field(default_factory=dict)


@dataclass
class TrainingState:
    """Everything that going on with a training needs.

    Attributes:
        model: The network that is trained.
        optimizer: Of its weights.
        averaged: The network with averaged weights; None where they are not averaged.
        best: The best weights so far, on the CPU; None where they are not kept.
        progress: How far it has come.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    averaged: nn.Module | None = None
    best: dict[str, Tensor] | None = None
    progress: TrainingProgress = field(default_factory=TrainingProgress)

    def weights(self) -> dict[str, dict[str, Tensor]]:
        """All weights, by what they are of."""
        kept = {"model": weights_of(self.model)}
        if self.averaged is not None:
            kept["averaged"] = weights_of(self.averaged)
        if self.best is not None:
            kept["best"] = self.best
        return kept


@dataclass(frozen=True)
class Checkpoint:
    """Where one training leaves its state.

    Attributes:
        folder: Its own; made when first needed.
        identity: What tells the training from others, by what it is of. Where it is given, a
            checkpoint that cannot be used, or is another training's, is an error, and else a
            warning, after which the training starts anew.
    """

    folder: Path
    identity: dict[str, str] | None = None

    @property
    def file(self) -> Path:
        """What holds the state, once there is one."""
        return self.folder / _LAST

    def save(self, state: TrainingState) -> None:
        """Replace the last checkpoint; warns where the disk is full or cannot be written."""
        progress = state.progress.model_copy(update={"identity": self.identity or {}})
        content = {
            "progress": progress.model_dump_json(),
            "optimizer": state.optimizer.state_dict(),
            "weights": state.weights(),
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(self.file) as new:
                torch.save(content, new)
        except (OSError, RuntimeError) as error:
            warnings.warn(
                f"{self.folder}: no checkpoint could be written ({_reason(error)}).", stacklevel=2
            )

    def load(self, state: TrainingState) -> bool:
        """Bring a new training to where the last epoch left it.

        Returns:
            Whether there is a checkpoint of this training; if not, nothing has changed.

        Raises:
            ValueError: If there is one that cannot be used, and the training has an identity.
        """
        if not self.file.exists():
            return False
        try:
            self._restore(state, torch.load(self.file, map_location="cpu", weights_only=True))
        except Exception as error:  # A damaged file can raise anything.
            if self.identity is not None:
                raise ValueError(
                    f"{self.folder}: cannot be gone on from ({_reason(error)}); remove it to "
                    "start anew."
                ) from None
            warnings.warn(
                f"{self.file}: not a usable checkpoint ({_reason(error)}).", stacklevel=2
            )
            return False
        return True

    def _restore(self, state: TrainingState, content: dict[str, Any]) -> None:
        progress = TrainingProgress.model_validate_json(content["progress"])
        for kind, own in (self.identity or {}).items():
            if progress.identity.get(kind) != own:
                raise ValueError(f"it is that of a training with other {kind}")
        found = content["weights"]
        for name, mine in state.weights().items():
            if _shapes(found[name]) != _shapes(mine):
                raise ValueError("it is of another network")
        state.optimizer.load_state_dict(content["optimizer"])
        state.model.load_state_dict(found["model"])
        if state.averaged is not None:
            state.averaged.load_state_dict(found["averaged"])
        state.best = found.get("best")
        state.progress = progress

    def remove(self) -> None:
        """Delete it; the training has ended."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a study's trials.

    Attributes:
        folder: Where they lie; workers on several machines need it on a shared file system to go
            on with each other's trainings.
        study_name: The study's, whatever characters it has: a digest of it is part of the path.
    """

    folder: Path
    study_name: str

    def of(self, number: int) -> Checkpoint:
        """That of the trial with this number and its retries."""
        return Checkpoint(self._folder / f"{_TRIAL}{number}")

    def numbers(self) -> set[int]:
        """Which trials there are checkpoints of."""
        paths = self._folder.glob(f"{_TRIAL}*/{_LAST}")
        return {int(path.parent.name.removeprefix(_TRIAL)) for path in paths}

    def keep_only(self, numbers: Iterable[int]) -> None:
        """Delete those of all trials but the ones with these numbers."""
        kept = {self.of(number).folder for number in numbers}
        for folder in self._folder.glob(f"{_TRIAL}*"):
            if folder not in kept:
                Checkpoint(folder).remove()

    @property
    def _folder(self) -> Path:
        digest = hashlib.sha256(self.study_name.encode()).hexdigest()[:16]
        return self.folder / digest


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, as safetensors writes them."""
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items()}


def digest_of(model: nn.Module) -> str:
    """What tells a network's weights from others."""
    return hashlib.sha256(safetensors.torch.save(weights_of(model))).hexdigest()


def _shapes(tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _reason(error: Exception) -> str:
    """In a line; of a file that cannot be written without its path."""
    text = getattr(error, "reason", None) or str(error)
    return next(iter(text.splitlines()), type(error).__name__)
