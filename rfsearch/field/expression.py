"""The small language every architecture lowers to.

An architecture is lowered (`Architecture.expressions`; the stem, the stages and their blocks, and
the neck each lower themselves) to a tree of these nodes for each output map. Theoretical receptive
field, expected effective receptive field, coverage, parameters and FLOPs are *readings* of the
tree, each one function with a case per node. A `Part` answers them itself.

A tree is of any number of axes. The numbers of a window are one for all axes, or one for each;
what is read along an axis is read off the tree's projection on it (`along`), which is the tree
itself where windows are square.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rfsearch.basics.axes import Alike
from rfsearch.basics.sides import Sides, number
from rfsearch.field.part import Part


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution.

    Its random weights have zero mean; their variance is one over the inputs of a unit.

    Attributes:
        padding: Pixels before the first input pixel; None is the symmetric padding of
            `timm.layers.get_padding`.
        causal: Whether all padding lies before the first input pixel, so that a unit sees nothing
            that comes after it; then `padding` is None.
    """

    kernel_size: Sides
    in_channels: int
    out_channels: int
    stride: Sides = 1
    dilation: Sides = 1
    groups: int = 1
    bias: bool = False
    padding: int | None = None
    causal: bool = False


@dataclass(frozen=True, slots=True)
class Pooling:
    """A maximum or average over a window; `kind` is `"max"`, `"avg"`, or `"blur"`.

    `"blur"` is the average with binomial weights (Zhang, "Making Convolutional Networks
    Shift-Invariant Again", ICML 2019): to torch a convolution of each of its `channels`.
    """

    kind: str
    kernel_size: Sides
    stride: Sides
    padding: Sides = 0
    channels: int = 0


@dataclass(frozen=True, slots=True)
class Resize:
    """Upsampling by an integer factor; `kind` is `"nearest"` or `"bilinear"` (pixel centres)."""

    kind: str
    factor: int


@dataclass(frozen=True, slots=True)
class BatchNorm:
    """Batch normalisation over `channels` channels: fixed statistics, so no spatial reach."""

    channels: int


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """Normalisation of the channels at each position (`timm.layers.LayerNorm2d`)."""

    channels: int


@dataclass(frozen=True, slots=True)
class Scale:
    """A learned factor for each channel (layer scale), which is one at initialisation."""

    channels: int


@dataclass(frozen=True, slots=True)
class Relu:
    """A rectifier."""


@dataclass(frozen=True, slots=True)
class Activation:
    """A smooth activation: `kind` is `"gelu"` or `"silu"`."""

    kind: str


@dataclass(frozen=True, slots=True)
class Gate:
    """A factor between 0 and 1 for each channel, made of what the whole map holds.

    It is global; locally, it is pointwise.

    Attributes:
        kind: `"se"` (Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018) pools evenly,
            `"gc"` (Cao et al., "GCNet", ICCV Workshops 2019) by a softmax over positions.
        channels: Channels of the map.
        inner: Channels between the two layers that make the factors.
    """

    kind: str
    channels: int
    inner: int


@dataclass(frozen=True, slots=True)
class Attention:
    """Self-attention over all positions, from queries, keys and values to `channels` channels.

    It is global: locally, units see nothing through it.
    """

    channels: int


@dataclass(frozen=True, slots=True)
class Chain:
    """Nodes applied one after another; the empty chain is the identity."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Sum:
    """Branches over the same input whose outputs are added."""

    branches: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Concat:
    """Branches over the same input whose outputs are joined along the channels.

    Attributes:
        branches: The branches.
        channels: Output channels of each.
    """

    branches: tuple[Node, ...]
    channels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ImageLevel:
    """`node` applied to the mean over the whole map, whose result is given to every unit.

    It is global: locally, units see nothing through it. It may only be a branch of a `Concat`.
    """

    node: Node


#: Channels of an attention head, where the channels are divisible by it.
HEAD_WIDTH = 32
Window = Convolution | Pooling
Pointwise = BatchNorm | LayerNorm | Scale | Relu | Activation | Gate | Attention
Node = Window | Resize | Pointwise | Chain | Sum | Concat | ImageLevel | Part


def along(node: Node, axis: int) -> Node:
    """The projection on one axis: the same tree with each window's numbers along that axis.

    >>> along(Convolution((1, 7), 8, 8, stride=2), 1) == Convolution(7, 8, 8, stride=2)
    True
    """
    match node:
        case Convolution():
            numbers = (node.kernel_size, node.stride, node.dilation)
            if all(isinstance(each, int) for each in numbers):
                return node
            kernel_size, stride, dilation = (number(each, axis) for each in numbers)
            return replace(node, kernel_size=kernel_size, stride=stride, dilation=dilation)
        case Pooling():
            numbers = (node.kernel_size, node.stride, node.padding)
            if all(isinstance(each, int) for each in numbers):
                return node
            kernel_size, stride, padding = (number(each, axis) for each in numbers)
            return replace(node, kernel_size=kernel_size, stride=stride, padding=padding)
        case Chain():
            nodes = tuple(along(child, axis) for child in node.nodes)
            return node if nodes == node.nodes else Chain(nodes)
        case Sum() | Concat():
            branches = tuple(along(branch, axis) for branch in node.branches)
            return node if branches == node.branches else replace(node, branches=branches)
        case _:
            return node


def alike(node: Node, axes: int) -> Alike:
    """Which of so many axes a tree has the same numbers along: all of them, or none.

    >>> alike(Convolution(3, 8, 8), 2), alike(Convolution((1, 7), 8, 8), 2)
    ((2,), (1, 1))
    """
    first = along(node, 0)
    if first is node or all(along(node, axis) == first for axis in range(1, axes)):
        return (axes,)
    return (1,) * axes
