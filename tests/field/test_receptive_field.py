from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import fields
from timm.layers import get_padding

from rfsearch.field.receptive_field import IDENTITY, ReceptiveField, same_padding, stack, window

CONV3 = window(3)
POOL2 = window(2, stride=2, padding=0)

# Golden rows: "Computing Receptive Fields of Convolutional Neural Networks" (Araujo, Norris and
# Sim, Distill, 2019) and the table of github.com/google-research/receptive_field (2021). Every
# network is listed layer by layer. The published networks pad as TensorFlow's "SAME" does at
# even sizes, so the padding of their max-pooling is 0.

VGG16 = [layer for convs in (2, 2, 3, 3, 3) for layer in (*[CONV3] * convs, POOL2)]
ALEXNET_V2 = [
    window(11, stride=4, padding=0),
    window(3, stride=2, padding=0),
    window(5),
    window(3, stride=2, padding=0),
    CONV3,
    CONV3,
    CONV3,
    window(3, stride=2, padding=0),
]
MOBILENET_V1 = [window(3, stride) for stride in (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)]


def resnet_stem(pool_padding: int) -> list[ReceptiveField]:
    return [window(7, stride=2), window(3, stride=2, padding=pool_padding)]


def slim_bottlenecks(depth: int, stride: int) -> list[ReceptiveField]:
    """A stage of Slim's resnet_v1: the last unit's 3x3 has the stride."""
    units = []
    for unit in range(depth):
        units += [window(1), window(3, stride if unit == depth - 1 else 1), window(1)]
    return units


def original_bottlenecks(depth: int, stride: int) -> list[ReceptiveField]:
    """A stage of He et al., 2016: the first unit's first 1x1 has the stride."""
    units = []
    for unit in range(depth):
        units += [window(1, stride if unit == 0 else 1), CONV3, window(1)]
    return units


def v15_bottlenecks(depth: int, stride: int) -> list[ReceptiveField]:
    """A stage of torchvision's and timm's ResNet, "v1.5": the first unit's 3x3 has the stride."""
    units = []
    for unit in range(depth):
        units += [window(1), window(3, stride if unit == 0 else 1), window(1)]
    return units


def basic_units(depth: int, stride: int) -> list[ReceptiveField]:
    """A stage of resnet18 or resnet34: the first of two 3x3 has the stride."""
    return [window(3, stride), CONV3] + [CONV3, CONV3] * (depth - 1)


