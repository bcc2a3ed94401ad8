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
from rfsearch.tape._rules import Rule
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
    along = {} if operation["transposed"] else dict(enumerate(steps, first))
    rule = partial(rules.weighted, strides=operation.per_axis(source, along, 1))
    return operation.slid(rule, source, each, weights)


def _blur(operation: Operation, numbers: list[tuple[int, int, int, int]]) -> int:
    """A convolution whose weights are no parameters: binomial ones of each channel."""
    weight, source = operation["weight"], operation["input"]
    if weight.shape[1] != 1 or len(set(numbers)) != 1:
        raise operation.refusal("its weights are fixed, and no blur's")
    size, stride, *_ = numbers[0]
    window = weighted(windows.convolution(*numbers[0]), [binomial(size)])
    each = dict.fromkeys(range(source.ndim - len(numbers), source.ndim), window)
    sizes, steps = dict.fromkeys(each, size), dict.fromkeys(each, stride)
    return operation.slid(_pool(operation, "blur", sizes, steps), source, each)


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
        taps, strides = (dict(zip(each, values, strict=True)) for values in (sizes, steps))
        return operation.slid(_pool(operation, kind, taps, strides), source, each)

    return handler


def adaptive_pooling(kind: str) -> Handler:
    """Pooling to a given size."""

    def handler(operation: Operation) -> int:
        source, result = operation.first, operation.result
        if operation.mixes_all or not operation.locate(source):
            return _whole(operation, kind)
        each: dict[int, AxisWindow] = {}
        taps: dict[int, int] = {}
        count = len(operation["output_size"])
        for dim in range(source.ndim - count, source.ndim):
            window = windows.adaptive_pooling(source.shape[dim], result.shape[dim])
            usual = sum(map(len, window.taps)) / len(window.taps)
            each[dim] = even(window, 1 / usual if kind == "avg" else 1.0)
            taps[dim] = max(1, round(usual))
        return operation.slid(_pool(operation, kind, taps, taps), source, each)

    return handler


def _pool(operation: Operation, kind: str, taps: dict[int, int], strides: dict[int, int]) -> Rule:
    """The rule of a pooling with these taps and strides along dimensions."""
    sizes, steps = (operation.per_axis(operation.first, along, 1) for along in (taps, strides))
    return partial(rules.pool, kind=kind, taps=sizes, strides=steps)


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
        phases = {dim: window.weights for dim, window in each.items()}
        rule = partial(rules.resize, axes=operation.per_axis(source, phases, (((0, 1.0),),)))
        return operation.slid(rule, source, each)

    return handler


def padding(operation: Operation) -> int:
    """Padding: units move, and channels of zeros join others."""
    source = operation.first
    amounts = operation.arguments.get("pad") or operation["padding"]
    located = operation.locate(source)
    each, share = {}, 1.0
    for number, (before, after) in enumerate(zip(amounts[::2], amounts[1::2], strict=True)):
        dim = source.ndim - 1 - number
        if dim in located.dims or not located:
            each[dim] = moved(-before)
        elif before or after:
            share *= source.shape[dim] / operation.result.shape[dim]
    if share == 1:
        return operation.slid(rules.kept, source, each)
    return operation.slid(partial(rules.diluted, share=share), source, each)


def copied(operation: Operation) -> int:
    """What is written into a tensor takes the place of what was there."""
    return operation.number(operation["src"])


def narrow(operation: Operation) -> int:
    """A slice along one dimension."""
    (dim,) = operation.dims()
    source, located = operation.first, operation.locate(operation.first)
    if dim not in located.dims:
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
    if dim in located.dims:
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
    if located.dims.intersection(dims):
        raise operation.refusal("it picks single positions")
    return operation.number(operation.first)


def rolled(operation: Operation) -> int:
    """A cyclic shift, whose border is not followed."""
    pairs = zip(operation.dims("dims"), operation["shifts"], strict=True)
    return operation.slid(
        rules.kept, operation.first, {dim: moved(-amount) for dim, amount in pairs}
    )
