"""The size of an image that holds all that a unit can see."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rfsearch.measure.unit import Unit
    from rfsearch.models.resolved import ResolvedModel

#: Largest side that is chosen, in px, by the number of axes: beyond, measuring would take minutes.
LARGEST_SIDE = {1: 65_536, 2: 1024, 3: 128}
#: In px: what most networks want their images to be a multiple of.
_MULTIPLE = 32


def unclipped(model: ResolvedModel, find: Callable[[ResolvedModel], Unit]) -> ResolvedModel:
    """The model with images that hold the receptive field of the unit in the middle.

    Images that hold it already stay as they are, and so do those of a model that takes no others.
    A field of more than `LARGEST_SIDE` is cut as little as images of that size can.

    Args:
        model: The model with the images to begin with.
        find: The unit in the middle of the map that is looked at.

    Raises:
        ValueError: As `find` does.
    """
    unit, largest = find(model), LARGEST_SIDE[model.num_axes]
    if not unit.clipped(model.input_size) > 0:  # It is not known of what cannot be traced.
        return model
    found = model
    for extra in range(4):  # The middle unit does not lie in the middle of all images.
        larger = tuple(
            max(side, min(largest, (-(-axis.size // _MULTIPLE) + extra) * _MULTIPLE))
            for axis, side in zip(unit.field, model.input_size, strict=True)
        )
        if larger == found.input_size or not model.runs_at(larger):
            continue
        found = model.at(larger)
        if find(found).clipped(larger) == 0:
            break
    return found
