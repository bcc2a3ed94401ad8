"""Parts that several kinds of block are made of."""

from __future__ import annotations

from typing import Any, NamedTuple

from rfsearch.basics.sides import Sides, as_text, joined, sides
from rfsearch.field.expression import BatchNorm, Convolution, Gate, LayerNorm, Node, Pooling
from rfsearch.field.receptive_field import same_padding


class BlockShape(NamedTuple):
    """Everything a block needs to know of itself; numbers of a window as in `Convolution`."""

    in_channels: int
    out_channels: int
    kernel_size: Sides
    stride: Sides = 1
    dilation: Sides = 1
    context: str = "none"
    expansion: int = 4
    options: tuple[tuple[str, Any], ...] = ()
    causal: bool = False

    @property
    def changes(self) -> bool:
        """Whether the block's output has another shape than its input."""
        return self.in_channels != self.out_channels or self.stride != 1


#: timm rounds the inner channels of blocks to a multiple of this.
_CHANNEL_STEP = 8
#: Taps of a blur between samples (Zhang, 2019).
BLUR_SIZE = 3


def window_text(kernel_size: Sides) -> str:
    """A window in words; one number is that of both axes of images.

    >>> window_text(3), window_text((1, 7))
    ('3x3', '1x7')
    """
    return str(as_text(sides(kernel_size, 2)))


def rounded_channels(exact: float) -> int:
    """Channels inside a block, rounded as by `timm.layers.make_divisible`.

    >>> rounded_channels(64), rounded_channels(4), rounded_channels(12)
    (64, 8, 16)
    """
    rounded = max(_CHANNEL_STEP, int(exact + _CHANNEL_STEP / 2) // _CHANNEL_STEP * _CHANNEL_STEP)
    # Rounding down takes away a tenth at most.
    return rounded + _CHANNEL_STEP if rounded < 0.9 * exact else rounded


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: Sides,
    stride: Sides = 1,
    dilation: Sides = 1,
    groups: int = 1,
    causal: bool = False,
) -> tuple[Node, ...]:
    """Convolution and batch normalisation."""
    numbers = (kernel_size, in_channels, out_channels, stride, dilation, groups)
    return (Convolution(*numbers, causal=causal), BatchNorm(out_channels))


def patches(in_channels: int, out_channels: int, stride: Sides) -> Node:
    """A convolution whose kernel is its stride, without padding, and with a bias."""
    return Convolution(stride, in_channels, out_channels, stride, bias=True, padding=0)


def transition(shape: BlockShape) -> tuple[Node, ...]:
    """What ConvNeXt puts in front of a stage whose blocks cannot change the shape."""
    if not shape.changes:
        return ()
    step = patches(shape.in_channels, shape.out_channels, shape.stride)
    return (LayerNorm(shape.in_channels), step)


def context(kind: str, channels: int) -> tuple[Node, ...]:
    """A gate of the channels, as wide inside as timm makes it by default."""
    if kind == "none":
        return ()
    if kind == "se":
        inner = max(_CHANNEL_STEP, (channels // 16 + 4) // _CHANNEL_STEP * _CHANNEL_STEP)
    else:
        inner = max(1, int(channels / 8 + 0.5))
    return (Gate(kind, channels, inner),)


def downsampling(kind: str, stride: Sides, channels: int) -> tuple[Node, ...]:
    """What reduces the resolution before the blocks of a stage; nothing where they do."""
    return () if kind == "conv" else (pooling(kind, stride, channels),)


def pooling(kind: str, stride: Sides, channels: int) -> Node:
    """Downsampling by a pooling.

    The window of a maximum or average is its stride, without padding (VGG).
    """
    if kind == "blur_pool":
        padding = joined([same_padding(BLUR_SIZE, along) for along in sides(stride, 1)])
        return Pooling("blur", BLUR_SIZE, stride, padding, channels)
    return Pooling(kind.removesuffix("_pool"), stride, stride)
