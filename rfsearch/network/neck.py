"""What a neck is: it makes output maps of the maps of a backbone.

The maps of a backbone are called `C1` (the stem's), `C2` (the first stage's) and so on. Each
comes out of the one before, so what joins several of them lowers to a nested expression: a map
beside what follows from it, brought back to its size. `rfsearch.network.necks` has the kinds.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from rfsearch.basics.sides import Sides, as_text, number
from rfsearch.basics.validation import FrozenData
from rfsearch.field.cost import Cost, FeatureMap, cost
from rfsearch.field.expression import Chain, Node, Resize
from rfsearch.field.saved_activations import saved_values

#: Side of the map that tells whether a part of a backbone divides sizes exactly, in units.
_ENOUGH = 64


class Body(NamedTuple):
    """A backbone: its parts, each with the map that it makes of the one before.

    Attributes:
        parts: The stem and the stages.
        channels: Of each map.
        strides: By how much each part reduces the resolution.
    """

    parts: tuple[Node, ...]
    channels: tuple[int, ...]
    strides: tuple[Sides, ...]

    @property
    def last(self) -> int:
        """Number of the last map: 5 for C5."""
        return len(self.parts)

    def until(self, number: int) -> tuple[Node, ...]:
        """What makes a map of the image."""
        return self.parts[:number]

    def map_channels(self, number: int) -> int:
        """Channels of a map."""
        return self.channels[number - 1]

    def factor(self, fine: int, coarse: int) -> int:
        """How many times smaller one map is than another, along any axis."""
        return math.prod(number(stride, None) for stride in self.strides[fine:coarse])


def divides(part: Node, stride: int) -> bool:
    """Whether a map whose side is a multiple of `stride` becomes exactly that much smaller.

    >>> from rfsearch.field.expression import Convolution
    >>> divides(Convolution(3, 1, 1, stride=2), 2), divides(Convolution(3, 1, 1, stride=4), 4)
    (True, False)
    """
    side = _ENOUGH * stride
    return cost(part, FeatureMap(side, side)).output == FeatureMap(_ENOUGH, _ENOUGH)


class Neck(FrozenData, ABC):
    """What all necks have in common.

    Attributes:
        upsamples: Whether maps of different sizes meet, so that images must be a multiple of the
            last stride.
    """

    upsamples: ClassVar[bool] = True

    kind: str

    @property
    def most_growth(self) -> int:
        """How much larger an output's field may be than the last stage's, in last strides.

        Outputs look at units of the last stage, and at finer maps whose units see no more than
        the unit of the last stage that lies over them. So it is the windows on the way, the
        stride by which units lie apart below one of the last stage's, and rounding at both ends.
        """
        return 0

    @property
    def global_part(self) -> str | None:
        """Through what units see the whole image beside their local field, if they do."""
        return None

    @property
    @abstractmethod
    def num_features(self) -> int:
        """Channels of each output map."""

    @property
    def fewest_stages(self) -> int:
        """Number of stages that it needs."""
        return 1

    @abstractmethod
    def levels(self, last: int) -> tuple[str, ...]:
        """Names of the output maps of a backbone with `last` maps, the finest first."""

    @abstractmethod
    def lower(self, body: Body) -> dict[str, Chain]:
        """The expression from the image to each output map."""

    def follow(self, in_channels: int) -> tuple[Node, ...]:
        """What follows the last stage alone and makes the coarsest output; empty if none does."""
        return ()

    def steps(self, body: Body) -> dict[str, Chain]:
        """The expression from the image to each map that the neck makes, first to last."""
        return dict(reversed(self.lower(body).items()))

    def check(self, body: Body) -> None:
        """Refuse a backbone that the neck cannot follow.

        Raises:
            ValueError: If it has too few stages, or the neck upsamples and a part does not divide
                sizes exactly.
        """
        check_stages(self, body.last - 1)
        if self.upsamples:
            for place, (part, stride) in enumerate(zip(body.parts, body.strides, strict=True)):
                check_divides(part, stride, place)

    def cost(self, body: Body, size: FeatureMap) -> Cost:
        """Parameters and FLOPs of backbone and neck; the size is that of the last output map."""
        (node,) = self.lower(body).values()
        return cost(node, size)

    def saved_values(self, body: Body, size: FeatureMap, in_chans: int) -> float:
        """Values that autograd keeps of one image, of backbone and neck."""
        (node,) = self.lower(body).values()
        return saved_values(node, size, in_chans)


def enlarged(kind: str, factor: int) -> tuple[Resize, ...]:
    """Upsampling, or nothing where the size stays."""
    return (Resize(kind, factor),) if factor > 1 else ()


def check_stages(neck: Neck, stages: int) -> None:
    """Refuse a backbone of too few stages.

    Raises:
        ValueError: If there are fewer than the neck needs.
    """
    if stages < neck.fewest_stages:
        raise ValueError(
            f"This {neck.kind!r} neck needs {neck.fewest_stages} stages or more, but got {stages}."
        )


def check_divides(part: Node, stride: Sides, place: int) -> None:
    """Refuse a part that a neck that upsamples cannot follow.

    Args:
        part: The stem's expression, or a stage's.
        stride: By how much it reduces the resolution.
        place: 0 for the stem, 1 for the first stage.

    Raises:
        ValueError: If the part's map is not exactly `stride` times smaller, or `stride` differs
            between axes.
    """
    named = f"stage {place}" if place else "the stem"
    if not isinstance(stride, int):
        raise ValueError(
            "Where a neck upsamples, strides must be the same along all axes, but got "
            f"{as_text(stride)} in {named}."
        )
    if not divides(part, stride):
        raise ValueError(
            "Where a neck upsamples, maps must become exactly `stride` times smaller, but got "
            f"stride {stride} in {named}, whose padding adds units; use 1, 2 or a pooling."
        )
