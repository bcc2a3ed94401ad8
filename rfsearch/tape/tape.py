"""A tape of the operations of a network, and what it says of the expected squared gradient.

Moments of units go forward along the tape, and with them, for every tensor, where the squared
gradient of its unit 0 arrives at the input: its mass, its mean place and its variance along each
axis. A map is pulled back along the tape from one tensor to the input. Both follow from the same
steps; branches that meet add up by their gains, as in `rfsearch.field.gradients`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rfsearch.field.coverage import Coverage
from rfsearch.field.moments import INPUT, Units
from rfsearch.field.receptive_field import ReceptiveField
from rfsearch.field.squared_gradient import Spread, SquaredGradient
from rfsearch.field.windows import ALL, Read, read_through
from rfsearch.tape._axes import STAY, AxisWindow
from rfsearch.tape._rules import Rule, average, over_channels, scores, sliced, weighted

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Mean squares of the network's weights by name.
WeightPowers = Mapping[str, float]


class NoRuleError(ValueError):
    """The expected squared gradient cannot be carried back through an operation."""


class Weights(NamedTuple):
    """Weights of an operation.

    Attributes:
        name: Of the parameter; empty for what is computed from parameters.
        fan_in: One over the mean square that they have at a random initialisation.
    """

    name: str
    fan_in: float = 1.0


@dataclass(frozen=True, slots=True)
class Step:
    """One operation.

    Attributes:
        parents: Numbers of the steps whose outputs it takes.
        rule: What it does to units and gradients, or why that is not known.
        place: The operation and its layer, for messages.
        lattice: Units along each axis; none of what is refused.
        windows: What it does along each axis.
        is_local: Whether its units see a part of the image alone, wherever they get it from.
        weights: Its weights, if it has any.
    """

    parents: tuple[int, ...]
    rule: Rule | str
    place: str
    lattice: tuple[int, ...] = ()
    windows: tuple[AxisWindow, ...] = ()
    is_local: bool = True
    weights: Weights | None = None

    @property
    def mixes(self) -> bool:
        """Whether each output is a sum of independent terms, of many inputs or by its weights."""
        return getattr(self.rule, "func", self.rule) in (weighted, over_channels, sliced)

    @property
    def is_refused(self) -> bool:
        """Whether nothing is known of its output."""
        return isinstance(self.rule, str) and bool(self.rule)


class Arrival(NamedTuple):
    """Where the squared gradient of a tensor's unit 0 arrives along one axis of the input.

    Attributes:
        mean: Its mean place in px.
        variance: Its variance in px^2.
        jump: Input pixels between neighbouring units.
    """

    mean: float
    variance: float
    jump: float


class State(NamedTuple):
    """What is known of the output of a step.

    Attributes:
        units: Their moments.
        gains: Squared gradient that each parent gets per unit of this one's.
        mass: Squared gradient that arrives at the input; 0 of what is a constant locally.
        arrivals: Where it arrives along each axis; none of what is a constant locally.
        pooled: The steps that a constant was made of.
        failure: Why nothing is known, if that is so.
    """

    units: Units
    gains: tuple[float, ...] = ()
    mass: float = 0.0
    arrivals: tuple[Arrival, ...] = ()
    pooled: tuple[int, ...] = ()
    failure: str = ""


class Patch(NamedTuple):
    """A map of squared gradients over all axes, and where its first pixel lies."""

    values: NDArray[np.float64]
    first: tuple[int, ...]


class Tape:
    """The steps of a network, the images first, each after those whose outputs it takes."""

    def __init__(self, input_size: tuple[int, ...]) -> None:
        self.steps = [Step((), "", "the images", input_size)]
        # For each step, as a set of bits, the steps with random weights that it is made of
        # without others in between.
        self._sources = [1]

    def append(self, step: Step) -> int:
        """Add a step, and say its number."""
        number, sources = len(self.steps), 0
        if step.mixes:
            sources = 1 << number
        elif step.is_local:
            sources = reduce(or_, (self._sources[parent] for parent in step.parents), 0)
        self.steps.append(step)
        self._sources.append(sources)
        return number

    def are_independent(self, numbers: Iterable[int]) -> bool:
        """Whether random weights lie between the outputs of steps and whatever they share."""
        seen = 0
        for number in numbers:
            if seen & self._sources[number]:
                return False
            seen |= self._sources[number]
        return True

    def play(self, powers: WeightPowers | None = None, units: Units = INPUT) -> Playing:
        """Carry moments forward, as far as they are asked for.

        Args:
            powers: Mean squares of the weights by name; `None` for a random initialisation.
            units: Moments of the images, or of the map that stands in their place.
        """
        return Playing(self, powers, units)


def _state(step: Step, states: list[State], powers: WeightPowers | None) -> State:
    given = [states[parent] for parent in step.parents]
    for state in given:
        if state.failure:
            raise NoRuleError(state.failure)
    if isinstance(step.rule, str):
        raise NoRuleError(step.rule)
    power = 1.0
    if powers is not None and step.weights is not None:
        if not step.weights.name:
            raise NoRuleError(
                f"The weights of {step.place} are computed from others, whose variance is not "
                'known: take `initialisation="fan_in"`.'
            )
        power = powers[step.weights.name] * step.weights.fan_in
    if step.rule is not average and any(math.isnan(state.units.mean) for state in given):
        if any(state.mass for state in given) and step.rule is not scores:
            raise NoRuleError(
                f"The expected squared gradient cannot be carried back through {step.place}: it "
                "weighs positions or channels by others."
            )
        units, gains = scores((), power)._replace(gains=(0.0,) * len(given))
    else:
        units, gains = step.rule([state.units for state in given], power)
    gains = tuple(
        gain if state.mass and step.is_local else 0.0
        for gain, state in zip(gains, given, strict=True)
    )
    shares = [gain * state.mass for gain, state in zip(gains, given, strict=True)]
    mass = sum(shares)
    if not mass:
        return State(units, gains, pooled=_pooled(step, states))
    seen = [
        (share / mass, state.arrivals)
        for share, state in zip(shares, given, strict=True)
        if share and state.arrivals
    ]
    axes = tuple(
        _arrival(window, [(share, arrivals[axis]) for share, arrivals in seen])
        for axis, window in enumerate(step.windows)
    )
    gain = math.prod(window.gain for window in step.windows)
    return State(units, gains, mass * gain, axes)


def _arrival(window: AxisWindow, seen: list[tuple[float, Arrival]]) -> Arrival:
    """Where it arrives behind a window on tensors that get these shares."""
    _, (mean, variance, jump) = seen[0]
    if len(seen) > 1:
        mean = sum(share * arrival.mean for share, arrival in seen)
        second = sum(share * (arrival.variance + arrival.mean**2) for share, arrival in seen)
        variance = second - mean**2
    if window is STAY:
        return Arrival(mean, variance, jump)
    return Arrival(
        mean + jump * window.mean, variance + jump**2 * window.variance, jump * window.jump
    )


def _pooled(step: Step, states: list[State]) -> tuple[int, ...]:
    found: dict[int, None] = {}
    for parent in step.parents:
        found |= dict.fromkeys((parent,) if states[parent].mass else states[parent].pooled)
    return tuple(found)


class Playing:
    """A tape whose moments are known as far as they were asked for."""

    def __init__(self, tape: Tape, powers: WeightPowers | None, units: Units) -> None:
        self._tape = tape
        self._powers = powers
        pixels = (Arrival(0.0, 0.0, 1.0),) * len(tape.steps[0].lattice)
        self._states = [State(units, (), 1.0, pixels)]

    def state(self, number: int) -> State:
        """What is known of the output of a step."""
        for step in self._tape.steps[len(self._states) : number + 1]:
            try:
                state = _state(step, self._states, self._powers)
            except NoRuleError as reason:
                state = State(INPUT, failure=str(reason))
            self._states.append(state)
        return self._states[number]

    def located(self, number: int, name: str) -> int:
        """The step whose units have places: a step itself, or the one that it pools.

        Args:
            number: Of the step.
            name: Of its output, for messages.

        Raises:
            ValueError: If no rule leads there, or several maps were pooled.
        """
        state = self.state(number)
        if state.failure:
            raise NoRuleError(state.failure)
        if state.mass:
            return number
        if len(state.pooled) == 1:
            return state.pooled[0]
        raise ValueError(
            f"`{name}` has no positions, and is made of {len(state.pooled)} maps: name one of "
            "their layers."
        )

    def arrivals(self, number: int) -> tuple[Arrival, ...]:
        """Where the squared gradient of unit 0 arrives along each axis."""
        return self.state(number).arrivals

    def coverage(self, number: int, axis: int, unit: int) -> Coverage:
        """The input pixels that a unit touches along one axis, wherever it gets its values from.

        Args:
            number: The step that the unit is of.
            axis: Number of the axis.
            unit: Its number along the axis; the pixels are those of unit 0 if all are alike.
        """
        arrived = {number: {unit}}
        for current in range(number, 0, -1):
            units = arrived.pop(current, None)
            if units is None:
                continue
            step = self._tape.steps[current]
            seen = step.windows[axis].window.looked_at(units)
            for parent, gain in zip(step.parents, self.state(current).gains, strict=True):
                if gain:
                    arrived.setdefault(parent, set()).update(seen)
        pixels = arrived[0]
        start = min(pixels)
        mask = sum(1 << pixel - start for pixel in pixels)
        return Coverage(start, mask, round(self.arrivals(number)[axis].jump))

    def reads(self, number: int, axis: int) -> list[tuple[Read, str]]:
        """What is read along one axis of each tensor that a step is made of, the images first.

        Beside each is the place of the first operation that reads it.
        """
        found: dict[int, tuple[Read, str]] = {}
        for current in range(number, 0, -1):
            if current != number and current not in found:
                continue
            step = self._tape.steps[current]
            for parent, gain in zip(step.parents, self.state(current).gains, strict=True):
                if gain:
                    read = read_through(step.windows[axis].window)
                    others, _ = found.get(parent, (read, ""))
                    found[parent] = read.united(others), step.place
        return [found[parent] for parent in sorted(found)] or [(ALL, "")]

    def pull(self, number: int, patch: Patch | None = None) -> Patch:
        """The squared gradient of unit 0, or of a patch of units, over the pixels of the input."""
        num_axes = len(self._tape.steps[0].lattice)
        unit = Patch(np.ones((1,) * num_axes), (0,) * num_axes)
        arrived: dict[int, list[tuple[float, Patch]]] = {number: [(1.0, patch or unit)]}
        for current in range(number, 0, -1):
            parts = arrived.pop(current, None)
            if parts is None:
                continue
            step, pulled = self._tape.steps[current], _sum(parts)
            for axis, window in enumerate(step.windows):
                pulled = _pulled(pulled, axis, window)
            for parent, gain in zip(step.parents, self.state(current).gains, strict=True):
                if gain:
                    arrived.setdefault(parent, []).append((gain, pulled))
        return _sum(arrived[0])


def _sum(parts: list[tuple[float, Patch]]) -> Patch:
    if len(parts) == 1:
        gain, only = parts[0]
        return only if gain == 1 else only._replace(values=gain * only.values)
    starts = np.array([patch.first for _, patch in parts])
    stops = starts + [patch.values.shape for _, patch in parts]
    first = starts.min(axis=0)
    values = np.zeros(stops.max(axis=0) - first)
    for (gain, patch), start, stop in zip(parts, starts - first, stops - first, strict=True):
        values[tuple(map(slice, start, stop))] += gain * patch.values
    return Patch(values, tuple(first.tolist()))


def _pulled(patch: Patch, axis: int, window: AxisWindow) -> Patch:
    """The map one operation further back along one axis."""
    if window is STAY:
        return patch
    ahead = patch.values.swapaxes(0, axis)
    rows, start = window.pull(ahead.reshape(len(ahead), -1), patch.first[axis])
    values = rows.reshape(len(rows), *ahead.shape[1:]).swapaxes(0, axis)
    return Patch(values, (*patch.first[:axis], start, *patch.first[axis + 1 :]))


@dataclass(frozen=True, eq=False)
class TapedGradient(SquaredGradient):
    """The expected squared gradient of one tensor.

    Attributes:
        playing: The tape that it is on.
        number: The step that made it.
        fields: Theoretical receptive field of its units along each axis.
        periods: After how many units along each axis the sizes of these repeat.
    """

    playing: Playing
    number: int
    fields: tuple[ReceptiveField, ...]
    periods: tuple[int, ...]

    @property
    def is_uniform(self) -> bool:
        """Whether all units have the same field."""
        return all(period == 1 for period in self.periods)

    @property
    def spreads(self) -> tuple[Spread, ...]:
        """Where it arrives along each axis."""
        return tuple(
            Spread(arrival.mean, arrival.variance, field)
            for arrival, field in zip(self.playing.arrivals(self.number), self.fields, strict=True)
        )

    def power(self) -> NDArray[np.float64]:
        """That of unit 0, pulled back to the pixels."""
        return self.playing.pull(self.number).values
