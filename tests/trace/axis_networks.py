"""Published networks of sequences and volumes, with fewer channels than theirs."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Width = 4


class WaveNetBlock(nn.Module):
    """Dilations 1 to 512: van den Oord et al., "WaveNet", 2016, section 2.1."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, Width, 1)
        dilations = [2**power for power in range(10)]
        self.gated = nn.ModuleList(nn.Conv1d(Width, 2 * Width, 2, dilation=d) for d in dilations)
        self.mixed = nn.ModuleList(nn.Conv1d(Width, Width, 1) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        x, skips = self.first(x), []
        for gated, mixed in zip(self.gated, self.mixed, strict=True):
            one, other = gated(F.pad(x, (gated.dilation[0], 0))).chunk(2, dim=1)
            out = mixed(torch.tanh(one) * torch.sigmoid(other))
            skips.append(out)
            x = x + out
        return torch.stack(skips).sum(0)


class TemporalBlock(nn.Module):
    """Two dilated causal convolutions and a shortcut, padded and chomped as they publish it."""

    def __init__(self, channels: int, width: int, kernel_size: int, dilation: int) -> None:
        super().__init__()
        self.padding = (kernel_size - 1) * dilation
        options = {"padding": self.padding, "dilation": dilation}
        self.one = nn.Conv1d(channels, width, kernel_size, **options)
        self.two = nn.Conv1d(width, width, kernel_size, **options)
        self.shortcut = nn.Conv1d(channels, width, 1) if channels != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.one(x)[..., : -self.padding])
        out = F.relu(self.two(out)[..., : -self.padding])
        return F.relu(out + self.shortcut(x))


def tcn(kernel_size: int = 4, levels: int = 7) -> nn.Module:
    """Bai et al., "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for
    Sequence Modeling", 2018: 1 + 2 (kernel - 1) (2^levels - 1) steps.
    """
    blocks = [
        TemporalBlock(Width if level else 2, Width, kernel_size, 2**level)
        for level in range(levels)
    ]
    return nn.Sequential(*blocks)


class SincNet(nn.Module):
    """Ravanelli and Bengio, "Speaker Recognition from Raw Waveform with SincNet", 2018.

    With the strides of pyannote.audio, whose `SincNet` states 991 samples at a step of 270.
    """

    def __init__(self) -> None:
        super().__init__()
        self.low = nn.Parameter(torch.linspace(50, 3000, Width)[:, None])
        self.band = nn.Parameter(torch.full((Width, 1), 200.0))
        self.register_buffer("time", torch.arange(-125, 126) / 16_000)
        self.convolutions = nn.ModuleList(nn.Conv1d(Width, Width, 5) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        high = self.low + self.band
        filters = 2 * high * torch.sinc(2 * high * self.time)
        filters = filters - 2 * self.low * torch.sinc(2 * self.low * self.time)
        x = F.max_pool1d(F.conv1d(x, filters[:, None], stride=10).abs(), 3)
        for convolution in self.convolutions:
            x = F.leaky_relu(F.max_pool1d(convolution(x), 3))
        return x


class WaveUNet(nn.Module):
    """Stoller et al., "Wave-U-Net", 2018: decimation, linear upsampling, shortcuts."""

    def __init__(self, levels: int = 3) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            nn.Conv1d(Width if level else 1, Width, 15, padding=7) for level in range(levels)
        )
        self.middle = nn.Conv1d(Width, Width, 15, padding=7)
        self.up = nn.ModuleList(nn.Conv1d(2 * Width, Width, 5, padding=2) for _ in range(levels))

    def forward(self, x: Tensor) -> Tensor:
        maps = []
        for convolution in self.down:
            maps.append(F.leaky_relu(convolution(x)))
            x = maps[-1][..., ::2]
        x = F.leaky_relu(self.middle(x))
        for convolution in self.up:
            x = F.interpolate(x, scale_factor=2, mode="linear")
            x = F.leaky_relu(convolution(torch.cat([x, maps.pop()], dim=1)))
        return x


class Demucs(nn.Module):
    """Defossez et al., "Music Source Separation in the Waveform Domain", 2019, without its LSTM:
    convolutions of 8 taps and stride 4, gated units, transposed convolutions back.
    """

    def __init__(self, levels: int = 3) -> None:
        super().__init__()
        channels = [2, *(Width for _ in range(levels))]
        pairs = list(pairwise(channels))
        self.down = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(before, after, 8, 4, padding=2),
                nn.ReLU(),
                nn.Conv1d(after, 2 * after, 1),
            )
            for before, after in pairs
        )
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(after, 2 * after, 3, padding=1),
                nn.GLU(dim=1),
                nn.ConvTranspose1d(after, before, 8, 4, padding=2),
            )
            for before, after in reversed(pairs)
        )

    def forward(self, x: Tensor) -> Tensor:
        maps = []
        for block in self.down:
            x = F.glu(block(x), dim=1)
            maps.append(x)
        for block in self.up:
            x = block(x + maps.pop())
        return x


