"""The theoretical receptive field over the path through a network that sees least.

Where branches meet, a unit sees what the widest branch sees, but the information may come through
the narrowest: a residual network's shortcuts carry that of its stem to the end. Richter et al.,
"Should You Go Deeper? Optimizing Convolutional Neural Network Architectures without Training by
Receptive Field Analysis", ICMLA 2021, take the smallest receptive field over paths as the measure
of what a layer has yet to add.
"""

from __future__ import annotations

from functools import reduce

from rfsearch.expression import Chain, Node, Sum, receptive_field
from rfsearch.receptive_field import IDENTITY, ReceptiveField


def smallest_field(node: Node, seen: ReceptiveField = IDENTITY) -> ReceptiveField:
    """Receptive field of `node` along the path that sees least.

    Args:
        node: An expression.
        seen: Smallest field of the units of its input: by default they are the pixels.
    """
    match node:
        case Chain():
            return reduce(lambda before, child: smallest_field(child, before), node.nodes, seen)
        case Sum():
            fields = (smallest_field(branch, seen) for branch in node.branches)
            return min(fields, key=lambda field: field.size)
        case _:
            return seen.then(receptive_field(node))
