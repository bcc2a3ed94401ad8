r"""The squared gradient that a random initialisation has on average, in closed form.

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
(`rfsearch.field.moments`); it grows along a stage, so that later branches weigh less (De and
Smith, "Batch Normalization Biases Residual Blocks Towards the Identity Function", NeurIPS 2020).

It is the gradient of the *local* field: what parts that mix the whole image have pooled or
attended to counts as a constant, as in `measure_erf(..., local=True)`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rfsearch.field._profiles import Profile, gather, mix, spread
from rfsearch.field.activations import activated, gated
from rfsearch.field.expression import (
    Activation,
    Attention,
    BatchNorm,
    Chain,
    Concat,
    Convolution,
    Gate,
    ImageLevel,
    LayerNorm,
    Node,
    Pooling,
    Relu,
    Resize,
    Sum,
)
from rfsearch.field.moments import (
    INPUT,
    Units,
    added,
    attended,
    convolved,
    joined,
    layer_normalised,
    normalised,
    resized,
)
from rfsearch.field.node_fields import Taps1d, resize_weights, taps_of
from rfsearch.field.poolings import binomial, opened, pooled
from rfsearch.field.rectifiers import persistence, rectified

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
    stride: float
    pull: Callable[[Profile], Profile]

    def along_axis(self) -> NDArray[np.float64]:
        """The profile of an output unit along one axis, `(pixels,)`, summing to 1."""
        power: NDArray[np.float64] = self.pull(Profile(np.ones((1, 1)), 0)).values.sum(axis=0)
        total: float = power.sum()
        return power / total


IDENTITY_BRANCH = Chain(())


def read(node: Node, units: Units = INPUT) -> Reading:
    """Expected squared gradient of `node`, whose inputs have the moments `units`."""
    match node:
        case Convolution():
            return _window(taps_of(node), _even(node.kernel_size), convolved(units, node.stride))
        case Pooling():
            return _pool(node, units)
        case Resize():
            return _resize(node, units)
        case BatchNorm():
            return Reading(normalised(units), 1 / units.variance, 0.0, 0.0, 1, _keep)
        case LayerNorm():
            power = units.variance + units.between
            return Reading(layer_normalised(units), 1 / power, 0.0, 0.0, 1, _keep)
        case Relu():
            return _relu(units)
        case Activation():
            behind, gain = activated(units, node.kind)
            return Reading(behind, gain, 0.0, 0.0, 1, _keep)
        case Gate():
            behind, gain = gated(units, node.kind)
            return Reading(behind, gain, 0.0, 0.0, 1, _keep)
        case Attention():
            return Reading(attended(units), 0.0, 0.0, 0.0, 1, _keep)
        case Chain():
            return _chain(node, units)
        case Sum():
            return _sum(node, units, is_rectified=False)
        case Concat():
            return _concat(node, units)
        case _:
            return Reading(units, 1.0, 0.0, 0.0, 1, _keep)


def _relu(units: Units) -> Reading:
    out = rectified(units)
    assert out.rectifier is not None
    return Reading(out, 1 - out.rectifier.closed, 0.0, 0.0, 1, _keep)


def _keep(grid: Profile) -> Profile:
    return grid


def _even(taps: int) -> tuple[float, ...]:
    return (1 / taps,) * taps


def _pool(node: Pooling, units: Units) -> Reading:
    """A maximum passes all on to its winner, a mean the squares of its weights."""
    behind = pooled(units, node.kind, node.kernel_size, node.stride)
    if node.kind == "max":
        window = _window(taps_of(node), _even(node.kernel_size), behind)
        return window._replace(gain=opened(units, behind))
    taps = node.kernel_size
    weights = binomial(taps) if node.kind == "blur" else _even(taps)
    power = sum(weight**2 for weight in weights)
    shares = tuple(weight**2 / power for weight in weights)
    return _window(taps_of(node), shares, behind)._replace(gain=power**2)


def _window(taps: Taps1d, shares: tuple[float, ...], out: Units) -> Reading:
    middle = (len(shares) - 1) / 2
    variance = taps.dilation**2 * sum(s * (i - middle) ** 2 for i, s in enumerate(shares))
    field = taps.field()
    pull = partial(spread, field=field, shares=shares, dilation=taps.dilation)
    return Reading(out, 1.0, field.center, variance, field.stride, pull)


def _resize(node: Resize, units: Units) -> Reading:
    """Each unit that is looked at collects the squared gradients of those that look at it."""
    phases = resize_weights(node)
    shares = [{tap: weight**2 for tap, weight in taps.items()} for taps in phases]
    gain = sum(sum(taps.values()) for taps in shares) / node.factor
    # Where a unit looks, less where it lies, over all phases.
    places = [
        (tap - phase / node.factor, share / (gain * node.factor))
        for phase, taps in enumerate(shares)
        for tap, share in taps.items()
    ]
    mean = sum(share * place for place, share in places)
    variance = sum(share * (place - mean) ** 2 for place, share in places)
    pull = partial(gather, phases=shares, gain=gain)
    return Reading(resized(units, phases), gain**2, mean, variance, 1 / node.factor, pull)


def _chain(node: Chain, units: Units) -> Reading:
    gain, mean, variance, stride = 1.0, 0.0, 0.0, 1.0
    pulls: list[Callable[[Profile], Profile]] = []
    for child, following in zip_longest(node.nodes, node.nodes[1:]):
        if isinstance(child, Sum):
            step = _sum(child, units, is_rectified=isinstance(following, Relu))
        else:
            step = read(child, units)
        units = step.units
        gain *= step.gain
        mean += stride * step.mean
        variance += stride**2 * step.variance
        stride *= step.stride
        if step.pull is not _keep:
            pulls.append(step.pull)

    def pull(grid: Profile) -> Profile:
        for step_back in reversed(pulls):
            grid = step_back(grid)
        return grid

    return Reading(units, gain, mean, variance, stride, pull)


def _sum(node: Sum, units: Units, is_rectified: bool) -> Reading:
    branches = [read(branch, units) for branch in node.branches]
    shortcut = units if IDENTITY_BRANCH in node.branches else None
    total = added([branch.units for branch in branches], shortcut)
    gains = [
        reading.gain
        * (persistence(units, total) if is_rectified and branch == IDENTITY_BRANCH else 1.0)
        for branch, reading in zip(node.branches, branches, strict=True)
    ]
    return _together(branches, gains, total)


def _concat(node: Concat, units: Units) -> Reading:
    pairs = [
        (read(branch, units), channels / sum(node.channels))
        for branch, channels in zip(node.branches, node.channels, strict=True)
        if not isinstance(branch, ImageLevel)
    ]
    branches = [reading for reading, _ in pairs]
    gains = [share * reading.gain for reading, share in pairs]
    return _together(branches, gains, joined([(r.units, share) for r, share in pairs]))


def _together(branches: list[Reading], gains: list[float], out: Units) -> Reading:
    """Branches that meet, each with its share of the squared gradient."""
    gain = sum(gains)
    weights = [share / gain for share in gains]
    mean = sum(w * branch.mean for w, branch in zip(weights, branches, strict=True))
    second = sum(
        w * (branch.variance + branch.mean**2) for w, branch in zip(weights, branches, strict=True)
    )

    def pull(grid: Profile) -> Profile:
        return mix([branch.pull(grid) for branch in branches], weights)

    return Reading(out, gain, mean, second - mean**2, branches[0].stride, pull)
