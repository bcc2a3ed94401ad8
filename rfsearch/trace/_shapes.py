"""Output shapes of the commonest operations: torch's own take a hundred times as long.

A function takes the arguments by name and returns the output, or None to let torch find it. All
tensors are on the meta device; memory formats are not kept, as no layout in memory is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rfsearch.trace.call import value_of

Arguments = dict[str, Any]
#: What stands for a number that is computed from the image.
_SOME_NUMBER = 1
#: Name of the attribute of a check that passes.
_PASSES = "_rfsearch_passes"


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


def _resized(arguments: Arguments) -> Tensor | None:
    first: Tensor = arguments["self"] if "self" in arguments else arguments["input"]
    size = arguments["output_size"]
    return None if size is None else _empty((*first.shape[:2], *size), first)


def _numbers(count: int, *more: int) -> Tensor:
    return torch.empty((count, *more), dtype=torch.int64, device="meta")


def _places(arguments: Arguments) -> Tensor:
    """Where a tensor is not zero: everywhere, as its shape allows."""
    found = arguments["self"]
    return _numbers(found.numel(), found.ndim)


def _unique(arguments: Arguments) -> tuple[Tensor, ...]:
    """All elements are alike, as programs loop over those that differ."""
    found = arguments["self"]
    return _empty(1, found), _numbers(found.numel()).reshape(found.shape), _numbers(1)


def _check(arguments: Arguments) -> Tensor | None:
    """Whether all of a tensor is true: checks pass."""
    if len(arguments) > 1:
        return None  # Along dimensions.
    passed = torch.empty((), dtype=torch.bool, device="meta")
    setattr(passed, _PASSES, True)
    return passed


def _scalar(arguments: Arguments) -> Any:
    """A number of Python's; of the image nothing is true but what is checked."""
    kind = arguments["self"].dtype
    if kind == torch.bool:
        return hasattr(arguments["self"], _PASSES)
    return _SOME_NUMBER if not kind.is_floating_point else float(_SOME_NUMBER)


def without_masks(indices: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Indices with the places that masks stand for, whose number is that of their elements."""
    found: list[Tensor | None] = []
    for index in indices:
        known = None if index is None else value_of(index)
        if index is not None and known is None and index.dtype == torch.bool:
            found += [_numbers(index.numel())] * index.ndim
        else:
            found.append(index if known is None else known)
    return found


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
    **{f"upsample_nearest{axes}d": _resized for axes in (1, 2, 3)},
    **dict.fromkeys(
        ("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d"),
        _resized,
    ),
    # How many there are depends on the data: as many as there can be.
    "nonzero": _places,
    "masked_select": lambda arguments: _empty(arguments["self"].numel(), arguments["self"]),
    "nms": lambda arguments: _numbers(len(arguments["scores"])),
    "_unique2": _unique,
    # What the data decides.
    "all": _check,
    "_local_scalar_dense": _scalar,
    "equal": lambda arguments: False,
}  # fmt: skip
