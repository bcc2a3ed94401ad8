"""Necks of torchvision's, segmentation-models-pytorch's and timm's parts, one for each kind."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from timm.layers import ConvNormAct
from torch import nn
from torchvision.models.segmentation import deeplabv3
from torchvision.ops import FeaturePyramidNetwork

from rfsearch.network.necks import ASPP, FPN, Merge, UNet

if TYPE_CHECKING:
    from torch import Tensor

    from rfsearch.network.neck import Neck


def build_neck(neck: Neck, channels: Sequence[int]) -> nn.Module:
    """The module of a neck, with random weights.

    Args:
        neck: What to build.
        channels: Of the backbone's maps, the stem's first.

    Returns:
        A module that takes the list of these maps and returns the output map, or a dictionary of
        output maps by level, the finest first.
    """
    match neck:
        case ASPP():
            return ASPPNeck(neck, channels)
        case UNet():
            return UNetNeck(neck, channels)
        case FPN():
            return FPNNeck(neck, channels)
        case Merge():
            return MergeNeck(neck, channels)
        case _:
            raise AssertionError(neck)


class ASPPNeck(nn.Module):
    """torchvision's ASPP, whose last branch, the mean over the whole map, can be left out."""

    def __init__(self, neck: ASPP, channels: Sequence[int]) -> None:
        super().__init__()
        self.aspp = deeplabv3.ASPP(channels[-1], neck.rates, neck.width)
        if not neck.image_pooling:
            branches = self.aspp.convs = self.aspp.convs[:-1]
            joined = len(branches) * neck.width
            self.aspp.project[0] = nn.Conv2d(joined, neck.width, kernel_size=1, bias=False)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """The last map, mixed."""
        return cast("Tensor", self.aspp(maps[-1]))


class UNetNeck(nn.Module):
    """segmentation-models-pytorch's decoder, all of whose blocks have a skip."""

    def __init__(self, neck: UNet, channels: Sequence[int]) -> None:
        super().__init__()
        self._used = len(neck.widths) + 1
        # It leaves out the map in front, the image, and gives its last block no skip.
        encoder = [0, *channels[-self._used :]]
        self.decoder = UnetDecoder(encoder, list(neck.widths), n_blocks=len(neck.widths))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """The map of the finest block."""
        return cast("Tensor", self.decoder([maps[0], *maps[-self._used :]]))


class FPNNeck(nn.Module):
    """torchvision's feature pyramid."""

    def __init__(self, neck: FPN, channels: Sequence[int]) -> None:
        super().__init__()
        self._levels = neck.levels(len(channels))
        used = list(channels[-neck.num_levels :])
        self.fpn = FeaturePyramidNetwork(used, neck.width)

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """Output maps by level, the finest first."""
        used = maps[-len(self._levels) :]
        named = OrderedDict(zip(self._levels, used, strict=True))
        return cast("dict[str, Tensor]", self.fpn(named))


class MergeNeck(nn.Module):
    """All stages' maps at the size of the first, joined and mixed."""

    def __init__(self, neck: Merge, channels: Sequence[int]) -> None:
        super().__init__()
        self.mix = ConvNormAct(sum(channels[1:]), neck.width, kernel_size=1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """One map of the size of the first stage's."""
        finest, *others = maps[1:]
        size = finest.shape[-2:]
        enlarged = [F.interpolate(each, size=size, mode="bilinear") for each in others]
        return cast("Tensor", self.mix(torch.cat([finest, *enlarged], dim=1)))
