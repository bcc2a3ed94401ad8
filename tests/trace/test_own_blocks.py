"""Blocks of the user's own: what an architecture says of them against its built network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from own_blocks import NAMES
from torch import Tensor, nn

from rfsearch.network.architecture import Architecture
from rfsearch.network.model import build_model
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
