"""Which input pixels a unit touches: inside a receptive field, dilated taps may leave gaps.

A theoretical receptive field is an interval, the hull of what a unit can depend on. Where taps
are apart (dilation, or a stride larger than the window) and no later window fills the gaps, some
pixels of the hull are never touched: *gridding* (Wang et al., "Understanding Convolution for
Semantic Segmentation", WACV 2018). The set of touched pixels is a reading of the expression like
the others: every window adds shifted copies of the set so far, every sum unites the sets of its
branches. It is exact along one axis. Sets are bit masks in integers, so a window costs as many
shifts as it has taps.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

from rfsearch.field.expression import Chain, Concat, Convolution, Node, Pooling, Resize, Sum
from rfsearch.field.node_fields import Taps1d, local_branches, taps_of
from rfsearch.field.part import Part


class Coverage(NamedTuple):
    """The input pixels that unit 0 touches along one axis; unit `i` does so `i * stride` further.

    Attributes:
        start: First pixel touched, in px.
        mask: Bit `n` is set if pixel `start + n` is touched; bit 0 always is.
        stride: Input pixels between neighbouring units, in px.
    """

    start: int
    mask: int
    stride: int

    @property
    def size(self) -> int:
        """Size of the theoretical receptive field, the hull of the touched pixels, in px."""
        return self.mask.bit_length()

    @property
    def missing(self) -> int:
        """Pixels of the theoretical receptive field that are never touched.

        >>> coverage(Convolution(3, 1, 1, dilation=4)).missing
        6
        """
        return self.size - self.mask.bit_count()

    @property
    def gridding(self) -> float:
        """Share of the pixels of the theoretical receptive field that are never touched."""
        return self.missing / self.size

    @property
    def pixels(self) -> tuple[int, ...]:
        """The touched pixels of unit 0, in ascending order.

        >>> coverage(Convolution(3, 1, 1, dilation=4)).pixels
        (-4, 0, 4)
        """
        return tuple(self.start + n for n in range(self.size) if self.mask >> n & 1)

    def windowed(self, taps: Taps1d) -> Coverage:
        """Units that look at these units through a window."""
        reach = range(0, taps.kernel_size * taps.dilation, taps.dilation)
        return self.looked_at([tap - taps.padding for tap in reach], taps.stride)

    def looked_at(self, taps: Sequence[int], stride: int) -> Coverage:
        """Units that look at some of these units.

        Args:
            taps: The units that unit 0 looks at, in ascending order.
            stride: By how many of these units the next one is further on.
        """
        shifts = [(tap - taps[0]) * self.stride for tap in taps]
        mask = reduce(lambda seen, shift: seen | self.mask << shift, shifts, 0)
        return Coverage(self.start + taps[0] * self.stride, mask, self.stride * stride)

    def united(self, other: Coverage) -> Coverage:
        """Units that touch what the same unit of either branch touches.

        Raises:
            ValueError: If the branches do not have the same stride.
        """
        if self.stride != other.stride:
            raise ValueError(
                "United branches must have equal strides, "
                f"but got {self.stride} and {other.stride}."
            )
        start = min(self.start, other.start)
        mask = self.mask << self.start - start | other.mask << other.start - start
        return Coverage(start, mask, self.stride)


#: The pixels themselves.
PIXEL = Coverage(start=0, mask=1, stride=1)


def coverage(node: Node, seen: Coverage = PIXEL) -> Coverage:
    """The pixels that a unit of `node` touches along its one axis.

    Args:
        node: An expression, or its projection on an axis.
        seen: What the units of its input touch: by default they are the pixels.

    Raises:
        ValueError: If the expression upsamples: its units touch different pixels.
    """
    match node:
        case Convolution() | Pooling():
            return seen.windowed(taps_of(node))
        case Part():
            return seen.looked_at(node.touched, node.receptive_field.stride)
        case Resize():
            raise ValueError("Units that an upsampling makes different have no common coverage.")
        case Chain():
            return reduce(lambda before, child: coverage(child, before), node.nodes, seen)
        case Sum() | Concat():
            branches = local_branches(node)
            return reduce(Coverage.united, (coverage(branch, seen) for branch in branches))
        case _:
            return seen
