"""Weights of trained candidates, kept in Optuna's artifact store.

Files are named by the artifact's id, a UUID that Optuna draws: neither a study's nor a trial's
name ever becomes part of a path. They are safetensors, which hold numbers and no code.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors.torch
from optuna.artifacts import FileSystemArtifactStore, download_artifact, upload_artifact
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.study import StudyDirection
from optuna.trial import TrialState

from rfsearch.basics.atomic import atomic_file
from rfsearch.space.trial_attributes import WEIGHTS
from rfsearch.training.checkpoints import weights_of

if TYPE_CHECKING:
    from typing import BinaryIO

    import optuna
    from optuna.trial import FrozenTrial
    from torch import Tensor, nn


@dataclass(frozen=True)
class WeightStore:
    """The weights of the best trained candidates of a study, by score.

    Attributes:
        folder: Where the files lie; it is made when the first one is kept.
        keep: How many trials' weights stay; those of the others are removed.
    """

    folder: Path
    keep: int = 3

    def add(self, trial: optuna.Trial, model: nn.Module, value: float) -> None:
        """Keep a candidate's weights at the end of its training, if it is one of the best.

        Where the disk is full or cannot be written it warns: the trial's result matters more.

        Args:
            trial: The candidate's trial, still running.
            model: The trained network.
            value: What the trial is about to return, or the first of that: the score.
        """
        kept = self._best(trial.study)
        if math.isnan(value) or self.keep < 1:
            return
        if len(kept) >= self.keep and _rank(trial.study, value) <= kept[self.keep - 1][0]:
            return
        try:
            artifact = self._upload(trial, model)
        except (OSError, safetensors.SafetensorError) as error:
            warnings.warn(
                f"{self.folder}: the weights of trial {trial.number} cannot be kept ({error}).",
                stacklevel=2,
            )
            return
        trial.set_user_attr(WEIGHTS, artifact)
        self._remove(old for _, old in kept[self.keep - 1 :])

    def _upload(self, trial: optuna.Trial, model: nn.Module) -> str:
        self.folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.safetensors"
            save_weights(model, file)
            return upload_artifact(
                artifact_store=self._store, file_path=str(file), study_or_trial=trial
            )

    def load(self, trial: FrozenTrial) -> dict[str, Tensor]:
        """The weights of a trial by name.

        Raises:
            ValueError: If they were not kept, or the file is damaged.
        """
        where = f"the weights of trial {trial.number}"
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "model.safetensors"
            try:
                download_artifact(
                    artifact_store=self._store,
                    file_path=str(copy),
                    artifact_id=trial.user_attrs[WEIGHTS],
                )
                return safetensors.torch.load_file(copy)
            except (KeyError, ArtifactNotFound):
                raise ValueError(
                    f"{self.folder}: {where} are not here; only those of the best {self.keep} "
                    "trials are kept (search, keep_weights)."
                ) from None
            except safetensors.SafetensorError as error:
                raise ValueError(f"{self.folder}: {where} cannot be read ({error}).") from None

    @property
    def _store(self) -> FileSystemArtifactStore:
        return _AtomicStore(self.folder)

    def _best(self, study: optuna.Study) -> list[tuple[float, str]]:
        """Ranks and artifacts of the finished trials that have weights, best first.

        A trial that was given up after its weights were kept comes last.
        """
        trials = study.get_trials(deepcopy=False)
        finished = [t for t in trials if WEIGHTS in t.user_attrs and t.state.is_finished()]
        ranks = (
            _rank(study, t.values[0]) if t.state == TrialState.COMPLETE else -math.inf
            for t in finished
        )
        kept = [
            (rank, artifact)
            for rank, artifact in zip(
                ranks, (t.user_attrs[WEIGHTS] for t in finished), strict=True
            )
            if (self.folder / artifact).is_file()
        ]
        return sorted(kept, reverse=True)

    def _remove(self, artifacts: Iterable[str]) -> None:
        for artifact in artifacts:
            with suppress(ArtifactNotFound):  # Another process may have removed it.
                self._store.remove(artifact)


class _AtomicStore(FileSystemArtifactStore):
    """Optuna's store of files, in which each is there as a whole or not at all."""

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Keep all of a file.

        Raises:
            rfsearch.basics.atomic.NotWrittenError: If it cannot be written.
        """
        with atomic_file(Path(self._base_path) / artifact_id) as new, new.open("wb") as file:
            shutil.copyfileobj(content_body, file)


def save_weights(model: nn.Module, file: Path) -> None:
    """Write a network's parameters and buffers as safetensors."""
    safetensors.torch.save_file(weights_of(model), file, metadata={"format": "pt"})


def _rank(study: optuna.Study, value: float) -> float:
    """The larger, the better; of several objectives the first one counts."""
    return -value if study.directions[0] == StudyDirection.MINIMIZE else value
