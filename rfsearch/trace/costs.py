"""What a module costs, counted while it runs on tensors without data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from collections.abc import Callable

#: Batch normalisation that trains takes no single value of a channel.
_BATCH = 2


@dataclass(frozen=True, eq=False)
class DatalessRun:
    """A copy of a module without data, and how to run it.

    Attributes:
        twin: The copy, in evaluation mode.
        image: `(1, channels, height, width)` on the meta device.
        forward: Runs a module on images; None means to call it.
    """

    twin: nn.Module
    image: Tensor
    forward: Callable[[nn.Module, Tensor], Any] | None

    @property
    def parameters(self) -> int:
        """Number of trainable values; those that layers share count once."""
        return sum(parameter.numel() for parameter in self.twin.parameters())

    @cached_property
    def flops(self) -> int:
        """Floating-point operations for one image, as `torch.utils.flop_counter` counts them."""
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            self._run(self.image)
        return int(counter.get_total_flops())

    @cached_property
    def saved_bytes(self) -> float:
        """Bytes that autograd keeps of one image between the passes, weights not counted.

        Raises:
            ValueError: If the module cannot be trained on tensors without data.
        """
        weights = {_storage(parameter): parameter for parameter in self.twin.parameters()}
        kept: dict[int, Tensor] = {}

        def keep(tensor: Tensor) -> Tensor:
            if _storage(tensor) not in weights:
                kept[_storage(tensor)] = tensor
            return tensor

        images = self.image.expand(_BATCH, -1, -1, -1).clone()
        self.twin.train().requires_grad_()
        try:
            with saved_tensors_hooks(keep, lambda tensor: tensor):
                self._run(images)
        except Exception as error:  # Whatever a module raises.
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(f"What training keeps cannot be counted: {reason}") from error
        finally:
            self.twin.eval().requires_grad_(requires_grad=False)
        return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / _BATCH

    def _run(self, images: Tensor) -> Any:
        return self.twin(images) if self.forward is None else self.forward(self.twin, images)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
