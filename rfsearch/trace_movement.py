"""Handlers of operations that move data: reshaping, slicing, joining, padding, indexing.

Each handler takes a `Call` and returns what its output depends on: one `Dependence`, or a list of
them for several outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from rfsearch import trace_layout as layout
from rfsearch.trace_call import NOTHING, Call, Dependence, broadcast, dependence_of, merge
from rfsearch.trace_layout import Factor, Source, Span

Handler = Callable[[Call], "Dependence | Sequence[Dependence]"]


def view(call: Call) -> Dependence:
    """Any reshape."""
    shape, new_shape = tuple(call.first.shape), tuple(call.output.shape)
    if shape == new_shape:
        return call.source
    return call.source.each(lambda source: layout.reshape(source, shape, new_shape))


def permute(call: Call) -> Dependence:
    """Any order of the dimensions."""
    order = call.dims("dims")
    return call.source.each(lambda source: layout.permute(source, order))


def transpose(call: Call) -> Dependence:
    """Two dimensions change places."""
    order = list(range(call.first.ndim))
    if call.name == "t":
        order.reverse()
    else:
        first, second = call["dim0"] % len(order), call["dim1"] % len(order)
        order[first], order[second] = order[second], order[first]
    return call.source.each(lambda source: layout.permute(source, order))


def expand(call: Call) -> Dependence:
    """Dimensions of length 1 are spread; new ones come first."""
    return broadcast(call.source, tuple(call.first.shape), tuple(call.output.shape))


def repeat(call: Call) -> Dependence:
    """Tile along dimensions."""
    repeats: Sequence[int] = call["repeats"]
    missing = len(repeats) - call.first.ndim

    def change(source: Source) -> Source:
        for dim, count in enumerate(repeats[missing:]):
            span = source.dims[dim]
            if span and count > 1:
                source = source.replace(dim, Span((Factor(count, 0), *span.factors)))
        return layout.insert(source, 0, missing)

    return call.source.each(change)


def unsqueeze(call: Call) -> Dependence:
    """Insert a dimension of length 1."""
    dim = call["dim"] % (call.first.ndim + 1)
    return call.source.each(lambda source: layout.insert(source, dim))


def squeeze(call: Call) -> Dependence:
    """Remove dimensions of length 1."""
    dims = [dim for dim in call.dims() if call.first.shape[dim] == 1]
    return call.source.each(lambda source: _remove(source, dims))


def narrow(call: Call) -> Dependence:
    """A slice along one dimension."""
    (dim,) = call.dims()
    length = call.first.shape[dim]
    start = _bounded(call["start"] or 0, length)
    return _narrow(call.source, dim, start, call.output.shape[dim], call["step"])


def select(call: Call) -> Dependence:
    """One position along a dimension, which is removed."""
    (dim,) = call.dims()
    return _select(call.source, dim, call["index"] % call.first.shape[dim])


def unbind(call: Call) -> list[Dependence]:
    """All positions along a dimension."""
    (dim,) = call.dims()
    return [_select(call.source, dim, index) for index in range(call.first.shape[dim])]


def split(call: Call) -> list[Dependence]:
    """Slices one after another along a dimension."""
    (dim,) = call.dims()
    slices, start = [], 0
    for part in call.output:
        slices.append(_narrow(call.source, dim, start, part.shape[dim], 1))
        start += part.shape[dim]
    return slices


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
    parts = [part.each(lambda source: layout.insert(source, dim)) for part in parts]
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

    def change(source: Source) -> Source:
        for dim, amount in zip(call.dims("dims"), call["shifts"], strict=True):
            if source.dims[dim]:
                source = _roll(source, dim, amount)
        return source

    return call.source.each(change)


def flip(call: Call) -> Dependence:
    """Reverse dimensions along which the units stay."""
    return _unlocated(call, call.dims("dims"))


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
    source = _unlocated(call, picked)
    return source.each(lambda s: layout.insert(layout.drop(s, picked), place, count))


def index_select(call: Call) -> Dependence:
    """Pick positions along one dimension."""
    (dim,) = call.dims()
    if call["index"].is_meta:
        return _unlocated(call, [dim])
    return _pick(call.source, dim, call["index"])


def unfold(call: Call) -> Dependence:
    """Overlapping windows along a dimension; positions within a window come last."""
    (dim,) = call.dims("dimension")
    size, step, count = call["size"], call["step"], call.output.shape[dim]

    def change(source: Source) -> Source:
        source = layout.insert(layout.canonical(source), len(source.dims))
        span = source.dims[dim]
        if span is None:
            return source
        (factor,) = _single_factor(span)
        source = source.replace(dim, Span((Factor(count, step * factor.weight),)))
        return source.replace(len(source.dims) - 1, Span((Factor(size, factor.weight),)))

    return call.source.each(change)


def image_to_columns(call: Call) -> Dependence:
    """`F.unfold`: windows of a map `(batch, channels, height, width)` become columns."""
    windows = call["kernel_size"], call["stride"], call["padding"], call["dilation"]
    counts = [
        (length + 2 * padding - dilation * (size - 1) - 1) // stride + 1
        for length, size, stride, padding, dilation in zip(
            call.first.shape[2:], *windows, strict=True
        )
    ]

    def change(source: Source) -> Source:
        channels = call.first.shape[1]
        source = layout.canonical(source)
        if source.dims[1]:
            raise ValueError("Channels that hold pixels cannot be unfolded")
        inside, outside = [Factor(channels, 0)], []
        for axis, (size, stride, padding, dilation) in enumerate(zip(*windows, strict=True)):
            span = source.dims[2 + axis]
            weight = _single_factor(span)[0].weight if span else 0
            if span:
                source = layout.pad(source, 2 + axis, padding, padding) or source
            inside.append(Factor(size, dilation * weight))
            outside.append(Factor(counts[axis], stride * weight))
        dims = (source.dims[0], Span(tuple(inside)), Span(tuple(outside)))
        return source._replace(dims=dims)

    return call.source.each(change)


def pixel_shuffle(call: Call) -> Dependence:
    """Channels become pixels."""
    factor, (*lead, channels, height, width) = call["upscale_factor"], call.first.shape
    split_shape = (*lead, channels // factor**2, factor, factor, height, width)
    order = [*range(len(lead)), *(len(lead) + dim for dim in (0, 3, 1, 4, 2))]
    return _rearrange(call, split_shape, order)


def pixel_unshuffle(call: Call) -> Dependence:
    """Pixels become channels."""
    factor, (*lead, channels, height, width) = call["downscale_factor"], call.first.shape
    split_shape = (*lead, channels, height // factor, factor, width // factor, factor)
    order = [*range(len(lead)), *(len(lead) + dim for dim in (0, 2, 4, 1, 3))]
    return _rearrange(call, split_shape, order)


def restride(call: Call) -> Dependence:
    """`as_strided` to the same shape, which torch uses to change the memory format."""
    if tuple(call["size"]) != tuple(call.first.shape):
        raise ValueError("A view by strides cannot be followed")
    return _unlocated(call, range(call.first.ndim))


def unchanged(call: Call) -> Dependence:
    """Positions stay: a permutation of channels, a copy."""
    return call.source


def overwrite(call: Call) -> Dependence:
    """`copy_`: the new content alone counts."""
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
        placed = part.each(lambda source: layout.insert(source, dim))
    elif call.name in ("view", "alias", "detach") and shape == tuple(call.output.shape):
        placed = part
    else:
        raise ValueError(f"Writing into a view made by `{call.name}` cannot be followed")
    return placed if whole is None else merge([whole, placed], [shape, shape])


def _bounded(start: int, length: int) -> int:
    return min(max(start + length if start < 0 else start, 0), length)


def _narrow(dependence: Dependence, dim: int, start: int, length: int, step: int) -> Dependence:
    return dependence.each(lambda source: layout.narrow(source, dim, start, length, step))


def _select(dependence: Dependence, dim: int, position: int) -> Dependence:
    def change(source: Source) -> Source | None:
        narrowed = layout.narrow(source, dim, position, 1)
        return None if narrowed is None else _remove(narrowed, [dim])

    return dependence.each(change)


def _remove(source: Source, dims: Sequence[int]) -> Source | None:
    """Remove dimensions of length 1; None if no location is left."""
    removed = layout.drop(source, dims)
    return removed if removed.factors or not source.factors else None


def _surround(dependence: Dependence, dim: int, before: int, after: int) -> Dependence:
    return dependence.each(lambda source: layout.surround(source, dim, before, after))


def _pad(dependence: Dependence, dim: int, before: int, after: int) -> Dependence:
    return dependence.each(lambda source: layout.pad(source, dim, before, after))


def _roll(source: Source, dim: int, amount: int) -> Source:
    source = layout.canonical(source)
    span = source.dims[dim]
    assert span is not None
    (factor,) = _single_factor(span)
    padded = layout.pad(source, dim, amount, -amount)
    if padded is None or factor.weight != 1:
        raise ValueError("A roll moves positions that are not neighbours in the input")
    return padded


def _single_factor(span: Span) -> tuple[Factor, ...]:
    factors = tuple(factor for factor in span.factors if factor != (1, 0))
    if len(factors) != 1 or span.before or span.after:
        raise ValueError("Positions along a dimension are not neighbours in the input")
    return factors


def _unlocated(call: Call, dims: Sequence[int]) -> Dependence:
    def change(source: Source) -> Source:
        if any(source.dims[dim] for dim in dims):
            raise ValueError("Positions of the image are picked in an order that is not known")
        return source

    return call.source.each(change)


def _pick(dependence: Dependence, dim: int, index: Tensor) -> Dependence:
    places: list[Any] = index.tolist()

    def change(source: Source) -> Source | None:
        if source.dims[dim] is None:
            return source
        step = places[1] - places[0] if len(places) > 1 else 1
        if step < 1 or places != list(range(places[0], places[-1] + 1, step)):
            raise ValueError("Positions of the image are picked in an irregular order")
        return layout.narrow(source, dim, places[0], len(places), step)

    return dependence.each(change)


def _rearrange(call: Call, split_shape: Sequence[int], order: Sequence[int]) -> Dependence:
    shape, permuted = tuple(call.first.shape), [split_shape[dim] for dim in order]

    def change(source: Source) -> Source:
        moved = layout.permute(layout.reshape(source, shape, split_shape), order)
        return layout.reshape(moved, permuted, tuple(call.output.shape))

    return call.source.each(change)
