"""What a network is trained on to convergence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn


class Course(Protocol):
    """Images with their truth, a loss and a score."""

    @property
    def metric(self) -> str:
        """Name of the score."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name for each class."""

    @property
    def identity(self) -> str:
        """What tells these images, and how they are split, from others."""

    def __len__(self) -> int:
        """Updates of an epoch."""

    def batches(self, epoch: int) -> Iterable[Any]:
        """What the updates of an epoch, numbered from 1, train on."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Loss of one of the batches, with gradients."""

    def score(self, model: nn.Module) -> float:
        """How good a network in evaluation mode is on the validation images; more is better."""

    def images(self, number: int) -> Tensor:
        """Normalised validation images, `(number, channels, height, width)`."""
