"""The effective receptive field that a random initialisation has on average, in closed form.

It is read off the expected squared gradient of an expression (`rfsearch.field.gradients`), or
of the operations of any network (`rfsearch.tape`): no weights and no image are needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from rfsearch.basics.axes import SQUARE, Alike
from rfsearch.field.erf_map import ERF_SHARE, ErfMap
from rfsearch.field.expression import Node, along
from rfsearch.field.gradients import read
from rfsearch.field.node_fields import parts_of, receptive_field, uniform_field
from rfsearch.field.profiles import unit
from rfsearch.field.squared_gradient import Reading, Spread, SquaredGradient

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Largest theoretical receptive field, in px, whose map is computed to find the ERF size.
LARGEST_EXACT_SIZE = 1024


def sigmas_per_size(axes: int, share: float = ERF_SHARE) -> float:
    """ERF size over sigma for a normal profile of so many axes.

    Its |gradient| has a standard deviation of sqrt(2) sigma per axis. Where there are two, 2.2365
    of them on either side hold sqrt(0.95) of it along each axis.

    Args:
        axes: How many there are.
        share: Of the |gradient|, below 1, that the size holds.

    >>> f"{sigmas_per_size(1):.2f} {sigmas_per_size(2):.2f}"
    '5.54 6.33'
    """
    along_one = share ** (1 / axes)
    return 2 * round(NormalDist().inv_cdf((1 + along_one) / 2), 4) * math.sqrt(2)


@dataclass(frozen=True)
class NodeGradient(SquaredGradient):
    """That of an expression, from the network input to one output map.

    Attributes:
        node: The expression.
        axes: Those that it has.
    """

    node: Node
    axes: Alike = SQUARE

    @cached_property
    def _reading(self) -> Reading:
        return read(self.node, axes=self.axes)

    @cached_property
    def spreads(self) -> tuple[Spread, ...]:
        """Along each axis; axes that are alike share one."""
        found: list[Spread] = []
        for axis, (place, number) in enumerate(zip(self._reading.places, self.axes, strict=True)):
            field = receptive_field(along(self.node, axis))
            found += [Spread(place.mean, place.variance, field)] * number
        return tuple(found)

    @cached_property
    def is_uniform(self) -> bool:
        """Whether it holds no upsampling."""
        return uniform_field(along(self.node, 0)) is not None

    def power(self) -> NDArray[np.float64]:
        """The profile of the reading."""
        every = [axis for axis, number in enumerate(self.axes) for _ in range(number)]
        return self._reading.pull(unit(every)).values


def squared_gradient(node: Node, axes: Alike = SQUARE) -> SquaredGradient:
    """That of an expression, whatever parts it has."""
    part = next(parts_of(node), None)
    return NodeGradient(node, axes) if part is None else part.gradient_of(node)


@dataclass(frozen=True)
class ExpectedERF:
    """Expected effective receptive field at random initialisation.

    `sigma` costs less than the map, which is computed on first use, and with it `size`; but behind
    an upsampling, where units differ, `sigma` is the map's too.

    Attributes:
        source: An expression of square windows, from the network input to one output map, or the
            squared gradient that was carried back through a network.
        axis: Number of the axis that all but the maps is said of, where axes differ.

    Raises:
        ValueError: If it is given anything else, such as a module.
    """

    source: Node | SquaredGradient
    axis: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.source, Node | SquaredGradient):
            raise ValueError(
                "`ExpectedERF` must be given an expression, but got "
                f"{type(self.source).__name__}: `rfsearch.expected_erf(model)` is for modules, "
                "names of timm's and architectures."
            )

    @cached_property
    def _gradient(self) -> SquaredGradient:
        if isinstance(self.source, SquaredGradient):
            return self.source
        return squared_gradient(self.source)

    @cached_property
    def theoretical_size(self) -> int:
        """Side of the theoretical receptive field in px, the longer one."""
        return max(spread.field.size for spread in self._spreads)

    @property
    def _spreads(self) -> tuple[Spread, ...]:
        every = self._gradient.spreads
        return every if self.axis is None else (every[self.axis],)

    @cached_property
    def _is_exact(self) -> bool:
        sizes = [spread.field.size for spread in self._gradient.spreads]
        return math.prod(sizes) <= LARGEST_EXACT_SIZE**2

    @property
    def sigma(self) -> float:
        """RMS radius per axis of the expected squared gradient about the centre, in px."""
        if self._is_exact and not self._gradient.is_uniform:
            # Unit 0's; the closed form is the mean over all phases.
            profile = self.profile
            return profile.sigma if self.axis is None else profile.sigmas[self.axis]
        spreads = self._spreads
        return math.sqrt(sum(spread.about_center for spread in spreads) / len(spreads))

    @cached_property
    def profile(self) -> ErfMap:
        """The maps over the theoretical receptive field, such as `(height, width)`.

        A pixel's gradient is a sum over many random weights, so nearly normally distributed:
        its expected magnitude goes with the root of its expected square.
        """
        power = self._gradient.power()
        magnitude = np.sqrt(power)
        return ErfMap(
            map=magnitude / magnitude.sum(),
            power=power / power.sum(),
            center=tuple((side - 1) / 2 for side in power.shape),
            theoretical_size=max(spread.field.size for spread in self._gradient.spreads),
            theoretical_sizes=tuple(spread.field.size for spread in self._gradient.spreads),
        )

    @property
    def map(self) -> NDArray[np.float64]:
        """Expected |gradient| over the theoretical receptive field, which sums to 1."""
        return self.profile.map

    @cached_property
    def size(self) -> int:
        """ERF size in px: side of the smallest centred square with 95 % of the |gradient|.

        Above a theoretical receptive field of 1,024 x 1,024 px, where the map would be large, it
        is the size of a normal profile with this `sigma`.
        """
        if self._is_exact and self.axis is not None:
            return self.profile.sizes[self.axis]
        return self.square(ERF_SHARE)

    def square(self, share: float) -> int:
        """Side in px of the smallest centred square that holds `share` of the |gradient|.

        Above the same field it is that of a normal profile.

        Raises:
            ValueError: If `share` is not in (0, 1].
        """
        if self._is_exact or not 0 < share < 1:
            return self.profile.square(share) if share != 1 else self.theoretical_size
        normal = sigmas_per_size(len(self._gradient.spreads), share) * self.sigma
        return min(self.theoretical_size, round(normal))

    @property
    def ratio(self) -> float:
        """ERF ratio: ERF size over theoretical receptive field size, along one axis."""
        return self.size / self.theoretical_size

    def _repr_svg_(self) -> str | None:
        """The map for notebooks, unless it would be large."""
        return self.profile._repr_svg_() if self._is_exact else None