class VNetStage(nn.Module):
    """Convolutions of 5x5x5 with a shortcut around all of them."""

    def __init__(self, number: int, width: int = 2) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv3d(width, width, 5, padding=2) for _ in range(number)
        )

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for convolution in self.convolutions:
            out = F.elu(convolution(out))
        return out + x


def vnet_down(stages: int = 5) -> nn.Module:
    """The left side of V-Net (Milletari et al., 2016, table 1: 5, 22, 72, 172, 372 voxels)."""
    layers: list[nn.Module] = [nn.Conv3d(1, 2, 1)]
    for stage, number in enumerate((1, 2, 3, 3, 3)[:stages]):
        layers += [nn.Conv3d(2, 2, 2, 2)] if stage else []
        layers.append(VNetStage(number))
    return nn.Sequential(*layers)


class UNet3d(nn.Module):
    """Cicek et al., "3D U-Net", 2016: unpadded convolutions, up-convolutions of 2x2x2."""

    def __init__(self, levels: int = 3, padding: int = 0) -> None:
        super().__init__()

        def double(channels: int) -> nn.Module:
            layers: list[nn.Module] = []
            for before in (channels, 2):
                layers += [nn.Conv3d(before, 2, 3, padding=padding), nn.BatchNorm3d(2), nn.ReLU()]
            return nn.Sequential(*layers)

        self.down = nn.ModuleList(double(2 if level else 1) for level in range(levels + 1))
        self.steps = nn.ModuleList(nn.ConvTranspose3d(2, 2, 2, 2) for _ in range(levels))
        self.up = nn.ModuleList(double(4) for _ in range(levels))

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.down[0](x)]
        maps += [
            x := block(F.max_pool3d(maps[-1] if n == 0 else x, 2))
            for n, block in enumerate(self.down[1:])
        ]
        x = maps.pop()
        for step, block in zip(self.steps, self.up, strict=True):
            x, skipped = step(x), maps.pop()
            cut = [(skipped.shape[dim] - x.shape[dim]) // 2 for dim in (2, 3, 4)]
            for dim, amount in enumerate(cut, 2):
                skipped = skipped.narrow(dim, amount, x.shape[dim])
            x = block(torch.cat([x, skipped], dim=1))
        return x


class MonaiUNet(nn.Module):
    """As MONAI's `UNet`: strided residual units down, transposed convolutions of 3 up."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            nn.ModuleList(
                [
                    nn.Conv3d(before, 2, 3, 2, padding=1),
                    nn.Conv3d(2, 2, 3, padding=1),
                    nn.Conv3d(before, 2, 3, 2, padding=1),
                ]
            )
            for before in (1, 2)
        )
        self.bottom = nn.Conv3d(2, 2, 3, padding=1)
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose3d(4, 2, 3, 2, padding=1, output_padding=1),
                nn.BatchNorm3d(2),
                nn.PReLU(),
                nn.Conv3d(2, 2, 3, padding=1),
            )
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        maps = []
        for one, two, shortcut in self.down:
            x = two(F.relu(one(x))) + shortcut(x)
            maps.append(x)
        x = self.bottom(x)
        for block in self.up:
            x = block(torch.cat([x, maps.pop()], dim=1))
        return x


class SegResNet(nn.Module):
    """As MONAI's `SegResNet`, with batch normalisation: trilinear upsampling, added shortcuts."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(1, 2, 3, padding=1)
        self.down = nn.Conv3d(2, 2, 3, 2, padding=1)
        self.block = nn.Sequential(
            nn.BatchNorm3d(2), nn.ReLU(), nn.Conv3d(2, 2, 3, padding=1, padding_mode="replicate")
        )
        self.up = nn.Conv3d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        x = self.down(first)
        x = x + self.block(x)
        x = F.interpolate(self.up(x), scale_factor=2, mode="trilinear", align_corners=False)
        return x + first


def anisotropic() -> nn.Module:
    """Kernels and strides that differ between slices and their plane, as for thick slices."""
    return nn.Sequential(
        nn.Conv3d(6, 3, (1, 3, 3), padding=(0, 1, 1)),
        nn.BatchNorm3d(3),
        nn.ReLU(),
        nn.MaxPool3d((1, 2, 2)),
        nn.Conv3d(3, 3, 3, padding=1, padding_mode="circular"),
        nn.ReLU(),
        nn.AvgPool3d(2),
        nn.Conv3d(3, 3, (3, 1, 1)),
        nn.Upsample(scale_factor=(1, 2, 2)),
    )
