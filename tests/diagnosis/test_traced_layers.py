from __future__ import annotations

from fractions import Fraction

import pytest
import timm
from hypothesis import given
from strategies import architectures
from torch import nn
from torch.nn import functional as F

from rfsearch.diagnosis._traced_layers import output_reach, traced_layers, traced_outputs
from rfsearch.diagnosis.layer_field import Extent, Reach, architecture_layers
from rfsearch.network.architecture import Architecture
from rfsearch.network.model import build_model
from rfsearch.trace.trace import trace_receptive_field


def module_names(arch: Architecture) -> list[str]:
    """Where the built network has the layers of `architecture_layers`."""
    convolutions = 2 if arch.stem.kind == "patch" else len(arch.stem.widths)
    names = [f"stem.{convolutions - 1}"]
    if arch.stem.pool != "none":
        names.append("stem")  # The pooling may be of two parts, and ends the stem.
    for number, stage in enumerate(arch.stages):
        children = stage.depth + (stage.downsample != "conv")
        names += [f"stages.{number}.{place}" for place in range(children)]
    return names


@given(architectures())
def test_an_architecture_and_its_network_have_the_same_table(arch: Architecture) -> None:
    model = build_model(arch, num_classes=2)
    traced = {one.name: one for one in traced_layers(trace_receptive_field(model, 256), model)}
    for name, one in zip(module_names(arch), architecture_layers(arch), strict=True):
        assert traced[name].reach == one.reach, name


def test_what_a_window_sees_before_it() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, (3, 5), (2, 1), dilation=(1, 2)),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(4, 4, 1),
    )
    first, relu, pool, last, whole = traced_layers(trace_receptive_field(model, 64), model)
    assert first.before == Reach(Extent(1, 1), Extent(1, 1), Extent(1, 1))
    assert first.reach == Reach(Extent(3, 9), Extent(3, 9), Extent(2, 1))
    assert pool.before == first.reach
    assert last.before == last.reach == pool.reach
    assert (first.grows, first.downsamples) == (True, True)
    assert (last.grows, last.downsamples) == (False, False)
    assert relu.before is whole.before is None
    assert whole.name == "(model)"


def test_along_the_narrowest_path_too() -> None:
    model = timm.create_model("resnet18").eval()
    layers = {one.name: one for one in traced_layers(trace_receptive_field(model, 224), model)}
    inner = layers["layer4.1.conv1"]
    assert inner.before == layers["layer4.0"].reach


def test_without_the_module_nothing_is_known_of_before() -> None:
    layers = traced_layers(trace_receptive_field("resnet18", 224))
    assert all(one.before is None for one in layers)


def test_all_outputs_of_several() -> None:
    model = timm.create_model("resnet18", features_only=True)
    outputs = traced_outputs(trace_receptive_field(model, 224))
    assert [one.reach.size.width for one in outputs] == [7, 43, 99, 211, 435]
    assert [one.reach.stride.width for one in outputs] == [2, 4, 8, 16, 32]


@pytest.mark.parametrize("factor", [2, 3])
def test_outputs_finer_than_the_input(factor: int) -> None:
    class Finer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):  # type: ignore[no-untyped-def]
            return F.interpolate(self.conv(x), scale_factor=factor)

    reach = output_reach(trace_receptive_field(Finer(), 32).output)
    step = Fraction(1, factor)
    assert reach == Reach(Extent(3, 3), Extent(3, 3), Extent(step, step))
