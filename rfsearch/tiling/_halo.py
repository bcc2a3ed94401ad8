"""The pixels around a tile that the units inside it see."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rfsearch.basics.axes import by_x
from rfsearch.basics.validation import checked_size
from rfsearch.field.receptive_field import ReceptiveField
from rfsearch.trace.trace import trace_receptive_field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rfsearch.models.resolve import Model
    from rfsearch.trace.result import TracedModel
    from rfsearch.trace.traced_map import TracedMap


@dataclass(frozen=True)
class Halos:
    """What tiles of a network need around them.

    Attributes:
        traced: The network, at some size.
        multiples: Along each axis in px, what sides of tiles, halos and images are multiples of,
            so that the units of all layers lie in a tile as they do in the image.
        image_size: Sides of the image in px, rounded up to such multiples.
        units: Along each axis, how many the map of the image has.
    """

    traced: TracedModel
    multiples: tuple[int, ...]
    image_size: tuple[int, ...]
    units: tuple[int, ...]

    @property
    def output(self) -> TracedMap:
        """The one map that the network gives."""
        return self.traced.output

    def exact(self) -> tuple[int, ...]:
        """Pixels around a tile along each axis in which all that its units see lies."""
        reach = []
        for axis, multiple in enumerate(self.multiples):
            units = round(multiple / self.output.stride[axis])
            fields = [
                self.output.interval((unit,) * len(self.multiples))[axis] for unit in range(units)
            ]
            before = -min(start for start, _ in fields)
            after = max(stop for _, stop in fields) - multiple
            reach.append(max(0, before, after))
        return rounded_up(reach, self.multiples)

    def of_share(self, share: float) -> tuple[int, ...]:
        """Pixels around a tile along each axis that hold a share of what its units see.

        It is the share of the expected |gradient| of a random initialisation that a unit at the
        edge of a tile has left at least.

        Args:
            share: From 0, excluded, to 1, which is `exact`.

        Raises:
            ValueError: If `share` is none, or the expected ERF is not known.
        """
        if not 0 < share <= 1:
            raise ValueError(f"`0 < share <= 1` must hold, but got {share}.")
        if share == 1:
            return self.exact()
        side = self.traced.expected_erf().square(share)
        every = zip(self.output.axes.values(), self.exact(), strict=True)
        reach = [min(most, _beside(field, side)) for field, most in every]
        return rounded_up(reach, self.multiples)


def _beside(field: ReceptiveField, side: int) -> float:
    """How far a centred square of a unit's field reaches beyond the unit's own pixels."""
    before, after = field.center - (side - 1) / 2, field.center + (side - 1) / 2 + 1
    return max(0.0, -before, after - field.stride)


def halos(
    model: Model,
    tile_size: int | tuple[int, ...],
    image_size: int | tuple[int, ...],
    in_chans: int | None = None,
) -> Halos:
    """What tiles of a network need around them.

    Args:
        model: As for `trace_receptive_field`; it gives one map.
        tile_size: Sides of a tile in px, or about.
        image_size: Those of the image, or the next smaller ones.
        in_chans: Channels of the input.

    Raises:
        ValueError: If it cannot be traced, gives something else, sees the whole image, or sees
            images of another size in another way.
    """
    traced = trace_receptive_field(model, tile_size, in_chans=in_chans)
    if len(traced.outputs) != 1 or traced.unfollowed:
        names = ", ".join([*traced.outputs, *traced.unfollowed])
        raise ValueError(f"A network that is tiled must give one map, but this one gives {names}.")
    if traced.global_layers or traced.output.is_global:
        layer = next(iter(traced.global_layers), "(model)")
        raise ValueError(
            f"`{layer}` sees all of its input: a tile would not give what the image gives there. "
            "Of a classifier, tile the features before its pooling."
        )
    multiples = traced.period
    sides = rounded_up(checked_size(image_size, len(multiples)), multiples)
    whole = trace_receptive_field(model, sides, in_chans=in_chans)
    if _seen(whole) != _seen(traced):
        raise ValueError(
            f"What a unit sees of {by_x(whole.input_size)} px is not what it sees of "
            f"{by_x(traced.input_size)} px: a tile would not give what the image gives."
        )
    return Halos(traced, multiples, sides, tuple(whole.output.units))


def rounded_up(sides: Sequence[float], multiples: Sequence[int]) -> tuple[int, ...]:
    """Sides, each as the next multiple."""
    pairs = zip(sides, multiples, strict=True)
    return tuple(math.ceil(side / multiple) * multiple for side, multiple in pairs)


def _seen(traced: TracedModel) -> tuple[object, ...]:
    output = traced.output
    return traced.period, tuple(output.axes.values()), output.stride, output.sizes
