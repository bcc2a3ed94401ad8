from __future__ import annotations

import pytest

from rfsearch.field.expression import (
    Activation,
    Attention,
    BatchNorm,
    Chain,
    Concat,
    Convolution,
    Gate,
    LayerNorm,
    Pooling,
    Relu,
    Scale,
    Sum,
)
from rfsearch.field.node_fields import is_global, receptive_field
from rfsearch.field.receptive_field import stack, window
from rfsearch.network.block_parts import BlockShape, conv_norm, pooling
from rfsearch.network.blocks import (
    KINDS,
    attention,
    basic,
    bottleneck,
    convnext,
    inception,
    inception_channels,
    mbconv,
    plain,
)


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
    lowered = KINDS[block].lower(BlockShape(in_channels, 32, 3, stride, 1))
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
        ("inception", [window(5, dilation=3), window(5, 2, 3)]),
        ("mbconv", [window(5, 2, 3)]),
        ("convnext", [window(2, 2, padding=0), window(5, dilation=3)]),
        ("attention", [window(2, 2, padding=0)]),
    ],
)
def test_fields(block: str, windows: list[tuple[int, int, int]]) -> None:
    shape = BlockShape(16, 32, kernel_size=5, stride=2, dilation=3)
    assert receptive_field(KINDS[block].lower(shape)) == stack(windows)


@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pooling(kind: str) -> None:
    assert pooling(f"{kind}_pool", 3, 8) == Pooling(kind, 3, 3, padding=0)


def test_blur_pooling_is_timms() -> None:
    assert pooling("blur_pool", 2, 8) == Pooling("blur", 3, 2, padding=1, channels=8)
    assert pooling("blur_pool", 4, 8) == Pooling("blur", 3, 4, padding=2, channels=8)


def test_conv_norm() -> None:
    assert conv_norm(4, 8, 3, 2, 1) == (Convolution(3, 4, 8, 2, 1), BatchNorm(8))


def test_convnext() -> None:
    depthwise = Convolution(7, 8, 8, 1, 2, groups=8, bias=True)
    mlp = (
        Convolution(1, 8, 16, bias=True),
        Activation("gelu"),
        Convolution(1, 16, 8, bias=True),
    )
    block = Sum((Chain(()), Chain((depthwise, LayerNorm(8), *mlp, Scale(8)))))
    lowered = convnext(BlockShape(8, 8, 7, dilation=2, expansion=2))
    assert lowered == Chain((block,))
    wider = convnext(BlockShape(4, 8, 7, stride=2, dilation=2, expansion=2))
    step = Convolution(2, 4, 8, 2, bias=True, padding=0)
    assert wider == Chain((LayerNorm(4), step, block))


def test_mbconv() -> None:
    depthwise = (Convolution(5, 32, 32, 1, 2, groups=32), BatchNorm(32), Activation("silu"))
    branch = (
        *(Convolution(1, 8, 32), BatchNorm(32), Activation("silu")),
        *depthwise,
        Gate("se", 32, 8),
        *(Convolution(1, 32, 8), BatchNorm(8)),
    )
    lowered = mbconv(BlockShape(8, 8, 5, dilation=2, context="se"))
    assert lowered == Sum((Chain(()), Chain(branch)))


@pytest.mark.parametrize(("in_channels", "stride"), [(8, 2), (16, 1)])
def test_mbconv_has_no_shortcut_where_the_shape_changes(in_channels: int, stride: int) -> None:
    assert isinstance(mbconv(BlockShape(in_channels, 8, 3, stride)), Chain)


def test_attention_is_locally_its_shortcut() -> None:
    lowered = attention(BlockShape(8, 8, kernel_size=1))
    assert isinstance(lowered, Chain)
    attend, think = lowered.nodes
    assert isinstance(attend, Sum)
    assert isinstance(think, Sum)
    assert attend.branches[0] == think.branches[0] == Chain(())
    assert Attention(8) in attend.branches[1].nodes  # type: ignore[union-attr]
    assert receptive_field(lowered) == window(1)
    assert is_global(lowered)


def test_inception_joins_four_branches() -> None:
    lowered = inception(BlockShape(8, 16, kernel_size=5))
    assert isinstance(lowered, Concat)
    assert lowered.channels == inception_channels(16) == (4, 8, 2, 2)
    assert [receptive_field(branch).size for branch in lowered.branches] == [1, 5, 9, 3]


@pytest.mark.parametrize("block", ["basic", "bottleneck", "mbconv"])
@pytest.mark.parametrize("context", ["se", "gc"])
def test_context_is_global_and_locally_nothing(block: str, context: str) -> None:
    lower, shape = KINDS[block].lower, BlockShape(16, 16, 3)
    gated = lower(shape._replace(context=context))
    assert is_global(gated)
    assert not is_global(lower(shape))
    assert receptive_field(gated) == receptive_field(lower(shape))
