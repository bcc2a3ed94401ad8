from __future__ import annotations

import pytest
import torch
from helpers import architecture, stage_dict
from hypothesis import given
from strategies import architectures, local_architectures

from rfsearch.field.coverage import PIXEL, Coverage, coverage
from rfsearch.field.expression import Chain, Convolution, Pooling, Sum
from rfsearch.field.node_fields import receptive_field
from rfsearch.network.architecture import Architecture
from rfsearch.network.model import build_model

#: The networks run on images of twice their field, for each phase of their stride.
MAX_FIELD, MAX_STRIDE = 90, 12


def touched_by_nan(arch: Architecture) -> set[int]:
    """Pixels that unit 0 touches: a column of NaN turns the units NaN that touch it.

    All units do the same, so that a column for each phase of the stride tells all distances.
    """
    torch.manual_seed(0)
    model = build_model(arch, in_chans=1, num_classes=0).eval()
    field = arch.receptive_field()
    stride = field.stride
    length, strip = stride * (2 * field.size // stride + 6), 2 * stride
    columns = torch.arange(stride) + length // 2
    images = torch.zeros(stride, 1, strip, length)
    images[range(stride), ..., columns] = torch.nan
    with torch.inference_mode(), torch.backends.mkldnn.flags(enabled=False):
        reached = model.forward_features(images).isnan().any(1).any(1)
    phases, units = reached.nonzero(as_tuple=True)
    return set((columns[phases] - units * stride).tolist())


@given(local_architectures(max_field=MAX_FIELD, max_stride=MAX_STRIDE))
def test_touched_pixels_agree_with_nan_in_the_built_network(arch: Architecture) -> None:
    assert set(coverage(arch.lower()).pixels) == touched_by_nan(arch)


def test_the_oracle_sees_gaps() -> None:
    arch = architecture(stage_dict(kernels=(3, 3), dilation=4), kernel_size=1)
    assert touched_by_nan(arch) == {-8, -4, 0, 4, 8} == set(coverage(arch.lower()).pixels)


@given(architectures())
def test_the_hull_is_the_theoretical_receptive_field(arch: Architecture) -> None:
    seen, field = coverage(arch.lower()), arch.receptive_field()
    assert (seen.start, seen.size, seen.stride) == field
    assert 0 <= seen.missing < seen.size
    assert len(seen.pixels) == seen.size - seen.missing
    assert (seen.pixels[0], seen.pixels[-1]) == (field.start, field.start + field.size - 1)


@given(architectures())
def test_a_chain_can_be_read_in_parts(arch: Architecture) -> None:
    seen = PIXEL
    for node in arch.lower().nodes:
        seen = coverage(node, seen)
    assert seen == coverage(arch.lower())


def convolution(kernel_size: int, stride: int = 1, dilation: int = 1) -> Convolution:
    return Convolution(kernel_size, 1, 1, stride, dilation)


def test_equal_dilations_leave_gaps_and_coprime_ones_do_not() -> None:
    # Wang et al., 2018: 2, 2, 2 leaves a checkerboard; 1, 2, 5 covers a square of 17 px.
    gridded = coverage(Chain((convolution(3, dilation=2),) * 3))
    assert gridded.pixels == tuple(range(-6, 7, 2))
    hybrid = coverage(Chain(tuple(convolution(3, dilation=d) for d in (1, 2, 5))))
    assert (hybrid.size, hybrid.missing) == (17, 0)


def test_a_stride_above_the_kernel_leaves_gaps() -> None:
    assert coverage(Chain((convolution(1, stride=3), convolution(3)))).missing == 4


def test_pooling_fills_gaps() -> None:
    nodes = (convolution(3, dilation=3), Pooling("max", 3, 1, padding=1))
    assert coverage(Chain(nodes)).missing == 0


def test_a_branch_fills_the_gaps_of_another() -> None:
    both = coverage(Sum((convolution(3, dilation=2), convolution(3))))
    assert both.pixels == (-2, -1, 0, 1, 2)


def test_branches_that_do_not_overlap_leave_a_gap_that_the_hull_hides() -> None:
    shifted = Pooling("max", 1, 1, padding=5)
    both = Sum((convolution(1), shifted))
    assert coverage(both).pixels == (-5, 0)
    assert receptive_field(both).size == 6


def test_branches_of_different_strides_cannot_meet() -> None:
    with pytest.raises(ValueError, match="must have equal strides, but got 2 and 1"):
        Coverage(0, 1, 2).united(PIXEL)
