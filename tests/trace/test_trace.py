from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracle import check_map
from strategies import architectures
from torch import Tensor, nn

import rfsearch as rfs
from rfsearch.field.receptive_field import ReceptiveField, stack, window
from rfsearch.network.architecture import Architecture
from rfsearch.trace.trace import UntracedError, trace_receptive_field
from rfsearch.trace.traced_map import TracedMap


class Run(nn.Module):
    """Layers with a forward function of its own."""

    def __init__(self, run: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Any:
        return self.run(x, *self.layers)


def conv(kernel_size: Any = 3, stride: Any = 1, **options: Any) -> nn.Conv2d:
    options.setdefault("padding", kernel_size // 2 if isinstance(kernel_size, int) else "same")
    return nn.Conv2d(2, 2, kernel_size, stride, **options)


def output(model: nn.Module, size: int | tuple[int, int] = 64) -> TracedMap:
    return trace_receptive_field(model, size, in_chans=2).output


def agrees(model: nn.Module, size: int = 64) -> bool:
    """Whether the oracle contradicts nothing about the only output."""
    verdicts = check_map(model.eval(), 2, output(model, size))
    return all(verdict.checked > 3 and not verdict.wrong for verdict in verdicts)


# The seven probes that other tools were measured with.


def test_dilation() -> None:
    assert output(conv(3, dilation=4, padding=4)).width == window(3, dilation=4)


def test_axes_are_apart() -> None:
    model = nn.Sequential(conv((1, 7)), conv((3, 1)))
    assert (output(model).height.size, output(model).width.size) == (3, 7)


def test_branches_and_the_smallest_path() -> None:
    def run(x: Tensor, first: nn.Module, large: nn.Module, small: nn.Module) -> Tensor:
        x = first(x)
        return torch.cat([large(x), small(x)], dim=1)

    found = output(Run(run, conv(3), conv(3), conv(1)))
    assert found.width == ReceptiveField(-2, 5, 1)
    assert found.smallest == (3, 3)


def test_functional_pooling() -> None:
    found = output(Run(lambda x, first: F.max_pool2d(first(x), 2), conv(3)))
    assert found.width == ReceptiveField(-1, 4, 2)


def unet() -> nn.Module:
    def run(x: Tensor, first: nn.Module, down: nn.Module, up: nn.Module, last: nn.Module) -> Any:
        x = first(x)
        return last(torch.cat([x, up(down(x))], dim=1))

    last = nn.Conv2d(4, 2, 3, padding=1)
    return Run(run, conv(3), conv(3, 2), nn.Upsample(scale_factor=2), last)


def test_unet() -> None:
    found = output(unet())
    # First conv 3, down to stride 2: 5, up to full size, conv 3 over two phases: 5 + 2.
    assert (found.width.size, found.width.stride) == (7, 1)
    assert agrees(unet())


def test_squeeze_and_excite() -> None:
    def run(x: Tensor, first: nn.Module, gate: nn.Module) -> Tensor:
        x = first(x)
        return x * gate(x.mean((2, 3), keepdim=True)).sigmoid()

    traced = trace_receptive_field(Run(run, conv(3), conv(1)), 64)
    assert traced.output.is_global
    assert traced.output.width == window(3)
    assert traced.global_layers == ("(model)",)


def test_transposed_convolution() -> None:
    model = nn.Sequential(conv(3, 2), nn.ConvTranspose2d(2, 2, 4, 2, 1))
    assert (output(model).width.size, output(model).width.stride) == (5, 1)
    assert agrees(model)


# Operations, against the oracle.

RUNS: dict[str, nn.Module] = {
    "asymmetric padding": Run(lambda x, c: c(F.pad(x, (2, 0, 1, 1))), conv(3, padding=0)),
    "reflection": Run(lambda x, c: c(F.pad(x, (3, 3, 3, 3), mode="reflect")), conv(7, padding=0)),
    "crop": Run(lambda x, c: F.pad(c(x), (-1, -1, -2, 0)), conv(3)),
    "strided slice": Run(lambda x, c: c(x)[:, :, 1::2, ::2], conv(3)),
    "focus": Run(
        lambda x, c: c(torch.cat([x[:, :1, ::2, ::2], x[:, :1, 1::2, 1::2]], dim=1)), conv(3)
    ),
    "pixel unshuffle": Run(lambda x, c: c(F.pixel_unshuffle(x, 2)), nn.Conv2d(8, 2, 3, padding=1)),
    "pixel shuffle": Run(
        lambda x, a, b: b(F.pixel_shuffle(a(x), 2)), nn.Conv2d(2, 8, 3, 2, 1), conv(3)
    ),
    "transposed, kernel below stride": nn.Sequential(conv(5, 4), nn.ConvTranspose2d(2, 2, 3, 2)),
    "transposed, dilated": nn.Sequential(
        conv(3, 4), nn.ConvTranspose2d(2, 2, 3, 2, padding=1, dilation=2, output_padding=1)
    ),
    "nearest": Run(lambda x, c: F.interpolate(c(x), scale_factor=4), conv(3, 8)),
    "bilinear": Run(lambda x, c: F.interpolate(c(x), scale_factor=2, mode="bilinear"), conv(3, 4)),
    "bilinear down": Run(
        lambda x, c: F.interpolate(c(x), scale_factor=0.5, mode="bilinear"), conv(3)
    ),
    "bicubic": Run(lambda x, c: F.interpolate(c(x), scale_factor=2, mode="bicubic"), conv(3, 4)),
    "antialiased": Run(
        lambda x, c: F.interpolate(c(x), scale_factor=0.25, mode="bilinear", antialias=True),
        conv(3),
    ),
    "two thirds": Run(lambda x, c: F.interpolate(c(x), scale_factor=2 / 3), conv(3, 2)),
    "depthwise and grouped": nn.Sequential(conv(5, groups=2), conv(3, 2, groups=2)),
    "ceil mode": nn.Sequential(conv(3), nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(2)),
    "channels last": Run(
        lambda x, c, norm, mlp: c(mlp(norm(c(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)),
        conv(3, 2),
        nn.LayerNorm(2),
        nn.Linear(2, 2),
    ),
    "tokens and back": Run(
        lambda x, c, mlp: c(mlp(c(x).flatten(2).mT).mT.unflatten(2, (x.shape[2] // 2, -1))),
        conv(3, 2),
        nn.Linear(2, 2),
    ),
    "roll and back": Run(
        lambda x, c: c(c(x.roll((2, 1), (2, 3))).roll((-2, -1), (2, 3))), conv(3)
    ),
    "own pooling": Run(lambda x, c: c(x).unflatten(3, (-1, 4)).amax(4), conv(3)),
    "unfold": Run(lambda x, c: c(x).unfold(2, 3, 2).mean(-1).unfold(3, 3, 2).amax(-1), conv(3)),
    "windows": Run(
        lambda x, c: (
            c(x)
            .unflatten(2, (-1, 4))
            .softmax(3)
            .flatten(2, 3)
            .unflatten(3, (-1, 2))
            .softmax(4)
            .flatten(3)
        ),
        conv(3),
    ),
    "written into a slice": Run(
        lambda x, c: _written(torch.zeros_like(x), c(x)), conv(3, padding=0)
    ),
    "tiled channels": Run(lambda x, c: c(x)[:, :1].repeat(1, 2, 1, 1).cumsum(1), conv(3)),
}


RUNS |= {
    "columns of an image": Run(
        lambda x, c: (
            F.unfold(c(x), 3, padding=1, stride=2)
            .unflatten(1, (2, 9))
            .sum(2)
            .unflatten(2, (x.shape[2] // 4, -1))
        ),
        conv(3, 2),
    ),
    "einsum over windows": Run(
        lambda x, c: (
            torch.einsum(
                "bchpwq,pr->bchrwq",
                c(x).unflatten(3, (-1, 2)).unflatten(2, (-1, 4)),
                torch.ones(4, 4),
            )
            .flatten(4)
            .flatten(2, 3)
        ),
        conv(3),
    ),
    "aligned corners": Run(
        lambda x, c: F.avg_pool2d(
            F.interpolate(c(x), scale_factor=2, mode="bilinear", align_corners=True), 8
        ),
        conv(3, 2),
    ),
    "constants joined as padding": Run(
        lambda x, c: c(torch.cat([torch.zeros_like(x[..., :1]), c(x)], dim=3)), conv(3)
    ),
    "weights from pooled values": Run(
        lambda x, c: F.conv2d(c(x), c.weight * x.mean((2, 3))[0, :, None, None, None], padding=1),
        conv(3),
    ),
}


def _written(canvas: Tensor, content: Tensor) -> Tensor:
    canvas[:, :, 2:, 1:-1] = content
    return canvas


@pytest.mark.parametrize("name", RUNS)
def test_operations_against_the_oracle(name: str) -> None:
    assert agrees(RUNS[name])


def test_the_oracle_can_disagree() -> None:
    claimed = output(conv(3))
    assert any(verdict.wrong for verdict in check_map(conv(5), 2, claimed))


@given(architectures(max_field=400, max_stride=32))
def test_closed_form_of_random_architectures(architecture: Architecture) -> None:
    traced = trace_receptive_field(rfs.build_model(architecture), 128)
    assert traced.output.height == traced.output.width == architecture.receptive_field()


@given(architectures(max_stride=32))
@settings(max_examples=10, deadline=None)
def test_input_size_does_not_matter(architecture: Architecture) -> None:
    model = rfs.build_model(architecture)
    small, large = (trace_receptive_field(model, size) for size in (96, 200))
    assert small.output.height == large.output.height
    assert small.output.smallest == large.output.smallest


@st.composite
def chains(draw: st.DrawFn) -> nn.Sequential:
    """Layers that go down and up again, with shortcuts."""
    down, up = st.sampled_from(DOWN), st.sampled_from(UP)
    layers = [layer() for layer in draw(st.lists(down, min_size=1, max_size=3))]
    layers += [layer() for layer in draw(st.lists(up, max_size=2))]
    return nn.Sequential(*layers, conv(draw(st.sampled_from((1, 3, 5)))))


def shortcut() -> nn.Module:
    return Run(lambda x, a, b: a(x) + b(x), conv(1, 2), nn.Sequential(conv(3), nn.MaxPool2d(2)))


DOWN: list[Callable[[], nn.Module]] = [
    lambda: conv(3, 2),
    lambda: conv(3, dilation=2, padding=2),
    lambda: conv(4, 4, padding=0),
    lambda: nn.MaxPool2d(3, 2, 1),
    shortcut,
]
UP: list[Callable[[], nn.Module]] = [
    lambda: nn.Upsample(scale_factor=2),
    lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    lambda: nn.ConvTranspose2d(2, 2, 4, 2, 1),
    lambda: nn.ConvTranspose2d(2, 2, 2, 2),
]


@given(chains())
def test_chains_against_the_oracle(model: nn.Sequential) -> None:
    assume(min(output(model).stride) >= 1)
    assert agrees(model)


# What is global.


def attention(x: Tensor, first: nn.Module, mix: nn.MultiheadAttention) -> Tensor:
    tokens = first(x).flatten(2).mT
    return tokens + mix(tokens, tokens, tokens, need_weights=False)[0]


def gated(x: Tensor, first: nn.Module, mix: nn.Module) -> Tensor:
    x = first(x)
    return x * mix(x)


GLOBAL: dict[str, tuple[Callable[..., Any], nn.Module]] = {
    "attention": (attention, nn.MultiheadAttention(2, 1, batch_first=True)),
    "pooled gate": (gated, nn.AdaptiveAvgPool2d(1)),
    "maximum gate": (gated, nn.AdaptiveMaxPool2d(1)),
    "group norm": (gated, nn.GroupNorm(1, 2)),
    "instance norm": (gated, nn.InstanceNorm2d(2)),
    "layer norm over space": (gated, nn.LayerNorm((2, 32, 32))),
    "statistics of the batch": (gated, nn.BatchNorm2d(2, track_running_stats=False)),
    "softmax over columns": (gated, nn.Softmax(dim=3)),
}


@pytest.mark.parametrize("name", GLOBAL)
def test_global_layers_stand_beside_the_local_field(name: str) -> None:
    run, layer = GLOBAL[name]
    traced = trace_receptive_field(Run(run, conv(3, 2), layer), 64)
    assert traced.output.is_global
    assert traced.global_layers == ("layers.1",)
    assert traced.output.width == window(3, 2)
    frame = traced.layers.set_index("name")
    assert not frame.loc["layers.0", "is_global"]
    assert frame.loc["", "is_global"]


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_is_pointwise(training: bool) -> None:
    model = nn.Sequential(conv(3), nn.BatchNorm2d(2)).train(training)
    traced = trace_receptive_field(model, 64)
    assert traced.global_layers == ()
    assert traced.output.width == window(3)
    assert model.training == training


def test_pooled_output_keeps_the_field_of_the_pooled_units() -> None:
    model = nn.Sequential(conv(5, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 9))
    traced = trace_receptive_field(model, 64)
    assert traced.output.shape == (1, 9)
    assert traced.output.width == window(5, 2)
    assert traced.global_layers == ("1",)


def test_only_one_axis_is_global() -> None:
    traced = trace_receptive_field(Run(lambda x, c: c(x) + c(x).mean(3, True), conv(3)), 64)
    assert traced.output.is_global
    assert traced.output.width == traced.output.height == window(3)


# The result.


def test_several_outputs() -> None:
    def run(x: Tensor, *layers: nn.Module) -> dict[str, Any]:
        first = layers[0](x)
        second = layers[1](first)
        return {"P1": first, "rest": [second, second.mean((2, 3))]}

    traced = trace_receptive_field(Run(run, conv(3, 2), conv(5, 2)), (64, 48))
    expected = stack([window(3, 2), window(5, 2)])
    assert {name: one.width for name, one in traced.outputs.items()} == {
        "P1": window(3, 2),
        "rest.0": expected,
        "rest.1": expected,
    }
    assert [one.is_global for one in traced.outputs.values()] == [False, False, True]
    assert traced.output is traced.outputs["rest.1"]
    assert traced.outputs["P1"].shape == (1, 2, 32, 24)


@dataclass
class Levels:
    fine: Tensor
    coarse: SimpleNamespace


def test_outputs_of_other_kinds() -> None:
    def run(x: Tensor, *layers: nn.Module) -> Levels:
        return Levels(layers[0](x), SimpleNamespace(last=layers[1](x)))

    traced = trace_receptive_field(Run(run, conv(3), conv(5, 2)), 32)
    assert {name: one.width for name, one in traced.outputs.items()} == {
        "fine": window(3),
        "coarse.last": window(5, 2),
    }


def test_layers() -> None:
    frame = trace_receptive_field(nn.Sequential(conv((3, 5)), conv(3, 2)), (20, 30)).layers
    assert list(frame["name"]) == ["0", "1", ""]
    assert list(frame["type"]) == ["Conv2d", "Conv2d", "Sequential"]
    assert frame["output_size"][1] == (1, 2, 10, 15)
    row = frame.iloc[1]
    assert (row["height"], row["height_stride"], row["height_start"]) == (5, 2, -2)
    assert (row["width"], row["width_stride"], row["width_start"]) == (7, 2, -3)
    assert (row["height_smallest"], row["width_smallest"]) == (5, 7)


def test_interval_follows_the_phase() -> None:
    found = output(nn.Sequential(conv(3, 2), nn.Upsample(scale_factor=2), conv(3)))
    assert found.interval((0, 0)).height == (-3, 2)
    assert found.interval((0, 1)).width == (-1, 4)
    assert found.interval((0, 2)).width == (-1, 4)
    assert found.interval((0, 11)).width == (9, 14)


def test_clipped() -> None:
    # The unit in the middle of 8 px sees the pixels 0 to 8 of an axis: one lies outside.
    assert output(conv(9), 8).clipped == pytest.approx(1 - (8 / 9) ** 2)
    assert output(conv(9), 64).clipped == 0
    assert output(nn.Sequential(conv(9), nn.AdaptiveAvgPool2d(1)), 8).clipped > 0


def test_beyond_the_resolution_of_the_input() -> None:
    found = output(nn.Sequential(conv(3), nn.Upsample(scale_factor=2)))
    assert found.stride == (Fraction(1, 2), Fraction(1, 2))
    assert [found.interval((0, unit)).width for unit in (0, 1, 2)] == [(-1, 2), (-1, 2), (0, 3)]
    assert found.width == (-1, 3, Fraction(1, 2))


def test_own_forward() -> None:
    model = nn.ModuleDict({"body": conv(3), "head": nn.Flatten()})
    traced = trace_receptive_field(
        model, 32, in_chans=2, forward=lambda module, x: module.get_submodule("body")(x)
    )
    assert traced.output.width == window(3)


def test_model_is_left_as_it_was_found() -> None:
    model = nn.Sequential(conv(3), nn.BatchNorm2d(2)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trace_receptive_field(model, 32)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert model(torch.zeros(2, 2, 8, 8)).shape == (2, 2, 8, 8)


def test_half_precision() -> None:
    assert output(conv(3).half()).width == window(3)


def test_name_of_a_timm_model() -> None:
    traced = trace_receptive_field("test_resnet", 64)
    assert traced.output.shape == (1, 1000)
    assert traced.global_layers == ("global_pool.pool",)


@pytest.mark.parametrize(("name", "in_chans"), [("test_resnet", 1), ("cs3darknet_focus_s", 3)])
def test_channels_of_the_input(name: str, in_chans: int) -> None:
    model = timm.create_model(name, in_chans=in_chans)
    assert trace_receptive_field(model, 64).output.shape == (1, 1000)


# Bad input.


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"timm knows, but got 'resnet5O'; .* resnet50"):
        trace_receptive_field("resnet5O", 224)


def test_failing_layer_is_named() -> None:
    model = nn.Sequential(conv(3), nn.Conv2d(5, 2, 3))
    with pytest.raises(
        ValueError, match=r"input of 32x16 px and 2 channels, but it fails in layer `1`: "
    ) as caught:
        trace_receptive_field(model, (32, 16))
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_what_does_not_fit_is_refused_in_place_too() -> None:
    class Cropped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 2)

        def forward(self, x: Tensor) -> Tensor:
            out = x.clone()
            out += self.conv(x)
            return out

    with pytest.raises(ValueError, match=r"must run at an input of 32x32 px .* but it fails: "):
        trace_receptive_field(Cropped(), 32)


def test_too_small_an_input() -> None:
    with pytest.raises(
        ValueError, match=r"must run at an input of 2x2 px, but it does not; it does at"
    ):
        trace_receptive_field(conv(5, padding=0), 2)


def test_unknown_operation() -> None:
    model = Run(lambda x, c: torch.linalg.qr(c(x))[0], conv(3))
    with pytest.raises(ValueError, match=r"not known; .* \(operation `linalg_qr`, the model it"):
        trace_receptive_field(model, 32)


def test_unknown_operation_as_pointwise() -> None:
    model = Run(lambda x, c: torch.renorm(c(x), 2, 0, 1), conv(3))
    with pytest.raises(ValueError, match="operation `renorm`"):
        trace_receptive_field(model, 32)
    traced = trace_receptive_field(model, 32, unknown="pointwise")
    assert traced.output.width == window(3)


def test_bad_choice_for_unknown_operations() -> None:
    with pytest.raises(ValueError, match="`unknown` must be one of error, pointwise, but got 'x'"):
        trace_receptive_field(conv(3), 32, unknown="x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "rule"),
    [(0, "be a side or"), ((4, -1), "be a side or"), ((3,), "have 2 sides .* but got 3")],
)
def test_bad_input_size(size: Any, rule: str) -> None:
    with pytest.raises(ValueError, match=f"`input_size` must {rule}"):
        trace_receptive_field(conv(3), size)


def test_bad_number_of_channels() -> None:
    with pytest.raises(ValueError, match="`1 <= in_chans <= 4,096` must hold, but got 0"):
        trace_receptive_field(conv(3), 32, in_chans=0)


def test_model_that_cannot_be_copied() -> None:
    model = conv(3)
    model.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"must allow a copy, but: cannot pickle '_thread\.lock'"):
        trace_receptive_field(model, 32)


def test_positions_that_an_unknown_operation_moves() -> None:
    model = Run(lambda x, c: torch.linalg.diagonal(c(x)), conv(3))
    with pytest.raises(ValueError, match=r"are not those of the input \(operation `diagonal`"):
        trace_receptive_field(model, 32, unknown="pointwise")


def test_maps_side_by_side() -> None:
    def levels(x: Tensor, c: nn.Module) -> Tensor:
        return torch.cat([c(x), c(c(x))], dim=2)

    both = trace_receptive_field(Run(levels, conv(3)), 32)
    assert {name: one.height.size for name, one in both.outputs.items()} == {
        "output[:, :, 0:32]": 3,
        "output[:, :, 32:64]": 5,
    }
    with pytest.raises(ValueError, match=r"over the seam of maps .* \(operation `convolution`"):
        trace_receptive_field(Run(lambda x, c: c(levels(x, c)), conv(3)), 32)
    # Each has its field where they are parted again.
    parted = trace_receptive_field(Run(lambda x, c: levels(x, c).split(32, 2), conv(3)), 32)
    assert [one.height.size for one in parted.outputs.values()] == [3, 5]


def test_a_map_put_together_from_its_slices() -> None:
    def run(x: Tensor, c: nn.Module) -> Tensor:
        halves = [c(x)[:, :, :16], c(x)[:, :, 16:]]
        together: Tensor = c(torch.cat(halves, dim=2))
        return together

    assert output(Run(run, conv(3)), 32).height == window(5)


def test_output_that_depends_on_nothing() -> None:
    with pytest.raises(ValueError, match="must depend on its input"):
        trace_receptive_field(Run(lambda x, c: torch.zeros(1), conv(3)), 32)


def test_an_output_that_cannot_be_followed_does_not_refuse_the_others() -> None:
    def run(x: Tensor, c: nn.Module) -> dict[str, Tensor]:
        x = c(x)
        return {"map": x, "beside": torch.linalg.qr(x)[0]}

    traced = trace_receptive_field(Run(run, conv(3)), 32)
    assert list(traced.outputs) == ["map"]
    assert traced.outputs["map"].width == window(3)
    assert "linalg_qr" in traced.unfollowed["beside"]
    with pytest.raises(ValueError, match="linalg_qr"):
        _ = traced.output


def test_what_was_followed_until_it_failed_is_told() -> None:
    model = nn.Sequential(conv(3), Run(lambda x: torch.linalg.qr(x)[0]))
    with pytest.raises(UntracedError) as caught:
        trace_receptive_field(model, 32)
    assert caught.value.traced.layers["width"][0] == 3


@pytest.mark.parametrize("name", ["resnet50", "test_efficientnet"])
def test_descriptions_fit_on_the_screen(name: str) -> None:
    features = timm.create_model(name, features_only=True)
    for traced in (trace_receptive_field(name, 64), trace_receptive_field(features, 64)):
        lines = repr(traced).splitlines()
        assert len(lines) <= 5
        assert max(map(len, lines)) < 120
    assert repr(traced.outputs["0"]).count("\n") == 0


def test_no_number_is_an_image() -> None:
    # Nothing of the size of the input is computed: a huge image costs no memory.
    assert output(nn.Sequential(conv(3), conv(3)), 10**6).width == window(5)


def test_starts_are_plain_numbers() -> None:
    frame = trace_receptive_field(conv(3), 32).layers
    assert frame["height"].dtype == np.int64


def test_axes_that_differ_are_asked_for_by_name() -> None:
    traced = trace_receptive_field(conv((3, 5)), (20, 30))
    assert traced.axes == ("height", "width")
    assert traced.receptive_field(axis="height").size == 3
    assert traced.receptive_fields(axis="width")["output"].size == 5
    message = "`axis` must be one of height, width where they differ: `output` sees 3x5 px at a"
    with pytest.raises(ValueError, match=message):
        traced.receptive_field()
