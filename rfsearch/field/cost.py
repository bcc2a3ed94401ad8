"""Parameters and floating-point operations, as readings of an expression."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from rfsearch.basics.axes import ByAxis
from rfsearch.basics.sides import sides
from rfsearch.field.expression import (
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
    Resize,
    Scale,
    Sum,
    Window,
)
from rfsearch.field.node_fields import taps_of
from rfsearch.field.part import Part


class FeatureMap(ByAxis[int]):
    """Sides of a feature map.

    >>> FeatureMap(9, 15).area, FeatureMap(9, 15).width
    (135, 15)
    """

    __slots__ = ()

    @property
    def area(self) -> int:
        """Number of positions."""
        return prod(self)


class Cost(NamedTuple):
    """What a node needs for one image.

    Attributes:
        parameters: Number of trainable values.
        flops: Floating-point operations of convolutions, attention and gates; one multiply-add
            counts as two, as in `torch.utils.flop_counter`. Normalisation, activation, maxima and
            even averages are not counted.
        output: Size of the node's output.
    """

    parameters: int
    flops: int
    output: FeatureMap


def cost(node: Node, size: FeatureMap) -> Cost:
    """Parameters and FLOPs of `node` on an input of `size` pixels.

    Raises:
        ValueError: If a window does not fit into its padded input.
    """
    match node:
        case Convolution():
            output = _slide(size, node)
            taps = prod(sides(node.kernel_size, len(size)))
            weights = taps * node.in_channels * node.out_channels // node.groups
            biases = node.out_channels if node.bias else 0
            return Cost(weights + biases, 2 * weights * output.area, output)
        case Pooling():
            output = _slide(size, node)
            weights = node.channels * prod(sides(node.kernel_size, len(size)))
            return Cost(0, 2 * weights * output.area, output)
        case Resize():
            return Cost(0, 0, FeatureMap(*(pixels * node.factor for pixels in size)))
        case BatchNorm() | LayerNorm():
            return Cost(2 * node.channels, 0, size)
        case Scale():
            return Cost(node.channels, 0, size)
        case Gate():
            return _gate(node, size)
        case Attention():
            # Each position's weights for all positions, and the sum with these weights.
            return Cost(0, 4 * node.channels * size.area**2, size)
        case Part():
            flops, sides_behind = node.run(size)
            return Cost(node.parameters, flops, FeatureMap(*sides_behind))
        case ImageLevel():
            return cost(node.node, FeatureMap(*(1 for _ in size)))._replace(output=size)
        case Chain():
            total = Cost(0, 0, size)
            for child in node.nodes:
                total = _add(total, cost(child, total.output))
            return total
        case Sum() | Concat():
            total = Cost(0, 0, size)
            for branch in node.branches:
                total = _add(total, cost(branch, size))
            return total
        case _:
            return Cost(0, 0, size)


def _gate(node: Gate, size: FeatureMap) -> Cost:
    weights = 2 * node.channels * node.inner
    parameters, flops = weights + node.inner + node.channels, 2 * weights
    if node.kind == "gc":
        # A score for each position, the sum with these, and a normalisation of the inner layer.
        parameters += node.channels + 1 + 2 * node.inner
        flops += 4 * node.channels * size.area
    return Cost(parameters, flops, size)


def _add(left: Cost, right: Cost) -> Cost:
    return Cost(left.parameters + right.parameters, left.flops + right.flops, right.output)


def _slide(size: FeatureMap, node: Window) -> FeatureMap:
    """Output size of a window, by torch's own rule (`torch.nn.Conv2d`, section "Shape")."""
    output = []
    for axis, pixels in enumerate(size):
        taps = taps_of(node, axis)
        reach = taps.dilation * (taps.kernel_size - 1)
        output.append((pixels + taps.padding + taps.after - reach - 1) // taps.stride + 1)
        if output[-1] < 1:
            raise ValueError(
                f"A window that spans {reach + 1} px must fit into its padded input, "
                f"but got an input of {'x'.join(map(str, size))} px."
            )
    return FeatureMap(*output)
