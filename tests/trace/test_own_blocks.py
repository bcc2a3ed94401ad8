"""Blocks of the user's own: what an architecture says of them against its built network."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import architecture, stage_dict
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from own_blocks import NAMES
from torch import Tensor, nn

from rfsearch.basics.axes import ByAxis
from rfsearch.network.architecture import Architecture
from rfsearch.network.model import build_model
from rfsearch.trace.own_blocks import register_block
from rfsearch.trace.probe import ProbedField, probe_receptive_field
from rfsearch.trace.trace import trace_receptive_field

OTHERS = ("mbconv", "basic", "convnext", "attention", "plain")


@st.composite
def stages(draw: st.DrawFn) -> dict[str, Any]:
    block = draw(st.sampled_from((*NAMES, *OTHERS)))
    stride = draw(st.integers(1, 2))
    stage: dict[str, Any] = {"block": block, "width": draw(st.sampled_from([8, 16]))}
    stage["stride"] = stride
    if stride > 1:
        stage["downsample"] = draw(st.sampled_from(["conv", "max_pool"]))
    if block == "ghost":
        stage["options"] = {"se": draw(st.booleans()), "expansion": draw(st.sampled_from([2, 3]))}
    sizes = [1] if block == "attention" else [3, 5]
    dilations = [1] if block in ("attention", "ghost") else [1, 2]
    blocks = st.fixed_dictionaries(
        {"kernel_size": st.sampled_from(sizes), "dilation": st.sampled_from(dilations)}
    )
    return stage | {"blocks": draw(st.lists(blocks, min_size=1, max_size=2))}


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    own = st.sampled_from(NAMES)
    drawn = draw(st.lists(stages(), min_size=1, max_size=3))
    if not any(stage["block"] in NAMES for stage in drawn):
        drawn[0] = {"block": draw(own.filter(lambda name: name != "ghost")), "width": 8}
        drawn[0] |= {"stride": 2, "blocks": [{"kernel_size": 3}]}
    necks = [None, {"kind": "unet", "widths": [8]}, {"kind": "merge", "width": 8}]
    neck = draw(st.sampled_from(necks)) if len(drawn) > 1 else None
    stem = {"kernel_size": 3, "stride": 2, "width": 8}
    return Architecture.from_dict({"stem": stem, "stages": drawn, "neck": neck})


def features(module: nn.Module, x: Tensor) -> Any:
    return module.forward_features(x)  # type: ignore[operator]


@given(architectures())
@settings(max_examples=10, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
def test_closed_form_is_the_trace_of_the_built_network(arch: Architecture) -> None:
    with torch.device("meta"):
        model = build_model(arch, num_classes=0)
    side = 16 * max(arch.input_multiple, 4)
    traced = trace_receptive_field(model, side, forward=features)
    found, expected = traced.expected_erf(), arch.expected_erf()
    assert found.sigma == pytest.approx(expected.sigma, rel=1e-6)
    assert found.size == expected.size
    assert traced.receptive_field() == arch.receptive_field()
    if arch.input_multiple == 1:
        assert traced.coverage() == arch.coverage()
    assert bool(arch.global_layers) == bool(traced.global_layers)
    costs = arch.cost(side)
    assert (costs.parameters, costs.flops) == (traced.cost().parameters, traced.cost().flops)
    if not any(stage.block == "attention" for stage in arch.stages):  # Kernels of its own.
        assert arch.training_memory(side, 8) == pytest.approx(traced.training_memory(8), rel=0.03)
    assert Architecture.from_dict(arch.to_dict()) == arch


@pytest.mark.parametrize("name", NAMES)
def test_the_field_is_what_turns_nan(name: str) -> None:
    options = {"options": {"se": False, "expansion": 2}} if name == "ghost" else {}
    size = (3,) if name == "ghost" else (3, 5)
    arch = architecture(stage_dict(name, stride=2, kernels=size, **options))
    torch.manual_seed(0)
    model = build_model(arch, 1, num_classes=0).eval()
    field = arch.receptive_field()
    probed = probe_receptive_field(model, 1, lambda module, x: module.forward_features(x))
    assert probed == ProbedField(ByAxis(field, field))


def test_gaps_of_dilated_blocks_are_seen() -> None:
    arch = architecture(stage_dict("preactivated", kernels=(3,), dilation=4))
    seen = arch.coverage()
    assert (seen.size, seen.pixels[:4]) == (19, (-9, -8, -7, -5))
    assert seen.missing == 4


def test_weights_of_own_blocks_are_left_as_they_begin() -> None:
    arch = architecture(stage_dict("filled"), stage_dict("plain"))
    model = build_model(arch, num_classes=0)
    own, plain = model.stages[0][0], model.stages[1][0].conv  # type: ignore[index]
    assert bool((own.weight == 1).all())
    assert not bool((plain.weight == 1).all())


def test_tracing_takes_no_random_numbers_of_others() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    architecture(stage_dict("filled", width=24)).receptive_field()
    assert torch.equal(torch.rand(3), expected)


def test_parts_that_see_the_whole_map_are_named() -> None:
    stages = [stage_dict("ghost", options={"se": se, "expansion": 2}) for se in (True, False)]
    assert architecture(*stages, stage_dict("gated")).global_layers == (
        "stage 1 ghost (se)",
        "stage 3 gated",
    )


class Apply(nn.Module):
    """A convolution and a function."""

    def __init__(self, function: Callable[[Tensor], Any], width: int) -> None:
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Any:
        return self.function(self.conv(x))


def of(function: Callable[[Tensor], Any]) -> Callable[..., nn.Module]:
    return lambda in_channels, out_channels, stride, kernel_size, dilation: Apply(
        function, in_channels
    )


def filled(
    in_channels: int, out_channels: int, stride: int, kernel_size: int, dilation: int
) -> nn.Module:
    module = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2)
    nn.init.ones_(module.weight)
    return module


register_block("filled", filled)
register_block("gated", of(lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True))))


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (of(lambda x: x[..., ::2, ::2]), ": its output must have a stride of 1, but got 2x2."),
        (of(lambda x: x[:, :6]), ": its output must have 8 channels, but got 6."),
        (of(lambda x: (x, x)), ": its output must be one map, but got `0` (1, 8, 64, 64), `1` "),
        (of(lambda x: x.mean((2, 3))), ": its output must be one map, but got `output` (1, 8)."),
        (
            of(lambda x: x.mean((2, 3), keepdim=True).expand(-1, -1, *x.shape[2:])),
            ": its output must have positions, but it is made of what was pooled.",
        ),
        (
            of(lambda x: F.interpolate(F.avg_pool2d(x, 2), scale_factor=2)),
            ": its units must all see alike, but their fields repeat after 2x2 units, as behind ",
        ),
        (
            of(lambda x: F.avg_pool2d(x, (1, 3), 1, (0, 1))),
            ": its units must see squares, but see 3x5 px, in variances of 0.666667 and 1.33333",
        ),
        (
            of(lambda x: x if x.shape[2] > 50 else F.avg_pool2d(x, 3, 1, 1)),
            ": what its units see must not depend on the size of the map.",
        ),
        (
            of(torch.linalg.inv),
            ": The operation is not known (operation `linalg_inv_ex`, the model itself).",
        ),
        (
            of(lambda x: x.sort(1).values),
            ": The expected squared gradient cannot be carried back through the operation `sort` "
            "(the model itself).",
        ),
        (of(torch.zeros_like), ": The model's output must depend on its input, but no tensor of "),
        (of(lambda x: x @ x[:, :5]), ": Apply must run at an input of 64x64 px and 8 channels, "),
        (
            lambda **shape: nn.Conv1d(8, 8, 3),
            ": `input_size` must have one side (time) for Conv1d, but got ",
        ),
        (lambda **shape: 1 / 0, " cannot be built: ZeroDivisionError: division by zero."),
        (lambda **shape: "conv", " must be a module, but got 'conv'."),
    ],
)
def test_a_block_that_is_none_is_one_line(build: Callable[..., Any], reason: str) -> None:
    name = f"bad_{id(build)}"
    register_block(name, build)
    arch = architecture(stage_dict(name))
    with pytest.raises(ValueError, match=r"^block 'bad_") as caught:
        arch.receptive_field()
    place = f"block '{name}' (in_channels=8, out_channels=8, stride=1, kernel_size=3, dilation=1)"
    assert str(caught.value).startswith(place + reason)
    assert "\n" not in str(caught.value)


def takes_all(
    in_channels: int, out_channels: int, stride: int, kernel_size: int, dilation: int, x: int = 0
) -> nn.Module:
    return nn.Identity()


@pytest.mark.parametrize(
    ("name", "build", "options", "message"),
    [
        ("a-b", takes_all, {}, "The name of a block must be an identifier, but got 'a-b'."),
        (3, takes_all, {}, "The name of a block must be an identifier, but got 3."),
        ("basic", takes_all, {}, "must be new, but 'basic' is that of a built-in block."),
        (
            "ghost",
            takes_all,
            {},
            "but 'ghost' is that of a block that was registered before.",
        ),
        ("new", 3, {}, "`build` of block 'new' must be a function, but got 3."),
        ("new", lambda x: x, {}, "must take in_channels, out_channels, stride, kernel_size, dila"),
        ("new", takes_all, {"y": 1}, "dilation, y: got an unexpected keyword argument 'y'."),
        ("new", takes_all, {"stride": 1}, "must have an identifier as its name that is none of "),
        ("new", takes_all, {"x": []}, "Option 'x' of block 'new' must offer a value, but got []."),
        ("new", takes_all, {"x": [1, 1]}, "must offer different values, but got 1 twice."),
        ("new", takes_all, {"x": [{}]}, "must offer texts, numbers or booleans, but got {}."),
        ("new", takes_all, {"x": math.inf}, "must offer texts, numbers or booleans, but got inf."),
        ("new", takes_all, ["x"], "`options` of block 'new' must be a dictionary, but got ['x']."),
    ],
)
def test_what_cannot_be_registered(name: Any, build: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        register_block(name, build, options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "`options` of ghost blocks must have 'expansion', but it is missing."),
        ({"se": True}, "`options` of ghost blocks must have 'expansion', but it is missing."),
        (
            {"se": True, "expansion": 9},
            "option 'expansion' of ghost blocks must be one of 2, 3, but got 9.",
        ),
        (
            {"se": 1, "expansion": 2},
            "option 'se' of ghost blocks must be one of False, True, but got 1.",
        ),
        (
            {"se": True, "expansion": 2, "x": 1},
            "`options` of ghost blocks must be expansion, se, but got 'x'.",
        ),
        (3, "options: Input should be a valid tuple, but got 3."),
    ],
)
def test_options_that_are_not_offered(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Architecture.from_dict(
            {
                "stem": {"kernel_size": 3, "stride": 1, "width": 8},
                "stages": [stage_dict("ghost", options=options)],
            }
        )


def test_built_in_blocks_have_no_options() -> None:
    with pytest.raises(ValueError, match="`options` of basic blocks must be none, but got 'x'"):
        Architecture.from_dict(
            {
                "stem": {"kernel_size": 3, "stride": 1, "width": 8},
                "stages": [stage_dict("basic", options={"x": 1})],
            }
        )


@pytest.mark.parametrize(
    ("axes", "kernel_size", "message"),
    [
        (
            2,
            [1, 3],
            "must be one number each for .* blocks, which are not built in, but got 1x3",
        ),
        (1, 3, "`block` must be one of plain, .* where the input has one axis, but got"),
    ],
)
def test_axes_that_own_blocks_do_not_take(axes: int, kernel_size: Any, message: str) -> None:
    stage = {"block": NAMES[1], "width": 8, "stride": 1, "blocks": [{"kernel_size": kernel_size}]}
    values = {"num_axes": axes, "stem": {"kernel_size": 3, "stride": 1, "width": 8}}
    with pytest.raises(ValueError, match=message) as error:
        Architecture.from_dict({**values, "stages": [stage]})
    assert "\n" not in str(error.value)
