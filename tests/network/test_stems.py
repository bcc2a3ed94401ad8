from __future__ import annotations

from typing import Any

import pytest

from rfsearch.field.cost import FeatureMap, cost
from rfsearch.field.expression import Convolution
from rfsearch.field.node_fields import receptive_field
from rfsearch.field.receptive_field import stack, window
from rfsearch.network.stems import Stem


def stem(**fields: Any) -> Stem:
    return Stem.model_validate({"kernel_size": 3, "stride": 2, "width": 64} | fields)


@pytest.mark.parametrize(
    ("kind", "widths"),
    [
        ("conv", (64,)),
        # timm: `resnet50d`, `resnet50t`'s three convolutions and the NFNets' four.
        ("deep", (32, 32, 64)),
        ("tiered", (24, 32, 64)),
        ("quad", (8, 16, 32, 64)),
    ],
)
def test_convolutions(kind: str, widths: tuple[int, ...]) -> None:
    nodes = stem(kind=kind).lower(3).nodes
    convolutions = [node for node in nodes if isinstance(node, Convolution)]
    assert tuple(node.out_channels for node in convolutions) == widths
    assert [node.stride for node in convolutions] == [2] + [1] * (len(widths) - 1)
    field = stack([window(3, 2), *[window(3)] * (len(widths) - 1)])
    assert receptive_field(stem(kind=kind).lower(3)) == field


def test_patches() -> None:
    patches = stem(kind="patch", kernel_size=4, stride=4)
    assert receptive_field(patches.lower(3)) == window(4, 4, padding=0)
    assert patches.reduction == 4


@pytest.mark.parametrize(
    ("pool", "windows"),
    [
        ("none", []),
        ("max", [window(3, 2)]),
        ("avg", [window(3, 2)]),
        ("conv", [window(3, 2)]),
        ("blur", [window(3), window(3, 2)]),
    ],
)
def test_poolings(pool: str, windows: list[Any]) -> None:
    lowered = stem(pool=pool).lower(3)
    assert receptive_field(lowered) == stack([window(3, 2), *windows])
    assert receptive_field(lowered).stride == stem(pool=pool).reduction


def test_parameters_of_timms_resnet50d() -> None:
    lowered = stem(kind="deep", pool="max").lower(3)
    # conv1, bn1 of `timm.create_model("resnet50d")`.
    assert cost(lowered, FeatureMap(64, 64)).parameters == 28512 + 256
