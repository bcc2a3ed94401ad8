"""What a module costs, counted while it runs on tensors without data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import flop_registry

from rfsearch.field.part import Kept
from rfsearch.trace._mode import DatalessMode, is_known, named_arguments, operation_of, tensors_in

if TYPE_CHECKING:
    from collections.abc import Callable

#: Batch normalisation that trains takes no single value of a channel.
_BATCH = 2
#: Of a value.
_BYTES = 4


@dataclass(frozen=True, eq=False)
class DatalessRun:
    """A copy of a module without data, and how to run it.

    Attributes:
        twin: The copy, in evaluation mode.
        image: `(1, channels, *input_size)` on the meta device.
        forward: Runs a module on images; None means to call it.
        is_part: Whether it is given maps that depend on weights before it, which training asks
            for the gradient of.
    """

    twin: nn.Module
    image: Tensor
    forward: Callable[[nn.Module, Tensor], Any] | None
    is_part: bool = False

    @property
    def parameters(self) -> int:
        """Number of trainable values; those that layers share count once."""
        return sum(parameter.numel() for parameter in self.twin.parameters())

    @property
    def flops(self) -> int:
        """Floating-point operations for one image, as `torch.utils.flop_counter` counts them."""
        return self.counted[0]

    @cached_property
    def counted(self) -> tuple[int, Any]:
        """The same, and what the module returned."""
        with torch.no_grad(), _Counting() as counter:
            output = self._run(self.image)
        return counter.flops, output

    @property
    def saved_bytes(self) -> float:
        """Bytes that autograd keeps of one image between the passes, weights not counted.

        Raises:
            ValueError: If the module cannot be trained on tensors without data.
        """
        kept, _, _ = self._kept
        return sum(kept.values())

    def kept(self) -> Kept:
        """The same, for a map that depends on weights in the place of the image.

        Raises:
            ValueError: As for `saved_bytes`.
        """
        kept, image, output = self._kept
        others = sum(size for storage, size in kept.items() if storage not in (image, output))
        return Kept(image in kept, output in kept, others / _BYTES)

    @cached_property
    def _kept(self) -> tuple[dict[int, float], int, int | None]:
        """Bytes of an image by storage, the images' own storage, and that of the output."""
        weights = {_storage(parameter): parameter for parameter in self.twin.parameters()}
        kept: dict[int, Tensor] = {}

        def keep(tensor: Tensor) -> Tensor:
            if _storage(tensor) not in weights:
                kept[_storage(tensor)] = tensor
            return tensor

        images = self.image.expand(_BATCH, *self.image.shape[1:])
        leaf = images.clone().requires_grad_(self.is_part)
        images = leaf.clone()  # A part may write to what it is given, which it may not to a leaf.
        self.twin.train().requires_grad_()
        try:
            with saved_tensors_hooks(keep, lambda tensor: tensor), _Counting():
                output = self._run(images)
        except Exception as error:  # Whatever a module raises.
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(f"What training keeps cannot be counted: {reason}") from error
        finally:
            self.twin.eval().requires_grad_(requires_grad=False)
        sizes = {
            storage: tensor.untyped_storage().nbytes() / _BATCH for storage, tensor in kept.items()
        }
        return sizes, _storage(images), _storage(output) if isinstance(output, Tensor) else None

    def _run(self, images: Tensor) -> Any:
        return self.twin(images) if self.forward is None else self.forward(self.twin, images)


class _Counting(DatalessMode):
    """Adds up floating-point operations, by torch's table of what each operation takes.

    Attributes:
        flops: Their number so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation on shapes alone, and count it."""
        kwargs = kwargs or {}
        operation = operation_of(func)
        if is_known(func, tensors_in((args, kwargs))):
            return self.constant(func, operation, args, kwargs)
        arguments = named_arguments(operation, args, kwargs)
        output = self.run(func, operation, arguments, args, kwargs)
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.flops += int(count(*args, **kwargs, out_val=output))
        return output


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
