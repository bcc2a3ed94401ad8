from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from strategies import architectures

from rfsearch.architecture import Architecture
from rfsearch.expression import (
    BatchNorm,
    Chain,
    Convolution,
    Node,
    Pooling,
    Relu,
    Sum,
    receptive_field,
)
from rfsearch.receptive_field import IDENTITY, ReceptiveField, stack, window


@pytest.mark.parametrize(
    ("node", "field"),
    [
        (Convolution(3, 4, 8), window(3)),
        (Convolution(5, 4, 8, stride=2, dilation=3), window(5, 2, 3)),
        (Pooling("max", 3, 2, padding=1), ReceptiveField(-1, 3, 2)),
        (Pooling("avg", 2, 2), ReceptiveField(0, 2, 2)),
        (BatchNorm(8), IDENTITY),
        (Relu(), IDENTITY),
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
