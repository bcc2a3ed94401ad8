"""A training's state after each epoch, so that another process can go on with it.

Weights are written as safetensors, the optimiser's state as what `torch.load(weights_only=True)`
reads: loading either runs no code. A checkpoint is written beside the last one and takes its place
only when complete.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import safetensors.torch
import torch
from pydantic import ConfigDict, Field
from safetensors import SafetensorError

from rfsearch.basics.validation import FrozenData

if TYPE_CHECKING:
    from torch import Tensor, nn

_OPTIMIZER, _PROGRESS = "optimizer.pt", "progress.json"
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
        """All weights, by the name of the file that holds them."""
        kept = {"weights": weights_of(self.model)}
        if self.averaged is not None:
            kept["averaged"] = weights_of(self.averaged)
        if self.best is not None:
            kept["best"] = self.best
        return {f"{name}.safetensors": tensors for name, tensors in kept.items()}


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

    def save(self, state: TrainingState) -> None:
        """Replace the last checkpoint; warns where the disk is full or cannot be written."""
        new, old = self.folder / f"new-{os.getpid()}", self.folder / "last"
        progress = state.progress.model_copy(update={"identity": self.identity or {}})
        try:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            for name, tensors in state.weights().items():
                safetensors.torch.save_file(tensors, new / name)
            torch.save(state.optimizer.state_dict(), new / _OPTIMIZER)
            (new / _PROGRESS).write_text(progress.model_dump_json(), encoding="utf-8")
            shutil.rmtree(old, ignore_errors=True)
            new.rename(old)
        except (OSError, RuntimeError, SafetensorError) as error:
            warnings.warn(
                f"{self.folder}: no checkpoint could be written ({_reason(error)}).", stacklevel=2
            )
            shutil.rmtree(new, ignore_errors=True)

    def load(self, state: TrainingState, device: torch.device) -> bool:
        """Bring a new training to where the last epoch left it.

        Returns:
            Whether there is a checkpoint of this training; if not, nothing has changed.

        Raises:
            ValueError: If there is one that cannot be used, and the training has an identity.
        """
        last = self.folder / "last"
        if not last.is_dir():
            return False
        try:
            self._load(last, state, device)
        except Exception as error:  # A damaged file can raise anything.
            if self.identity is not None:
                raise ValueError(
                    f"{self.folder}: cannot be gone on from ({_reason(error)}); remove it to "
                    "start anew."
                ) from None
            warnings.warn(f"{last}: not a usable checkpoint ({_reason(error)}).", stacklevel=2)
            return False
        return True

    def _load(self, last: Path, state: TrainingState, device: torch.device) -> None:
        text = (last / _PROGRESS).read_text(encoding="utf-8")
        progress = TrainingProgress.model_validate_json(text)
        for kind, own in (self.identity or {}).items():
            if progress.identity.get(kind) != own:
                raise ValueError(f"it is that of a training with other {kind}")
        found = {}
        for name, mine in state.weights().items():
            found[name] = safetensors.torch.load_file(last / name)
            if _shapes(found[name]) != _shapes(mine):
                raise ValueError("it is of another network")
        state.optimizer.load_state_dict(
            torch.load(last / _OPTIMIZER, map_location=device, weights_only=True)
        )
        state.model.load_state_dict(found["weights.safetensors"])
        if state.averaged is not None:
            state.averaged.load_state_dict(found["averaged.safetensors"])
        state.best = found.get("best.safetensors")
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
        paths = self._folder.glob(f"{_TRIAL}*/last")
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
    return next(iter(str(error).splitlines()), type(error).__name__)
