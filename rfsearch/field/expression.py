"""The small language every architecture lowers to.

An architecture is lowered (`Architecture.expressions`; the stem, the stages and their blocks, and
the neck each lower themselves) to a tree of these nodes for each output map. Theoretical receptive
field, expected effective receptive field, coverage, parameters and FLOPs are *readings* of the
tree, each one function with a case per node. Windows are square: one number serves both axes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution.

    Its random weights have zero mean; their variance is one over the inputs of a unit.

    Attributes:
        padding: Pixels before the first input pixel; None is the symmetric padding of
            `timm.layers.get_padding`.
    """

    kernel_size: int
    in_channels: int
    out_channels: int
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    bias: bool = False
    padding: int | None = None


@dataclass(frozen=True, slots=True)
class Pooling:
    """A maximum or average over a window; `kind` is `"max"`, `"avg"`, or `"blur"`.

    `"blur"` is the average with binomial weights (Zhang, "Making Convolutional Networks
    Shift-Invariant Again", ICML 2019): to torch a convolution of each of its `channels`.
    """

    kind: str
    kernel_size: int
    stride: int
    padding: int = 0
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
Node = Window | Resize | Pointwise | Chain | Sum | Concat | ImageLevel