@pytest.mark.parametrize(
    ("kernel_size", "sizes"),
    [(3, [3, 5, 9, 17]), (5, [5, 9, 17, 33]), (7, [7, 13, 25, 49])],
)
def test_dilation_table(kernel_size: int, sizes: list[int]) -> None:
    fields = [window(kernel_size, dilation=dilation) for dilation in (1, 2, 4, 8)]
    assert [field.size for field in fields] == sizes
    assert [field.start for field in fields] == [-(size // 2) for size in sizes]
    assert [field.stride for field in fields] == [1, 1, 1, 1]


def test_vgg_walk() -> None:
    layers = [CONV3, CONV3, POOL2, CONV3, CONV3, POOL2, CONV3, CONV3]
    sizes = [stack(layers[:count]).size for count in range(len(layers) + 1)]
    assert sizes == [1, 3, 5, 6, 10, 14, 16, 24, 32]


def test_vgg16_pools() -> None:
    ends = [3, 6, 10, 14, 18]
    assert [stack(VGG16[:end]).size for end in ends] == [6, 16, 44, 100, 212]


@pytest.mark.parametrize(
    ("layers", "size", "stride", "padding"),
    [
        (VGG16, 212, 32, 90),
        (ALEXNET_V2, 195, 32, 64),
        (MOBILENET_V1[:12], 219, 16, None),
        (MOBILENET_V1, 315, 32, None),
    ],
    ids=["vgg_16", "alexnet_v2", "mobilenet_v1 conv11", "mobilenet_v1"],
)
def test_published_chains(
    layers: list[ReceptiveField], size: int, stride: int, padding: int | None
) -> None:
    field = stack(layers)
    assert (field.size, field.stride) == (size, stride)
    assert padding is None or field.start == -padding


@pytest.mark.parametrize(
    ("depths", "sizes", "padding"),
    [
        ((3, 4, 6, 3), [35, 99, 291, 483], 239),
        ((3, 4, 23, 3), [35, 99, 835, 1027], 511),
        ((3, 8, 36, 3), [35, 163, 1315, 1507], 751),
        ((3, 24, 36, 3), [35, 419, 1571, 1763], 879),
    ],
    ids=["resnet_v1_50", "resnet_v1_101", "resnet_v1_152", "resnet_v1_200"],
)
def test_slim_resnets(depths: tuple[int, ...], sizes: list[int], padding: int) -> None:
    field = stack(resnet_stem(pool_padding=0))
    found = []
    for depth, stride in zip(depths, (2, 2, 2, 1), strict=True):
        field = stack([field, *slim_bottlenecks(depth, stride)])
        found.append(field.size)
    assert found == sizes
    assert (field.start, field.stride) == (-padding, 32)


def test_resnet50_with_the_stride_on_the_first_1x1() -> None:
    field = stack(resnet_stem(pool_padding=1))
    sizes = []
    for depth, stride in zip((3, 4, 6, 3), (1, 2, 2, 2), strict=True):
        field = stack([field, *original_bottlenecks(depth, stride)])
        sizes.append(field.size)
    assert sizes == [35, 99, 291, 483]
    assert (field.start, field.stride) == (-241, 32)


def test_resnet50_with_the_stride_on_the_3x3() -> None:
    field = stack(resnet_stem(pool_padding=1))
    sizes = []
    for depth, stride in zip((3, 4, 6, 3), (1, 2, 2, 2), strict=True):
        field = stack([field, *v15_bottlenecks(depth, stride)])
        sizes.append(field.size)
    assert sizes == [35, 91, 267, 427]
    assert (field.start, field.stride) == (-213, 32)


@pytest.mark.parametrize(
    ("depths", "sizes"),
    [((2, 2, 2, 2), [43, 99, 211, 435]), ((3, 4, 6, 3), [59, 179, 547, 899])],
    ids=["resnet18", "resnet34"],
)
def test_basic_resnets(depths: tuple[int, ...], sizes: list[int]) -> None:
    field = stack(resnet_stem(pool_padding=1))
    found = []
    for depth, stride in zip(depths, (1, 2, 2, 2), strict=True):
        field = stack([field, *basic_units(depth, stride)])
        found.append(field.size)
    assert found == sizes


def test_shortcut_changes_no_field_of_a_residual_block() -> None:
    branch, shortcut = stack([window(3, 2), CONV3]), window(1, 2)
    assert branch.merge(shortcut) == branch


@given(st.integers(1, 15), st.integers(1, 5), st.integers(1, 5))
def test_padding_is_that_of_timm(kernel_size: int, stride: int, dilation: int) -> None:
    padding = get_padding(kernel_size, stride, dilation)
    assert same_padding(kernel_size, stride, dilation) == padding
    assert window(kernel_size, stride, dilation).start == -padding


def test_window_with_a_given_padding() -> None:
    assert window(4, stride=2, dilation=3, padding=5) == ReceptiveField(-5, 10, 2)


@pytest.mark.parametrize("name", ["kernel_size", "stride", "dilation"])
def test_window_refuses_zero(name: str) -> None:
    arguments = {"kernel_size": 3, "stride": 1, "dilation": 1} | {name: 0}
    with pytest.raises(ValueError, match=rf"`{name} >= 1` must hold, but got {name}=0"):
        window(**arguments)


def test_window_refuses_negative_padding() -> None:
    with pytest.raises(ValueError, match=r"`padding >= 0` must hold, but got padding=-1"):
        window(3, padding=-1)


def test_stack_of_nothing_is_the_identity() -> None:
    assert stack([]) == IDENTITY == window(1)


@pytest.mark.parametrize(
    ("field", "center"),
    [(window(3), 0.0), (window(2, padding=0), 0.5), (window(7, stride=2), 0.0), (POOL2, 0.5)],
)
def test_center(field: ReceptiveField, center: float) -> None:
    assert field.center == center
    assert field.center_of(0) == center
    assert field.center_of(3) == center + 3 * field.stride


def test_strided_stack_is_not_centred_on_pixel_zero() -> None:
    field = stack([POOL2, POOL2, CONV3])
    assert field == ReceptiveField(start=-4, size=12, stride=4)
    assert [field.center_of(unit) for unit in range(3)] == [1.5, 5.5, 9.5]


def test_merge_of_unequal_strides() -> None:
    with pytest.raises(ValueError, match="equal strides, but got 2 and 1"):
        POOL2.merge(CONV3)


def test_merge_spans_a_gap() -> None:
    left, right = ReceptiveField(-9, 3, 1), ReceptiveField(4, 2, 1)
    assert left.merge(right) == ReceptiveField(-9, 15, 1)


@given(fields(), fields(), fields())
def test_then_is_associative(a: ReceptiveField, b: ReceptiveField, c: ReceptiveField) -> None:
    assert a.then(b).then(c) == a.then(b.then(c))


@given(fields())
def test_then_has_an_identity(field: ReceptiveField) -> None:
    assert field.then(IDENTITY) == field == IDENTITY.then(field)


@given(fields(stride=2), fields(stride=2), fields(stride=2))
def test_merge_laws(a: ReceptiveField, b: ReceptiveField, c: ReceptiveField) -> None:
    assert a.merge(a) == a
    assert a.merge(b) == b.merge(a)
    assert a.merge(b).merge(c) == a.merge(b.merge(c))


@given(fields(), fields(stride=2), fields(stride=2))
def test_then_distributes_over_merge(
    a: ReceptiveField, b: ReceptiveField, c: ReceptiveField
) -> None:
    assert a.then(b.merge(c)) == a.then(b).merge(a.then(c))
    assert b.merge(c).then(a) == b.then(a).merge(c.then(a))


@given(fields(), fields())
def test_sizes_are_monotone(a: ReceptiveField, b: ReceptiveField) -> None:
    assert a.then(b).size >= a.size
    assert a.then(b).size == a.size + (b.size - 1) * a.stride
    assert a.then(b).stride == a.stride * b.stride


@given(fields(stride=3), fields(stride=3))
def test_merge_contains_both(a: ReceptiveField, b: ReceptiveField) -> None:
    merged = a.merge(b)
    for field in (a, b):
        assert merged.start <= field.start
        assert merged.start + merged.size >= field.start + field.size
    assert merged.start in (a.start, b.start)
    assert merged.start + merged.size in (a.start + a.size, b.start + b.size)
