"""Handlers of operations that cut, pick, pad and join positions.

Each handler takes a `Call` and returns what its output depends on: one `Dependence`, or a list of
them for several outputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from rfsearch.trace import _layout as layout
from rfsearch.trace import _positions as positions
from rfsearch.trace import _tables as tables
from rfsearch.trace._layout import Source
from rfsearch.trace._reshaping import remove, unlocated
from rfsearch.trace.call import (
    NOTHING,
    Call,
    Dependence,
    broadcast,
    dependence_of,
    merge,
    record_of,
)


def narrow(call: Call) -> Dependence:
    """A slice along one dimension."""
    (dim,) = call.dims()
    length = call.first.shape[dim]
    start = _bounded(call["start"] or 0, length)
    return _narrow(call.source, dim, start, call.output.shape[dim], call["step"])


def select(call: Call) -> Dependence:
    """One position along a dimension, which is removed."""
    (dim,) = call.dims()
    return _select(call, dim, call["index"] % call.first.shape[dim])


def unbind(call: Call) -> list[Dependence]:
    """All positions along a dimension."""
    (dim,) = call.dims()
    return [_select(call, dim, index) for index in range(call.first.shape[dim])]


def split(call: Call) -> list[Dependence]:
    """Slices one after another along a dimension."""
    (dim,) = call.dims()
    slices, start = [], 0
    for part in call.output:
        slices.append(_narrow(call.source, dim, start, part.shape[dim], 1))
        start += part.shape[dim]
    return slices


def gated(call: Call) -> Dependence:
    """One half of a dimension as a gate of the other."""
    (dim,) = call.dims()
    half = call.output.shape[dim]
    parts = [_narrow(call.source, dim, start, half, 1) for start in (0, half)]
    return merge(parts, [tuple(call.output.shape)] * 2)


def concatenate(call: Call) -> Dependence:
    """Join along a dimension: where units lie along it each keeps its positions."""
    dim, total = call["dim"] % call.output.ndim, call.output.shape[call["dim"]]
    start, parts, shapes = 0, [], []
    for tensor in call["tensors"]:
        if tensor.ndim != call.output.ndim:
            continue  # torch lets empty tensors of one dimension pass.
        after = total - start - tensor.shape[dim]
        dependence = dependence_of(tensor)
        if dependence is not None:
            parts.append(_surround(dependence, dim, start, after))
            shapes.append(tuple(call.output.shape))
        start += tensor.shape[dim]
    return merge(parts, shapes)


def stack(call: Call) -> Dependence:
    """Join along a new dimension."""
    dim = call["dim"] % call.output.ndim
    parts = [d for d in map(dependence_of, call["tensors"]) if d is not None]
    parts = [part.each(lambda source: positions.insert(source, dim)) for part in parts]
    return merge(parts, [tuple(call.output.shape)] * len(parts))


def pad(call: Call) -> Dependence:
    """Pad with anything: an interior unit does not see with what."""
    amounts = call["pad"] if "pad" in call.arguments else call["padding"]
    pairs = list(zip(amounts[::2], amounts[1::2], strict=True))
    dependence = call.source
    for number, (before, after) in enumerate(pairs):
        dim = call.first.ndim - 1 - number
        dependence = _pad(dependence, dim, before, after)
    return dependence


def roll(call: Call) -> Dependence:
    """A cyclic shift; what comes round the border is not followed."""
    if not call["dims"]:
        raise ValueError("A flattened roll cannot be followed")

    def change(source: Source | None) -> Source | None:
        for dim, amount in zip(call.dims("dims"), call["shifts"], strict=True):
            if source is not None and source.dims[dim]:
                source = _roll(source, dim, amount)
        return source

    return call.source.each(change)


def flip(call: Call) -> Dependence:
    """Reverse dimensions."""
    dims = tuple(call.dims("dims"))

    def change(source: Source) -> Source | None:
        if not any(source.dims[dim] for dim in dims):
            return source
        return tables.rearranged(source, lambda numbers: np.flip(numbers, dims))

    return call.source.each(change)


def index(call: Call) -> Dependence:
    """Pick positions by tensors of indices."""
    indices: list[Tensor | None] = call["indices"]
    picked = [dim for dim, index in enumerate(indices) if index is not None]
    first = indices[picked[0]]
    assert first is not None
    if len(picked) == 1 and first.ndim == 1 and not first.is_meta:
        return _pick(call.source, picked[0], first)
    adjacent = picked == list(range(picked[0], picked[-1] + 1))
    place = picked[0] if adjacent else 0
    count = call.output.ndim - call.first.ndim + len(picked)
    source = unlocated(call, picked)
    return source.each(lambda s: positions.insert(positions.drop(s, picked), place, count))


def index_select(call: Call) -> Dependence:
    """Pick positions along one dimension."""
    (dim,) = call.dims()
    if call["index"].is_meta:
        return unlocated(call, [dim])
    return _pick(call.source, dim, call["index"])


def embedding(call: Call) -> Dependence:
    """Rows of a table, picked by computed indices.

    Raises:
        ValueError: If the table depends on the input.
    """
    indices = dependence_of(call["indices"])
    if indices is None or dependence_of(call["weight"]) is not None:
        raise ValueError("An embedding whose table depends on the input cannot be followed")
    return indices.each(lambda source: positions.insert(source, len(source.dims)))


def overwrite(call: Call) -> Dependence:
    """`copy_`: the new content alone counts; what comes round the border is not followed."""
    if _comes_round_the_border(call):
        return NOTHING
    written = dependence_of(call["src"])
    if written is None:
        return NOTHING
    return broadcast(written, tuple(call["src"].shape), tuple(call.first.shape))


def write_back(call: Call, part: Dependence, whole: Dependence | None) -> Dependence:
    """Dependence of a tensor after a view of it, made by `call`, was written to.

    Raises:
        ValueError: If the view is no slice.
    """
    shape = tuple(call.first.shape)
    if call.name == "slice" and call["step"] == 1:
        (dim,) = call.dims()
        start = _bounded(call["start"] or 0, shape[dim])
        placed = _surround(part, dim, start, shape[dim] - start - call.output.shape[dim])
    elif call.name == "select":
        (dim,) = call.dims()
        placed = part.each(lambda source: positions.insert(source, dim))
    elif call.name in ("view", "alias", "detach") and shape == tuple(call.output.shape):
        placed = part
    else:
        raise ValueError(f"Writing into a view made by `{call.name}` cannot be followed")
    return placed if whole is None else merge([whole, placed], [shape, shape])


def _comes_round_the_border(call: Call) -> bool:
    """Whether one end of a tensor is written to its other end, as circular padding does."""
    to, of = record_of(call.first), record_of(call["src"])
    if to is None or of is None or to.parent is None or to.parent is not of.parent:
        return False
    slices = [record.call for record in (to, of) if record.call and record.call.name == "slice"]
    if len(slices) < 2 or slices[0].dims() != slices[1].dims():
        return False
    (dim,) = slices[0].dims()
    length = to.parent.shape[dim]
    starts = [_bounded(one["start"] or 0, length) for one in slices]
    return 2 * abs(starts[0] - starts[1]) >= length


def _bounded(start: int, length: int) -> int:
    return min(max(start + length if start < 0 else start, 0), length)


def _narrow(dependence: Dependence, dim: int, start: int, length: int, step: int) -> Dependence:
    return dependence.each(lambda source: positions.narrow(source, dim, start, length, step))


def _select(call: Call, dim: int, position: int) -> Dependence:
    def change(source: Source) -> Source | None:
        narrowed = positions.narrow(source, dim, position, 1)
        if narrowed is None:
            return None
        span = source.dims[dim]
        if span and span.length > 1 and not positions.drop(narrowed, [dim]).factors:
            raise ValueError("A single position of the image is picked out of its neighbours")
        return remove(call, narrowed, [dim])

    return call.source.each(change)


def _surround(dependence: Dependence, dim: int, before: int, after: int) -> Dependence:
    return dependence.each(lambda source: positions.surround(source, dim, before, after))


def _pad(dependence: Dependence, dim: int, before: int, after: int) -> Dependence:
    return dependence.each(lambda source: positions.pad(source, dim, before, after))


def _roll(source: Source, dim: int, amount: int) -> Source | None:
    source = layout.canonical(source)
    span = source.dims[dim]
    assert span is not None
    factors = layout.without_ones(span.factors)
    if len(factors) > 1 or factors[0].weight != 1 or layout.located(source) != [dim]:
        return tables.rearranged(source, lambda numbers: np.roll(numbers, amount, dim))
    return positions.pad(source, dim, amount, -amount)


def _pick(dependence: Dependence, dim: int, index: Tensor) -> Dependence:
    places: list[Any] = index.tolist()

    def change(source: Source) -> Source | None:
        if source.dims[dim] is None:
            return source
        step = places[1] - places[0] if len(places) > 1 else 1
        if step < 1 or places != list(range(places[0], places[-1] + 1, step)):
            return tables.rearranged(source, lambda numbers: numbers.take(places, dim))
        return positions.narrow(source, dim, places[0], len(places), step)

    return dependence.each(change)
