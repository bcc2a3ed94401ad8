"""Output shapes of the commonest operations: torch's own take a hundred times as long.

A function takes the arguments by name and returns the output, or None to let torch find it. All
tensors are on the meta device; memory formats are not kept, as no layout in memory is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Arguments = dict[str, Any]


def _empty(shape: Any, like: Tensor) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device="meta")


def _elementwise(arguments: Arguments) -> Tensor | None:
    tensors = [value for value in arguments.values() if isinstance(value, Tensor)]
    first = tensors[0]
    # Other types are promoted by rules that are torch's own.
    if not first.is_floating_point() or any(other.dtype != first.dtype for other in tensors):
        return None
    shapes = {other.shape for other in tensors}
    return _empty(first.shape if len(shapes) == 1 else torch.broadcast_shapes(*shapes), first)


def _same(arguments: Arguments) -> Tensor:
    first = next(iter(arguments.values()))
    return _empty(first.shape, first)


def _normalised(arguments: Arguments) -> tuple[Tensor, ...]:
    normalised = _same(arguments)
    # The statistics that come with it are not used in evaluation.
    return normalised, _empty(0, normalised), _empty(0, normalised)


def _concatenated(arguments: Arguments) -> Tensor | None:
    tensors, dim = arguments["tensors"], arguments["dim"]
    first = tensors[0]
    if any(other.ndim != first.ndim or other.dtype != first.dtype for other in tensors):
        return None
    shape = list(first.shape)
    shape[dim] = 0
    for other in tensors:
        mismatched = [a != b for a, b in zip(other.shape, first.shape, strict=True)]
        mismatched[dim] = False
        if any(mismatched):
            return None  # torch says what is wrong.
        shape[dim] += other.shape[dim]
    return _empty(shape, first)


def _reduced(arguments: Arguments) -> Tensor | None:
    first, dims = arguments["self"], arguments.get("dim")
    if dims is None or dims == [] or arguments.get("dtype") or not first.is_floating_point():
        return None
    gone = {dim % first.ndim for dim in dims}
    kept = [1 if dim in gone else length for dim, length in enumerate(first.shape)]
    if not arguments.get("keepdim"):
        kept = [length for dim, length in enumerate(first.shape) if dim not in gone]
    return _empty(kept, first)


#: Shape functions by name of the operation, without a final underscore.
SHAPES: dict[str, Callable[[Arguments], Any]] = {
    **dict.fromkeys(
        (
            "add", "clamp", "clone", "div", "elu", "exp", "gelu", "hardsigmoid", "hardswish",
            "hardtanh", "leaky_relu", "mish", "mul", "neg", "pow", "relu", "rsqrt", "sigmoid",
            "silu", "softplus", "sqrt", "sub", "tanh",
        ),
        _elementwise,
    ),
    "native_batch_norm": _normalised,
    "native_layer_norm": _normalised,
    "native_group_norm": _normalised,
    "_softmax": _same,
    "_safe_softmax": _same,
    "cat": _concatenated,
    "mean": _reduced,
    "sum": _reduced,
}  # fmt: skip
