"""The memory of the device that trains, and what happens when a batch does not fit into it."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Protocol

import torch

from rfsearch.basics.limits import machine_memory

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rfsearch.data.augmentation import Examples

#: Largest share of the memory, of the machine or of its GPU, that images are kept in.
MEMORY_SHARE = 0.25
#: Fewer images are not halved: one image alone has no batch statistics to normalise with.
_SMALLEST_BATCH = 4


def fewest_images(batch_size: int) -> int:
    """How many images of a batch must fit into memory together, as batches may be halved once."""
    return batch_size if batch_size < _SMALLEST_BATCH else (batch_size + 1) // 2


def device_memory(device: torch.device) -> float:
    """All memory of a GPU, or of the machine for other devices, in MiB."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 2**20
    return machine_memory() / 2**20


def fits_memory(num_bytes: float) -> bool:
    """Whether so much data may be kept in the memory of this machine, and of its GPU."""
    limits = [machine_memory()]
    if torch.cuda.is_available():
        limits.append(torch.cuda.get_device_properties(0).total_memory)
    return num_bytes <= MEMORY_SHARE * min(limits)


def free_memory() -> None:
    """Give the device back all memory that nothing refers to any more.

    An exception that is being handled refers to all that its traceback saw: call this afterwards.
    """
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


class Learnable(Protocol):
    """What has a loss that can be taken of any of its images."""

    def loss(self, model: nn.Module, examples: Examples) -> Tensor:
        """Loss of some images, with gradients."""

    def weight(self, examples: Examples) -> Tensor | int:
        """How many things the loss of these images is a mean over."""


class Gradients:
    """Gradients of one batch after the other; of its halves once a batch was too large.

    The gradients of the halves add up to those of the batch, but for two things that are then
    those of the halves: batch statistics, and the number that torchvision's detection loss
    divides by.

    Args:
        task: What has the loss.

    Attributes:
        halved: Whether batches are halved. That never changes back.
    """

    def __init__(self, task: Learnable) -> None:
        self.task = task
        self.halved = False

    def add(self, model: nn.Module, batch: Examples) -> Tensor:
        """Add the gradients of a batch of images to those of the model, which are 0 or None.

        Returns:
            The loss, without gradients.

        Raises:
            torch.OutOfMemoryError: If not even half of the images fit into memory.
        """
        if not self.halved:
            try:
                loss = self.task.loss(model, batch)
                loss.backward()
                return loss.detach()
            except torch.OutOfMemoryError as error:
                if fewest_images(batch.size) == batch.size:
                    raise torch.OutOfMemoryError(_reason(batch.size, error)) from None
            self.halved = True
            model.zero_grad()
            free_memory()
        try:
            return self._add_halves(model, batch)
        except torch.OutOfMemoryError as error:
            raise torch.OutOfMemoryError(_reason((batch.size + 1) // 2, error)) from None

    def _add_halves(self, model: nn.Module, batch: Examples) -> Tensor:
        halves = batch.halves()
        weights = [self.task.weight(half) for half in halves]
        whole = torch.as_tensor(sum(weights)).clamp_min(1)
        losses = []
        for half, weight in zip(halves, weights, strict=True):
            loss = self.task.loss(model, half) * (weight / whole)
            loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()


def _reason(num_images: int, error: Exception) -> str:
    first = next(iter(str(error).splitlines()), "")
    return f"A batch of {num_images} images does not fit into memory ({first})."
