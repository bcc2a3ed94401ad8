"""Expressions as tapes: what parts that were traced make of their neighbours, and these of them.

The nodes of an expression become the steps that the operations of its module would be written as,
and the tape of a part is written between them. So what meets where parts follow one another is
treated as in a trace of the whole network.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import partial, reduce
from typing import TYPE_CHECKING

import numpy as np

from rfsearch.field import activations, windows
from rfsearch.field.activations import gated
from rfsearch.field.expression import (
    Activation,
    Attention,
    BatchNorm,
    Chain,
    Concat,
    Convolution,
    Gate,
    ImageLevel,
    LayerNorm,
    Node,
    Pooling,
    Relu,
    Resize,
    Sum,
    along,
)
from rfsearch.field.moments import Units, attended
from rfsearch.field.node_fields import receptive_field, taps_of, unit_grid
from rfsearch.field.poolings import binomial
from rfsearch.tape import _rules as rules
from rfsearch.tape._axes import STAY, AxisWindow, even, interpolated, linear, weighted
from rfsearch.tape._rules import Outcome, Rule
from rfsearch.tape._seams import joined, spliced, summands
from rfsearch.tape.tape import Step, Tape, TapedGradient
from rfsearch.tape.taped_part import TapedPart

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def gradient_of(node: Node) -> TapedGradient:
    """The expected squared gradient of an expression, carried back operation by operation."""
    tape = Tape((1, 1))
    last = _write(tape, node, 0)
    height, width = along(node, 0), along(node, 1)
    fields = receptive_field(height), receptive_field(width)
    periods = unit_grid(height).period, unit_grid(width).period
    return TapedGradient(tape.play(), last, fields, periods)


def _write(tape: Tape, node: Node, at: int) -> int:
    """Write a node behind a step, and say which step its output is."""
    match node:
        case TapedPart():
            return spliced(tape, node.tape, node.step, at)
        case Chain():
            return reduce(lambda before, child: _write(tape, child, before), node.nodes, at)
        case Sum():
            first, *others = (_write(tape, branch, at) for branch in node.branches)
            return reduce(lambda left, right: _step(tape, rules.add, left, right), others, first)
        case Concat():
            return _concat(tape, node, at)
        case Convolution():
            height, width = (windows.convolution(*_taps(node, axis)) for axis in (0, 1))
            rule = partial(rules.weighted, strides=(height.advance, width.advance))
            return _step(tape, rule, at, windows=(even(height), even(width)))
        case Pooling():
            return _pool(tape, node, at)
        case Resize():
            return _resize(tape, node, at)
        case BatchNorm():
            parts = joined(tape, at)
            rule = partial(rules.batch_normalised, shares=tuple(parts.values()))
            return _step(tape, rule, *parts)
        case LayerNorm():
            return _step(tape, rules.channels_normalised, at)
        case Relu():
            return _step(tape, partial(rules.rectify, function=_relu), *summands(tape, at))
        case Activation():
            function = activations.FUNCTIONS[node.kind]
            return _step(tape, partial(rules.transform, function=function), at)
        case Gate():
            return _step(tape, partial(_gate, kind=node.kind), at)
        case Attention():
            return _step(tape, _attend, at)
        case _:
            return at


def _step(
    tape: Tape,
    rule: Rule,
    *parents: int,
    windows: tuple[AxisWindow, AxisWindow] = (STAY, STAY),
) -> int:
    return tape.append(Step(parents, rule, "", (1, 1), windows))


def _taps(node: Convolution | Pooling, axis: int) -> tuple[int, int, int, int]:
    taps = taps_of(node, axis)
    return taps.kernel_size, taps.stride, taps.padding, taps.dilation


def _pool(tape: Tape, node: Pooling, at: int) -> int:
    both = [taps_of(node, axis) for axis in (0, 1)]
    taps, strides = (
        tuple(getattr(one, name) for one in both) for name in ("kernel_size", "stride")
    )
    rule = partial(rules.pool, kind=node.kind, taps=taps, strides=strides)
    return _step(tape, rule, at, windows=(_pooled(node, 0), _pooled(node, 1)))


def _pooled(node: Pooling, axis: int) -> AxisWindow:
    taken = windows.convolution(*_taps(node, axis))
    size = len(taken.taps[0])
    if node.kind == "blur":
        return weighted(taken, [binomial(size)])
    return even(taken, 1 / size if node.kind == "avg" else 1.0)


def _resize(tape: Tape, node: Resize, at: int) -> int:
    ratio = Fraction(1, node.factor)
    if node.kind == "nearest":
        window = interpolated(windows.nearest(ratio), ratio, lambda distance: 1.0)
    else:
        window = interpolated(windows.linear(ratio), ratio, linear)
    rule = partial(rules.resize, axes=(window.weights,) * 2)
    return _step(tape, rule, at, windows=(window, window))


def _concat(tape: Tape, node: Concat, at: int) -> int:
    pairs = zip(node.branches, node.channels, strict=True)
    local = [
        (_write(tape, branch, at), channels / sum(node.channels))
        for branch, channels in pairs
        if not isinstance(branch, ImageLevel)
    ]
    numbers, shares = zip(*local, strict=True)
    return _step(tape, partial(rules.concatenate, shares=shares), *numbers)


def _relu(values: Array) -> tuple[Array, Array]:
    return np.maximum(values, 0.0), (values > 0).astype(float)


def _gate(inputs: Sequence[Units], power: float, kind: str) -> Outcome:
    units, gain = gated(inputs[0], kind)
    return Outcome(units, (gain,))


def _attend(inputs: Sequence[Units], power: float) -> Outcome:
    return Outcome(attended(inputs[0]), (0.0,))
