from __future__ import annotations

import pytest

from rfsearch.blocks import (
    LOWERINGS,
    STEM_POOL,
    BlockShape,
    basic,
    bottleneck,
    conv_norm,
    plain,
    pooling,
)
from rfsearch.expression import (
    BatchNorm,
    Chain,
    Convolution,
    Pooling,
    Relu,
    Sum,
    receptive_field,
)
from rfsearch.receptive_field import stack, window


def test_plain() -> None:
    lowered = plain(BlockShape(4, 8, kernel_size=5, stride=2, dilation=3))
    assert lowered == Chain((Convolution(5, 4, 8, 2, 3), BatchNorm(8), Relu()))


def test_basic_with_identity() -> None:
    conv = Convolution(3, 8, 8, 1, 2)
    branch = Chain((conv, BatchNorm(8), Relu(), conv, BatchNorm(8)))
    lowered = basic(BlockShape(8, 8, kernel_size=3, stride=1, dilation=2))
    assert lowered == Chain((Sum((Chain(()), branch)), Relu()))


def test_basic_with_projection() -> None:
    first, second = Convolution(3, 4, 8, 2), Convolution(3, 8, 8)
    branch = Chain((first, BatchNorm(8), Relu(), second, BatchNorm(8)))
    shortcut = Chain((Convolution(1, 4, 8, 2), BatchNorm(8)))
    lowered = basic(BlockShape(4, 8, kernel_size=3, stride=2, dilation=1))
    assert lowered == Chain((Sum((shortcut, branch)), Relu()))


def test_bottleneck_has_its_stride_in_the_middle() -> None:
    reduce = (Convolution(1, 16, 8), BatchNorm(8), Relu())
    middle = (Convolution(5, 8, 8, 2, 3), BatchNorm(8), Relu())
    expand = (Convolution(1, 8, 32), BatchNorm(32))
    shortcut = Chain((Convolution(1, 16, 32, 2), BatchNorm(32)))
    lowered = bottleneck(BlockShape(16, 32, kernel_size=5, stride=2, dilation=3))
    assert lowered == Chain((Sum((shortcut, Chain((*reduce, *middle, *expand)))), Relu()))


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize(
    ("in_channels", "stride", "projects"),
    [(32, 1, False), (32, 2, True), (16, 1, True), (16, 2, True)],
)
def test_projection_where_the_shape_changes(
    block: str, in_channels: int, stride: int, projects: bool
) -> None:
    lowered = LOWERINGS[block](BlockShape(in_channels, 32, 3, stride, 1))
    assert isinstance(lowered, Chain)
    total = lowered.nodes[0]
    assert isinstance(total, Sum)
    projection = Chain((Convolution(1, in_channels, 32, stride), BatchNorm(32)))
    assert total.branches[0] == (projection if projects else Chain(()))


@pytest.mark.parametrize(
    ("block", "windows"),
    [
        ("plain", [window(5, 2, 3)]),
        ("basic", [window(5, 2, 3), window(5, dilation=3)]),
        ("bottleneck", [window(1), window(5, 2, 3), window(1)]),
    ],
)
def test_fields(block: str, windows: list[tuple[int, int, int]]) -> None:
    shape = BlockShape(16, 32, kernel_size=5, stride=2, dilation=3)
    assert receptive_field(LOWERINGS[block](shape)) == stack(windows)


@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pooling(kind: str) -> None:
    assert pooling(f"{kind}_pool", 3) == Pooling(kind, 3, 3, padding=0)


def test_stem_pool_is_that_of_resnet() -> None:
    assert Pooling("max", kernel_size=3, stride=2, padding=1) == STEM_POOL


def test_conv_norm() -> None:
    assert conv_norm(4, 8, 3, 2, 1) == (Convolution(3, 4, 8, 2, 1), BatchNorm(8))
