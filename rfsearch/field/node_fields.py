"""What the nodes of an expression see: windows along one axis, and theoretical fields."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import NamedTuple

from rfsearch.basics.sides import number
from rfsearch.field.expression import (
    Attention,
    Chain,
    Concat,
    Convolution,
    Gate,
    ImageLevel,
    Node,
    Pooling,
    Resize,
    Sum,
    Window,
)
from rfsearch.field.part import Part
from rfsearch.field.receptive_field import IDENTITY, ReceptiveField, same_padding, window
from rfsearch.field.unit_grid import PIXELS, Grid, Taps, gather, join


class Taps1d(NamedTuple):
    """A window along one axis.

    Attributes:
        kernel_size: Taps.
        stride: Step between output units, in px of the window's input.
        dilation: Distance of the taps, in px of the window's input.
        padding: Pixels before the first input pixel.
        after: Pixels behind the last one.
    """

    kernel_size: int
    stride: int
    dilation: int
    padding: int
    after: int

    def field(self) -> ReceptiveField:
        """What an output unit sees."""
        return window(self.kernel_size, self.stride, self.dilation, self.padding)


def taps_of(node: Window, axis: int | None = None) -> Taps1d:
    """The window of a node along one axis.

    Args:
        node: A window.
        axis: Number of the axis. None means any: the window is square, or projected on one.

    Raises:
        ValueError: If no axis is given and the window differs between them.
    """
    kernel_size, stride = number(node.kernel_size, axis), number(node.stride, axis)
    if isinstance(node, Pooling):
        padding = number(node.padding, axis)
        return Taps1d(kernel_size, stride, 1, padding, padding)
    dilation = number(node.dilation, axis)
    if node.causal:
        return Taps1d(kernel_size, stride, dilation, dilation * (kernel_size - 1), 0)
    padding = same_padding(kernel_size, stride, dilation) if node.padding is None else node.padding
    return Taps1d(kernel_size, stride, dilation, padding, padding)


def local_branches(node: Sum | Concat) -> tuple[Node, ...]:
    """The branches through which a unit sees something locally."""
    return tuple(branch for branch in node.branches if not isinstance(branch, ImageLevel))


def is_global(node: Node) -> bool:
    """Whether units of `node` see the whole map beside their receptive field.

    >>> is_global(Chain((Convolution(1, 8, 8), Gate("se", 8, 8))))
    True
    """
    match node:
        case Gate() | Attention() | ImageLevel():
            return True
        case Part():
            return bool(node.global_layers)
        case Chain():
            return any(is_global(child) for child in node.nodes)
        case Sum() | Concat():
            return any(is_global(branch) for branch in node.branches)
        case _:
            return False


def parts_of(node: Node) -> Iterator[Part]:
    """The parts that a node holds, from the input on."""
    match node:
        case Part():
            yield node
        case Chain():
            for child in node.nodes:
                yield from parts_of(child)
        case Sum() | Concat():
            for branch in node.branches:
                yield from parts_of(branch)


def resize_taps(node: Resize) -> Taps:
    """For each of `factor` neighbouring output units, the input units that it looks at.

    >>> resize_taps(Resize("nearest", 2)), resize_taps(Resize("bilinear", 2))
    (((0,), (0,)), ((-1, 0), (0, 1)))
    """
    return tuple(tuple(sorted(weights)) for weights in resize_weights(node))


def resize_weights(node: Resize) -> list[dict[int, float]]:
    """The same with the weight of each input unit, along one axis."""
    factor = node.factor
    if node.kind == "nearest":
        return [{0: 1.0} for _ in range(factor)]
    phases = []
    for phase in range(factor):
        # torch.nn.functional.interpolate with align_corners=False; integers are exact.
        place, share = divmod(2 * phase + 1 - factor, 2 * factor)
        weights = {place: 1 - share / (2 * factor), place + 1: share / (2 * factor)}
        phases.append({unit: weight for unit, weight in weights.items() if weight > 0})
    return phases


def receptive_field(node: Node) -> ReceptiveField:
    """Theoretical receptive field of `node` along its one axis, in pixels of its own input.

    A node of windows that are not square is projected on an axis before.

    After an upsampling neighbouring units see intervals of different sizes: it is that of the
    unit that sees most. What units see through an `ImageLevel` is left out.

    Raises:
        ValueError: If branches that meet have different strides, or there is less than one input
            pixel to an output unit.

    >>> receptive_field(Chain((Convolution(7, 3, 64, stride=2), Pooling("max", 3, 2, 1))))
    ReceptiveField(start=-5, size=11, stride=4)
    """
    field = uniform_field(node)
    return unit_grid(node).field() if field is None else field


def uniform_field(node: Node) -> ReceptiveField | None:
    """The field that all units have, or None where an upsampling makes them different."""
    match node:
        case Convolution() | Pooling():
            return taps_of(node).field()
        case Part():
            return node.receptive_field
        case Chain():
            total = IDENTITY
            for child in node.nodes:
                field = uniform_field(child)
                if field is None:
                    return None
                total = total.then(field)
            return total
        case Sum() | Concat():
            fields = [uniform_field(branch) for branch in local_branches(node)]
            known = [field for field in fields if field is not None]
            return reduce(ReceptiveField.merge, known) if len(known) == len(fields) else None
        case Resize():
            return None
        case _:
            return IDENTITY


def unit_grid(node: Node, grid: Grid = PIXELS) -> Grid:
    """The exact interval of every unit of `node`, in px of the network input.

    Args:
        node: An expression.
        grid: What the units of its input see: by default they are the pixels.

    Raises:
        ValueError: If branches that meet have different strides.
    """
    match node:
        case Convolution() | Pooling():
            taps = taps_of(node)
            reach = range(0, taps.kernel_size * taps.dilation, taps.dilation)
            return gather(grid, (tuple(tap - taps.padding for tap in reach),), taps.stride)
        case Part():
            return gather(grid, (node.touched,), node.receptive_field.stride)
        case Resize():
            return gather(grid, resize_taps(node), 1)
        case Chain():
            return reduce(lambda before, child: unit_grid(child, before), node.nodes, grid)
        case Sum() | Concat():
            return reduce(join, (unit_grid(branch, grid) for branch in local_branches(node)))
        case _:
            return grid
