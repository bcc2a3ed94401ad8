"""A training's state after each epoch, so that another worker can go on with it.

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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from rfsearch.basics.validation import FrozenData

if TYPE_CHECKING:
    from torch import Tensor, nn

_WEIGHTS, _OPTIMIZER, _PROGRESS = "weights.safetensors", "optimizer.pt", "progress.json"
#: What the folder of a trial's checkpoint is called, before the number.
_TRIAL = "trial-"


class TrainingProgress(FrozenData):
    """How far a training has come.

    Attributes:
        scores: Validation score after each epoch.
        updates: Of the weights, so far.
        share: Of the budget that is used up.
        seconds: Of training and validation so far.
    """

    scores: Annotated[tuple[float, ...], Field(strict=False)]
    updates: int
    share: float
    seconds: float


@dataclass(frozen=True)
class Checkpoint:
    """Where one training leaves its state.

    Attributes:
        folder: Its own; made when first needed.
    """

    folder: Path

    def save(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, progress: TrainingProgress
    ) -> None:
        """Replace the last checkpoint; warns where the disk is full or cannot be written."""
        new, old = self.folder / f"new-{os.getpid()}", self.folder / "last"
        try:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            save_file(weights_of(model), new / _WEIGHTS)
            torch.save(optimizer.state_dict(), new / _OPTIMIZER)
            (new / _PROGRESS).write_text(progress.model_dump_json(), encoding="utf-8")
            shutil.rmtree(old, ignore_errors=True)
            new.rename(old)
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            warnings.warn(
                f"{self.folder}: no checkpoint could be written ({reason}).", stacklevel=2
            )
            shutil.rmtree(new, ignore_errors=True)

    def load(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
    ) -> TrainingProgress | None:
        """Bring a new model and its optimiser to where the last epoch left them.

        Returns:
            How far that was; None, and nothing changed, if there is no checkpoint of this model.
        """
        last = self.folder / "last"
        if not last.is_dir():
            return None
        try:
            weights = load_file(last / _WEIGHTS, device=str(device))
            state = torch.load(last / _OPTIMIZER, map_location=device, weights_only=True)
            text = (last / _PROGRESS).read_text(encoding="utf-8")
            progress = TrainingProgress.model_validate_json(text)
            if _shapes(weights) != _shapes(weights_of(model)):
                raise ValueError("it is of another network")
            optimizer.load_state_dict(state)
        except Exception as error:  # A damaged file can raise anything.
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            warnings.warn(f"{last}: not a usable checkpoint ({reason}).", stacklevel=2)
            return None
        model.load_state_dict(weights)
        return progress

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


def _shapes(tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
