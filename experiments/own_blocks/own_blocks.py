"""Two blocks that search spaces do not have: a residual one of timm's, and one that is not."""

from timm.layers import ConvNormAct, MixedConv2d
from timm.models.ghostnet import GhostBottleneck
from torch import nn

import rfsearch as rfs


def ghost(in_channels, out_channels, stride, kernel_size, dilation, expansion, se):
    """A bottleneck that makes half of its maps from the other half (Han et al., CVPR 2020)."""
    if dilation > 1:
        raise ValueError("GhostBottleneck has no dilation")
    inner = expansion * in_channels
    se_ratio = 0.25 if se else 0.0
    return GhostBottleneck(
        in_channels, inner, out_channels, kernel_size, stride, se_ratio=se_ratio
    )


rfs.register_block("ghost", ghost, options={"expansion": [2, 4], "se": [False, True]})


def mixed(in_channels, out_channels, stride, kernel_size, dilation, sizes):
    """Each share of the channels has a window of its own size (Tan and Le, BMVC 2019)."""
    windows = [kernel_size + 2 * number for number in range(sizes)]
    return nn.Sequential(
        ConvNormAct(in_channels, out_channels, 1),
        MixedConv2d(
            out_channels, out_channels, windows, stride, dilation=dilation, depthwise=True
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


rfs.register_block("mixed", mixed, options={"sizes": [1, 2, 3]})
