"""The effective receptive field that a random initialisation has on average, in closed form.

It is read off the expected squared gradient (`rfsearch.field.gradients`): no network and no image
is needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from rfsearch.field._profiles import Profile
from rfsearch.field.erf_map import Center, ErfMap
from rfsearch.field.expression import Node
from rfsearch.field.gradients import Reading, read
from rfsearch.field.node_fields import receptive_field, uniform_field

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rfsearch.field.receptive_field import ReceptiveField

#: Largest theoretical receptive field, in px, whose map is computed to find the ERF size.
LARGEST_EXACT_SIZE = 1024
#: ERF size over sigma for a normal profile: its |gradient| has a standard deviation of sqrt(2)
#: sigma per axis, and 2.2365 of them on either side hold sqrt(0.95) of it along each axis.
SIGMAS_PER_SIZE = 2 * 2.2365 * math.sqrt(2)


@dataclass(frozen=True)
class ExpectedERF:
    """Expected effective receptive field of an expression at random initialisation.

    `sigma` costs less than the map, which is computed on first use, and with it `size`; but behind
    an upsampling, where units differ, `sigma` is the map's too.

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
    def _is_exact(self) -> bool:
        return self.theoretical_size <= LARGEST_EXACT_SIZE

    @property
    def sigma(self) -> float:
        """RMS radius per axis of the expected squared gradient about the centre, in px."""
        if self._is_exact and uniform_field(self.node) is None:
            return self.profile.sigma  # Unit 0's; the closed form is the mean over all phases.
        off_center = self._reading.mean - self._field.center
        return math.sqrt(self._reading.variance + off_center**2)

    @cached_property
    def profile(self) -> ErfMap:
        """The maps over the theoretical receptive field, `(theoretical_size, theoretical_size)`.

        A pixel's gradient is a sum over many random weights, so nearly normally distributed:
        its expected magnitude goes with the root of its expected square.
        """
        power = self._reading.pull(Profile(np.ones((1, 1)), 0)).values
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
        if self._is_exact:
            return self.profile.size
        return min(self.theoretical_size, round(SIGMAS_PER_SIZE * self.sigma))

    @property
    def ratio(self) -> float:
        """ERF ratio: ERF size over theoretical receptive field size, along one axis."""
        return self.size / self.theoretical_size

    def _repr_svg_(self) -> str | None:
        """The map for notebooks, unless it would be large."""
        return self.profile._repr_svg_() if self._is_exact else None
