"""What each kind of block is made of: one lowering per block.

`rfsearch.model` holds the matching builder of each; a property test says that the receptive
field, parameters and FLOPs of the two agree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from rfsearch.expression import BatchNorm, Chain, Convolution, Node, Pooling, Relu, Sum


class BlockShape(NamedTuple):
    """Everything a block needs to know of itself."""

    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int
    dilation: int


#: A bottleneck's inner channels are its output channels over this (He et al., 2016).
BOTTLENECK_REDUCTION = 4
#: timm rounds the inner channels of residual blocks to a multiple of this.
_CHANNEL_STEP = 8


def inner_channels(out_channels: int, reduction: int = 1) -> int:
    """Channels inside a residual block, rounded as by `timm.layers.make_divisible`.

    >>> inner_channels(256, 4), inner_channels(16, 4), inner_channels(12)
    (64, 8, 16)
    """
    exact = out_channels / reduction
    rounded = max(_CHANNEL_STEP, int(exact + _CHANNEL_STEP / 2) // _CHANNEL_STEP * _CHANNEL_STEP)
    # Rounding down takes away a tenth at most.
    return rounded + _CHANNEL_STEP if rounded < 0.9 * exact else rounded


def conv_norm(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, dilation: int = 1
) -> tuple[Node, ...]:
    """Convolution and batch normalisation."""
    convolution = Convolution(kernel_size, in_channels, out_channels, stride, dilation)
    return (convolution, BatchNorm(out_channels))


def plain(shape: BlockShape) -> Node:
    """Convolution, batch normalisation, rectifier (Simonyan and Zisserman, 2015)."""
    return Chain((*conv_norm(*shape), Relu()))


def basic(shape: BlockShape) -> Node:
    """Residual block of two equal convolutions, the first with the stride (He et al., 2016)."""
    inner = inner_channels(shape.out_channels)
    first = conv_norm(*shape._replace(out_channels=inner))
    second = conv_norm(inner, shape.out_channels, shape.kernel_size, dilation=shape.dilation)
    return _residual(shape, (*first, Relu(), *second))


def bottleneck(shape: BlockShape) -> Node:
    """Residual block 1x1, kxk, 1x1 with the stride on the kxk convolution ("v1.5")."""
    inner = inner_channels(shape.out_channels, BOTTLENECK_REDUCTION)
    reduce = (*conv_norm(shape.in_channels, inner, 1), Relu())
    middle = conv_norm(inner, inner, shape.kernel_size, shape.stride, shape.dilation)
    return _residual(shape, (*reduce, *middle, Relu(), *conv_norm(inner, shape.out_channels, 1)))


def _residual(shape: BlockShape, branch: tuple[Node, ...]) -> Node:
    """Add the shortcut: the identity, or a 1x1 projection where the shape changes."""
    changes = shape.in_channels != shape.out_channels or shape.stride != 1
    projection = conv_norm(shape.in_channels, shape.out_channels, 1, shape.stride)
    shortcut = Chain(projection if changes else ())
    return Chain((Sum((shortcut, Chain(branch))), Relu()))


def pooling(kind: str, stride: int) -> Node:
    """Downsampling by a pooling whose window is its stride, without padding (VGG)."""
    return Pooling(kind.removesuffix("_pool"), stride, stride)


#: Max-pooling of the ResNet stem: 3x3, stride 2, padding 1.
STEM_POOL = Pooling("max", 3, 2, padding=1)

LOWERINGS: dict[str, Callable[[BlockShape], Node]] = {
    "plain": plain,
    "basic": basic,
    "bottleneck": bottleneck,
}
