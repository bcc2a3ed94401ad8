"""The small language every architecture lowers to.

An architecture is lowered once (`rfsearch.blocks`) to a tree of these nodes; theoretical
receptive field, expected effective receptive field, parameters and FLOPs are *readings* of the
tree, each one function with a case per node. Windows are square: one number serves both axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

from rfsearch.receptive_field import IDENTITY, ReceptiveField, stack, window


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution without bias, with the symmetric padding of `timm.layers.get_padding`."""

    kernel_size: int
    in_channels: int
    out_channels: int
    stride: int = 1
    dilation: int = 1


@dataclass(frozen=True, slots=True)
class Pooling:
    """A maximum or average over a window; `kind` is `"max"` or `"avg"`."""

    kind: str
    kernel_size: int
    stride: int
    padding: int = 0


@dataclass(frozen=True, slots=True)
class BatchNorm:
    """Batch normalisation over `channels` channels: fixed statistics, so no spatial reach."""

    channels: int


@dataclass(frozen=True, slots=True)
class Relu:
    """A rectifier."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Nodes applied one after another; the empty chain is the identity."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Sum:
    """Branches over the same input whose outputs are added."""

    branches: tuple[Node, ...]


Node = Convolution | Pooling | BatchNorm | Relu | Chain | Sum


def receptive_field(node: Node) -> ReceptiveField:
    """Theoretical receptive field of `node`, in pixels of its own input.

    >>> receptive_field(Chain((Convolution(7, 3, 64, stride=2), Pooling("max", 3, 2, 1))))
    ReceptiveField(start=-5, size=11, stride=4)
    """
    match node:
        case Convolution():
            return window(node.kernel_size, node.stride, node.dilation)
        case Pooling():
            return window(node.kernel_size, node.stride, padding=node.padding)
        case BatchNorm() | Relu():
            return IDENTITY
        case Chain():
            return stack(map(receptive_field, node.nodes))
        case Sum():
            return reduce(ReceptiveField.merge, map(receptive_field, node.branches))
