"""What each unit of small networks sees, against NaN put into single columns of the input."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from oracle import wrong_units
from timm.layers.halo_attn import HaloAttn
from torch import Tensor, nn

from rfsearch.field.receptive_field import ReceptiveField, window
from rfsearch.trace.result import TracedModel
from rfsearch.trace.trace import trace_receptive_field
from rfsearch.trace.traced_map import TracedMap


class Run(nn.Module):
    """Layers with a forward function of its own."""

    def __init__(self, run: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Any:
        return self.run(x, *self.layers)


def conv(kernel_size: int = 3, stride: int = 1, **options: Any) -> nn.Conv2d:
    options.setdefault("padding", kernel_size // 2)
    return nn.Conv2d(2, 2, kernel_size, stride, **options)


def trace(model: nn.Module, size: int | tuple[int, int] = 32) -> TracedModel:
    return trace_receptive_field(model.eval(), size, in_chans=2)


def output(model: nn.Module, size: int | tuple[int, int] = 32) -> TracedMap:
    return trace(model, size).output


def resize(x: Tensor, size: Any, mode: str = "bilinear", align_corners: bool = True) -> Tensor:
    return F.interpolate(x, size, mode=mode, align_corners=align_corners)


def in_windows(x: Tensor, layer: Callable[[Tensor], Tensor], side: int = 4) -> Tensor:
    """Run a layer on windows that are cut out of a map, and lay them back."""
    batch, channels, height, width = x.shape
    cut = x.unflatten(3, (-1, side)).unflatten(2, (-1, side)).permute(0, 2, 4, 1, 3, 5)
    done = layer(cut.reshape(-1, channels, side, side))
    after = done.shape[-1]
    back = done.reshape(batch, height // side, width // side, channels, after, after)
    return back.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels, -1, width // side * after)


def through_rows(x: Tensor) -> Tensor:
    """A view that cuts through the rows of a map, and one that puts them together again."""
    height, width = x.shape[2:]
    flat = F.pad(x.flatten(2), (0, 11)).reshape(*x.shape[:2], -1, 15) * 2
    return flat.flatten(2)[..., : height * width].unflatten(2, (height, width))


def shuffled(x: Tensor, layer: Callable[[Tensor], Tensor]) -> Tensor:
    order = torch.tensor([5, 2, 7, 0, 1, 6, 3, 4, *range(8, x.shape[2])])
    return layer(x[:, :, order])[:, :, order.argsort()]


def outlook(x: Tensor) -> Tensor:
    """What windows see on average, spread over all their positions and added up."""
    columns = F.unfold(x, 3, padding=1, stride=2).unflatten(1, (2, 9))
    spread = columns.mean(2, keepdim=True).expand(-1, -1, 9, -1).flatten(1, 2)
    return F.fold(spread, x.shape[2:], 3, padding=1, stride=2)


def rows_of(x: Tensor, carry: float) -> Tensor:
    """Rows one by one, each with a part of those before it."""
    rows = [x[:, :, 0]]
    for number in range(1, x.shape[2]):
        rows.append(x[:, :, number] + carry * rows[-1] if carry else x[:, :, number])
    return torch.stack(rows, 2)


def written_later(x: Tensor, c: nn.Module) -> Tensor:
    """Views of a map that is written to after they were made, by way of other views."""
    x = c(x)
    seen, (first, second) = x.mT, x.chunk(2, 1)
    first.add_(c(x)[:, :1])
    second.transpose(2, 3).mul_(2)
    return seen.mT


def put_in_order(x: Tensor) -> Tensor:
    """Rows that are turned round, and written to the places where they were."""
    order = torch.arange(x.shape[2])
    canvas = torch.zeros_like(x)
    canvas[:, :, order.flip(0)] = x.flip(2)
    return canvas


def in_patches(x: Tensor) -> Tensor:
    """Patches of 2 x 2 px, cut out and laid back."""
    return F.fold(F.unfold(x, 2, stride=2) * 2, x.shape[2:], 2, stride=2)


def every_other(x: Tensor, c: nn.Module) -> Tensor:
    """A map that is written into every other row and column of zeros."""
    canvas = torch.zeros(len(x), 2, 2 * x.shape[2], 2 * x.shape[3])
    canvas[:, :, ::2, 1::2] = c(x)
    put_in: Tensor = c(canvas)
    return put_in


def upsampled_columns(x: Tensor, c: nn.Module) -> Tensor:
    """CARAFE: sums over the windows that an upsampled unit lies in."""
    columns = F.unfold(c(x), 3, padding=1).unflatten(2, x.shape[2:])
    return F.interpolate(columns, scale_factor=2).unflatten(1, (2, 9)).sum(2)


def padded_to(x: Tensor, c: nn.Module) -> Tensor:
    """Branches of 15 and 16 units where they meet."""
    fine: Tensor = c(x)
    return fine + F.interpolate(F.avg_pool2d(fine, 2), fine.shape[2:])


#: Networks, the sizes of their inputs and the strides of their outputs in px.
MAPS: dict[str, tuple[nn.Module, int, Any]] = {
    "aligned corners by 2": (
        Run(lambda x, a, b: b(a(x) + resize(a(a(x)), 16)), conv(3, 2, padding=1), conv()),
        32,
        None,
    ),
    "aligned corners, regular": (
        Run(lambda x, a, b: b(resize(a(x), 65))[..., ::2, ::2], conv(3, 3), conv()),
        98,
        3,
    ),
    "bicubic": (
        Run(lambda x, a, b: b(resize(a(x), 24, "bicubic")), conv(3, 4), conv()),
        48,
        2,
    ),
    "seven twelfths": (Run(lambda x, c: c(resize(c(x), 28)), conv()), 48, Fraction(12, 7)),
    "branches that drift apart": (Run(padded_to, conv()), 31, 1),
    "pooling to several sizes": (
        Run(
            lambda x, c: c(x) + resize(F.adaptive_avg_pool2d(x, 3), 32) + resize(c(x), 32),
            conv(),
        ),
        32,
        1,
    ),
    "convolution within windows": (Run(lambda x, c: in_windows(c(x), c), conv()), 32, 1),
    "pooling within windows": (
        Run(lambda x, c: c(in_windows(c(x), nn.MaxPool2d(3, 2, 1))), conv()),
        32,
        2,
    ),
    "dilation within windows": (
        Run(lambda x, a, b: in_windows(a(x), b, 8), conv(3, 2), conv(3, dilation=3, padding=3)),
        64,
        2,
    ),
    "a view that cuts through": (Run(lambda x, c: c(through_rows(c(x))), conv()), 32, 1),
    "another order and back": (Run(lambda x, c: shuffled(c(x), nn.ReLU()), conv()), 32, 1),
    "flipped and back": (Run(lambda x, c: c(x.flip(2, 3)).flip(2, 3), conv(3, 2)), 33, 2),
    "circular padding": (nn.Sequential(conv(), conv(5, padding_mode="circular")), 32, 1),
    "columns added up": (Run(lambda x, c: outlook(c(x)), conv(3, 2)), 33, 2),
    "rows one by one": (Run(lambda x, c: c(rows_of(c(x), 0)), conv()), 24, 1),
    "rows that carry on": (Run(lambda x, c: rows_of(c(x), 0.5), conv(padding=0)), 24, None),
    "views of what is written later": (Run(written_later, conv()), 32, 1),
    "every other row and column": (Run(every_other, conv()), 24, Fraction(1, 2)),
    "attention to windows with halos": (
        nn.Sequential(conv(), HaloAttn(2, num_heads=1, block_size=4, halo_size=2), conv()),
        16,
        1,
    ),
    "patches laid back": (Run(lambda x, c: c(in_patches(c(x))), conv()), 32, 1),
    "columns upsampled": (Run(upsampled_columns, conv()), 24, Fraction(1, 2)),
    "rows and columns of another order": (
        Run(
            lambda x, c: c(x)[:, :, torch.arange(32)[:, None], torch.arange(32).roll(5)].roll(
                -5, 3
            ),
            conv(),
        ),
        32,
        1,
    ),
    "written in another order": (Run(lambda x, c: c(put_in_order(c(x))), conv()), 32, 1),
    "median and deviation": (
        Run(
            lambda x, c: c(x).median(1, True).values + torch.std_mean(c(c(x)), 1)[0][:, None],
            conv(),
        ),
        32,
        1,
    ),
}


@pytest.mark.parametrize("name", MAPS)
def test_all_units_against_the_oracle(name: str) -> None:
    torch.manual_seed(0)
    model, size, stride = MAPS[name]
    traced = output(model, size)
    assert wrong_units(model, traced, 2) == []
    assert stride is None or traced.width.stride == traced.height.stride == stride


def test_the_oracle_can_disagree() -> None:
    model = conv(5).eval()
    assert wrong_units(model, output(conv(3)), 2)


# Tokens.


@pytest.mark.parametrize("in_front", [0, 1, 5])
def test_tokens_for_no_place_do_not_shift_the_others(in_front: int) -> None:
    def tokens(x: Tensor, patches: nn.Module, mlp: nn.Module) -> Tensor:
        own = patches(x).flatten(2).mT
        return mlp(torch.cat([own.new_zeros(1, 1, 2).expand(len(own), in_front, 2), own], 1))

    model = Run(tokens, conv(4, 4, padding=0), nn.Linear(2, 2)).eval()
    found = output(model, (32, 48))
    assert found.height == found.width == window(4, 4, padding=0)
    laid_out = Run(lambda x: model(x)[:, in_front:].mT.unflatten(2, (8, 12))).eval()
    upright = Run(lambda x: model(x)[:, in_front:].mT.unflatten(2, (12, 8))).eval()
    assert output(upright, (48, 32)).width == found.width
    assert wrong_units(laid_out, output(laid_out, (32, 48)), 2) == []


# A map of one unit.


def single_key(x: Tensor, patches: nn.Module, key: nn.Module, last: nn.Module) -> Tensor:
    """Attention over keys that are so coarse that one is left, by sums over an axis of one."""
    x = patches(x)
    query, keys = x.flatten(2).mT, key(x).flatten(2).mT
    weights = torch.einsum("bic,bjc->bij", query, keys).softmax(2)
    seen = torch.einsum("bij,bjc->bic", weights, keys).mT.unflatten(2, x.shape[2:])
    mapped: Tensor = last(seen + x)
    return mapped


def test_single_keys_are_global() -> None:
    layers = conv(4, 4, padding=0), conv(7, 7, padding=0), conv()
    traced = trace(Run(single_key, *layers), 28)
    assert traced.output.height == traced.output.width == ReceptiveField(-4, 12, 4)
    assert traced.output.is_global
    assert traced.global_layers == ("(model)",)
    # With four keys, too.
    assert trace(Run(single_key, *layers), 56).output.width == ReceptiveField(-4, 12, 4)


def test_a_kernel_larger_than_any_map_is_global() -> None:
    traced = trace(nn.Sequential(conv(3, 2), nn.AvgPool2d(2560, ceil_mode=True)))
    assert traced.output.height == traced.output.width == window(3, 2)
    assert traced.global_layers == ("1",)


def test_a_squeezed_axis_of_one_pixel_is_not_global() -> None:
    model = Run(lambda x, c: c(x.squeeze(2)), nn.Conv1d(2, 2, 5, 2, 2))
    traced = trace(model, (1, 64))
    assert (traced.output.height, traced.output.width) == (window(1), window(5, 2))
    assert not traced.output.is_global
    assert traced.global_layers == ()


def test_the_same_units_in_all_windows_are_global() -> None:
    def run(x: Tensor, c: nn.Module) -> Tensor:
        shared = F.avg_pool2d(c(x), 8).repeat_interleave(1, 0)
        windows = c(x).unflatten(2, (-1, 4)) + shared.mean(3, keepdim=True)[:, :, None]
        return windows.flatten(2, 3)

    traced = trace(Run(run, conv()))
    assert traced.output.is_global
    assert traced.output.height == window(3)


# Maps side by side.


def test_parts_of_a_head() -> None:
    def run(x: Tensor, first: nn.Module, down: nn.Module, head: nn.Module) -> Tensor:
        maps = [first(x)]
        for _ in range(4):
            maps.append(down(maps[-1]))
        found = [head(one).permute(0, 2, 3, 1).reshape(1, -1, 5) for one in maps]
        return torch.cat(found, 1)

    layers = conv(3, 4), conv(3, 2), nn.Conv2d(2, 15, 3, padding=1)
    traced = trace(Run(run, *layers), 64)
    assert {name: (one.shape, *one.width[1:]) for name, one in traced.outputs.items()} == {
        "output[:, 0:768]": ((1, 768, 5), 11, 4),
        "output[:, 768:960]": ((1, 192, 5), 27, 8),
        "output[:, 960:1008]": ((1, 48, 5), 59, 16),
        "output[:, 1008:1020]": ((1, 12, 5), 123, 32),
        # A single unit.
        "output[:, 1020:1023]": ((1, 3, 5), 251, 64),
    }
    for one in traced.outputs.values():
        assert one.height == one.width
        assert not one.is_global
    assert [name for name in traced.layers["name"] if name.startswith("[")] == [
        "[:, 0:768]",
        "[:, 768:960]",
        "[:, 960:1008]",
        "[:, 1008:1020]",
        "[:, 1020:1023]",
    ]


def test_parts_without_a_place() -> None:
    def run(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
        fine, coarse = (c(x).flatten(2) for c in (a, b))
        return torch.cat([fine.new_zeros(1, 2, 3), fine, coarse], 2)

    traced = trace(Run(run, conv(), conv(3, 2)))
    assert {name: one.width for name, one in traced.outputs.items()} == {
        "output[:, :, 3:1027]": window(3),
        "output[:, :, 1027:1283]": window(3, 2),
    }


# What cannot be followed.


def test_an_output_that_cannot_be_followed_refuses_no_other() -> None:
    def run(x: Tensor, a: nn.Module, b: nn.Module) -> dict[str, Tensor]:
        lost = torch.linalg.qr(a(x))[0]
        return {"seen": a(x), "lost": b(lost.relu_())}

    traced = trace(Run(run, conv(), conv(5)))
    assert traced.outputs["seen"].width == window(3)
    assert list(traced.unfollowed) == ["lost"]
    assert "operation `linalg_qr`, the model itself" in traced.unfollowed["lost"]
    with pytest.raises(ValueError, match="operation `linalg_qr`"):
        traced.output  # noqa: B018 - the access is what is tested
    table = traced.layers.set_index("name")
    assert table.loc["layers.0", "width"].tolist() == [3, 3]
    assert table.loc["layers.1", "width"] != table.loc["layers.1", "width"]  # Not a number.


def test_a_lost_slice_loses_its_base() -> None:
    def run(x: Tensor, c: nn.Module) -> list[Tensor]:
        canvas = c(x)
        canvas[:, :1] = torch.linalg.qr(c(x)[:, :1])[0]
        return [canvas, x]

    traced = trace(Run(run, conv()))
    assert (list(traced.outputs), list(traced.unfollowed)) == (["1"], ["0"])


def test_rows_that_are_none() -> None:
    def skewed(x: Tensor, c: nn.Module) -> list[Tensor]:
        x = c(x)
        return [x, F.pad(x, (0, 1)).flatten(2)[..., :1024].unflatten(2, (32, 32))]

    traced = trace(Run(skewed, conv()))
    assert "rows and columns of a map are not those" in traced.unfollowed["1"]


# Operations that NaN does not show: where numbers are compared or drawn.


def test_maxima_put_back() -> None:
    pool, back = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
    assert output(Run(lambda x, c: back(*pool(c(x))), conv())).width == (-1, 4, 1)
    model = Run(lambda x, c: back(c(x)[..., ::2, ::2], pool(x)[1] + 0), conv())
    with pytest.raises(ValueError, match="not those of a pooling"):
        trace(model)


def test_computed_indices_of_a_table() -> None:
    table = nn.Embedding(8, 3)
    model = Run(lambda x, c, t: t(c(x).argmax(1)), conv(5, 2), table)
    assert output(model).shape == (1, 16, 16, 3)
    assert output(model).width == window(5, 2)


@pytest.mark.parametrize("draw", ["normal_", "uniform_", "exponential_"])
def test_noise(draw: str) -> None:
    model = Run(lambda x, c: c(x) + getattr(c(c(x)), draw)(), conv())
    assert output(model).width == window(3)


def test_tables_of_too_many_positions() -> None:
    model = Run(lambda x: x[:, :, torch.arange(140_000).flip(0)])
    with pytest.raises(ValueError, match=r"in no order that can be followed \(operation `index"):
        trace(model, (140_000, 8))
