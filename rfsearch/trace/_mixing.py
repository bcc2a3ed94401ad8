"""Handlers of operations that mix positions: windows, resizing, products, reductions, norms.

Each handler takes a `Call` and returns what its output depends on: one `Dependence`, or a list of
them for several outputs. What mixes the whole extent of an axis loses its location there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

from rfsearch.trace import _layout as layout
from rfsearch.trace import _positions as positions
from rfsearch.trace import windows
from rfsearch.trace._layout import Source
from rfsearch.trace.call import NOTHING, Call, Dependence, dependence_of, merge
from rfsearch.trace.windows import POINT, Window

#: Resized output units are matched to input units by fractions with denominators up to this.
_MAX_DENOMINATOR = 4096


def elementwise(call: Call) -> Dependence:
    """Any operation that computes each element from those at the same place."""
    pairs = [
        (dependence, tuple(value.shape))
        for value in _tensors(call.arguments.values())
        if (dependence := dependence_of(value)) is not None
    ]
    dependences, shapes = map(list, zip(*pairs, strict=True))
    output = call.output if hasattr(call.output, "ndim") else call.output[0]
    return merge(dependences, [*shapes, tuple(output.shape)])


def constant(call: Call) -> Dependence:
    """Nothing of the input."""
    return NOTHING


def convolution(call: Call) -> Dependence:
    """Convolution of any number of spatial dimensions, transposed or not."""
    dependence = call.source
    if call["groups"] == 1:
        dependence = call.reduce(dependence, [1])
    elif any(s.dims[1] for axis in dependence[:2] for s in axis.sources):
        raise ValueError("Channels that hold pixels are convolved in groups")
    make = windows.transposed_convolution if call["transposed"] else windows.convolution
    sizes = call["weight"].shape[2:]
    spatial = len(sizes)
    steps = (_as_list(call[name], spatial) for name in ("stride", "padding", "dilation"))
    slid = _slide(
        dependence, call, [make(*numbers) for numbers in zip(sizes, *steps, strict=True)]
    )
    return _with_weights(call, slid)


def pooling(dimensions: int) -> Callable[[Call], Dependence]:
    """Average or maximum pooling over the last dimensions."""

    def handler(call: Call) -> Dependence:
        kernel_size = call["kernel_size"]
        stride = call["stride"] or kernel_size
        dilation = call.arguments.get("dilation", 1)
        numbers = (kernel_size, stride, call["padding"], dilation)
        each = zip(*(_as_list(value, dimensions) for value in numbers), strict=True)
        return _slide(call.source, call, [windows.convolution(*one) for one in each])

    return handler


def adaptive_pooling(call: Call) -> Dependence:
    """Adaptive pooling; to a single position it mixes the whole axis."""
    dependence = call.source
    output = call.output if hasattr(call.output, "ndim") else call.output[0]
    for dim in range(call.first.ndim - len(call["output_size"]), call.first.ndim):
        length, new_length = call.first.shape[dim], output.shape[dim]
        if new_length == 1:
            dependence = call.reduce(dependence, [dim])
        else:
            window = windows.adaptive_pooling(length, new_length)
            dependence = _window(dependence, dim, window, new_length)
    return dependence


def resizing(
    window_of: Callable[[Fraction], Window], reach: int = 0
) -> Callable[[Call], Dependence]:
    """Interpolation of the last dimensions; `reach` is that of its kernel in input units."""

    def handler(call: Call) -> Dependence:
        dependence = call.source
        for dim in range(2, call.first.ndim):
            length, new_length = call.first.shape[dim], call.output.shape[dim]
            if call.arguments.get("align_corners"):
                window = windows.aligned_corners(length, new_length, reach)
            else:
                window = window_of(_ratio(call, dim - 2, length, new_length))
            dependence = _window(dependence, dim, window, new_length)
        return dependence

    return handler


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


def _slide(dependence: Dependence, call: Call, each: Sequence[Window]) -> Dependence:
    output = call.output if hasattr(call.output, "ndim") else call.output[0]
    for dim, window in enumerate(each, output.ndim - len(each)):
        dependence = _window(dependence, dim, window, output.shape[dim])
    return dependence


def _window(dependence: Dependence, dim: int, window: Window, length: int) -> Dependence:
    if window != POINT:
        for axis in (dependence.height, dependence.width):
            if layout.are_side_by_side(axis.sources):
                raise ValueError("A window slides over the seam of maps that lie side by side")

    def change(source: Source) -> Source:
        return layout.window(source, dim, window.taps, window.advance, length)

    return dependence.each(change)


def _with_weights(call: Call, dependence: Dependence) -> Dependence:
    """Weights that are computed from the input must not have a location in it."""
    for name in ("weight", "bias"):
        weights = dependence_of(call[name])
        if weights is None:
            continue
        if weights.is_located:
            raise ValueError("The weights of a convolution depend on positions of the image")
        shape = tuple(call.output.shape)
        dependence = merge([dependence, weights], [shape, shape])
    return dependence


def _ratio(call: Call, axis: int, length: int, new_length: int) -> Fraction:
    """Input units per output unit, as torch takes it: from a given scale, else from the sizes."""
    names = [name for name in call.arguments if name.startswith("scales")]
    scale = call[names[axis]] if axis < len(names) else None
    if scale is None and call.arguments.get("scale_factors"):
        scale = call["scale_factors"][axis]
    if scale is None:
        return Fraction(length, new_length)
    return Fraction(1 / scale).limit_denominator(_MAX_DENOMINATOR)


def _as_list(value: Any, length: int) -> list[int]:
    values = list(value) if isinstance(value, Sequence) else [value]
    return values * length if len(values) == 1 else values


def _tensors(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        yield from value if isinstance(value, list | tuple) else (value,)
