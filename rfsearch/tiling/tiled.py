"""A network's map of a large image, put together of those of overlapping tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import torch

from rfsearch.basics.axes import by_x
from rfsearch.basics.validation import checked_size
from rfsearch.tiling._halo import halos

if TYPE_CHECKING:
    from torch import Tensor, nn


class Cut(NamedTuple):
    """A tile along one axis, in px of the image.

    Attributes:
        start: First pixel that is shown to the network.
        stop: The one behind the last.
        first: First pixel that it answers for.
        last: The one behind the last of these.
    """

    start: int
    stop: int
    first: int
    last: int


def cuts(pixels: int, tile: int, halo: int) -> Iterator[Cut]:
    """Tiles of at most `tile` px along an axis, each with a halo inside of the image."""
    inner = pixels if tile >= pixels else tile - 2 * halo
    for first in range(0, pixels, inner):
        last = min(pixels, first + inner)
        yield Cut(max(0, first - halo), min(pixels, last + halo), first, last)
        if last == pixels:
            return


def tiled(
    model: nn.Module,
    images: Tensor,
    tile_size: int | tuple[int, ...],
    halo: int | tuple[int, ...] | None = None,
) -> Tensor:
    """What a network gives of large images, computed tile by tile.

    With the exact halo it is `model(images)`, but for the rounding of sums in another order.

    Args:
        model: Gives one map `(batch, channels, ...)`; in evaluation mode, and not changed.
        images: `(batch, channels, height, width)`, or with one or three axes.
        tile_size: Sides of a tile in px, its halo included.
        halo: Pixels around what a tile answers for, along each axis; see `tiling_plans` for
            smaller ones. `None` means all that its units see.

    Raises:
        ValueError: If the model is training, does not give one map, or sees the whole image; or
            sides of images, tiles or halos are no multiples of its period, or leave nothing.
    """
    if model.training:
        raise ValueError("`model` must be in evaluation mode: call `model.eval()` first.")
    axes = images.ndim - 2
    tile = checked_size(tile_size, axes)
    found = halos(model, tile, tuple(images.shape[2:]), images.shape[1])
    around = found.exact() if halo is None else _checked_halo(halo, axes)
    _check_multiples(found.multiples, images=images.shape[2:], tile_size=tile, halo=around)
    if any(
        side <= 2 * halo and side < pixels
        for pixels, side, halo in zip(images.shape[2:], tile, around, strict=True)
    ):
        raise ValueError(
            f"`tile_size` must exceed twice the halo of {by_x(around)} px, but is {by_x(tile)} px."
        )
    every = map(cuts, images.shape[2:], tile, around)
    whole: Tensor | None = None
    with torch.no_grad():
        for place in product(*map(list, every)):
            shown = (slice(None), slice(None), *(slice(cut.start, cut.stop) for cut in place))
            part = model(images[shown])
            if whole is None:
                whole = part.new_empty((*part.shape[:2], *found.units))
            _put(whole, part, place, found.output.stride)
    assert whole is not None
    return whole


def _checked_halo(halo: int | tuple[int, ...], axes: int) -> tuple[int, ...]:
    sides = (halo,) * axes if isinstance(halo, int) else tuple(halo)
    if len(sides) != axes or min(sides) < 0:
        raise ValueError(
            f"`halo` must be a number of px, 0 or more, or one for each of {axes} axes, but got "
            f"{halo}."
        )
    return sides


def _check_multiples(multiples: Sequence[int], **sizes: Sequence[int]) -> None:
    for name, sides in sizes.items():
        if any(side % multiple for side, multiple in zip(sides, multiples, strict=True)):
            raise ValueError(
                f"Sides of `{name}` must be multiples of {by_x(multiples)} px, the period of the "
                f"network's strides, but are {by_x(sides)} px."
            )


def _put(whole: Tensor, part: Tensor, place: Sequence[Cut], strides: Sequence[Fraction]) -> None:
    """Put what a tile answers for into the whole map."""
    into, of = [slice(None)] * 2, [slice(None)] * 2
    for axis, (cut, step) in enumerate(zip(place, strides, strict=True), start=2):
        # Without padding there are fewer units behind the last tile.
        first, last = round(cut.first / step), round(cut.last / step)
        into.append(slice(first, last))
        before = round(cut.start / step)
        of.append(slice(first - before, min(last, whole.shape[axis]) - before))
    whole[tuple(into)] = part[tuple(of)]
