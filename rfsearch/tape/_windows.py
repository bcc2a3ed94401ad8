"""Handlers of operations that slide windows over units, or move them."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial

from rfsearch.field import windows
from rfsearch.field.poolings import binomial
from rfsearch.field.windows import Window, per_axis
from rfsearch.tape import _rules as rules
from rfsearch.tape._axes import (
    AxisWindow,
    even,
    interpolated,
    moved,
    weighted,
)
from rfsearch.tape.operation import Operation, number_of
from rfsearch.tape.tape import Weights

Handler = Callable[[Operation], int]


def convolution(operation: Operation) -> int:
    """A convolution, transposed or not; with fixed weights, a blur."""
    weight, source = operation["weight"], operation["input"]
    if number_of(weight) is not None:
        raise operation.refusal("its weights are computed from the images")
    sizes = tuple(weight.shape[2:])
    steps, paddings, dilations = (
        per_axis(operation[name], len(sizes)) for name in ("stride", "padding", "dilation")
    )
    numbers = list(zip(sizes, steps, paddings, dilations, strict=True))
    first = source.ndim - len(sizes)
    if operation.buffer_of(weight) is not None:
        return _blur(operation, numbers)
    make = windows.transposed_convolution if operation["transposed"] else windows.convolution
    each = {dim: even(make(*one)) for dim, one in enumerate(numbers, first)}
    if operation["transposed"]:
        inputs = weight.shape[0] // operation["groups"] / math.prod(steps)
    else:
        inputs = weight.shape[1]
    weights = (operation.weights_of(weight) or Weights(""))._replace(
        fan_in=inputs * math.prod(sizes)
    )
    stride = 1 if operation["transposed"] else steps[0]
    return operation.slid(partial(rules.weighted, stride=stride), source, each, weights)


def _blur(operation: Operation, numbers: list[tuple[int, int, int, int]]) -> int:
    """A convolution whose weights are no parameters: binomial ones of each channel."""
    weight, source = operation["weight"], operation["input"]
    if weight.shape[1] != 1 or len(set(numbers)) != 1 or len(numbers) != 2:
        raise operation.refusal("its weights are fixed, and no blur's")
    size, stride, *_ = numbers[0]
    taps = binomial(size)
    window = weighted(windows.convolution(*numbers[0]), [taps])
    rule = partial(rules.pool, kind="blur", taps=size, stride=stride)
    return operation.slid(rule, source, {2: window, 3: window})


def pooling(kind: str, dimensions: int) -> Handler:
    """Average or maximum pooling over the last dimensions."""

    def handler(operation: Operation) -> int:
        source = operation.first
        sizes = per_axis(operation["kernel_size"], dimensions)
        steps = per_axis(operation["stride"] or sizes, dimensions)
        dilation = operation.arguments.get("dilation", 1)
        others = (per_axis(value, dimensions) for value in (operation["padding"], dilation))
        if operation.mixes_all:
            return _whole(operation, kind)
        each: dict[int, AxisWindow] = {}
        numbers = zip(sizes, steps, *others, strict=True)
        for dim, one in enumerate(numbers, source.ndim - dimensions):
            gain = 1 / one[0] if kind == "avg" else 1.0
            each[dim] = even(windows.convolution(*one), gain)
        taps = round(math.prod(sizes) ** (1 / dimensions))
        return operation.slid(
            partial(rules.pool, kind=kind, taps=taps, stride=steps[0]), source, each
        )

    return handler


def adaptive_pooling(kind: str) -> Handler:
    """Pooling to a given size."""

    def handler(operation: Operation) -> int:
        source, result = operation.first, operation.result
        if operation.mixes_all or not operation.locate(source):
            return _whole(operation, kind)
        each, taps = {}, 1.0
        count = len(operation["output_size"])
        for dim in range(source.ndim - count, source.ndim):
            window = windows.adaptive_pooling(source.shape[dim], result.shape[dim])
            usual = sum(map(len, window.taps)) / len(window.taps)
            each[dim] = even(window, 1 / usual if kind == "avg" else 1.0)
            taps *= usual ** (1 / count)
        size = max(1, round(taps))
        return operation.slid(partial(rules.pool, kind=kind, taps=size, stride=size), source, each)

    return handler


def _whole(operation: Operation, kind: str) -> int:
    """A pooling over so much of the map that all that is left is a constant."""
    number = operation.number(operation.first)
    if kind == "avg":
        return operation.step(rules.average, number)
    count = operation.first.numel() // max(1, operation.result.numel())
    return operation.step(partial(rules.highest, count=count), number)


def resizing(
    window_of: Callable[[Fraction], Window],
    kernel: Callable[[float], float],
    reach: int = 0,
    antialiased: bool = False,
) -> Handler:
    """Interpolation of the last dimensions."""

    def handler(operation: Operation) -> int:
        source, result = operation.first, operation.result
        if not operation.locate(source):
            return operation.number(source)
        each = {}
        for dim in range(2, source.ndim):
            length, new_length = source.shape[dim], result.shape[dim]
            if operation.arguments.get("align_corners"):
                ratio = Fraction(max(length - 1, 1), max(new_length - 1, 1))
                window = windows.aligned_corners(length, new_length, reach)
            else:
                ratio = windows.resizing_ratio(operation.arguments, dim - 2, length, new_length)
                window = window_of(ratio)
            aligned = bool(operation.arguments.get("align_corners"))
            scale = float(max(ratio, Fraction(1))) if antialiased else 1.0
            each[dim] = interpolated(window, ratio, kernel, scale, aligned)
        phases = next(iter(each.values())).weights
        return operation.slid(partial(rules.resize, phases=phases), source, each)

    return handler


def padding(operation: Operation) -> int:
    """Padding: units move, and channels of zeros join others."""
    source = operation.first
    amounts = operation.arguments.get("pad") or operation["padding"]
    located = operation.locate(source)
    each, share = {}, 1.0
    for number, (before, after) in enumerate(zip(amounts[::2], amounts[1::2], strict=True)):
        dim = source.ndim - 1 - number
        if dim in located.height | located.width or not located:
            each[dim] = moved(-before)
        elif before or after:
            share *= source.shape[dim] / operation.result.shape[dim]
    if share == 1:
        return operation.slid(rules.kept, source, each)
    return operation.slid(partial(rules.diluted, share=share), source, each)


def narrow(operation: Operation) -> int:
    """A slice along one dimension."""
    (dim,) = operation.dims()
    source, located = operation.first, operation.locate(operation.first)
    if dim not in located.height | located.width:
        whole = operation.result.shape[dim] == source.shape[dim]
        number = operation.number(source)
        return number if whole else operation.step(rules.sliced, number)
    start, length = operation["start"] or 0, source.shape[dim]
    start = min(max(start + length if start < 0 else start, 0), length)
    return operation.slid(rules.kept, source, {dim: moved(start, operation["step"])})


def parts(operation: Operation) -> int:
    """Slices one after another along the channels; each is a step of its own."""
    (dim,) = operation.dims()
    located = operation.locate(operation.first)
    if dim in located.height | located.width:
        raise operation.refusal("maps are cut into parts")
    return operation.step(rules.sliced, operation.number(operation.first))


def picked(operation: Operation) -> int:
    """Positions along a dimension: of channels any, of units none."""
    indices = operation.arguments.get("indices")
    if indices is None:
        dims = operation.dims("dims" if operation.name == "flip" else "dim")
    else:
        dims = [dim for dim, index in enumerate(indices) if index is not None]
    located = operation.locate(operation.first)
    if (located.height | located.width).intersection(dims):
        raise operation.refusal("it picks single positions")
    return operation.number(operation.first)


def rolled(operation: Operation) -> int:
    """A cyclic shift, whose border is not followed."""
    pairs = zip(operation.dims("dims"), operation["shifts"], strict=True)
    return operation.slid(
        rules.kept, operation.first, {dim: moved(-amount) for dim, amount in pairs}
    )
