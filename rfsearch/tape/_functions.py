"""Functions of single values, with their slopes, by torch's own operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Settings = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class TorchFunction:
    """An ATen operation on one tensor, with its other arguments.

    Attributes:
        name: Of the operation.
        settings: The other arguments by name.
        twice: Whether the tensor is given as the second argument too.
    """

    name: str
    settings: Settings = ()
    twice: bool = False

    @classmethod
    def of(cls, name: str, arguments: Mapping[str, Any]) -> TorchFunction | None:
        """The function of an operation's first argument; None if others are no plain values."""
        (_, first), *others = arguments.items()
        twice = any(value is first for _, value in others)
        rest = tuple(pair for pair in others if pair[1] is not first)
        plain = all(value is None or isinstance(value, int | float | str) for _, value in rest)
        return cls(name, rest, twice) if plain else None

    def __call__(self, values: Array) -> tuple[Array, Array]:
        """What the function makes of values, and its slope there."""
        inputs = torch.from_numpy(values).requires_grad_()
        operation = getattr(torch.ops.aten, self.name)
        with torch.enable_grad():
            out = operation(*(inputs,) * (1 + self.twice), **dict(self.settings))
            (slope,) = torch.autograd.grad(out.sum(), inputs)
        return out.detach().numpy(), slope.numpy()
