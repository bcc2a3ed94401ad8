"""What a part of a network adds to a candidate, as numbers that compose from part to part."""

from __future__ import annotations

import math
from functools import reduce
from operator import mul
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rfsearch.basics.axes import Alike
from rfsearch.field.cost import FeatureMap, cost
from rfsearch.field.expression import Node, along
from rfsearch.field.gradients import read
from rfsearch.field.moments import INPUT, Units
from rfsearch.field.node_fields import is_global, receptive_field
from rfsearch.field.saved_activations import Saved, saved

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


#: Units whose variances differ by less than this factor's logarithm are taken as alike.
_LOG_STEP = 0.2


class Situation(NamedTuple):
    """What the effect of a part depends on beside itself.

    Attributes:
        channels: Channels of its input.
        units: Number of the distribution of its input's units.
        size: Height and width of its input.
        held: Whether autograd keeps its input anyway.
        sees_everything: Whether a part before it mixed the whole image.
    """

    channels: int
    units: int
    size: FeatureMap
    held: bool
    sees_everything: bool = False


class Effect(NamedTuple):
    """What a part adds.

    Attributes:
        growth: To the size of the theoretical receptive field, in px of its input, along each
            axis that the space tells apart.
        stride: Factor to the stride, along each.
        variance: To the variance of the expected ERF, in px^2 of its input, along each.
        parameters: To the number of parameters.
        flops: To the floating-point operations.
        saved: To the values that autograd keeps of an image.
        after: The situation behind it.
    """

    growth: tuple[int, ...]
    stride: tuple[int, ...]
    variance: tuple[float, ...]
    parameters: int
    flops: int
    saved: float
    after: Situation

    def then(self, following: Effect) -> Effect:
        """The effect of both, one after the other."""
        steps = self.stride
        growths = zip(self.growth, steps, following.growth, strict=True)
        variances = zip(self.variance, steps, following.variance, strict=True)
        return Effect(
            tuple(growth + step * more for growth, step, more in growths),
            tuple(map(mul, steps, following.stride)),
            tuple(variance + step**2 * more for variance, step, more in variances),
            self.parameters + following.parameters,
            self.flops + following.flops,
            self.saved + following.saved,
            following.after,
        )


class Effects:
    """Looks up effects, computing each once.

    Args:
        erf: Whether the variance is wanted; else it is 0.
        cost: Whether parameters and operations are wanted; else they are 0.
        saved: Whether what autograd keeps is wanted, which goes with costs; else it is 0.
        context: Whether it is wanted who sees the whole image; else nobody does.
        channels: Whether receptive fields may depend on channels, as in blocks of users' own.
        axes: Those that the space tells apart.
    """

    def __init__(
        self, *, erf: bool, cost: bool, saved: bool, context: bool, channels: bool, axes: Alike
    ) -> None:
        self._erf, self._cost, self._saved, self._axes = erf, cost, saved, axes
        self._context = context
        self._keeps_channels = erf or cost or channels
        self._units: list[Units] = []
        self._numbers: dict[object, int] = {}
        self._known: dict[tuple[Node, Situation], Effect | None] = {}
        self._profiles: dict[tuple[Node, int, int], NDArray[np.float64]] = {}

    def start(self, in_chans: int, input_size: tuple[int, ...]) -> Situation:
        """The situation at the input image."""
        size = FeatureMap(*input_size) if self._cost else FeatureMap()
        return Situation(in_chans, self._number(INPUT), size, held=False)

    def of(self, nodes: Iterable[Node], before: Situation, channels: int) -> Effect | None:
        """Effect of nodes in a row that end with so many channels; None if they do not fit."""
        none = (0,) * len(self._axes)
        effects = [Effect(none, (1,) * len(self._axes), none, 0, 0, 0, before)]
        for node in nodes:
            effect = self._one(node, effects[-1].after)
            if effect is None:
                return None
            effects.append(effect)
        total = reduce(Effect.then, effects)
        # Channels matter where shortcuts and costs do, not to a theoretical receptive field.
        kept = channels if self._keeps_channels else before.channels
        return total._replace(after=total.after._replace(channels=kept))

    def profile(self, nodes: Iterable[Node], before: Situation, axis: int) -> NDArray[np.float64]:
        """The expected squared gradient of nodes in a row along one axis, summing to 1."""
        whole, stride = np.ones(1), 1
        for node in nodes:
            key = (node, before.units, axis)
            if key not in self._profiles:
                reading = read(node, self._units[before.units], self._axes)
                self._profiles[key] = reading.along_axis(axis)
            part = self._profiles[key]
            spaced = np.zeros((len(part) - 1) * stride + 1)
            spaced[::stride] = part
            whole = np.convolve(whole, spaced)
            effect = self._one(node, before)
            assert effect is not None  # It was asked for before.
            stride, before = stride * effect.stride[axis], effect.after
        return whole

    def _one(self, node: Node, before: Situation) -> Effect | None:
        if not self._saved:  # Channels that matter stand in the node.
            before = before._replace(channels=0)
        key = (node, before)
        if key not in self._known:
            self._known[key] = self._compute(node, before)
        return self._known[key]

    def _compute(self, node: Node, before: Situation) -> Effect | None:
        fields = [receptive_field(along(node, axis)) for axis in range(len(self._axes))]
        variance: tuple[float, ...] = (0.0,) * len(fields)
        units, needs = before.units, (0, 0, before.size)
        kept = Saved(0, before.size, before.channels, before.held, input_held=False)
        if self._erf:
            reading = read(node, self._units[before.units], self._axes)
            variance = tuple(place.variance for place in reading.places)
            units = self._number(reading.units)
        if self._cost:
            try:
                needs = cost(node, before.size)
                if self._saved:
                    kept = saved(node, kept)
            except ValueError:
                return None
        parameters, flops, size = needs
        sees_everything = before.sees_everything or (self._context and is_global(node))
        after = Situation(kept.channels, units, size, kept.held, sees_everything)
        growth = tuple(field.size - 1 for field in fields)
        stride = tuple(field.stride for field in fields)
        return Effect(growth, stride, variance, parameters, flops, kept.values, after)

    def _number(self, units: Units) -> int:
        """A number that units with nearly the same weight in a sum share."""
        closed = units.rectifier.closed if units.rectifier else -1.0
        power = units.variance + units.between  # What a layer normalisation divides by.
        key = (
            round(math.log(units.variance) / _LOG_STEP),
            round(math.log(power) / _LOG_STEP),
            round(closed / _LOG_STEP),
        )
        if key not in self._numbers:
            self._numbers[key] = len(self._units)
            self._units.append(units)
        return self._numbers[key]
