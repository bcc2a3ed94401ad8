r"""The effective receptive field that a random initialisation has on average, in closed form.

With independent zero-mean weights the *expected squared gradient* obeys a linear law of its own.
Going from an output unit back to the input, a convolution spreads it evenly over its taps, a
stride puts zeros between the samples, a max-pooling (whose winner may be any tap) and an
average-pooling act like a uniform window, a rectifier scales everything alike, and the branches
of a sum add up, weighted by their gains. No network and no image is needed, and the *variance* of
the profile adds up over layers:

    Var = sum over layers of  dilation^2 * jump^2 * (kernel_size^2 - 1) / 12

(Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks",
NeurIPS 2016, with the discrete variance of the taps.)

The gains matter where branches meet. Batch normalisation divides the gradient by the *centred*
variance v of what it normalises, because it removes the mean of each channel; each rectifier of
a normalised input halves the squared gradient and leaves the variance 1/2 - 1/(2 pi). So a branch
with n rectifiers inside weighs R^n / v against an identity shortcut's 1, with
R = (1/2) / (1/2 - 1/(2 pi)) = 1.466. The variance v is carried forward from layer to layer
(`rfsearch.moments`); it grows along a stage, so that later branches weigh less (De and Smith,
"Batch Normalization Biases Residual Blocks Towards the Identity Function", NeurIPS 2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rfsearch.erf_map import Center, ErfMap
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
from rfsearch.moments import (
    INPUT,
    Units,
    added,
    convolved,
    normalised,
    persistence,
    pooled,
    rectified,
)
from rfsearch.receptive_field import ReceptiveField, window

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Grid:
    """A profile of squared gradients, `(size, size)`, whose first pixel lies at `start`."""

    values: NDArray[np.float64]
    start: int


class Reading(NamedTuple):
    """What a node does to the expected squared gradient on its way back to the node's input.

    Attributes:
        units: Moments of the node's outputs.
        gain: Total squared gradient at the input per unit of it at the output. A factor that all
            branches of a sum share (the ratio of channels) is left out.
        mean: Centre of mass of the profile, in px of the node's input, for output unit 0.
        variance: Variance of the profile along one axis, in px^2 of the node's input.
        stride: Input pixels between output units.
        pull: Takes a profile over the output units to the profile over the input.
    """

    units: Units
    gain: float
    mean: float
    variance: float
    stride: int
    pull: Callable[[Grid], Grid]


#: Largest theoretical receptive field, in px, whose map is computed to find the ERF size.
LARGEST_EXACT_SIZE = 1024
#: ERF size over sigma for a normal profile: its |gradient| has a standard deviation of sqrt(2)
#: sigma per axis, and 2.2365 of them on either side hold sqrt(0.95) of it along each axis.
SIGMAS_PER_SIZE = 2 * 2.2365 * math.sqrt(2)

IDENTITY_BRANCH = Chain(())


def read(node: Node, units: Units = INPUT) -> Reading:
    """Expected squared gradient of `node`, whose inputs have the moments `units`."""
    match node:
        case Convolution():
            field = window(node.kernel_size, node.stride, node.dilation)
            return _window(field, node.kernel_size, node.dilation, convolved(units, node.stride))
        case Pooling():
            field = window(node.kernel_size, node.stride, padding=node.padding)
            return _window(
                field, node.kernel_size, 1, pooled(units, node.kind, node.kernel_size, node.stride)
            )
        case BatchNorm():
            return Reading(normalised(units), 1 / units.variance, 0.0, 0.0, 1, _keep)
        case Relu():
            return _relu(units)
        case Chain():
            return _chain(node, units)
        case Sum():
            return _sum(node, units)


def _relu(units: Units) -> Reading:
    out = rectified(units)
    assert out.rectifier is not None
    return Reading(out, 1 - out.rectifier.closed, 0.0, 0.0, 1, _keep)


def _keep(grid: Grid) -> Grid:
    return grid


def _window(field: ReceptiveField, taps: int, dilation: int, out: Units) -> Reading:
    variance = dilation**2 * (taps**2 - 1) / 12
    pull = partial(_spread, field=field, taps=taps, dilation=dilation)
    return Reading(out, 1.0, field.center, variance, field.stride, pull)


def _chain(node: Chain, units: Units) -> Reading:
    gain, mean, variance, stride = 1.0, 0.0, 0.0, 1
    pulls: list[Callable[[Grid], Grid]] = []
    for child in node.nodes:
        step = read(child, units)
        units = step.units
        gain *= step.gain
        mean += stride * step.mean
        variance += stride**2 * step.variance
        stride *= step.stride
        if step.pull is not _keep:
            pulls.append(step.pull)

    def pull(grid: Grid) -> Grid:
        for step_back in reversed(pulls):
            grid = step_back(grid)
        return grid

    return Reading(units, gain, mean, variance, stride, pull)


def _sum(node: Sum, units: Units) -> Reading:
    branches = [read(branch, units) for branch in node.branches]
    shortcut = units if IDENTITY_BRANCH in node.branches else None
    total = added([branch.units for branch in branches], shortcut)
    gains = [
        reading.gain * (persistence(units, total) if branch == IDENTITY_BRANCH else 1.0)
        for branch, reading in zip(node.branches, branches, strict=True)
    ]
    gain = sum(gains)
    weights = [share / gain for share in gains]
    mean = sum(w * branch.mean for w, branch in zip(weights, branches, strict=True))
    second = sum(
        w * (branch.variance + branch.mean**2) for w, branch in zip(weights, branches, strict=True)
    )

    def pull(grid: Grid) -> Grid:
        return _mix([branch.pull(grid) for branch in branches], weights)

    return Reading(total, gain, mean, second - mean**2, branches[0].stride, pull)


def _spread(grid: Grid, field: ReceptiveField, taps: int, dilation: int) -> Grid:
    """Pull a profile back through one window: zeros between samples, then uniform taps."""
    values = grid.values
    if taps == field.stride == 1:
        return Grid(values, grid.start + field.start)
    for _ in range(2):  # Each pass handles the first axis and then swaps the axes.
        spaced = (len(values) - 1) * field.stride + 1
        spread = np.zeros((spaced + field.size - 1, values.shape[1]))
        for tap in range(0, taps * dilation, dilation):
            spread[tap : tap + spaced : field.stride] += values
        values = np.ascontiguousarray(spread.T)
    values /= taps**2
    return Grid(values, grid.start * field.stride + field.start)


def _mix(grids: list[Grid], weights: list[float]) -> Grid:
    """Weighted sum of profiles, each at its own place."""
    start = min(grid.start for grid in grids)
    end = max(grid.start + len(grid.values) for grid in grids)
    mixed = np.zeros((end - start, end - start))
    for grid, weight in zip(grids, weights, strict=True):
        place = slice(grid.start - start, grid.start - start + len(grid.values))
        mixed[place, place] += weight * grid.values
    return Grid(mixed, start)


@dataclass(frozen=True)
class ExpectedERF:
    """Expected effective receptive field of an expression at random initialisation.

    `sigma` costs microseconds; the map, and with it `size`, is computed on first use.

    Attributes:
        node: The expression, from the network input to one output map.
    """

    node: Node

    @cached_property
    def _reading(self) -> Reading:
        return read(self.node)

    @cached_property
    def _field(self) -> ReceptiveField:
        return receptive_field(self.node)

    @property
    def theoretical_size(self) -> int:
        """Side of the theoretical receptive field, in px."""
        return self._field.size

    @property
    def sigma(self) -> float:
        """RMS radius per axis of the expected squared gradient about the centre, in px."""
        off_center = self._reading.mean - self._field.center
        return math.sqrt(self._reading.variance + off_center**2)

    @cached_property
    def profile(self) -> ErfMap:
        """The maps over the theoretical receptive field, `(theoretical_size, theoretical_size)`.

        A pixel's gradient is a sum over many random weights, so nearly normally distributed:
        its expected magnitude goes with the root of its expected square.
        """
        power = self._reading.pull(Grid(np.ones((1, 1)), 0)).values
        magnitude = np.sqrt(power)
        middle = (len(power) - 1) / 2
        return ErfMap(
            map=magnitude / magnitude.sum(),
            power=power / power.sum(),
            center=Center(middle, middle),
            theoretical_size=self.theoretical_size,
        )

    @property
    def map(self) -> NDArray[np.float64]:
        """Expected |gradient|, `(theoretical_size, theoretical_size)`, summing to 1."""
        return self.profile.map

    @cached_property
    def size(self) -> int:
        """ERF size in px: side of the smallest centred square with 95 % of the |gradient|.

        Above a theoretical receptive field of 1,024 px, where the map would be large, it is the
        size of a normal profile with this `sigma`.
        """
        if self.theoretical_size <= LARGEST_EXACT_SIZE:
            return self.profile.size
        return min(self.theoretical_size, round(SIGMAS_PER_SIZE * self.sigma))

    @property
    def ratio(self) -> float:
        """ERF ratio: ERF size over theoretical receptive field size, along one axis."""
        return self.size / self.theoretical_size
