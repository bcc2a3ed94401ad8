"""Maps of tiles against those of whole images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rfsearch.tiling._halo import halos
from rfsearch.tiling.plan import tiling_plans
from rfsearch.tiling.tiled import tiled


class UNet(nn.Module):
    """Two levels down and up again, by a transposed convolution and by resizing."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.down = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(4, 4, 3, padding=2, dilation=2)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.resize = nn.Upsample(scale_factor=2, mode="bilinear")
        self.last = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        fine = torch.relu(self.first(x))
        half = torch.relu(self.down(fine))
        quarter = self.deep(nn.functional.max_pool2d(half, 2))
        found: Tensor = self.last(torch.cat([fine, self.up(half + self.resize(quarter))], dim=1))
        return found


class Atrous(nn.Module):
    """Branches of several dilations, at a stride of 4."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 7, stride=4, padding=3)
        self.branches = nn.ModuleList(
            nn.Conv2d(4, 4, 3, padding=rate, dilation=rate) for rate in (1, 2, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        stem = torch.relu(self.stem(x))
        return torch.cat([branch(stem) for branch in self.branches], dim=1)


def pyramid() -> nn.Module:
    """The finer level of a feature pyramid of two."""

    class Pyramid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fine = nn.Conv2d(2, 4, 3, stride=2, padding=1)
            self.coarse = nn.Conv2d(4, 4, 3, stride=2, padding=1)
            self.lateral = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            fine = self.fine(x)
            larger = nn.functional.interpolate(self.coarse(fine), scale_factor=2)
            found: Tensor = self.lateral(fine) + larger
            return found

    return Pyramid()


NETWORKS = {
    "unet": (UNet, (96, 64), 40),
    "atrous": (Atrous, (128, 96), 80),
    "pyramid": (pyramid, (48, 64), 20),
    "superresolution": (
        lambda: nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.PixelShuffle(2)),
        (20, 33),
        9,
    ),
    "even kernels": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 4, stride=2, padding=1), nn.Conv2d(3, 2, 2)),
        (32, 48),
        16,
    ),
    "sequences": (
        lambda: nn.Sequential(nn.ConstantPad1d((6, 0), 0), nn.Conv1d(2, 3, 3, dilation=3)),
        (100,),
        30,
    ),
    "volumes": (lambda: nn.Conv3d(2, 3, 3, padding=1), (12, 10, 9), 6),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_exact_halos_give_the_map_of_the_whole(name: str) -> None:
    torch.manual_seed(0)
    build, sides, tile = NETWORKS[name]
    model = build().eval()
    images = torch.randn(2, 2, *sides)
    with torch.no_grad():
        whole = model(images)
    assert torch.allclose(tiled(model, images, tile), whole, atol=1e-6)


def test_no_pixel_less_is_enough() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Conv2d(2, 2, 3, padding=1) for _ in range(3))).eval()
    images = torch.randn(1, 2, 32, 32)
    with torch.no_grad():
        whole = model(images)
    assert halos(model, 16, 32).exact() == (3, 3)
    assert torch.allclose(tiled(model, images, 16, halo=3), whole, atol=1e-6)
    less = (tiled(model, images, 16, halo=2) - whole).abs()
    assert less.max() > 1e-3
    # Only units at the edges of tiles miss something.
    assert less[..., :11, :11].max() < 1e-6


def test_a_share_of_what_units_see_needs_less() -> None:
    model = nn.Sequential(*(nn.Conv2d(2, 2, 5, padding=2) for _ in range(8)))
    found = halos(model, 64, 128)
    sides = [found.of_share(share)[0] for share in (1, 0.999, 0.99, 0.95, 0.5)]
    assert sides == sorted(sides, reverse=True)
    assert sides[0] == 16
    # A square around a unit's own pixel of twice the halo holds the share.
    profile = found.traced.expected_erf().profile
    assert profile.square(0.95) == 2 * sides[3] + 1


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Conv2d(2, 2, 3), nn.InstanceNorm2d(2)), "sees all of its input"),
        (
            nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.AdaptiveAvgPool2d(8)),
            "is not what it sees of",
        ),
    ],
)
def test_networks_whose_tiles_are_not_the_image(model: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiled(model.eval(), torch.zeros(1, 2, 64, 64), 32)


@pytest.mark.parametrize(
    ("sides", "tile", "halo", "message"),
    [
        ((62, 64), 40, None, "`images` must be multiples of 4x4 px, .* are 62x64 px"),
        ((64, 64), 42, None, "must run at an input of 42x42 px"),
        ((64, 64), 40, 6, "`halo` must be multiples of 4x4 px"),
        ((64, 64), 40, 20, "`tile_size` must exceed twice the halo of 20x20 px, but is 40x40"),
        ((64, 64), 40, -4, "`halo` must be a number of px, 0 or more"),
    ],
)
def test_sizes_that_do_not_fit(
    sides: tuple[int, int], tile: int, halo: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        tiled(UNet().eval(), torch.zeros(1, 2, *sides), tile, halo)


def test_a_model_that_trains_is_refused() -> None:
    with pytest.raises(ValueError, match=r"call `model.eval\(\)`"):
        tiled(UNet().train(), torch.zeros(1, 2, 64, 64), 40)


def test_plans_fit_the_memory() -> None:
    model = UNet().eval()
    whole = tiling_plans(model, 512, 10_000, in_chans=2)
    assert whole.plans[0].tiles == 1
    assert whole.plans[0].computed == 1
    tight = tiling_plans(model, (500, 512), whole.memory_mb / 16, in_chans=2)
    assert tight.image_size == (500, 512)
    for plan in tight.plans:
        assert plan.memory_mb <= whole.memory_mb / 16
        assert plan.tiles > 16
        assert plan.computed > 1
    exact, *others = tight.plans
    assert exact.halo == halos(model, 64, 128, 2).exact()
    assert others[-1].computed < exact.computed
    with pytest.raises(ValueError, match="No tile fits 0 MiB: the smallest, of "):
        tiling_plans(model, 512, 0.001, in_chans=2)
    with pytest.raises(ValueError, match="`shares` must hold at least one share"):
        tiling_plans(model, 512, shares=(), in_chans=2)
