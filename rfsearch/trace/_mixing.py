"""Handlers of operations that mix positions: products, reductions, norms.

Each handler takes a `Call` and returns what its output depends on: one `Dependence`, or a list of
them for several outputs. What mixes the whole extent of an axis loses its location there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rfsearch.trace import _positions as positions
from rfsearch.trace.call import NOTHING, Call, Dependence, dependence_of, merge


def elementwise(call: Call) -> Dependence:
    """Any operation that computes each element from those at the same place."""
    output = call.output if hasattr(call.output, "ndim") else call.output[0]
    return joined(_tensors(call.arguments.values()), output.shape)


def constant(call: Call) -> Dependence:
    """Nothing of the input."""
    return NOTHING


def random(call: Call) -> Dependence:
    """Random numbers: they depend on the input where their parameters do."""
    given = (dependence_of(call.arguments.get(name)) for name in ("mean", "std"))
    parts = [dependence for dependence in given if dependence is not None]
    return merge(parts, [tuple(call.output.shape)] * len(parts)) if parts else NOTHING


def product(*names: str) -> Callable[[Call], Dependence]:
    """Matrix product of two arguments, to which the other tensors are added."""

    def handler(call: Call) -> Dependence:
        ndim = call.output.ndim
        parts, shapes = [], []
        for name, dim in zip(names, (-1, -2), strict=True):
            tensor = call[name]
            dependence = dependence_of(tensor)
            if dependence is not None:
                parts.append(call.reduce(dependence, [dim % tensor.ndim]))
                shape = list(tensor.shape)
                shape[dim] = 1
                shapes.append(tuple(shape))
        others = (value for name, value in call.arguments.items() if name not in names)
        for tensor in _tensors(others):
            dependence = dependence_of(tensor)
            if dependence is not None:
                parts.append(dependence)
                shapes.append(tuple(tensor.shape))
        return merge(parts, [(1,) * (ndim - len(s)) + tuple(s) for s in shapes])

    return handler


def attention(call: Call) -> Dependence:
    """Scaled dot-product attention: each query sees all keys and values."""
    parts = [dependence_of(call[name]) for name in ("query", "key", "value")]
    query, *others = parts
    known = [] if query is None else [query]
    known += [call.reduce(d, [call["query"].ndim - 2]) for d in others if d is not None]
    return merge(known, [tuple(call.output[0].shape)] * len(known))


def reduction(call: Call) -> Dependence | list[Dependence]:
    """Sum, mean, maximum, norm, ... over dimensions, which are removed or of length 1 after."""
    dims = call.dims("dim") if "dim" in call.arguments else list(range(call.first.ndim))
    reduced = call.reduce(call.source, dims)
    if not call.arguments.get("keepdim", call.arguments.get("keepdims", False)):
        reduced = reduced.each(lambda source: positions.drop(source, dims))
    return reduced if hasattr(call.output, "ndim") else [reduced] * len(call.output)


def mixing(call: Call) -> Dependence | list[Dependence]:
    """Soft-max, cumulative sums, sorting, ... along dimensions that stay."""
    mixed = call.mix(call.source, call.dims())
    return mixed if hasattr(call.output, "ndim") else [mixed] * len(call.output)


def scrambling(call: Call) -> Dependence | list[Dependence]:
    """Fourier transforms, `topk`, `gather`: positions along the dimensions mean something else."""
    reduced = call.reduce(call.source, call.dims())
    parts = [reduced, *map(dependence_of, _tensors(list(call.arguments.values())[1:]))]
    known = [part for part in parts if part is not None]
    output = call.output if hasattr(call.output, "ndim") else call.output[0]
    merged = merge(known, [tuple(output.shape)] * len(known))
    return merged if hasattr(call.output, "ndim") else [merged] * len(call.output)


def batch_norm(call: Call) -> list[Dependence]:
    """Pointwise, unless the statistics are those of the batch."""
    dependence = call.source
    if call.arguments.get("training", False):
        dependence = call.mix(dependence, [d for d in range(call.first.ndim) if d != 1])
    return [dependence]


def layer_norm(call: Call) -> list[Dependence]:
    """Normalisation over the last dimensions."""
    ndim = call.first.ndim
    return [call.mix(call.source, range(ndim - len(call["normalized_shape"]), ndim))]


def group_norm(call: Call) -> list[Dependence]:
    """Normalisation over groups of channels and all positions."""
    return [call.mix(call.source, range(1, call.first.ndim))]


def grid_sample(call: Call) -> Dependence:
    """Sampling at computed places: anything may be seen."""
    sampled = call.reduce(call.source, range(2, call.first.ndim))
    places = dependence_of(call["grid"])
    if places is None:
        return sampled
    ndim = call.first.ndim
    order = [0, ndim - 1, *range(1, ndim - 1)]
    moved = call.reduce(places, [ndim - 1]).each(lambda s: positions.permute(s, order))
    return merge([sampled, moved], [tuple(call.output.shape)] * 2)


def joined(tensors: Iterable[Any], shape: Sequence[int]) -> Dependence:
    """Elements computed from those at the same place of all tensors."""
    pairs = [
        (dependence, tuple(value.shape))
        for value in tensors
        if (dependence := dependence_of(value)) is not None
    ]
    dependences, shapes = map(list, zip(*pairs, strict=True))
    return merge(dependences, [*shapes, tuple(shape)])


def _tensors(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        yield from value if isinstance(value, list | tuple) else (value,)
