"""Units that are thrown away: of each map inside a network, those that nothing behind it reads.

A window that is smaller than its stride, such as a convolution of one tap and stride 2, leaves
out units of its input, and with them what was computed for them, although later windows may
cover the pixels again. So the share of pixels that are never touched (`rfsearch.field.coverage`)
does not show it. Which units a window reads repeats with its stride: they are residues. What
several branches read of one map is the union. It is exact along one axis.
"""

from __future__ import annotations

from functools import reduce

from rfsearch.field.expression import Chain, Concat, Convolution, Node, Pooling, Sum
from rfsearch.field.node_fields import local_branches, taps_of
from rfsearch.field.part import Part
from rfsearch.field.windows import ALL, Read, convolution, read_through


def read_by(node: Node) -> Read:
    """The units of its input that a node reads; an output that is its input reads all of them."""
    match node:
        case Convolution() | Pooling():
            taps = taps_of(node)
            return read_through(
                convolution(taps.kernel_size, taps.stride, taps.padding, taps.dilation)
            )
        case Part():
            return node.read_units[0]
        case Chain():
            return read_by(node.nodes[0]) if node.nodes else ALL
        case Sum() | Concat():
            return reduce(Read.united, map(read_by, local_branches(node)))
        case _:
            return ALL


def skipped_units(node: Node) -> float:
    """Share of the units along one axis that nothing reads, in the map where it is largest.

    Args:
        node: An expression, or its projection on an axis. Its input is one of the maps, its
            output is none.

    >>> skipped_units(Chain((Convolution(3, 8, 8), Convolution(1, 8, 8, stride=2))))
    0.5
    >>> shortcut = Pooling("avg", 2, 2)
    >>> skipped_units(Sum((Convolution(1, 8, 8, stride=2), shortcut)))
    0.0
    """
    return max(read_by(node).skipped, _skipped_inside(node))


def _skipped_inside(node: Node) -> float:
    match node:
        case Part():
            return node.read_units[1]
        case Chain():
            between = (read_by(child).skipped for child in node.nodes[1:])
            return max((*between, *map(_skipped_inside, node.nodes)), default=0.0)
        case Sum() | Concat():
            return max(map(_skipped_inside, local_branches(node)))
        case _:
            return 0.0
