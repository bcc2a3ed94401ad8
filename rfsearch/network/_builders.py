"""Modules of timm's parts, one builder for each kind of block and for stems."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import gcd
from typing import TYPE_CHECKING, Any

import torch
from timm.layers import BlurPool2d, ConvNormAct, GlobalContext, LayerNorm2d, SEModule
from timm.models._efficientnet_blocks import InvertedResidual
from timm.models.byobnet import BasicBlock, BottleneckBlock, LayerFn
from timm.models.convnext import ConvNeXtBlock
from timm.models.maxxvit import MaxxVitTransformerCfg, TransformerBlock2d
from torch import nn

from rfsearch.basics.sides import Sides
from rfsearch.field.expression import HEAD_WIDTH
from rfsearch.network._from_expression import module_of
from rfsearch.network.block_parts import BLUR_SIZE, BlockShape
from rfsearch.network.blocks import BOTTLENECK_REDUCTION, inception_channels
from rfsearch.network.stems import POOL_SIZE, POOL_STRIDE

if TYPE_CHECKING:
    from torch import Tensor

    from rfsearch.network.stages import Stage
    from rfsearch.network.stems import Stem

CONTEXTS: dict[str, type[nn.Module] | None] = {
    "none": None,
    "se": SEModule,
    "gc": GlobalContext,
}


def _plain(shape: BlockShape) -> nn.Module:
    return _conv(*shape[:5])


def _conv(
    in_channels: int,
    out_channels: int,
    kernel_size: Sides,
    stride: Sides = 1,
    dilation: Sides = 1,
) -> nn.Module:
    block: nn.Module = ConvNormAct(
        in_channels, out_channels, kernel_size=kernel_size, stride=stride, dilation=dilation
    )
    return block


def _residual(kind: type[nn.Module], shape: BlockShape, **options: Any) -> nn.Module:
    return kind(
        shape.in_channels,
        shape.out_channels,
        kernel_size=shape.kernel_size,
        stride=shape.stride,
        dilation=(shape.dilation, shape.dilation),
        downsample="conv1x1",
        layers=LayerFn(attn=CONTEXTS[shape.context]),
        **options,
    )


def _mbconv(shape: BlockShape) -> nn.Module:
    block: nn.Module = InvertedResidual(
        shape.in_channels,
        shape.out_channels,
        shape.kernel_size,
        shape.stride,
        shape.dilation,
        noskip=shape.changes,
        exp_ratio=shape.expansion,
        act_layer=nn.SiLU,
        se_layer=CONTEXTS[shape.context],
    )
    return block


def _convnext(shape: BlockShape) -> nn.Module:
    block = ConvNeXtBlock(
        shape.out_channels,
        kernel_size=shape.kernel_size,
        dilation=(shape.dilation,) * 2,  # Of the depthwise convolution, and behind it.
        mlp_ratio=shape.expansion,
        conv_mlp=True,
    )
    return _after_transition(shape, block)


def _attention(shape: BlockShape) -> nn.Module:
    width = shape.out_channels
    config = MaxxVitTransformerCfg(dim_head=gcd(width, HEAD_WIDTH), expand_ratio=shape.expansion)
    return _after_transition(shape, TransformerBlock2d(width, width, cfg=config))


def _after_transition(shape: BlockShape, block: nn.Module) -> nn.Module:
    if not shape.changes:
        return block
    step = _patches(shape.in_channels, shape.out_channels, shape.stride)
    return nn.Sequential(LayerNorm2d(shape.in_channels), step, block)


def _patches(in_channels: int, out_channels: int, stride: Sides) -> nn.Module:
    size: Any = stride
    return nn.Conv2d(in_channels, out_channels, size, size)


class _Joined(nn.ModuleList):
    """Branches over the same input whose outputs are joined along the channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(batch, channels, height, width)` of all branches, one behind the other."""
        return torch.cat([branch(x) for branch in self], dim=1)


def _inception(shape: BlockShape) -> nn.Module:
    one, window, double, pool = inception_channels(shape.out_channels)
    width, kernel_size, stride = shape.in_channels, shape.kernel_size, shape.stride
    dilation = shape.dilation
    return _Joined(
        [
            _conv(width, one, 1, stride),
            nn.Sequential(
                _conv(width, window, 1), _conv(window, window, kernel_size, stride, dilation)
            ),
            nn.Sequential(
                _conv(width, double, 1),
                _conv(double, double, kernel_size, 1, dilation),
                _conv(double, double, kernel_size, stride, dilation),
            ),
            nn.Sequential(nn.MaxPool2d(3, 1, 1), _conv(width, pool, 1, stride)),
        ]
    )


BUILDERS: dict[str, Callable[[BlockShape], nn.Module]] = {
    "plain": _plain,
    "basic": partial(_residual, BasicBlock),
    "bottleneck": partial(_residual, BottleneckBlock, bottle_ratio=1 / BOTTLENECK_REDUCTION),
    "inception": _inception,
    "mbconv": _mbconv,
    "convnext": _convnext,
    "attention": _attention,
}


def build_stem(stem: Stem, in_chans: int, axes: int) -> nn.Module:
    """A stem's module for so many axes, with the weights that its parts begin with."""
    if axes != 2:
        return module_of(stem.lower(in_chans), axes)
    if stem.kind == "patch":
        step = _patches(in_chans, stem.width, stem.stride)
        return nn.Sequential(step, LayerNorm2d(stem.width))
    layers, channels, stride = nn.Sequential(), in_chans, stem.stride
    for width in stem.widths:
        layers.append(_conv(channels, width, stem.kernel_size, stride))
        channels, stride = width, 1
    return layers.extend(_stem_pool(stem))


def _stem_pool(stem: Stem) -> nn.Sequential:
    padding = POOL_SIZE // 2
    match stem.pool:
        case "max":
            return nn.Sequential(nn.MaxPool2d(POOL_SIZE, POOL_STRIDE, padding))
        case "avg":
            pool = nn.AvgPool2d(POOL_SIZE, POOL_STRIDE, padding, count_include_pad=False)
            return nn.Sequential(pool)
        case "conv":
            return nn.Sequential(_conv(stem.width, stem.width, POOL_SIZE, POOL_STRIDE))
        case "blur":
            return nn.Sequential(nn.MaxPool2d(POOL_SIZE, 1, padding), _blur(POOL_STRIDE))
        case _:
            return nn.Sequential()


def _blur(stride: int) -> nn.Module:
    # Zeros around the map, as maps may be smaller than a reflected border.
    pool: nn.Module = BlurPool2d(filt_size=BLUR_SIZE, stride=stride, pad_mode="constant")
    return pool


_POOLS: dict[str, Callable[[Any], nn.Module]] = {
    "max_pool": nn.MaxPool2d,
    "avg_pool": nn.AvgPool2d,
    "blur_pool": _blur,
}


def build_stage(stage: Stage, in_channels: int, axes: int) -> nn.Module:
    """A stage's module for so many axes, with the weights that its parts begin with."""
    if axes != 2:
        return module_of(stage.lower(in_channels), axes)
    layers = nn.Sequential()
    if stage.downsample != "conv":
        layers.append(_POOLS[stage.downsample](stage.stride))
    build = stage.kind.build or BUILDERS[stage.block]
    return layers.extend(build(shape) for shape in stage.shapes(in_channels))


def initialise(module: nn.Module) -> None:
    """He initialisation where a batch normalisation follows, else LeCun's, without bias.

    All convolutions before a batch normalisation have no bias, and only they. Residual branches
    with a batch normalisation are left on, so that the ERF is that of the network.
    """
    if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return
    if module.bias is not None:
        nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
        nn.init.zeros_(module.bias)
    elif module.groups > 1:  # torch's fan_out counts all groups.
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    else:
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
