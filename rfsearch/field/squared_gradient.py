"""The expected squared gradient of a node, and of a whole map, as others read them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from rfsearch.field.moments import Units
from rfsearch.field.profiles import Profile, unit
from rfsearch.field.receptive_field import ReceptiveField

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Place(NamedTuple):
    """Where the squared gradient of an output unit arrives along one axis.

    Attributes:
        mean: Centre of mass of its profile, in px of the node's input, for output unit 0.
        variance: Variance of the profile, in px^2 of the node's input.
        stride: Input pixels between output units.
    """

    mean: float
    variance: float
    stride: float

    def then(self, before: Place) -> Place:
        """The place of a unit whose gradient arrives here on its way to what lies before."""
        return Place(
            before.mean + before.stride * self.mean,
            before.variance + before.stride**2 * self.variance,
            before.stride * self.stride,
        )


#: Of a node without a window.
STAY = Place(0.0, 0.0, 1)


class Reading(NamedTuple):
    """What a node does to the expected squared gradient on its way back to the node's input.

    Attributes:
        units: Moments of the node's outputs.
        gain: Total squared gradient at the input per unit of it at the output. A factor that all
            branches of a sum share (the ratio of channels) is left out.
        places: Along each axis of those that are not alike, what it does to the place.
        pull: Takes a profile over the output units to the profile over the input.
    """

    units: Units
    gain: float
    places: tuple[Place, ...]
    pull: Callable[[Profile], Profile]

    def along_axis(self, axis: int) -> NDArray[np.float64]:
        """The profile of an output unit along one axis, `(pixels,)`, summing to 1."""
        power = self.pull(unit((axis,))).values
        total: float = power.sum()
        return power / total


class Spread(NamedTuple):
    """Where the squared gradient of a map's unit 0 arrives along one axis of the input.

    Attributes:
        mean: Its mean place in px.
        variance: Its variance in px^2.
        field: The theoretical receptive field of the units.
    """

    mean: float
    variance: float
    field: ReceptiveField

    @property
    def about_center(self) -> float:
        """Mean squared distance from the centre of the field, in px^2."""
        return self.variance + (self.mean - self.field.center) ** 2


class SquaredGradient(ABC):
    """The squared gradient that a random initialisation has on average, of one output map."""

    @property
    @abstractmethod
    def spreads(self) -> tuple[Spread, ...]:
        """Where it arrives along each axis; behind an upsampling, over all phases."""

    @property
    @abstractmethod
    def is_uniform(self) -> bool:
        """Whether all units of the map have the same field, so that the spread is unit 0's."""

    @abstractmethod
    def power(self) -> NDArray[np.float64]:
        """That of unit 0, such as `(height, width)`, over its theoretical receptive field."""
