"""What each built-in kind of block is made of: one lowering per block.

`rfsearch.network._builders` holds the matching builder of each; a property test says that the
receptive field, parameters and FLOPs of the two agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from rfsearch.basics.sides import Sides
from rfsearch.field.expression import (
    Activation,
    Attention,
    Chain,
    Concat,
    Convolution,
    LayerNorm,
    Node,
    Pooling,
    Relu,
    Scale,
    Sum,
)
from rfsearch.network.block_parts import (
    BlockShape,
    context,
    conv_norm,
    rounded_channels,
    transition,
)

#: A bottleneck's inner channels are its output channels over this (He et al., 2016).
BOTTLENECK_REDUCTION = 4


def plain(shape: BlockShape) -> Node:
    """Convolution, batch normalisation, rectifier (Simonyan and Zisserman, 2015)."""
    return Chain((*conv_norm(*shape[:5], causal=shape.causal), Relu()))


def basic(shape: BlockShape) -> Node:
    """Residual block of two equal convolutions, the first with the stride (He et al., 2016)."""
    inner = rounded_channels(shape.out_channels)
    kernel_size, stride, dilation = shape[2:5]
    causal = shape.causal
    first = conv_norm(shape.in_channels, inner, kernel_size, stride, dilation, causal=causal)
    second = conv_norm(inner, shape.out_channels, kernel_size, 1, dilation, causal=causal)
    gate = context(shape.context, shape.out_channels)
    return _residual(shape, (*first, Relu(), *second, *gate))


def bottleneck(shape: BlockShape) -> Node:
    """Residual block 1x1, kxk, 1x1 with the stride on the kxk convolution ("v1.5")."""
    inner = rounded_channels(shape.out_channels / BOTTLENECK_REDUCTION)
    reduce = (*conv_norm(shape.in_channels, inner, 1), Relu())
    middle = conv_norm(inner, inner, *shape[2:5], causal=shape.causal)
    gate = context(shape.context, inner)
    last = conv_norm(inner, shape.out_channels, 1)
    return _residual(shape, (*reduce, *middle, Relu(), *gate, *last))


def _residual(shape: BlockShape, branch: tuple[Node, ...]) -> Node:
    """Add the shortcut: the identity, or a 1x1 projection where the shape changes."""
    causal = shape.causal
    projection = conv_norm(shape.in_channels, shape.out_channels, 1, shape.stride, causal=causal)
    shortcut = Chain(projection if shape.changes else ())
    return Chain((Sum((shortcut, Chain(branch))), Relu()))


def convnext(shape: BlockShape) -> Node:
    """Depthwise convolution and two pointwise layers (Liu et al., "A ConvNet for the 2020s").

    A change of the shape comes before it, as between ConvNeXt's stages.
    """
    width = shape.out_channels
    depthwise = Convolution(
        shape.kernel_size, width, width, dilation=shape.dilation, groups=width, bias=True
    )
    branch = (depthwise, LayerNorm(width), *_mlp(shape), Scale(width))
    return Chain((*transition(shape), Sum((Chain(()), Chain(branch)))))


def _mlp(shape: BlockShape) -> tuple[Node, ...]:
    """Two pointwise layers with a GELU between them."""
    width, inner = shape.out_channels, shape.expansion * shape.out_channels
    first = Convolution(1, width, inner, bias=True)
    return (first, Activation("gelu"), Convolution(1, inner, width, bias=True))


def mbconv(shape: BlockShape) -> Node:
    """Inverted residual (Sandler et al., "MobileNetV2", 2018; Tan and Le, "EfficientNet", 2019).

    There is no shortcut where the shape changes, and no activation behind the sum.
    """
    inner = rounded_channels(shape.in_channels * shape.expansion)
    expand = (*conv_norm(shape.in_channels, inner, 1), Activation("silu"))
    depthwise = conv_norm(inner, inner, *shape[2:5], groups=inner, causal=shape.causal)
    gate = context(shape.context, inner)
    last = conv_norm(inner, shape.out_channels, 1)
    branch = Chain((*expand, *depthwise, Activation("silu"), *gate, *last))
    return branch if shape.changes else Sum((Chain(()), branch))


def attention(shape: BlockShape) -> Node:
    """Transformer block over all positions (Dosovitskiy et al., 2021): locally its shortcut.

    A change of the shape comes before it, as between ConvNeXt's stages.
    """
    width = shape.out_channels
    attend = (
        LayerNorm(width),
        Convolution(1, width, 3 * width, bias=True),
        Attention(width),
        Convolution(1, width, width, bias=True),
    )
    think = (LayerNorm(width), *_mlp(shape))
    blocks = (Sum((Chain(()), Chain(branch))) for branch in (attend, think))
    return Chain((*transition(shape), *blocks))


#: Shares of an inception block's channels, in eighths: 1x1, kxk, two kxk, pooling (GoogLeNet).
INCEPTION_SHARES = (2, 4, 1, 1)


def inception(shape: BlockShape) -> Node:
    """Parallel branches, joined (Szegedy et al., "Going Deeper with Convolutions", 2015).

    1x1; 1x1 and kxk; 1x1 and two kxk; 3x3 maximum and 1x1.
    """
    channels = inception_channels(shape.out_channels)
    one, window, double, pool = channels

    def conv(inside: int, outside: int, kernel_size: Sides, stride: Sides = 1) -> tuple[Node, ...]:
        dilation = shape.dilation if kernel_size != 1 else 1
        return (*conv_norm(inside, outside, kernel_size, stride, dilation), Relu())

    width, kernel_size, stride = shape.in_channels, shape.kernel_size, shape.stride
    branches = (
        conv(width, one, 1, stride),
        (*conv(width, window, 1), *conv(window, window, kernel_size, stride)),
        (
            *conv(width, double, 1),
            *conv(double, double, kernel_size),
            *conv(double, double, kernel_size, stride),
        ),
        (Pooling("max", 3, 1, padding=1), *conv(width, pool, 1, stride)),
    )
    return Concat(tuple(Chain(branch) for branch in branches), channels)


def inception_channels(out_channels: int) -> tuple[int, ...]:
    """Output channels of each branch of an inception block."""
    return tuple(share * out_channels // sum(INCEPTION_SHARES) for share in INCEPTION_SHARES)


class Kind(NamedTuple):
    """One kind of block.

    Attributes:
        lower: Its lowering.
        has_window: Whether it has a kernel size and a dilation.
        has_context: Whether a gate can be put into it.
        has_expansion: Whether its inner channels are a multiple of its outer ones.
        width_step: What its width must be divisible by.
        options: Choices of what else it can be told, by name.
        build: Makes its `nn.Module`; None for built-in blocks (`rfsearch.network._builders`).
        takes_any_axes: Whether it can be built for other numbers of axes than two, and with causal
            padding.
    """

    lower: Callable[[BlockShape], Node]
    has_window: bool = True
    has_context: bool = False
    has_expansion: bool = False
    width_step: int = 1
    options: Mapping[str, tuple[Any, ...]] = MappingProxyType({})
    build: Callable[[BlockShape], Any] | None = None
    takes_any_axes: bool = False


KINDS: dict[str, Kind] = {
    "plain": Kind(plain, takes_any_axes=True),
    "basic": Kind(basic, has_context=True, takes_any_axes=True),
    "bottleneck": Kind(
        bottleneck, has_context=True, width_step=BOTTLENECK_REDUCTION, takes_any_axes=True
    ),
    "inception": Kind(inception, width_step=sum(INCEPTION_SHARES)),
    "mbconv": Kind(mbconv, has_context=True, has_expansion=True, takes_any_axes=True),
    "convnext": Kind(convnext, has_expansion=True),
    "attention": Kind(attention, has_window=False, has_expansion=True),
}
