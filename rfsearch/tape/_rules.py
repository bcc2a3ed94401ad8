"""What operations do to the moments of units, and to the squared gradient on its way back.

A rule takes the moments of the tensors that an operation is given, and how large its weights are,
and returns an `Outcome`. The rules are those of `rfsearch.field.gradients`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rfsearch.field.activations import Function, transformed
from rfsearch.field.moments import (
    Units,
    added,
    convolved,
    joined,
    layer_normalised,
    moved,
    normalised,
    resized,
)
from rfsearch.field.poolings import opened, pooled
from rfsearch.field.rectifiers import persistence, rectified

#: A clamp so many standard deviations above the mean cuts nothing worth counting.
_FAR = 3.5
#: Random logits whose soft-max is averaged.
_DRAWS = 4096


class Outcome(NamedTuple):
    """What an operation makes of its inputs.

    Attributes:
        units: Moments of its outputs.
        gains: Squared gradient, over all channels, that each input gets per unit of the output's,
            beside what the windows along the axes change.
    """

    units: Units
    gains: tuple[float, ...]


#: Of the inputs' moments, and of the weights' mean square over one through their fan-in.
Rule = Callable[[Sequence[Units], float], Outcome]


def kept(inputs: Sequence[Units], power: float) -> Outcome:
    """Nothing changes but where the units lie."""
    return Outcome(inputs[0], (1.0,))


def sliced(inputs: Sequence[Units], power: float) -> Outcome:
    """Some of the channels, whose weights are their own."""
    return kept(inputs, power)


def weighted(inputs: Sequence[Units], power: float, strides: tuple[int, ...]) -> Outcome:
    """A convolution or a linear layer with random weights, and its stride along each axis."""
    return Outcome(_scaled(convolved(inputs[0], strides), power), (power,))


def scaled(inputs: Sequence[Units], power: float) -> Outcome:
    """A factor for each channel."""
    units = inputs[0]
    return Outcome(units if power == 1 else _scaled(units, power), (power,))


def _scaled(units: Units, power: float) -> Units:
    """The units times random factors of this mean square."""
    if power == 1:
        return units
    between = power * (units.mean**2 + units.between)
    return Units(0.0, power * units.variance, neighbours=units.neighbours, between=between)


def affine(inputs: Sequence[Units], power: float, factor: float, shift: float) -> Outcome:
    """Times a number, plus another."""
    units = inputs[0]
    if (factor, shift) == (1, 0):
        return Outcome(units, (1.0,))
    if factor > 0:
        out = moved(units, factor, shift)
    else:
        out = Units(
            factor * units.mean + shift,
            factor**2 * units.variance,
            neighbours=units.neighbours,
            between=factor**2 * units.between,
        )
    return Outcome(out, (factor**2,))


def batch_normalised(
    inputs: Sequence[Units], power: float, shares: tuple[float, ...] = (1.0,)
) -> Outcome:
    """Each channel is normalised by its own mean and variance.

    Tensors that were joined along the channels keep their own, so that those that vary less get
    the more of the gradient.
    """
    if not all(units.variance for units in inputs):
        # Of the whole map: what is left differs between images.
        return Outcome(Units(0.0, 0.0, between=power), (0.0,) * len(inputs))
    parts = [(normalised(units), share) for units, share in zip(inputs, shares, strict=True)]
    out = parts[0][0] if len(parts) == 1 else joined(parts)
    gains = (power * share / units.variance for units, share in zip(inputs, shares, strict=True))
    return Outcome(_scaled(out, power), tuple(gains))


def channels_normalised(
    inputs: Sequence[Units], power: float, channels: float = math.inf
) -> Outcome:
    """So many channels are normalised together, at each position or over the map."""
    # The mean of the few channels of a group takes a part of their differences with it.
    units = inputs[0]._replace(between=inputs[0].between * (1 - 1 / channels))
    square = units.variance + units.between
    if not square:
        return Outcome(Units(0.0, 0.0, between=power), (0.0,))
    return Outcome(_scaled(layer_normalised(units), power), (power / square,))


def transform(inputs: Sequence[Units], power: float, function: Function) -> Outcome:
    """A function of each value."""
    out, gain = transformed(inputs[0], function)
    return Outcome(out, (gain,))


def rectify(
    inputs: Sequence[Units], power: float, function: Function, ceiling: float = math.inf
) -> Outcome:
    """A rectifier, which may end at a ceiling, of what is given or of its sum."""
    units = inputs[0] if len(inputs) == 1 else total(inputs)
    deviation = math.sqrt(units.variance)
    if not deviation or units.between or units.mean + _FAR * deviation > ceiling:
        out, gain = transformed(units, function)
        return Outcome(out, (gain,) * len(inputs))
    out = rectified(units)
    assert out.rectifier is not None
    gain = 1 - out.rectifier.closed
    if len(inputs) == 1:
        return Outcome(out, (gain,))
    # What a shortcut carries has passed a rectifier that has seen nearly the same values.
    return Outcome(out, tuple(gain * persistence(each, units) for each in inputs))


def total(inputs: Sequence[Units]) -> Units:
    """Moments of a sum, of which the input that is not normal counts as the shortcut."""
    if not sum(units.variance for units in inputs):
        return Units(sum(u.mean for u in inputs), 0.0, between=sum(u.between for u in inputs))
    skewed = [units for units in inputs if units.rectifier or units.mixture]
    return added(inputs, max(skewed, key=lambda units: units.variance, default=None))


def add(inputs: Sequence[Units], power: float) -> Outcome:
    """A sum."""
    return Outcome(total(inputs), (1.0,) * len(inputs))


def multiply(inputs: Sequence[Units], power: float) -> Outcome:
    """A product of independent units: a gate, or attention to places or channels."""
    one, two = inputs
    means = [units.mean**2 + units.between for units in inputs]
    squares = [mean + units.variance for mean, units in zip(means, inputs, strict=True)]
    apart = means[0] * means[1]
    mean = one.mean * two.mean
    widest = max(inputs, key=lambda units: units.variance)
    out = Units(
        mean,
        squares[0] * squares[1] - apart,
        neighbours=widest.neighbours,
        between=max(0.0, apart - mean**2),
    )
    return Outcome(out, (squares[1], squares[0]))


def concatenate(inputs: Sequence[Units], power: float, shares: tuple[float, ...]) -> Outcome:
    """Tensors joined along the channels, each with its share of them."""
    pairs = list(zip(inputs, shares, strict=True))
    if not sum(units.variance for units in inputs):
        whole = sum(shares)
        mean = sum(share * units.mean for units, share in pairs) / whole
        square = sum(share * (units.between + units.mean**2) for units, share in pairs) / whole
        return Outcome(Units(mean, 0.0, between=square - mean**2), shares)
    return Outcome(joined(pairs), shares)


def pool(
    inputs: Sequence[Units],
    power: float,
    kind: str,
    taps: tuple[int, ...],
    strides: tuple[int, ...],
) -> Outcome:
    """The maximum or an average over a window, with its taps and stride along each axis."""
    behind = pooled(inputs[0], kind, taps, strides, (1,) * len(taps))
    return Outcome(behind, (opened(inputs[0], behind) if kind == "max" else 1.0,))


def resize(
    inputs: Sequence[Units],
    power: float,
    axes: tuple[tuple[tuple[tuple[int, float], ...], ...], ...],
) -> Outcome:
    """Resizing with fixed weights, those of the phases of each axis."""
    phases = [[dict(phase) for phase in along] for along in axes]
    return Outcome(resized(inputs[0], phases, (1,) * len(axes)), (1.0,))


def average(inputs: Sequence[Units], power: float) -> Outcome:
    """A mean over so many positions that it is a constant."""
    units = inputs[-1]
    return Outcome(Units(units.mean, 0.0, between=units.between), (0.0,) * len(inputs))


def highest(inputs: Sequence[Units], power: float, count: int) -> Outcome:
    """The maximum over so many positions that it is a constant."""
    units = inputs[0]
    raised = units.mean + math.sqrt(2 * math.log(max(count, 2)) * units.variance)
    return Outcome(Units(raised, 0.0, between=units.between), (0.0,))


def over_channels(inputs: Sequence[Units], power: float, count: int, divisor: float) -> Outcome:
    """A sum of so many channels, divided by a number."""
    units = inputs[0]
    gain = count / divisor**2
    out = Units(
        units.mean * count / divisor,
        units.variance * gain,
        neighbours=units.neighbours,
        between=units.between * gain,
    )
    return Outcome(out, (gain,))


def scores(inputs: Sequence[Units], power: float) -> Outcome:
    """What compares positions or turns that into weights: of use to an average alone."""
    return Outcome(Units(math.nan, math.nan), (0.0,) * len(inputs))


def diluted(inputs: Sequence[Units], power: float, share: float) -> Outcome:
    """Channels among others that are zero, as their share of them all."""
    units = inputs[0]
    mean = share * units.mean
    between = share * (units.between + units.mean**2) - mean**2
    out = Units(mean, share * units.variance, neighbours=units.neighbours, between=between)
    return Outcome(out, (share,))


def softmax(inputs: Sequence[Units], power: float, count: int) -> Outcome:
    """Weights of so many channels of what the whole map holds, which sum to one."""
    deviation = math.sqrt(inputs[0].between + inputs[0].variance)
    logits = deviation * np.random.default_rng(0).standard_normal((_DRAWS, count))
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    between = float((weights**2).mean()) - 1 / count**2
    return Outcome(Units(1 / count, 0.0, between=max(0.0, between)), (0.0,))
