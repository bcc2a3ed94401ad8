"""Blocks of a user's own, registered once, of the kinds that meet their neighbours differently."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.ghostnet import GhostBottleneck
from torch import Tensor, nn

from rfsearch.trace.own_blocks import register_block


def conv(inside: int, outside: int, kernel_size: int, stride: int, dilation: int) -> nn.Conv2d:
    padding = dilation * (kernel_size - 1) // 2
    return nn.Conv2d(inside, outside, kernel_size, stride, padding, dilation, bias=False)


class Preactivated(nn.Module):
    """A sum behind which the next block's rectifier comes, and a path around that (Xception)."""

    def __init__(self, inside: int, outside: int, stride: int, size: int, dilation: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.ReLU(),
            conv(inside, outside, size, stride, dilation),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
            conv(outside, outside, size, 1, dilation),
            nn.BatchNorm2d(outside),
        )
        changes = inside != outside or stride > 1
        self.shortcut = conv(inside, outside, 1, stride, 1) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.branch(x)


class Dense(nn.Module):
    """Channels that join others, and a normalisation of both in the next block (DenseNet)."""

    def __init__(self, inside: int, outside: int, stride: int, size: int, dilation: int) -> None:
        super().__init__()
        grown = max(1, outside // 2)
        self.norm = nn.BatchNorm2d(inside)
        self.kept = conv(inside, outside - grown, 1, stride, 1)
        self.new = conv(inside, grown, size, stride, dilation)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(x))
        return torch.cat([self.kept(x), self.new(x)], 1)


class Split(nn.Module):
    """Half of the channels go through windows of two sizes, half stay (ShuffleNet, MixNet)."""

    def __init__(self, inside: int, outside: int, stride: int, size: int, dilation: int) -> None:
        super().__init__()
        self.enter = conv(inside, outside, 1, stride, 1)
        half = outside // 2
        self.small = conv(half, half, size, 1, dilation)
        self.large = conv(half, half, size + 2, 1, dilation)
        self.norm = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.enter(x).chunk(2, 1)
        right = torch.relu(self.norm(self.small(right) + self.large(right)))
        x = torch.cat([left, right], 1)
        return x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


def ghost(se: bool, expansion: int, **shape: Any) -> nn.Module:
    inside, outside = shape["in_channels"], shape["out_channels"]
    return GhostBottleneck(
        inside,
        expansion * inside,
        outside,
        shape["kernel_size"],
        shape["stride"],
        se_ratio=0.25 if se else 0.0,
    )


def by_place(kind: type[nn.Module]) -> Any:
    def build(
        in_channels: int, out_channels: int, stride: int, kernel_size: int, dilation: int
    ) -> nn.Module:
        return kind(in_channels, out_channels, stride, kernel_size, dilation)

    return build


register_block("ghost", ghost, options={"se": [False, True], "expansion": [2, 3]})
register_block("preactivated", by_place(Preactivated))
register_block("dense", by_place(Dense))
register_block("split", by_place(Split))
NAMES = ("ghost", "preactivated", "dense", "split")
