"""Modules made of an expression, for inputs with any number of axes.

For images there are timm's blocks (`rfsearch.network._builders`); of sequences and volumes the
expression of a stem or a stage is built node by node.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from rfsearch.basics.sides import sides
from rfsearch.field.expression import (
    Activation,
    BatchNorm,
    Chain,
    Convolution,
    Gate,
    Node,
    Pooling,
    Relu,
    Sum,
)
from rfsearch.field.node_fields import taps_of

if TYPE_CHECKING:
    from torch import Tensor

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_MAXIMA = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_AVERAGES = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)


def module_of(node: Node, axes: int) -> nn.Module:
    """The module of a node, with torch's own weights.

    Args:
        node: Convolutions, poolings, batch normalisations, activations and squeeze-and-excite, in
            chains and sums.
        axes: How many axes its inputs have behind batch and channels.
    """
    match node:
        case Convolution():
            return _convolution(node, axes)
        case Pooling():
            return _pooling(node, axes)
        case BatchNorm():
            return _NORMALISATIONS[axes - 1](node.channels)
        case Relu():
            return nn.ReLU(inplace=True)
        case Activation(kind="silu"):
            return nn.SiLU()
        case Gate(kind="se"):
            return _Gate(node, axes)
        case Chain():
            return nn.Sequential(*(module_of(child, axes) for child in node.nodes))
        case Sum():
            return _Sum(module_of(branch, axes) for branch in node.branches)
    raise AssertionError(node)


def _pooling(node: Pooling, axes: int) -> nn.Module:
    numbers = (sides(each, axes) for each in (node.kernel_size, node.stride, node.padding))
    window: dict[str, Any] = dict(zip(("kernel_size", "stride", "padding"), numbers, strict=True))
    if node.kind == "max":
        return _MAXIMA[axes - 1](**window)
    return _AVERAGES[axes - 1](**window, count_include_pad=False)


def _convolution(node: Convolution, axes: int) -> nn.Module:
    taps = [taps_of(node, axis) for axis in range(axes)]
    kernel_size, stride, dilation, padding, _ = (tuple(each) for each in zip(*taps, strict=True))
    numbers: dict[str, Any] = {"kernel_size": kernel_size, "stride": stride, "dilation": dilation}
    convolution = _CONVOLUTIONS[axes - 1](
        node.in_channels,
        node.out_channels,
        padding=0 if node.causal else padding,
        groups=node.groups,
        bias=node.bias,
        **numbers,
    )
    if not node.causal or not taps[0].padding:
        return convolution
    return nn.Sequential(nn.ConstantPad1d((taps[0].padding, 0), 0.0), convolution)


class _Sum(nn.ModuleList):
    """Branches over the same input whose outputs are added."""

    def forward(self, x: Tensor) -> Tensor:
        """The sum of all branches."""
        total: Tensor = reduce(torch.add, (branch(x) for branch in self))
        return total


class _Gate(nn.Module):
    """Squeeze-and-excite, as `timm.layers.SEModule` is for images."""

    def __init__(self, node: Gate, axes: int) -> None:
        super().__init__()
        kind = _CONVOLUTIONS[axes - 1]
        self.fc1 = kind(node.channels, node.inner, 1)
        self.fc2 = kind(node.inner, node.channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Each channel times its factor."""
        pooled = x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)
        factors: Tensor = torch.sigmoid(self.fc2(torch.relu(self.fc1(pooled))))
        return x * factors
