from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rfsearch.field import windows
from rfsearch.field.windows import Window


def seen(run: Callable[[Tensor], Tensor], length: int) -> list[set[int]]:
    """For each output unit of an operation along the width, the input units that it sees."""
    # One input unit per batch entry is hot.
    inputs = torch.eye(length, dtype=torch.float64)[:, None, None]
    with torch.no_grad():
        outputs = run(inputs)[:, 0, 0]
    return [set(column.nonzero().flatten().tolist()) for column in outputs.T]


def claimed(window: Window, units: int) -> list[set[int]]:
    rounds = (divmod(unit, len(window.taps)) for unit in range(units))
    return [{tap + turn * window.advance for tap in window.taps[phase]} for turn, phase in rounds]


def agree(window: Window, run: Callable[[Tensor], Tensor], length: int = 24) -> bool:
    """Whether the claims about units that see no border hold."""
    found = seen(run, length)
    pairs = list(zip(found, claimed(window, len(found)), strict=True))
    inside = [(f, c) for f, c in pairs if all(1 <= tap < length - 1 for tap in c)]
    assert len(inside) > 2
    return all(found == claim for found, claim in inside)


SHAPE = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2))


@given(SHAPE)
def test_convolution(shape: tuple[int, int, int, int]) -> None:
    kernel_size, stride, padding, dilation = shape
    weight = torch.ones(1, 1, 1, kernel_size, dtype=torch.float64)
    assert agree(
        windows.convolution(*shape),
        lambda x: F.conv2d(x, weight, None, (1, stride), (0, padding), (1, dilation)),
    )


@given(SHAPE)
def test_transposed_convolution(shape: tuple[int, int, int, int]) -> None:
    kernel_size, stride, padding, dilation = shape
    weight = torch.ones(1, 1, 1, kernel_size, dtype=torch.float64)
    window = windows.transposed_convolution(*shape)
    found = seen(
        lambda x: F.conv_transpose2d(
            x, weight, None, (1, stride), (0, padding), 0, 1, (1, dilation)
        ),
        12,
    )
    for unit, claim in enumerate(claimed(window, len(found))):
        assert found[unit] == {tap for tap in claim if 0 <= tap < 12}


@pytest.mark.parametrize("new_length", [1, 3, 7, 10, 24])
def test_adaptive_pooling(new_length: int) -> None:
    found = seen(lambda x: F.adaptive_avg_pool2d(x, (1, new_length)), 24)
    assert found == claimed(windows.adaptive_pooling(24, new_length), new_length)


@pytest.mark.parametrize("new_length", [6, 8, 16, 18, 24, 36, 48, 96])
@pytest.mark.parametrize(
    ("mode", "window"),
    [
        ("nearest", windows.nearest),
        ("nearest-exact", windows.nearest_exact),
        ("bilinear", windows.linear),
        ("bicubic", windows.cubic),
    ],
)
def test_resizing(mode: str, window: Callable[[Fraction], Window], new_length: int) -> None:
    assert agree(
        window(Fraction(24, new_length)),
        lambda x: F.interpolate(x, size=(1, new_length), mode=mode),
    )


@pytest.mark.parametrize("new_length", [6, 8, 12, 16, 24, 48])
@pytest.mark.parametrize(("mode", "reach"), [("bilinear", 1), ("bicubic", 2)])
def test_antialiased_resizing(mode: str, reach: int, new_length: int) -> None:
    found = seen(lambda x: F.interpolate(x, size=(1, new_length), mode=mode, antialias=True), 24)
    claims = claimed(windows.antialiased(reach)(Fraction(24, new_length)), new_length)
    inside = [(f, c) for f, c in zip(found, claims, strict=True) if min(c) >= 1 and max(c) < 23]
    assert inside
    for one, claim in inside:
        # Within the filter a cubic may be zero at single taps: the ends are what counts.
        assert one <= claim
        assert (min(one), max(one)) == (min(claim), max(claim))


@pytest.mark.parametrize("new_length", [5, 8, 12, 24, 37, 47, 48, 70, 72, 96])
@pytest.mark.parametrize(("mode", "reach"), [("bilinear", 1), ("bicubic", 2)])
def test_aligned_corners(mode: str, reach: int, new_length: int) -> None:
    options = {"mode": mode, "align_corners": True}
    found = seen(lambda x: F.interpolate(x, size=(1, new_length), **options), 24)  # type: ignore[arg-type]
    claims = claimed(windows.aligned_corners(24, new_length, reach), len(found))
    for one, claim in zip(found, claims, strict=True):
        inside = {tap for tap in claim if 0 <= tap < 24}
        # A place that rounding moves off a unit gives its neighbours weights of 1e-16.
        assert inside <= one
        assert len(claim) == 1 or one == inside


def test_aligned_corners_of_one_unit() -> None:
    assert claimed(windows.aligned_corners(1, 3, 1), 3) == [{0}] * 3
    assert claimed(windows.aligned_corners(5, 1, 1), 1) == [{0}]
