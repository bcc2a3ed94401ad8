"""What autograd keeps of a forward pass for the backward pass, as a reading of an expression.

Each tensor counts once, however many layers keep it: a rectifier's output is also the input that
the next convolution keeps. Parameters and buffers are not counted.
"""

from __future__ import annotations

from math import gcd, prod
from typing import NamedTuple

from rfsearch.basics.sides import sides
from rfsearch.field.cost import FeatureMap, cost
from rfsearch.field.expression import (
    HEAD_WIDTH,
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
    Scale,
    Sum,
)
from rfsearch.field.node_fields import taps_of
from rfsearch.field.part import Part

#: Values of four bytes that an index of a max-pooling takes.
_INDEX = 2


class Saved(NamedTuple):
    """What is kept of one image behind a node.

    Attributes:
        values: Values of the activations' type that are kept, in all.
        size: Size of the node's output.
        channels: Channels of the output.
        held: Whether the output is among what is kept.
        input_held: Whether the node's input is.
    """

    values: float
    size: FeatureMap
    channels: int
    held: bool
    input_held: bool


def saved_values(node: Node, size: FeatureMap, channels: int) -> float:
    """Values that autograd keeps of one image.

    Args:
        node: An expression.
        size: Size of the image in px.
        channels: Channels of the image.

    Raises:
        ValueError: If a window does not fit into its padded input.
    """
    return saved(node, Saved(0, size, channels, held=False, input_held=False)).values


def saved(node: Node, before: Saved) -> Saved:
    """What is kept of one image up to and with `node`, whose input is the output of `before`."""
    match node:
        case Chain():
            return _chain(node, before)
        case Sum() | Concat():
            return _branches(node, before)
        case ImageLevel():
            inside = before._replace(size=FeatureMap(*(1 for _ in before.size)), held=False)
            after = saved(node.node, inside)
            return after._replace(size=before.size, held=False, input_held=before.held)
    size = cost(node, before.size).output
    channels = _channels(node, before.channels)
    keeps_input, keeps_output, extra = _kept(node, before, size)
    held = before.held or keeps_input
    values = before.values + extra
    if keeps_input and not before.held:
        values += before.size.area * before.channels
    if keeps_output:
        values += size.area * channels
    return Saved(values, size, channels, keeps_output, held)


def _channels(node: Node, before: int) -> int:
    """Channels behind a node that is no branching."""
    match node:
        case Convolution():
            return node.out_channels
        case Attention() | Part():
            return node.channels
        case _:
            return before


def _kept(node: Node, before: Saved, size: FeatureMap) -> tuple[bool, bool, float]:
    """Whether a node keeps its input, and its output, and how many values beside."""
    inputs, outputs = before.size.area, size.area
    match node:
        case Relu():
            return False, True, 0
        case Part():
            return node.kept(before.size)
        case Resize():
            return False, False, 0
        case Pooling(kind="max"):
            return True, False, _INDEX * outputs * before.channels
        case Pooling(kind="blur"):
            paddings = sides(node.padding, len(before.size))
            padded = (
                side + 2 * pixels for side, pixels in zip(before.size, paddings, strict=True)
            )
            return False, False, prod(padded) * before.channels
        case LayerNorm():
            return True, False, 2 * inputs
        case Gate():
            scores = inputs if node.kind == "gc" else 0
            return True, False, scores + 2 * node.channels + node.inner
        case Attention():
            # Queries, keys and values in a layout of their own, and a norm for each head.
            heads = node.channels // gcd(node.channels, HEAD_WIDTH)
            return False, False, inputs * (3 * node.channels + heads)
        case Convolution(causal=True, kernel_size=kernel_size) if kernel_size != 1:
            # The input is padded first, and that is kept.
            reaches = (taps_of(node, axis).padding for axis in range(len(before.size)))
            padded = (side + pixels for side, pixels in zip(before.size, reaches, strict=True))
            return False, False, prod(padded) * before.channels
        case BatchNorm() | Scale() | Activation() | Pooling() | Convolution():
            return True, False, 0
    raise TypeError(f"`node` must be an expression, but got {node!r}.")


def _chain(node: Chain, before: Saved) -> Saved:
    after, first_held = before._replace(input_held=before.held), before.held
    for number, child in enumerate(node.nodes):
        after = saved(child, after)
        if number == 0:
            first_held = after.input_held
        elif _is_identity(node.nodes[:number]):
            first_held = first_held or after.input_held
    return after._replace(input_held=first_held)


def _is_identity(nodes: tuple[Node, ...]) -> bool:
    return all(isinstance(node, Chain) and _is_identity(node.nodes) for node in nodes)


def _branches(node: Sum | Concat, before: Saved) -> Saved:
    values, held = before.values, before.held
    after = before
    for branch in node.branches:
        after = saved(branch, before._replace(values=values, held=held))
        values, held = after.values, after.input_held
    channels = sum(node.channels) if isinstance(node, Concat) else after.channels
    return Saved(values, after.size, channels, held=False, input_held=held)
