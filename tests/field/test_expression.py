from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
from helpers import resnet
from hypothesis import given
from strategies import architectures

from rfsearch.field.expression import (
    Activation,
    BatchNorm,
    Chain,
    Concat,
    Convolution,
    ImageLevel,
    LayerNorm,
    Node,
    Pooling,
    Relu,
    Resize,
    Scale,
    Sum,
)
from rfsearch.field.node_fields import receptive_field, unit_grid
from rfsearch.field.receptive_field import IDENTITY, ReceptiveField, stack, window
from rfsearch.field.unit_grid import Interval
from rfsearch.network.architecture import Architecture
from rfsearch.network.model import build_model
from rfsearch.trace.trace import trace_receptive_field


@pytest.mark.parametrize(
    ("node", "field"),
    [
        (Convolution(3, 4, 8), window(3)),
        (Convolution(5, 4, 8, stride=2, dilation=3), window(5, 2, 3)),
        (Pooling("max", 3, 2, padding=1), ReceptiveField(-1, 3, 2)),
        (Pooling("avg", 2, 2), ReceptiveField(0, 2, 2)),
        (BatchNorm(8), IDENTITY),
        (Relu(), IDENTITY),
        (LayerNorm(8), IDENTITY),
        (Scale(8), IDENTITY),
        (Activation("gelu"), IDENTITY),
        (Concat((Convolution(7, 4, 4), ImageLevel(Chain(()))), (4, 4)), window(7)),
        (Chain(()), IDENTITY),
        (Sum((Chain(()), Convolution(3, 4, 4))), window(3)),
        (Sum((Convolution(7, 4, 4), Convolution(3, 4, 4), Convolution(5, 4, 4))), window(7)),
    ],
)
def test_field_of_each_node(node: Node, field: ReceptiveField) -> None:
    assert receptive_field(node) == field


def test_chain_of_chains() -> None:
    inner = Chain((Convolution(3, 4, 4, stride=2), Relu()))
    outer = Chain((inner, BatchNorm(4), inner, Convolution(3, 4, 4)))
    assert receptive_field(outer) == stack([window(3, 2), window(3, 2), window(3)])


def test_sum_of_unequal_strides() -> None:
    with pytest.raises(ValueError, match="equal strides, but got 1 and 2"):
        receptive_field(Sum((Chain(()), Convolution(3, 4, 4, stride=2))))


def test_nodes_are_frozen_values() -> None:
    node = Convolution(3, 4, 8)
    assert node == Convolution(3, 4, 8)
    assert hash(node) == hash(Convolution(3, 4, 8))
    with pytest.raises(FrozenInstanceError, match="kernel_size"):
        node.kernel_size = 5  # type: ignore[misc]  # the mistake that is tested


@given(architectures())
def test_nesting_changes_no_field(arch: Architecture) -> None:
    assert receptive_field(Chain(tuple(_flatten(arch.lower())))) == arch.receptive_field()


def _flatten(node: Node) -> list[Node]:
    if not isinstance(node, Chain):
        return [node]
    return [leaf for child in node.nodes for leaf in _flatten(child)]


# -- paths -----------------------------------------------------------------------------------


@given(architectures())
def test_smallest_field_is_the_traced_one(arch: Architecture) -> None:
    model = build_model(arch, num_classes=0)
    traced = trace_receptive_field(model, 256, forward=lambda net, x: net.forward_features(x))
    smallest = unit_grid(arch.lower()).smallest
    assert traced.output.smallest == (smallest, smallest)


def test_shortcuts_carry_the_stem_to_the_end() -> None:
    # 7x7 and the pooling: 11 px, whatever the depth.
    assert unit_grid(resnet("bottleneck", (3, 4, 6, 3)).lower()).smallest == 11
    assert unit_grid(resnet("basic", (1,)).lower()).smallest == 11


def test_narrower_branch_counts() -> None:
    branches = Sum((Convolution(5, 1, 1), Convolution(3, 1, 1)))
    after = Chain((branches, Convolution(3, 1, 1)))
    assert unit_grid(after).smallest == window(3).then(window(3)).size


# -- upsampling ------------------------------------------------------------------------------

HALVED = Convolution(3, 1, 1, stride=2)


@pytest.mark.parametrize("kind", ["nearest", "bilinear"])
def test_units_behind_an_upsampling_see_different_pixels(kind: str) -> None:
    grid = unit_grid(Chain((HALVED, Resize(kind, 2))))
    if kind == "nearest":
        assert grid.widest == (Interval(-1, 2), Interval(-1, 2))
    else:
        assert grid.widest == (Interval(-3, 2), Interval(-1, 4))
    assert grid.step == 2


def test_field_behind_an_upsampling_is_the_largest() -> None:
    node = Chain((HALVED, HALVED, Resize("nearest", 2), Convolution(3, 1, 1)))
    sizes = {interval.size for interval in unit_grid(node).widest}
    assert receptive_field(node).size == max(sizes)
    assert receptive_field(node).stride == 2


def test_a_skip_meets_what_is_upsampled() -> None:
    skip = Sum((Chain(()), Chain((HALVED, Resize("nearest", 2)))))
    assert receptive_field(skip) == ReceptiveField(-1, 3, 1) == receptive_field(skip)
    with pytest.raises(ValueError, match="equal strides"):
        receptive_field(Sum((HALVED, Chain((HALVED, Resize("nearest", 2))))))
