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
from math import prod

from rfsearch.basics.axes import SQUARE, Alike
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
    Window,
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
from rfsearch.field.node_fields import resize_weights, taps_of
from rfsearch.field.part import Part
from rfsearch.field.poolings import opened, pooled, taps_weights
from rfsearch.field.profiles import AxisTaps, Profile, gather, mix, spread
from rfsearch.field.rectifiers import persistence, rectified
from rfsearch.field.squared_gradient import STAY, Place, Reading

IDENTITY_BRANCH = Chain(())


def read(node: Node, units: Units = INPUT, axes: Alike = SQUARE) -> Reading:
    """Expected squared gradient of `node`, whose inputs have the moments `units`.

    Args:
        node: An expression.
        units: Its inputs.
        axes: Those that it has.
    """
    match node:
        case Convolution():
            strides = [taps_of(node, axis).stride for axis in range(len(axes))]
            return _window(node, "conv", convolved(units, strides), axes)
        case Pooling():
            return _pool(node, units, axes)
        case Resize():
            return _resize(node, units, axes)
        case BatchNorm():
            return _pointwise(normalised(units), 1 / units.variance, axes)
        case LayerNorm():
            power = units.variance + units.between
            return _pointwise(layer_normalised(units), 1 / power, axes)
        case Relu():
            out = rectified(units)
            assert out.rectifier is not None
            return _pointwise(out, 1 - out.rectifier.closed, axes)
        case Activation():
            return _pointwise(*activated(units, node.kind), axes)
        case Gate():
            return _pointwise(*gated(units, node.kind), axes)
        case Attention():
            return _pointwise(attended(units), 0.0, axes)
        case Chain():
            return _chain(node, units, axes)
        case Sum():
            return _sum(node, units, axes, is_rectified=False)
        case Concat():
            return _concat(node, units, axes)
        case Part():
            return node.read(units, axes)
        case _:
            return _pointwise(units, 1.0, axes)


def _pointwise(units: Units, gain: float, axes: Alike) -> Reading:
    return Reading(units, gain, (STAY,) * len(axes), _keep)


def _keep(grid: Profile) -> Profile:
    return grid


def _pool(node: Pooling, units: Units, axes: Alike) -> Reading:
    """A maximum passes all on to its winner, a mean the squares of its weights."""
    taps = [taps_of(node, axis) for axis in range(len(axes))]
    sizes, strides = [each.kernel_size for each in taps], [each.stride for each in taps]
    behind = pooled(units, node.kind, sizes, strides, axes)
    window = _window(node, node.kind, behind, axes)
    if node.kind == "max":
        return window._replace(gain=opened(units, behind))
    powers = (
        sum(weight**2 for weight in taps_weights(node.kind, size)) ** number
        for size, number in zip(sizes, axes, strict=True)
    )
    return window._replace(gain=prod(powers))


def _window(node: Window, kind: str, out: Units, axes: Alike) -> Reading:
    """A window, each of whose taps gets a share of the squared gradient: that of its weight."""
    windows, places = [], []
    for axis in range(len(axes)):
        taps = taps_of(node, axis)
        weights = taps_weights(kind, taps.kernel_size)
        # Even weights are their own shares.
        power = sum(weight**2 for weight in weights)
        shares = tuple(w**2 / power for w in weights) if kind == "blur" else weights
        middle = (len(shares) - 1) / 2
        variance = taps.dilation**2 * sum(s * (i - middle) ** 2 for i, s in enumerate(shares))
        field = taps.field()
        windows.append(AxisTaps(field, shares, taps.dilation))
        places.append(Place(field.center, variance, field.stride))
    return Reading(out, 1.0, tuple(places), partial(spread, windows=windows))


def _resize(node: Resize, units: Units, axes: Alike) -> Reading:
    """Each unit that is looked at collects the squared gradients of those that look at it."""
    phases = resize_weights(node)
    shares = [{tap: weight**2 for tap, weight in taps.items()} for taps in phases]
    gain = sum(sum(taps.values()) for taps in shares) / node.factor
    # Where a unit looks, less where it lies, over all phases.
    looks = [
        (tap - phase / node.factor, share / (gain * node.factor))
        for phase, taps in enumerate(shares)
        for tap, share in taps.items()
    ]
    mean = sum(share * place for place, share in looks)
    variance = sum(share * (place - mean) ** 2 for place, share in looks)
    place = Place(mean, variance, 1 / node.factor)
    pull = partial(gather, phases=shares, gain=gain)
    behind = resized(units, [phases] * len(axes), axes)
    return Reading(behind, gain ** sum(axes), (place,) * len(axes), pull)


def _chain(node: Chain, units: Units, axes: Alike) -> Reading:
    gain, places = 1.0, (STAY,) * len(axes)
    pulls: list[Callable[[Profile], Profile]] = []
    for child, following in zip_longest(node.nodes, node.nodes[1:]):
        if isinstance(child, Sum):
            step = _sum(child, units, axes, is_rectified=isinstance(following, Relu))
        else:
            step = read(child, units, axes)
        units = step.units
        gain *= step.gain
        if step.pull is not _keep:
            places = tuple(map(Place.then, step.places, places))
            pulls.append(step.pull)

    def pull(grid: Profile) -> Profile:
        for step_back in reversed(pulls):
            grid = step_back(grid)
        return grid

    return Reading(units, gain, places, pull)


def _sum(node: Sum, units: Units, axes: Alike, is_rectified: bool) -> Reading:
    branches = [read(branch, units, axes) for branch in node.branches]
    shortcut = units if IDENTITY_BRANCH in node.branches else None
    total = added([branch.units for branch in branches], shortcut)
    gains = [
        reading.gain
        * (persistence(units, total) if is_rectified and branch == IDENTITY_BRANCH else 1.0)
        for branch, reading in zip(node.branches, branches, strict=True)
    ]
    return _together(branches, gains, total)


def _concat(node: Concat, units: Units, axes: Alike) -> Reading:
    pairs = [
        (read(branch, units, axes), channels / sum(node.channels))
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
    places = tuple(
        _mean_place(at, weights) for at in zip(*(one.places for one in branches), strict=True)
    )

    def pull(grid: Profile) -> Profile:
        return mix([branch.pull(grid) for branch in branches], weights)

    return Reading(out, gain, places, pull)


def _mean_place(places: tuple[Place, ...], weights: list[float]) -> Place:
    pairs = list(zip(places, weights, strict=True))
    mean = sum(weight * place.mean for place, weight in pairs)
    second = sum(weight * (place.variance + place.mean**2) for place, weight in pairs)
    return Place(mean, second - mean**2, places[0].stride)
