"""Handlers of operations that slide windows over positions: convolution, pooling, resizing.

Each handler takes a `Call` and returns what its output depends on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from rfsearch.field import windows
from rfsearch.field.windows import POINT, Window, per_axis
from rfsearch.trace import _layout as layout
from rfsearch.trace import _positions as positions
from rfsearch.trace import _tables as tables
from rfsearch.trace._layout import Source
from rfsearch.trace._mixing import joined
from rfsearch.trace.call import Call, Dependence, dependence_of, merge

#: Name of the attribute of indices of maxima that holds the windows which they were found in.
_POOLED = "_rfsearch_pooled"


def convolution(call: Call) -> Dependence:
    """Convolution of any number of spatial dimensions, transposed or not."""
    dependence = call.source
    if call["groups"] == 1:
        dependence = call.reduce(dependence, [1])
    elif any(source.dims[1] for source in dependence.sources):
        raise ValueError("Channels that hold pixels are convolved in groups")
    make = windows.transposed_convolution if call["transposed"] else windows.convolution
    sizes = call["weight"].shape[2:]
    spatial = len(sizes)
    steps = (per_axis(call[name], spatial) for name in ("stride", "padding", "dilation"))
    slid = _slide(
        dependence, call, [make(*numbers) for numbers in zip(sizes, *steps, strict=True)]
    )
    return _with_weights(call, slid)


def deformed_convolution(call: Call) -> Dependence:
    """`deform_conv2d`: each tap is moved by an amount that is computed, so it may see anything.

    The local field is that of the taps where they are not moved.
    """
    steps = ([call[f"{name}_h"], call[f"{name}_w"]] for name in ("stride", "pad", "dilation"))
    numbers = zip(call["weight"].shape[2:], *steps, strict=True)
    call.mixes_all = True
    taps = [windows.convolution(*along) for along in numbers]
    parts = [_slide(call.reduce(call.source, [1]), call, taps)]
    moving = map(dependence_of, (call["offset"], call["mask"]))
    parts += [call.reduce(found, [1]) for found in moving if found is not None]
    shape = (call.output.shape[0], 1, *call.output.shape[2:])
    return _with_weights(call, merge(parts, [shape] * len(parts)))


def pooling(dimensions: int) -> Callable[[Call], Dependence]:
    """Average or maximum pooling over the last dimensions."""

    def handler(call: Call) -> Dependence:
        kernel_size = call["kernel_size"]
        stride = call["stride"] or kernel_size
        dilation = call.arguments.get("dilation", 1)
        numbers = (kernel_size, stride, call["padding"], dilation)
        each = list(zip(*(per_axis(value, dimensions) for value in numbers), strict=True))
        lengths = call.first.shape[-dimensions:]
        # With `ceil_mode` a kernel may be larger than any map: it pools all of it.
        whole = [
            call.first.ndim - dimensions + axis
            for axis, (size, _, padding, step) in enumerate(each)
            if step * (size - 1) + 1 > lengths[axis] + 2 * padding
        ]
        pooled = call.reduce(call.source, whole)
        if not hasattr(call.output, "ndim"):
            setattr(call.output[1], _POOLED, each)
        return _slide(pooled, call, [windows.convolution(*one) for one in each])

    return handler


def unpooling(call: Call) -> Dependence:
    """`max_unpool2d`: each maximum is put back somewhere in its window.

    Raises:
        ValueError: If the indices are not those of a pooling.
    """
    each = getattr(call["indices"], _POOLED, None)
    if each is None:
        raise ValueError("Maxima are put back to places that are not those of a pooling")
    put_back = [windows.transposed_convolution(*one) for one in each]
    return _slide(joined([call["self"], call["indices"]], call.first.shape), call, put_back)


def columns_to_image(call: Call) -> Dependence:
    """`F.fold`: columns `(batch, channels * taps, windows)` are added up to a map.

    Where windows overlap, each of their positions counts as all of them together.
    """
    names = ("kernel_size", "stride", "padding", "dilation")
    each = list(zip(*(per_axis(call[name], 2) for name in names), strict=True))
    counts = [
        (length + 2 * padding - step * (size - 1) - 1) // stride + 1
        for length, (size, stride, padding, step) in zip(call["output_size"], each, strict=True)
    ]
    shape = tuple(call.first.shape)
    taps = [size for size, *_ in each]
    split_shape = (*shape[:-2], shape[-2] // (taps[0] * taps[1]), *taps, *counts)
    inside = [len(shape) - 1, len(shape)]
    split = call.source.each(lambda source: positions.reshape(source, shape, split_shape))
    if all(numbers[:3] == (numbers[0], numbers[0], 0) for numbers in each):
        # Windows lie side by side: positions move.
        order = [*range(len(shape) - 1), *(len(shape) + n for n in (1, -1, 2, 0))]
        moved = [split_shape[dim] for dim in order]
        return split.each(
            lambda source: positions.reshape(
                positions.permute(source, order), moved, call.output.shape
            )
        )
    added = call.reduce(split, inside).each(lambda source: positions.drop(source, inside))
    return _slide(added, call, [windows.transposed_convolution(*one) for one in each])


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
                window = window_of(
                    windows.resizing_ratio(call.arguments, dim - 2, length, new_length)
                )
            dependence = _window(dependence, dim, window, new_length)
        return dependence

    return handler


def _slide(dependence: Dependence, call: Call, each: Sequence[Window]) -> Dependence:
    output = call.output if hasattr(call.output, "ndim") else call.output[0]
    for dim, window in enumerate(each, output.ndim - len(each)):
        dependence = _window(dependence, dim, window, output.shape[dim])
    return dependence


def _window(dependence: Dependence, dim: int, window: Window, length: int) -> Dependence:
    if window != POINT:
        for axis in dependence.axes:
            if layout.seam(axis.sources):
                raise ValueError("A window slides over the seam of maps that lie side by side")

    def change(source: Source) -> Source | None:
        slid = layout.window(source, dim, *window, length)
        return slid or tables.slide(source, dim, *window, length)

    return dependence.each(change)


def _with_weights(call: Call, dependence: Dependence) -> Dependence:
    """Every unit sees all weights: those that are computed from the input, too."""
    weights = [call[name] for name in ("weight", "bias") if dependence_of(call[name]) is not None]
    if not weights:
        return dependence
    shape = tuple(call.output.shape)
    return merge([dependence, call.unplaced(weights, len(shape))], [shape, shape])
