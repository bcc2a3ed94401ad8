"""Networks of sequences and volumes: published fields, and the oracle's verdict on each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import axis_networks as networks
import pytest
import torch
from oracle import check_map
from torch import Tensor, nn

import rfsearch as rfs
from rfsearch.field.receptive_field import ReceptiveField
from rfsearch.trace.trace import trace_receptive_field


def size_and_stride(field: ReceptiveField) -> tuple[int, int]:
    return field.size, field.stride


#: Network, input size, size and stride along the axes, and extent of the oracle's strips.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Any, tuple[tuple[int, int], ...], int]] = {
    "WaveNet": (networks.WaveNetBlock, 16_000, ((1024, 1),), 1),
    "TCN": (networks.tcn, 2048, ((763, 1),), 1),
    "SincNet": (networks.SincNet, (16_000,), ((991, 270),), 1),
    "Wave-U-Net": (networks.WaveUNet, 2048, ((259, 1),), 1),
    "Demucs": (networks.Demucs, 4096, ((404, 1),), 1),
    "V-Net": (lambda: networks.vnet_down(3), 64, ((72, 4),) * 3, 8),
    "3-D U-Net": (lambda: networks.UNet3d(2), 64, ((44, 1),) * 3, 44),
    "MONAI's UNet": (networks.MonaiUNet, (32, 64, 64), ((39, 1),) * 3, 8),
    "MONAI's SegResNet": (networks.SegResNet, (32, 64, 64), ((11, 1),) * 3, 8),
    "thick slices": (networks.anisotropic, (32, 128, 128), ((8, 2), (10, 2), (10, 2)), 16),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_published_fields_are_traced_and_are_what_the_oracle_sees(name: str) -> None:
    make, size, expected, strip = NETWORKS[name]
    model = make().eval()
    traced = trace_receptive_field(model, size)
    assert tuple(map(size_and_stride, traced.output.axes.values())) == expected
    assert not traced.global_layers
    for verdict in check_map(model, traced._run.image.shape[1], traced.output, strip=strip):
        assert verdict.checked > 1
        assert not verdict.wrong


def test_a_published_formula() -> None:
    # 1 + 2 (kernel - 1) (2^levels - 1)
    for kernel_size, levels in ((2, 3), (3, 5), (7, 4)):
        traced = trace_receptive_field(networks.tcn(kernel_size, levels), 1024)
        expected = 1 + 2 * (kernel_size - 1) * (2**levels - 1)
        assert traced.receptive_field() == ReceptiveField(1 - expected, expected, 1)


def test_the_left_side_of_vnet() -> None:
    """Milletari et al., "V-Net", 2016, table 1."""
    sizes = [
        trace_receptive_field(networks.vnet_down(stages), 128).receptive_field().size
        for stages in range(1, 6)
    ]
    assert sizes == [5, 22, 72, 172, 372]


@pytest.mark.parametrize(
    ("name", "size", "layer", "depth", "plane"),
    [
        # By hand. S3D's depth: 7, 11 behind a stride of 2, two blocks of 4 px each, a pooling to
        # stride 4, five blocks of 8 px, a pooling to stride 8, two blocks of 16 px.
        ("r3d_18", (16, 112, 112), "layer4", (109, 8), (219, 16)),
        ("r2plus1d_18", (16, 112, 112), "layer4", (109, 8), (219, 16)),
        ("mc3_18", (16, 112, 112), "layer4", (11, 1), (219, 16)),
        ("s3d", (32, 224, 224), "features", (99, 8), (379, 32)),
    ],
)
def test_torchvision_video(
    name: str, size: tuple[int, ...], layer: str, depth: tuple[int, int], plane: tuple[int, int]
) -> None:
    from torchvision.models import video

    model = getattr(video, name)()
    table = trace_receptive_field(model, size).layers.set_index("name")
    row = table.loc[layer]
    assert (row["depth"], row["depth_stride"]) == depth
    for axis in ("height", "width"):
        assert (row[axis], row[f"{axis}_stride"]) == plane
    assert not row["is_global"]


@pytest.mark.slow
def test_the_oracle_agrees_on_s3d() -> None:
    from torchvision.models.video import s3d

    model = s3d().features.eval()
    traced = trace_receptive_field(model, (32, 224, 224))
    for verdict in check_map(model, 3, traced.output, strip=32):
        assert verdict.checked > 1
        assert not verdict.wrong


def test_names_of_axes_in_tables_words_and_json() -> None:
    traced = trace_receptive_field(nn.Conv1d(1, 2, 5, stride=2), 64)
    assert traced.axes == ("time",)
    assert traced.output.axes["time"] == ReceptiveField(0, 5, 2)
    assert repr(traced.output).endswith("5 px time at stride 2")
    assert {"time", "time_stride", "time_start", "time_smallest"} <= {*traced.layers}
    assert traced.to_dict()["input_size"] == [64]
    with pytest.raises(AttributeError, match="There is no axis `height`: the axes are time"):
        traced.output.height  # noqa: B018
    with pytest.raises(ValueError, match="`axis` must be one of time, but got 'height'"):
        traced.receptive_field(axis="height")
    assert traced.cost().output == (30,)
    assert traced.output.interval((3,)).time == (6, 11)


def test_axes_of_a_volume_stand_beside_each_other() -> None:
    traced = trace_receptive_field(nn.Conv3d(1, 2, (1, 3, 5)), (4, 16, 32))
    sizes = {axis: field.size for axis, field in traced.output.axes.items()}
    assert sizes == {"depth": 1, "height": 3, "width": 5}
    assert (traced.output.height.size, traced.output.smallest.width) == (3, 5)
    with pytest.raises(ValueError, match="`output` sees 1x3x5 px at a stride of 1x1x1 px"):
        traced.receptive_field()
    coverage = trace_receptive_field(nn.Conv3d(1, 2, 3, dilation=(1, 1, 2)), 9).coverage()
    assert (coverage.size, coverage.missing) == (5, 2)


class Row(nn.Module):
    """A network of a sequence, written for images of one row."""

    def __init__(self, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.one, self.pool = nn.Conv2d(1, 4, (1, 9), padding=(0, 4)), pool
        self.two = nn.Conv1d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.pool(self.one(x).relu()))


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: x.squeeze(2),
        lambda x: x.mean(2),
        lambda x: x.amax(2),
        lambda x: x[:, :, 0],
    ],
)
def test_a_single_row_is_not_called_global(pool: Callable[[Tensor], Tensor]) -> None:
    traced = trace_receptive_field(Row(pool), (1, 256))
    assert not traced.global_layers
    assert not traced.output.is_global
    assert (traced.output.height.size, traced.output.width.size) == (1, 11)


def test_rows_that_are_several_are_still_mixed() -> None:
    traced = trace_receptive_field(Row(lambda x: x.mean(2)), (8, 256))
    assert traced.global_layers == ("(model)",)


def mean_squared_gradient(model: nn.Module, size: tuple[int, ...], draws: int) -> Tensor:
    """Of the middle unit, over random weights: what `expected_erf` foretells."""
    total = torch.zeros(size)
    generator = torch.Generator().manual_seed(0)
    for _ in range(draws):
        for module in model.modules():
            if isinstance(module, nn.modules.conv._ConvNd):
                transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)
                weight = module.weight
                fan_in = weight[0].numel()
                if transposed:
                    fan_in = (
                        weight.shape[0] * weight[0, 0].numel() / torch.tensor(module.stride).prod()
                    )
                weight.data = torch.randn(weight.shape, generator=generator) / fan_in**0.5
                module.bias.data.zero_()
        x = torch.randn(1, 1, *size, generator=generator).requires_grad_()
        out = model.train()(x)
        middle = tuple(side // 2 for side in out.shape[2:])
        signs = torch.randn(out.shape[1], generator=generator)
        (out[(0, slice(None), *middle)] * signs).sum().backward()
        total += x.grad[0, 0].square() / x.grad.square().sum()
    return total / draws


def conv1(channels: int, width: int, size: int, **options: Any) -> nn.Module:
    return nn.Conv1d(channels, width, size, padding="same", **options)


EXPECTED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "dilated": (
        lambda: nn.Sequential(
            conv1(1, 64, 5), nn.ReLU(), conv1(64, 64, 3, dilation=4), nn.ReLU(), conv1(64, 64, 7)
        ),
        (64,),
    ),
    "circular, pooled and back": (
        lambda: nn.Sequential(
            nn.Conv1d(1, 64, 5, padding=2, padding_mode="circular"),
            nn.ReLU(),
            nn.MaxPool1d(2),
            conv1(64, 64, 3),
            nn.ReLU(),
            nn.Upsample(scale_factor=2, mode="linear"),
            conv1(64, 64, 3),
        ),
        (64,),
    ),
    "transposed": (
        lambda: nn.Sequential(
            nn.Conv1d(1, 64, 8, 4, padding=2),
            nn.ReLU(),
            nn.ConvTranspose1d(64, 64, 8, 4, padding=2),
        ),
        (64,),
    ),
    "volume": (
        lambda: nn.Sequential(
            nn.Conv3d(1, 16, 3, padding=1, padding_mode="replicate"),
            nn.BatchNorm3d(16),
            nn.ReLU(),
            nn.AvgPool3d((1, 2, 2)),
            nn.Conv3d(16, 16, 3, padding=1),
            nn.ReLU(),
            nn.Upsample(scale_factor=(1, 2, 2), mode="trilinear"),
        ),
        (12, 16, 16),
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_expected_erfs_are_the_mean_squared_gradient(name: str) -> None:
    make, size = EXPECTED[name]
    torch.manual_seed(0)
    model = make()
    expected = rfs.expected_erf(model, size)
    power = mean_squared_gradient(model, size, draws=200)
    traced = trace_receptive_field(model, size)
    middle = [units // 2 for units in traced.output.units]
    # Moments about the middle of what the unit sees, along each axis.
    for axis, (label, own) in enumerate(expected.profile.axes.items()):
        start, stop = traced.output.interval(middle)[axis]
        line = power.movedim(axis, 0).reshape(power.shape[axis], -1).sum(1)
        offsets = torch.arange(len(line)) - (start + stop - 1) / 2
        sigma = float((line @ offsets.square()).sqrt())
        assert own.sigma == pytest.approx(sigma, rel=0.05), label
