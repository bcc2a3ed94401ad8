"""Handlers of operations that cut, pick, pad and join positions.

Each handler takes a `Call` and returns what its output depends on: one `Dependence`, or a list of
them for several outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from rfsearch.trace import _layout as layout
from rfsearch.trace import _positions as positions
from rfsearch.trace import _reshaping as reshaping
from rfsearch.trace import _tables as tables
from rfsearch.trace._layout import Factor, Source, Span
from rfsearch.trace._reshaping import remove
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
    start, parts = 0, []
    for tensor in call["tensors"]:
        if tensor.ndim != call.output.ndim:
            continue  # torch lets empty tensors of one dimension pass.
        after = total - start - tensor.shape[dim]
        dependence = dependence_of(tensor)
        if dependence is not None:
            own = Part(start, tensor.shape[dim], _surround(dependence, dim, start, after))
            parts.append(own)
        start += tensor.shape[dim]
    return _joined(parts, dim, call.output.shape)


def stack(call: Call) -> Dependence:
    """Join along a new dimension."""
    dim = call["dim"] % call.output.ndim
    found = enumerate(map(dependence_of, call["tensors"]))
    parts = [
        Part(number, 1, part.each(lambda source: positions.insert(source, dim)))
        for number, part in found
        if part is not None
    ]
    return _joined(parts, dim, call.output.shape)


class Part(NamedTuple):
    """What some positions of a dimension depend on."""

    start: int
    length: int
    dependence: Dependence


def _joined(parts: Sequence[Part], dim: int, shape: Sequence[int]) -> Dependence:
    """Join parts along a dimension, single units to a row of units."""
    dependences = [part.dependence for part in parts]
    along = list(zip(*(one.axes for one in dependences), strict=False))
    for number, axes in enumerate(along):
        sources = [axis.sources for axis in axes]
        if len({*sources}) < 2 or any(len(own) != 1 or own[0].factors for own in sources):
            continue
        units = [
            tables.Unit(part.start, part.length, own.grid)
            for part, (own,) in zip(parts, sources, strict=True)
        ]
        row = tables.row(units, dim, shape)
        for place, one in enumerate(dependences):
            axis = axes[place]._replace(sources=() if place else (row,))
            changed = (*one.axes[:number], axis, *one.axes[number + 1 :])
            dependences[place] = one._replace(axes=changed)
    return merge(dependences, [tuple(shape)] * len(parts))


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


def write_back(call: Call, number: int, part: Dependence, whole: Dependence | None) -> Dependence:
    """Dependence of a tensor after a view of it, an output of `call`, was written to.

    Raises:
        ValueError: If it is not known which part of it the view is.
    """
    shape = tuple(call.first.shape)
    view = call.output if isinstance(call.output, Tensor) else call.output[number]
    put = _put_back(call, number, shape, tuple(view.shape))
    if put is None:
        raise ValueError(f"Writing into a view made by `{call.name}` cannot be followed")
    placed = part.each(put)
    return placed if whole is None else merge([whole, placed], [shape, shape])


def _put_back(
    call: Call, number: int, shape: tuple[int, ...], own: tuple[int, ...]
) -> Callable[[Source], Source | None] | None:
    """How sources lie in a tensor that lie in a view of it; None if that is not known."""
    if call.name in ("view", "_unsafe_view", "alias", "detach", "unsqueeze", "squeeze"):
        return lambda source: positions.reshape(source, own, shape)
    if call.name in ("permute", "transpose", "t"):
        order = np.argsort(reshaping.order_of(call)).tolist()
        return lambda source: positions.permute(source, order)
    if call.name == "expand" and own == shape:
        return lambda source: source
    if call.name not in ("slice", "select", "unbind", "split", "split_with_sizes"):
        return None
    (dim,) = call.dims()
    if call.name in ("select", "unbind"):
        place = call["index"] % shape[dim] if call.name == "select" else number
        return lambda source: _put_in(source, dim, place, shape[dim])
    if call.name != "slice":
        start = sum(one.shape[dim] for one in call.output[:number])
    else:
        start = _bounded(call["start"] or 0, shape[dim])
        if call["step"] > 1:
            return lambda source: _spread(source, dim, range(start, shape[dim], call["step"]))
    return lambda source: positions.surround(source, dim, start, shape[dim] - start - own[dim])


def _spread(source: Source, dim: int, places: range) -> Source | None:
    """Put positions of a dimension to every so many places, between which nothing is seen."""
    if source.dims[dim] is None:
        return source

    def move(numbers: tables.Numbers) -> tables.Numbers:
        target = np.full((places.stop, *np.moveaxis(numbers, dim, 0).shape[1:]), tables.NOTHING)
        target[places] = np.moveaxis(numbers, dim, 0)
        return np.moveaxis(target, 0, dim)

    return tables.rearranged(source, move)


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
        span = source.dims[dim]
        if narrowed is not None and span and span.length > 1:
            return positions.drop(narrowed, [dim])  # It may be a single unit, with its own place.
        return None if narrowed is None else remove(call, narrowed, [dim])

    return call.source.each(change)


def _surround(dependence: Dependence, dim: int, before: int, after: int) -> Dependence:
    return dependence.each(lambda source: positions.surround(source, dim, before, after))


def _put_in(source: Source, dim: int, place: int, length: int) -> Source:
    """Insert a dimension, along which a single unit lies at a place."""
    inserted = positions.insert(source, dim)
    if source.factors:
        return inserted
    return inserted.replace(dim, Span((Factor(1, 1),), place, length - 1 - place))


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
