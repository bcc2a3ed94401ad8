from __future__ import annotations

import pytest
import torch
from helpers import architecture, stage_dict
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from rfsearch.field.cost import Cost, FeatureMap, cost
from rfsearch.field.expression import BatchNorm, Chain, Convolution, Node, Pooling, Relu, Sum
from rfsearch.field.receptive_field import same_padding

SIZE = FeatureMap(9, 15)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        # 27 x 8 weights; each is multiplied and added at 9 x 15 positions.
        (Convolution(3, 3, 8), Cost(216, 2 * 216 * 9 * 15, FeatureMap(9, 15))),
        (Convolution(3, 3, 8, stride=2), Cost(216, 2 * 216 * 5 * 8, FeatureMap(5, 8))),
        (Convolution(3, 3, 8, dilation=4), Cost(216, 2 * 216 * 9 * 15, FeatureMap(9, 15))),
        (Convolution(1, 3, 8, stride=3), Cost(24, 2 * 24 * 4 * 6, FeatureMap(4, 6))),
        (BatchNorm(8), Cost(16, 0, SIZE)),
        (Relu(), Cost(0, 0, SIZE)),
        (Pooling("max", 2, 2), Cost(0, 0, FeatureMap(4, 7))),
        (Pooling("max", 3, 2, padding=1), Cost(0, 0, FeatureMap(5, 8))),
        (Chain(()), Cost(0, 0, SIZE)),
    ],
)
def test_cost_by_hand(node: Node, expected: Cost) -> None:
    assert cost(node, SIZE) == expected


def test_chain_feeds_sizes_forward() -> None:
    chain = Chain((Convolution(3, 3, 8, stride=2), BatchNorm(8), Convolution(1, 8, 4)))
    assert cost(chain, SIZE) == Cost(216 + 16 + 32, 2 * (216 + 32) * 40, FeatureMap(5, 8))


def test_sum_adds_branches() -> None:
    branches = Sum((Convolution(3, 3, 8, stride=2), Convolution(1, 3, 8, stride=2)))
    assert cost(branches, SIZE) == Cost(216 + 24, 2 * (216 + 24) * 40, FeatureMap(5, 8))


def test_classifier_is_counted() -> None:
    arch = architecture(stage_dict(width=16))
    body, whole = arch.cost(SIZE), arch.cost(SIZE, num_classes=10)
    assert whole.parameters - body.parameters == 16 * 10 + 10
    assert whole.flops - body.flops == 2 * 16 * 10
    assert whole.output == body.output == SIZE


def test_a_side_stands_for_a_square() -> None:
    network = architecture(stage_dict())
    assert network.cost(32) == network.cost((32, 32))
    assert network.training_memory(32, 4) == network.training_memory((32, 32), 4)


def test_channels_of_the_image_are_counted() -> None:
    arch = architecture(kernel_size=5, width=8)
    difference = arch.cost(SIZE, in_chans=3).parameters - arch.cost(SIZE, in_chans=1).parameters
    assert difference == 2 * 25 * 8


@pytest.mark.parametrize(
    ("node", "span"),
    [(Pooling("max", 10, 10), 10), (Pooling("avg", 16, 1), 16)],
)
def test_window_that_does_not_fit(node: Node, span: int) -> None:
    match = rf"spans {span} px must fit into its padded input, but got an input of 9x15 px\."
    with pytest.raises(ValueError, match=match):
        cost(node, SIZE)


def test_image_that_is_too_small() -> None:
    stage = stage_dict(stride=4, downsample="max_pool")
    with pytest.raises(ValueError, match=r"spans 4 px .* got an input of 3x20 px\.$"):
        architecture(stage).cost((3, 20))


@given(
    st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.integers(1, 30), st.integers(1, 30)
)
def test_output_size_is_torchs(
    kernel_size: int, stride: int, dilation: int, height: int, width: int
) -> None:
    node = Convolution(kernel_size, 1, 1, stride, dilation)
    image = torch.zeros(1, 1, height, width, device="meta")
    weight = torch.zeros(1, 1, kernel_size, kernel_size, device="meta")
    padding = same_padding(kernel_size, stride, dilation)
    try:
        output = F.conv2d(image, weight, None, stride, padding, dilation)
    except RuntimeError:
        with pytest.raises(ValueError, match="must fit into its padded input"):
            cost(node, FeatureMap(height, width))
    else:
        assert cost(node, FeatureMap(height, width)).output == output.shape[2:]
