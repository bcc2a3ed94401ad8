"""Handlers of operations that pick, or write to, positions one by one.

Each handler takes a `Call` and returns what its output depends on. Where the places are known,
positions move as numpy moves them. Where they are computed, each output may be any of the
positions: it sees what any of them sees, and lies nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rfsearch.trace import _positions as positions
from rfsearch.trace import _tables as tables
from rfsearch.trace._layout import Source
from rfsearch.trace.call import Call, Dependence, dependence_of, merge, value_of


class Places(NamedTuple):
    """What `tensor[indices]` looks at.

    Attributes:
        dims: Dimensions of the tensor that indices are of.
        first: The dimension of the output that the indices' own dimensions begin at.
        indices: For numpy, of all dimensions; None if they are not known.
    """

    dims: tuple[int, ...]
    first: int
    indices: tuple[Any, ...] | None


def places_of(indices: Sequence[Tensor | None]) -> Places:
    """The places that indices stand for; a mask is one of as many dimensions as it has."""
    dims: list[int] = []
    numbers: list[Any] = []
    dim = 0
    for index in indices:
        count = 1 if index is None or index.dtype != torch.bool else index.ndim
        if index is not None:
            dims += range(dim, dim + count)
        numbers.append(slice(None) if index is None else value_of(index))
        dim += count
    given = [index for index in indices if index is not None]
    is_known = not any(dependence_of(index) or value_of(index) is None for index in given)
    adjacent = dims == list(range(dims[0], dims[-1] + 1))
    known = tuple(n.numpy() if isinstance(n, Tensor) else n for n in numbers) if is_known else None
    return Places(tuple(dims), dims[0] if adjacent else 0, known)


def index(call: Call) -> Dependence:
    """Pick positions by tensors of indices."""
    return _picked(call, places_of(call["indices"]), call["indices"])


def index_select(call: Call) -> Dependence:
    """Pick positions along one dimension."""
    (dim,) = call.dims()
    indices = [None] * dim + [call["index"]]
    return _picked(call, places_of(indices), indices)


def _picked(call: Call, places: Places, indices: Sequence[Tensor | None]) -> Dependence:
    shape = tuple(call.first.shape)
    count = call.output.ndim - len(shape) + len(places.dims)

    def dropped(source: Source) -> Source:
        return positions.insert(positions.drop(source, places.dims), places.first, count)

    def change(source: Source) -> Source | None:
        if not any(source.dims[dim] for dim in places.dims):
            return dropped(source)
        return tables.rearranged(source, move)

    def move(numbers: tables.Numbers) -> tables.Numbers:
        whole = [n if d in places.dims else numbers.shape[d] for d, n in enumerate(shape)]
        moved: tables.Numbers = np.broadcast_to(numbers, whole)[places.indices]
        return moved

    if places.indices is not None:
        return call.source.each(change)
    parts = [call.reduce(call.source, places.dims).each(dropped)]
    parts += [
        call.unplaced([index], call.output.ndim) for index in indices if dependence_of(index)
    ]
    return merge(parts, [tuple(call.output.shape)] * len(parts))


def index_put(call: Call) -> Dependence:
    """Write to places that tensors of indices, or a mask, stand for."""
    shape, ndim = tuple(call.first.shape), call.first.ndim
    values, indices = call["values"], call["indices"]
    parts = [] if dependence_of(call.first) is None else [call.source]
    places = places_of(indices)
    written = dependence_of(values)

    def put(source: Source) -> Source | None:
        return tables.rearranged(source, to_places, values.shape)

    def to_places(numbers: tables.Numbers) -> tables.Numbers:
        target = np.full(shape, tables.NOTHING)
        target[places.indices] = numbers
        return target

    if written is not None:
        known = places.indices is not None and any(s.factors for s in written.sources)
        parts.append(written.each(put) if known else call.unplaced([values], ndim))
    for index in indices:
        found = dependence_of(index)
        if found is None:
            continue
        if index.dtype == torch.bool and len(indices) == 1:
            own = partial(positions.insert, dim=index.ndim, count=ndim - index.ndim)
            parts.append(found.each(own))
        else:
            parts.append(call.unplaced([index], ndim))
    return merge(parts, [shape] * len(parts))


def scatter(call: Call) -> Dependence:
    """Write, or add, to computed places: along a dimension, or anywhere in a mask."""
    shape = tuple(call.first.shape)
    parts = [] if dependence_of(call.first) is None else [call.source]
    for value in list(call.arguments.values())[1:]:
        found = dependence_of(value)
        if found is None:
            continue
        dims = call.dims() if "dim" in call.arguments else range(len(shape))
        if value.ndim == len(shape) and _but(dims, value.shape) == _but(dims, shape):
            parts.append(call.reduce(found, dims))
        else:
            parts.append(call.unplaced([value], len(shape)))
    return merge(parts, [shape] * len(parts))


def _but(dims: Iterable[int], shape: Sequence[int]) -> list[int]:
    """Lengths of all dimensions but some."""
    return [length for dim, length in enumerate(shape) if dim not in dims]


def anywhere(*names: str) -> Callable[[Call], Any]:
    """Any element of the arguments that are named, or of all: what is found, kept or pooled."""

    def handler(call: Call) -> Dependence | list[Dependence]:
        given = [call[name] for name in names] if names else call.arguments.values()
        if isinstance(call.output, Tensor):
            return call.unplaced(given, call.output.ndim)
        return [call.unplaced(given, output.ndim) for output in call.output]

    return handler
