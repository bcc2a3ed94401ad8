"""Handlers of operations that mix positions: products, reductions, norms.

Each handler takes a `Call` and returns what its output depends on: one `Dependence`, or a list of
them for several outputs. What mixes the whole extent of an axis loses its location there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
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


def matrix_vector(call: Call) -> Dependence:
    """A matrix times a vector: each row sees all of its own, and of the vector."""
    last = call["self"].ndim - 1
    parts = [call.unplaced([call["vec"]], last)] if dependence_of(call["vec"]) else []
    rows = dependence_of(call["self"])
    if rows is not None:
        parts.append(call.reduce(rows, [last]).each(partial(positions.drop, dims=[last])))
    return merge(parts, [tuple(call.output.shape)] * len(parts))


def loss(call: Call) -> Dependence:
    """What pairs of elements differ by, each for itself or on average."""
    if call["reduction"] == 0:
        return elementwise(call)
    return call.unplaced(call.arguments.values(), 0)


def distances(call: Call) -> Dependence:
    """Distances of all rows of one matrix to all rows of another."""
    parts, shapes = [], []
    for name in ("x1", "x2"):
        found, (*batch, rows, _) = dependence_of(call[name]), call[name].shape
        if found is not None:
            last = len(batch) + 1
            found = call.reduce(found, [last])
            if name == "x2":
                order = [*range(len(batch)), last, last - 1]
                found = found.each(partial(positions.permute, order=order))
            parts.append(found)
            shapes.append((*batch, rows, 1) if name == "x1" else (*batch, 1, rows))
    return merge(parts, shapes)


def trilinear(call: Call) -> Dependence:
    """A sum of products of three tensors with dimensions of length 1 put in."""
    parts, shapes, gone = [], [], call["sumdim"]
    for number in (1, 2, 3):
        tensor, put_in = call[f"i{number}"], call[f"expand{number}"]
        found, shape = dependence_of(tensor), list(tensor.shape)
        if found is None:
            continue
        for dim in sorted(put_in):
            found = found.each(partial(positions.insert, dim=dim))
            shape.insert(dim, 1)
        parts.append(call.reduce(found, gone).each(partial(positions.drop, dims=gone)))
        shapes.append([length for dim, length in enumerate(shape) if dim not in gone])
    return merge(parts, shapes)


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


def recurrent(call: Call) -> list[Dependence]:
    """A recurrent layer: each step of time sees the others; its last states see all of them."""
    ndim, time = call.first.ndim, call["time"]
    steps = call.reduce(call.source, [ndim - 1])
    started = call.unplaced(call["states"], ndim)
    states = call.reduce(steps, [time]).each(
        lambda source: positions.insert(positions.drop(source, [time]), 0)
    )
    shape = (1,) * ndim
    outputs = [(call.mix(steps, [time]), call.first.shape)]
    outputs += [(states, shape)] * (len(call.output) - 1)
    return [merge([one, started], [own, shape]) for one, own in outputs]


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
