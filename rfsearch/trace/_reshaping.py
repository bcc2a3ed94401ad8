"""Handlers of operations that give positions another shape or order.

Each handler takes a `Call` and returns what its output depends on: one `Dependence`, or a list of
them for several outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from rfsearch.trace import _layout as layout
from rfsearch.trace import _positions as positions
from rfsearch.trace import _tables as tables
from rfsearch.trace._layout import Factor, Source, Span
from rfsearch.trace.call import Call, Dependence, broadcast


def view(call: Call) -> Dependence:
    """Any reshape."""
    shape, new_shape = tuple(call.first.shape), tuple(call.output.shape)
    if shape == new_shape:
        return call.source
    return call.source.each(lambda source: positions.reshape(source, shape, new_shape))


def permute(call: Call) -> Dependence:
    """Any order of the dimensions; two of them change places."""
    order = order_of(call)
    return call.source.each(lambda source: positions.permute(source, order))


def order_of(call: Call) -> list[int]:
    """In which order `permute`, `transpose` or `t` take the dimensions."""
    if call.name == "permute":
        return call.dims("dims")
    order = list(range(call.first.ndim))
    if call.name == "t":
        order.reverse()
    else:
        first, second = call["dim0"] % len(order), call["dim1"] % len(order)
        order[first], order[second] = order[second], order[first]
    return order


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
                if span.before or span.after:
                    raise ValueError("Maps that lie side by side are tiled")
                source = source.replace(dim, Span((Factor(count, 0), *span.factors)))
        return positions.insert(source, 0, missing)

    return call.source.each(change)


def unsqueeze(call: Call) -> Dependence:
    """Insert a dimension of length 1."""
    dim = call["dim"] % (call.first.ndim + 1)
    return call.source.each(lambda source: positions.insert(source, dim))


def squeeze(call: Call) -> Dependence:
    """Remove dimensions of length 1."""
    dims = [dim for dim in call.dims() if call.first.shape[dim] == 1]
    return call.source.each(lambda source: remove(call, source, dims))


def restride(call: Call) -> Dependence:
    """`as_strided` to the same shape, which torch uses to change the memory format."""
    if tuple(call["size"]) != tuple(call.first.shape):
        raise ValueError("A view by strides cannot be followed")
    return unlocated(call, range(call.first.ndim))


def unchanged(call: Call) -> Dependence:
    """Positions stay: a permutation of channels, a copy."""
    return call.source


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


def unfold(call: Call) -> Dependence:
    """Overlapping windows along a dimension; positions within a window come last."""
    (dim,) = call.dims("dimension")
    size, step = call["size"], call["step"]

    def change(source: Source) -> Source | None:
        if source.dims[dim] is None:
            return positions.insert(source, len(source.dims))
        return tables.rearranged(layout.canonical(source), windows)

    def windows(numbers: tables.Numbers) -> tables.Numbers:
        every = np.moveaxis(sliding_window_view(numbers, size, dim), dim, 0)
        return np.moveaxis(every[::step], 0, dim)

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
        if not source.factors:
            return source._replace(dims=(None,) * 3)
        if source.dims[1]:
            raise ValueError("Channels that hold pixels cannot be unfolded")
        inside, outside = [Factor(channels, 0)], []
        for axis, (size, stride, padding, dilation) in enumerate(zip(*windows, strict=True)):
            span = source.dims[2 + axis]
            weight = single_factor(span).weight if span else 0
            if span:
                source = positions.pad(source, 2 + axis, padding, padding) or source
            inside.append(Factor(size, dilation * weight))
            outside.append(Factor(counts[axis], stride * weight))
        dims = (source.dims[0], Span(tuple(inside)), Span(tuple(outside)))
        return source._replace(dims=dims)

    return call.source.each(change)


def _rearrange(call: Call, split_shape: Sequence[int], order: Sequence[int]) -> Dependence:
    shape, permuted = tuple(call.first.shape), [split_shape[dim] for dim in order]

    def change(source: Source) -> Source | None:
        split = positions.reshape(source, shape, split_shape)
        if split is None:
            return None
        return positions.reshape(positions.permute(split, order), permuted, call.output.shape)

    return call.source.each(change)


def single_factor(span: Span) -> Factor:
    """The only factor of a span.

    Raises:
        ValueError: If there are several, or positions that see nothing.
    """
    factors = tuple(factor for factor in span.factors if factor != (1, 0))
    if len(factors) != 1 or span.before or span.after:
        raise ValueError("Positions along a dimension are not neighbours in the input")
    return factors[0]


def unlocated(call: Call, dims: Sequence[int]) -> Dependence:
    """Dependence of the first argument.

    Raises:
        ValueError: If units vary along any of `dims`.
    """

    def change(source: Source) -> Source:
        if any(source.dims[dim] for dim in dims):
            raise ValueError("Positions of the image are picked in an order that is not known")
        return source

    return call.source.each(change)


def remove(call: Call, source: Source, dims: Sequence[int]) -> Source | None:
    """Remove dimensions of length 1; the only unit of a map loses its location with its axis."""
    removed = positions.drop(source, dims)
    return removed if removed.factors or not source.factors else None
