"""The moments against drawn samples, and against closed forms where there are any."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rfsearch.basics.axes import SQUARE
from rfsearch.field.activations import activated
from rfsearch.field.expression import Resize
from rfsearch.field.moments import (
    INPUT,
    Rectifier,
    Units,
    added,
    convolved,
    joined,
    layer_normalised,
    normalised,
    resized,
)
from rfsearch.field.node_fields import resize_weights
from rfsearch.field.poolings import pooled
from rfsearch.field.rectifiers import persistence, rectified

COUNT = 1_000_000
RNG = np.random.default_rng(0)
REDUCE = {"max": np.max, "avg": np.mean}


def normal(mean: float = 0.0, deviation: float = 1.0) -> np.ndarray:
    return RNG.normal(mean, deviation, COUNT)


def square(units: Units, kind: str, kernel_size: int, stride: int) -> Units:
    """Pooled over a square window."""
    return pooled(units, kind, (kernel_size,), (stride,), SQUARE)


def relu(values: np.ndarray) -> np.ndarray:
    return np.maximum(values, 0)


def gate(units: Units) -> Rectifier:
    assert units.rectifier is not None
    return units.rectifier


def check(units: Units, drawn: np.ndarray) -> None:
    assert units.mean == pytest.approx(drawn.mean(), rel=0.01, abs=0.003)
    assert units.variance == pytest.approx(drawn.var(), rel=0.01)


def test_a_rectified_normal_unit() -> None:
    units = rectified(INPUT)
    assert units.mean == pytest.approx(1 / math.sqrt(2 * math.pi), rel=1e-6)
    assert units.variance == pytest.approx(0.5 - 1 / (2 * math.pi), rel=1e-6)
    assert gate(units).closed == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (1.5, 0.4), (-1.0, 2.0), (3.0, 9.0)])
def test_probabilities_below_the_nodes(mean: float, variance: float) -> None:
    one = gate(rectified(Units(mean, variance)))
    scale = math.sqrt(2 * variance)
    below = [0.5 * (1 + math.erf((value - mean) / scale)) for value in one.values]
    np.testing.assert_allclose(one.below, below, atol=1e-4)
    assert one.closed + one.weights.sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (0.7, 2.0), (-1.0, 1.5)])
def test_rectified_with_a_mean(mean: float, deviation: float) -> None:
    check(rectified(Units(mean, deviation**2)), relu(normal(mean, deviation)))


def test_a_chain_of_residual_blocks() -> None:
    units, drawn = rectified(INPUT), relu(normal())
    for _ in range(5):
        units = rectified(added([units, INPUT], shortcut=units))
        drawn = relu(drawn + normal())
        check(units, drawn)
        assert gate(units).closed == pytest.approx((drawn == 0).mean(), rel=0.02)


def test_a_sum_of_projections_is_normal() -> None:
    assert added([INPUT, INPUT], shortcut=None) == Units(0.0, 2.0)


@pytest.mark.parametrize("kernel_size", [1, 2, 3])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pooled_rectified_units(kind: str, kernel_size: int) -> None:
    draws = [relu(normal()) for _ in range(kernel_size**2)]
    units = square(rectified(INPUT), kind, kernel_size, kernel_size)
    check(units, REDUCE[kind](draws, axis=0))
    assert units.neighbours == ()


@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pooled_residual_units(kind: str) -> None:
    residual = rectified(added([rectified(INPUT), INPUT], shortcut=rectified(INPUT)))
    draws = [relu(relu(normal()) + normal()) for _ in range(4)]
    check(square(residual, kind, 2, 2), REDUCE[kind](draws, axis=0))


def test_pooled_units_that_no_rectifier_has_cut() -> None:
    check(
        square(Units(0.5, 4.0), "max", 2, 2), np.max([normal(0.5, 2.0) for _ in range(4)], axis=0)
    )
    assert square(Units(0.5, 4.0), "avg", 2, 2) == Units(0.5, 1.0)


def test_a_maximum_of_maxima_is_a_maximum() -> None:
    twice = square(square(rectified(INPUT), "max", 2, 2), "max", 3, 3)
    once = square(rectified(INPUT), "max", 6, 6)
    assert twice.mean == pytest.approx(once.mean, rel=1e-9)
    assert twice.variance == pytest.approx(once.variance, rel=1e-9)


def test_a_convolution_keeps_the_correlations_at_its_stride() -> None:
    units = Units(1.0, 2.0, neighbours=((0.4, 0.3, 0.2, 0.1),))
    assert convolved(units, (1,)).neighbours == ((0.4, 0.3, 0.2, 0.1),)
    assert convolved(units, (2,)).neighbours == ((0.3, 0.1),)
    assert normalised(units) == Units(0.0, 1.0, neighbours=((0.4, 0.3, 0.2, 0.1),))
    assert added([units, Units(0.0, 2.0)], None).neighbours[0] == pytest.approx(
        (0.2, 0.15, 0.1, 0.05)
    )


def field(*shape: int) -> np.ndarray:
    """Rectified noise behind an overlapping pooling, as behind the stem of a ResNet."""
    return windows(relu(RNG.normal(size=shape)), 3, 2).max(axis=(-2, -1))


def windows(values: np.ndarray, kernel_size: int, stride: int) -> np.ndarray:
    view = np.lib.stride_tricks.sliding_window_view(values, (kernel_size,) * 2)
    return view[::stride, ::stride]


def correlation(values: np.ndarray, distance: int) -> float:
    return float(np.corrcoef(values[:, :-distance].ravel(), values[:, distance:].ravel())[0, 1])


def test_overlapping_windows_are_correlated() -> None:
    units = square(rectified(INPUT), "max", 3, 2)
    ((found,),) = units.neighbours
    drawn = field(2001, 2001)
    check(units, drawn)
    assert found == pytest.approx(correlation(drawn, 1), abs=0.06)
    behind = normalised(convolved(units, (1,)))._replace(neighbours=((0.3,),))
    pair = RNG.multivariate_normal([0, 0], [[1, 0.3], [0.3, 1]], COUNT)
    expected = np.corrcoef(relu(pair), rowvar=False)[0, 1]
    assert rectified(behind).neighbours[0][0] == pytest.approx(expected, abs=0.003)


@pytest.mark.parametrize("kernel_size", [2, 3])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pooled_correlated_units(kind: str, kernel_size: int) -> None:
    units = square(square(rectified(INPUT), "max", 3, 2), kind, kernel_size, kernel_size)
    drawn = REDUCE[kind](windows(field(2001, 2001), kernel_size, kernel_size), axis=(-2, -1))
    assert units.mean == pytest.approx(drawn.mean(), rel=0.06)
    # Independent units would have half the variance of an average, or less.
    assert units.variance == pytest.approx(drawn.var(), rel=0.12)


def test_a_rectifier_is_likelier_open_where_the_sum_is_positive() -> None:
    before = normal()
    positive = relu(before) + normal() > 0
    units = rectified(INPUT)
    share = (before[positive] > 0).mean() / (before > 0).mean()
    assert persistence(units, added([units, INPUT], units)) == pytest.approx(share, rel=0.01)


def test_persistence_behind_a_maximum() -> None:
    highest = np.max([normal() for _ in range(4)], axis=0)
    positive = relu(highest) + normal() > 0
    units = square(rectified(INPUT), "max", 2, 2)
    share = (highest[positive] > 0).mean() / (highest > 0).mean()
    assert persistence(units, added([units, INPUT], units)) == pytest.approx(share, rel=0.01)


def test_persistence_behind_an_average() -> None:
    taps = [normal() for _ in range(4)]
    positive = np.mean([relu(tap) for tap in taps], axis=0) + normal() > 0
    units = square(rectified(INPUT), "avg", 2, 2)
    share = (taps[0][positive] > 0).mean() / (taps[0] > 0).mean()
    assert persistence(units, added([units, INPUT], units)) == pytest.approx(share, rel=0.01)


def test_what_branches_add_nothing_to_stays_open() -> None:
    units, nothing = rectified(INPUT), Units(0.0, 0.0)
    before = normal()
    share = (before[relu(before) > 0] > 0).mean() / (before > 0).mean()
    found = persistence(units, added([units, nothing], units))
    assert found == pytest.approx(share, rel=0.01)


def test_no_rectifier_nothing_to_persist() -> None:
    assert persistence(INPUT, added([INPUT, INPUT], INPUT)) == 1.0


# -- other layers ----------------------------------------------------------------------------

CHANNELS = 2000


def spread_of(values: np.ndarray) -> Units:
    """Moments of drawn units `(channels, positions)`."""
    means = values.mean(axis=1)
    return Units(
        float(values.mean()), float(values.var(axis=1).mean()), between=float(means.var())
    )


def check_channels(units: Units, drawn: np.ndarray) -> None:
    expected = spread_of(drawn)
    assert units.mean == pytest.approx(expected.mean, rel=0.05, abs=0.02)
    assert units.variance == pytest.approx(expected.variance, rel=0.05)
    assert units.between == pytest.approx(expected.between, rel=0.1, abs=0.01)


@pytest.mark.parametrize("kind", ["gelu", "silu"])
@pytest.mark.parametrize(("variance", "between"), [(1.0, 0.0), (0.6, 0.4), (2.0, 1.0)])
def test_smooth_activations(kind: str, variance: float, between: float) -> None:
    own = RNG.normal(0, math.sqrt(between), (20_000, 1))
    values = torch.tensor(own + RNG.normal(0, math.sqrt(variance), (20_000, 100)))
    values.requires_grad_()
    out = getattr(torch.nn.functional, kind)(values)
    (slope,) = torch.autograd.grad(out.sum(), values)
    units, gain = activated(Units(0.0, variance, between=between), kind)
    check_channels(units, out.detach().numpy())
    assert gain == pytest.approx(float(slope.pow(2).mean()), rel=0.03)


def test_a_convolution_gives_channels_means_that_a_layer_norm_keeps() -> None:
    values = relu(RNG.normal(size=(CHANNELS, 300)))
    mixed = RNG.normal(0, CHANNELS**-0.5, (CHANNELS, CHANNELS)) @ values
    units = convolved(rectified(INPUT), (1,))
    check_channels(units, mixed)
    levelled = (mixed - mixed.mean(axis=0)) / mixed.std(axis=0)
    check_channels(layer_normalised(units), levelled)


def test_joined_channels() -> None:
    rectified_units, wide = rectified(INPUT), Units(2.0, 9.0)
    drawn = np.concatenate(
        [relu(RNG.normal(size=(1500, 1000))), RNG.normal(2.0, 3.0, size=(500, 1000))]
    )
    units = joined([(rectified_units, 1500), (wide, 500)])
    check_channels(units, drawn)
    assert units.rectifier is None
    assert joined([(rectified_units, 1), (rectified_units, 3)]).rectifier is not None


def test_blurred_units() -> None:
    weights = np.outer([1, 2, 1], [1, 2, 1]) / 16
    drawn = (windows(RNG.normal(size=(2001, 2001)), 3, 2) * weights).sum(axis=(-2, -1))
    units = square(INPUT, "blur", 3, 2)
    check(units, drawn)
    assert units.neighbours[0][0] == pytest.approx(correlation(drawn, 1), abs=0.003)


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("kind", ["nearest", "bilinear"])
def test_upsampled_units(kind: str, factor: int) -> None:
    mode = {"align_corners": False} if kind == "bilinear" else {}
    small = torch.tensor(RNG.normal(size=(1, 1, 600, 600)))
    large = torch.nn.functional.interpolate(small, scale_factor=factor, mode=kind, **mode)
    units = resized(INPUT, [resize_weights(Resize(kind, factor))], SQUARE)
    drawn = large[0, 0].numpy()
    check(units, drawn - drawn.mean())
    for distance, expected in enumerate(units.neighbours[0], start=1):
        assert correlation(drawn, distance) == pytest.approx(expected, abs=0.01)
