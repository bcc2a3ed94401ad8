"""Handlers that write operations onto a tape: each says which rule, windows and weights hold.

A handler takes an `Operation` and returns the number of the step that its output is made by.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

from torch import Tensor

from rfsearch.field import windows
from rfsearch.field.poolings import binomial
from rfsearch.field.windows import Window, per_axis
from rfsearch.tape import _rules as rules
from rfsearch.tape._axes import (
    AxisWindow,
    cubic,
    even,
    interpolated,
    linear,
    moved,
    weighted,
)
from rfsearch.tape._functions import TorchFunction
from rfsearch.tape.operation import Operation, number_of
from rfsearch.tape.tape import Weights

Handler = Callable[[Operation], int]


def same(operation: Operation) -> int:
    """Units stay what they are, wherever they are moved to."""
    return operation.number(operation.first)


# -- windows -------------------------------------------------------------------------------


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
        return operation.slid(partial(rules.resize, phases=_phases(each)), source, each)

    return handler


def _phases(each: dict[int, AxisWindow]) -> tuple[tuple[tuple[int, float], ...], ...]:
    """Weights of the old units that each new one looks at, along the first axis."""
    axis = next(iter(each.values()))
    return tuple(
        tuple((tap, math.sqrt(share)) for tap, share in zip(taps, shares, strict=True))
        for taps, shares in zip(axis.window.taps, axis.shares, strict=True)
    )


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


# -- branches that meet ----------------------------------------------------------------------


def concatenation(operation: Operation) -> int:
    """Tensors joined along the channels."""
    result = operation.result
    new = operation.name == "stack"
    dim = operation["dim"] % result.ndim
    located = operation.locate(result)
    given = operation.given
    if located and dim in located.height | located.width:
        raise operation.refusal("maps are joined side by side")
    # What the whole image gives to every unit is no part of the local field.
    local = [each for each in given if operation.locate(each)] or given
    total = result.shape[dim]
    shares = tuple((1 if new else each.shape[dim]) / total for each in local)
    if len(local) == 1 and shares == (1.0,):
        return operation.number(local[0])
    numbers = operation.aligned(local)
    return operation.step(partial(rules.concatenate, shares=shares), *numbers)


def addition(operation: Operation) -> int:
    """A sum or difference of two tensors, or of one and a number."""
    given, factor = operation.given, float(operation.arguments.get("alpha") or 1)
    names = ("self", "other")
    if len(given) == 2:
        if given[0] is given[1]:
            return _affine(operation, given[0], 1 + factor, 0.0)
        numbers = operation.independent(given)
        if factor != 1:
            numbers[1] = operation.step(
                partial(rules.affine, factor=factor, shift=0.0), numbers[1]
            )
        return operation.step(rules.add, *numbers)
    others = [operation[name] for name in names if operation[name] is not given[0]]
    sign = -1.0 if operation.name in ("sub", "rsub") else 1.0
    shift = _constant(others[0])
    return _affine(operation, given[0], 1.0, sign * factor * (shift or 0.0))


def multiplication(operation: Operation) -> int:
    """A product of two tensors, or of one with a number or a learned factor."""
    given = operation.given
    if len(given) == 2:
        if given[0] is given[1]:
            return pointwise(operation)
        return operation.step(rules.multiply, *operation.independent(given))
    other = operation["other"] if operation["self"] is given[0] else operation["self"]
    factor = _constant(other)
    if factor is not None:
        return _affine(operation, given[0], factor, 0.0)
    weights = operation.weights_of(other)
    if weights is None:
        raise operation.refusal("it multiplies by a constant that is not known")
    # A learned factor, such as that of layer scale, counts as one at a random initialisation.
    return operation.step(rules.scaled, operation.number(given[0]), weights=weights)


def division(operation: Operation) -> int:
    """A quotient: by a number, or by something else that depends on the images."""
    given, divisor = operation.given, _constant(operation["other"])
    if divisor is not None:
        return _affine(operation, operation["self"], 1 / divisor, 0.0)
    if len(given) < 2:
        raise operation.refusal("it divides by a constant that is not known")
    numbers = operation.independent(given)
    inverse = TorchFunction("reciprocal")
    numbers[1] = operation.step(partial(rules.transform, function=inverse), numbers[1])
    return operation.step(rules.multiply, *numbers)


def _affine(operation: Operation, tensor: Tensor, factor: float, shift: float) -> int:
    number = operation.number(tensor)
    if (factor, shift) == (1, 0):
        return number
    return operation.step(partial(rules.affine, factor=factor, shift=shift), number)


def _constant(value: Any) -> float | None:
    """A number, where it is known."""
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_meta:
        return float(value)
    return None


# -- weights and norms -----------------------------------------------------------------------


def product(one: str, two: str) -> Handler:
    """A matrix product: a linear layer, or attention."""

    def handler(operation: Operation) -> int:
        left, right = operation[one], operation[two]
        given = [each for each in (left, right) if number_of(each) is not None]
        if len(given) == 2:
            return _attend(operation, given)
        (source,) = given
        weight, dim = (right, -1) if source is left else (left, -2)
        weights = operation.weights_of(weight)
        if weights is None:
            raise operation.refusal("it multiplies by a matrix that is not known")
        weights = weights._replace(fan_in=source.shape[dim])
        rule = partial(rules.weighted, stride=1)
        if operation.mixes_all:
            return operation.step(rule, operation.number(source), weights=weights)
        located = operation.locate(source)
        if located and dim % source.ndim in located.height | located.width:
            return operation.slid(rule, source, {}, weights, channels=dim)
        return operation.step(rule, operation.number(source), weights=weights)

    return handler


def _attend(operation: Operation, given: list[Tensor]) -> int:
    """A product of two maps: scores of attention, or the mean that they weigh."""
    numbers = [operation.number(each) for each in given]
    weighing = [number for number in numbers if operation.tape.steps[number].rule is rules.scores]
    if len(weighing) == 1:
        (values,) = (number for number in numbers if number not in weighing)
        return operation.step(rules.average, values)
    return operation.step(rules.scores, *numbers)


def attention(operation: Operation) -> int:
    """Scaled dot-product attention: a mean over all positions."""
    return operation.step(rules.average, operation.number(operation["value"]))


def softmax(operation: Operation) -> int:
    """Weights that sum to one: of positions, or of channels of what the whole map holds."""
    (dim,) = operation.dims()
    number = operation.number(operation.first)
    located = operation.locate(operation.first)
    if operation.mixes_all or operation.tape.steps[number].rule is rules.scores or located:
        return operation.step(rules.scores, number)
    count = operation.first.shape[dim]
    return operation.step(partial(rules.softmax, count=count), number)


def normalisation(operation: Operation) -> int:
    """Batch normalisation, with the statistics of each channel, of what was joined apart."""
    parts = _joined(operation, operation.number(operation.first))
    rule = partial(rules.batch_normalised, shares=tuple(parts.values()))
    return operation.step(rule, *parts, weights=_factor(operation))


def _joined(operation: Operation, number: int, share: float = 1.0) -> dict[int, float]:
    """The steps that were joined along the channels to one, each with its share of them."""
    step = operation.tape.steps[number]
    shares = getattr(step.rule, "keywords", {}).get("shares")
    if shares is None or getattr(step.rule, "func", None) is not rules.concatenate:
        return {number: share}
    found: dict[int, float] = {}
    for parent, part in zip(step.parents, shares, strict=True):
        for leaf, own in _joined(operation, parent, share * part).items():
            found[leaf] = found.get(leaf, 0.0) + own
    return found


def joint_normalisation(operation: Operation) -> int:
    """Normalisation of all channels, or of groups of them, together."""
    channels = math.inf
    if operation.name == "native_group_norm":
        channels = operation.first.shape[1] // operation["group"]
        if channels == 1:
            return normalisation(operation)
    number = operation.number(operation.first)
    rule = partial(rules.channels_normalised, channels=channels)
    return operation.step(rule, number, weights=_factor(operation))


def _factor(operation: Operation) -> Weights | None:
    """The learned factors behind a normalisation."""
    weight = operation.arguments.get("weight")
    return None if weight is None else operation.weights_of(weight)


# -- single values ---------------------------------------------------------------------------


def pointwise(operation: Operation) -> int:
    """A function of each value of one tensor."""
    given = operation.given
    if len({number_of(each) for each in given}) != 1:
        raise operation.refusal()
    function = TorchFunction.of(operation.name, operation.arguments)
    if function is None:
        raise operation.refusal("it takes constants that are not known")
    return operation.step(partial(rules.transform, function=function), operation.number(given[0]))


def rectifier(operation: Operation) -> int:
    """A rectifier, which may end at a ceiling; behind a sum it is one step with it."""
    arguments = operation.arguments
    low = arguments.get("min_val", arguments.get("min", 0.0))
    high = arguments.get("max_val", arguments.get("max"))
    if low != 0:
        return pointwise(operation)
    number = operation.number(operation.first)
    function = TorchFunction.of(operation.name, arguments)
    assert function is not None
    ceiling = math.inf if high is None else float(high)
    rule = partial(rules.rectify, function=function, ceiling=ceiling)
    return operation.step(rule, *_summands(operation, number))


def _summands(operation: Operation, number: int) -> list[int]:
    step = operation.tape.steps[number]
    if step.rule is not rules.add:
        return [number]
    return [leaf for parent in step.parents for leaf in _summands(operation, parent)]


def learned_slope(operation: Operation) -> int:
    """PReLU, with the slope that it starts with."""
    function = TorchFunction("leaky_relu", (("negative_slope", 0.25),))
    return operation.step(
        partial(rules.transform, function=function), operation.number(operation.first)
    )


def reduction(kind: str) -> Handler:
    """A sum, mean or maximum: over all positions a constant, over channels a sum of them."""

    def handler(operation: Operation) -> int:
        number = operation.number(operation.first)
        dims = operation.dims() if "dim" in operation.arguments else range(operation.first.ndim)
        located = operation.locate(operation.first)
        count = math.prod(operation.first.shape[dim] for dim in dims)
        if operation.mixes_all or (located and set(dims) & (located.height | located.width)):
            if kind == "max":
                return operation.step(partial(rules.highest, count=count), number)
            if kind == "sum":
                raise operation.refusal("it sums over positions")
            return operation.step(rules.average, number)
        if kind == "max":
            raise operation.refusal("it takes the highest channel")
        divisor = count if kind == "mean" else 1
        rule = partial(rules.over_channels, count=count, divisor=divisor)
        return operation.step(rule, number)

    return handler


_SAME = (
    "view", "_unsafe_view", "reshape", "_reshape_alias", "permute", "transpose", "t", "expand",
    "repeat", "unsqueeze", "squeeze", "pixel_shuffle", "pixel_unshuffle", "as_strided",
    "channel_shuffle", "native_channel_shuffle", "_to_copy", "alias", "clone", "contiguous",
    "detach", "dropout", "native_dropout", "lift_fresh", "type_as",
)  # fmt: skip
#: Handlers by name of the operation, without a final underscore.
HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(_SAME, same),
    **dict.fromkeys(
        (
            "constant_pad_nd",
            "reflection_pad1d",
            "reflection_pad2d",
            "replication_pad1d",
            "replication_pad2d",
        ),
        padding,
    ),
    **dict.fromkeys(
        ("unbind", "split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes"), parts
    ),
    **dict.fromkeys(("select", "index", "index_select", "flip"), picked),
    "slice": narrow,
    "roll": rolled,
    "cat": concatenation,
    "stack": concatenation,
    "convolution": convolution,
    "max_pool2d_with_indices": pooling("max", 2),
    "avg_pool1d": pooling("avg", 1),
    "avg_pool2d": pooling("avg", 2),
    "adaptive_avg_pool1d": adaptive_pooling("avg"),
    "_adaptive_avg_pool2d": adaptive_pooling("avg"),
    "adaptive_max_pool2d": adaptive_pooling("max"),
    "upsample_nearest2d": resizing(windows.nearest, lambda distance: 1.0),
    "_upsample_nearest_exact2d": resizing(windows.nearest_exact, lambda distance: 1.0),
    "upsample_bilinear2d": resizing(windows.linear, linear, reach=1),
    "upsample_bicubic2d": resizing(windows.cubic, cubic(-0.75), reach=2),
    "_upsample_bilinear2d_aa": resizing(windows.antialiased(1), linear, reach=1, antialiased=True),
    "_upsample_bicubic2d_aa": resizing(
        windows.antialiased(2), cubic(-0.5), reach=2, antialiased=True
    ),
    "mm": product("self", "mat2"),
    "bmm": product("self", "mat2"),
    "addmm": product("mat1", "mat2"),
    "baddbmm": product("batch1", "batch2"),
    "_scaled_dot_product_flash_attention_for_cpu": attention,
    "_scaled_dot_product_flash_attention": attention,
    "_scaled_dot_product_efficient_attention": attention,
    "_softmax": softmax,
    "_safe_softmax": softmax,
    "native_batch_norm": normalisation,
    "_native_batch_norm_legit_no_training": normalisation,
    "native_layer_norm": joint_normalisation,
    "native_group_norm": joint_normalisation,
    "add": addition,
    "sub": addition,
    "mul": multiplication,
    "div": division,
    **dict.fromkeys(("relu", "hardtanh", "clamp", "clamp_min"), rectifier),
    "_prelu_kernel": learned_slope,
    "mean": reduction("mean"),
    "sum": reduction("sum"),
    "amax": reduction("max"),
}
