"""Tiles of large images that fit the memory, by how much of what units see they keep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rfsearch.basics.axes import by_x
from rfsearch.basics.validation import checked_size
from rfsearch.measure.latency import peak_memory
from rfsearch.models.resolve import resolve_model
from rfsearch.tiling._halo import halos, rounded_up
from rfsearch.tiling.tiled import cuts

if TYPE_CHECKING:
    from rfsearch.models.resolve import Model
    from rfsearch.models.resolved import ResolvedModel

#: Shares of what units see, of the tiles that are offered.
SHARES = (1.0, 0.999, 0.99, 0.95)
#: Sides in px of what is traced and whose memory is measured, at most, by the number of axes.
_MEASURED = {1: 2**16, 2: 512, 3: 64}


@dataclass(frozen=True)
class TilePlan:
    """How to cut a large image.

    Attributes:
        share: Share of the expected |gradient| that units at the edge of a tile keep at least; 1
            is all, and then tiles give what the image gives.
        halo: Pixels around what a tile answers for, along each axis.
        tile_size: Sides of a tile in px, its halo included.
        tiles: How many there are.
        computed: Pixels that are computed over those of the image.
        memory_mb: What a tile needs, in MiB, as measured on smaller images.
    """

    share: float
    halo: tuple[int, ...]
    tile_size: tuple[int, ...]
    tiles: int
    computed: float
    memory_mb: float


@dataclass(frozen=True)
class TilePlans:
    """How a network's large images can be cut.

    Attributes:
        image_size: Sides of the image in px, rounded up to multiples.
        multiples: What sides of images, tiles and halos are multiples of, in px.
        memory_mb: What the image as a whole needs, in MiB.
        plans: From the exact one to the coarsest; those that fit the memory.
        only_exact: Why there is no other, if the expected ERF is not known.
    """

    image_size: tuple[int, ...]
    multiples: tuple[int, ...]
    memory_mb: float
    plans: tuple[TilePlan, ...]
    only_exact: str = ""


def tiling_plans(
    model: Model,
    image_size: int | tuple[int, ...],
    memory_mb: float = 4096,
    *,
    shares: Sequence[float] = SHARES,
    in_chans: int | None = None,
) -> TilePlans:
    """Tiles of large images that fit the memory.

    The memory that a pass needs is measured on a small image, as by `measure_latency`, and taken
    to grow with the pixels.

    Args:
        model: As for `trace_receptive_field`; it gives one map.
        image_size: Sides of the images in px; those that are no multiples are rounded up.
        memory_mb: What there is, in MiB.
        shares: Of what units see, to plan for.
        in_chans: Channels of the images.

    Raises:
        ValueError: As for `tiled`; or if no tile fits the memory.
    """
    if not memory_mb > 0:
        raise ValueError(f"`memory_mb > 0` must hold, but got {memory_mb}.")
    if not shares:
        raise ValueError("`shares` must hold at least one share, but is empty.")
    known = (image_size,) if isinstance(image_size, int) else tuple(image_size)
    few = tuple(min(_MEASURED[2], side) for side in known)
    resolved = resolve_model(model, few if len(few) > 1 else few[0], in_chans=in_chans)
    axes = resolved.num_axes
    sides = checked_size(image_size, axes)
    small = tuple(min(_MEASURED[axes], side) for side in sides)
    found = halos(resolved, small, sides)
    multiples, sides = found.multiples, found.image_size
    weights, per_pixel = _memory(resolved, rounded_up(small, multiples))
    plans, only_exact = [], ""
    for share in shares:
        try:
            halo = found.of_share(share)
        except ValueError as error:
            if not 0 < share < 1 or 1 not in shares:
                raise
            only_exact = str(error)
            continue
        largest = _largest(sides, halo, multiples, (memory_mb - weights) / per_pixel)
        if largest is not None:
            tile = _as_many(sides, largest, halo, multiples)
            every = [list(cuts(*one)) for one in zip(sides, tile, halo, strict=True)]
            computed = math.prod(
                sum(cut.stop - cut.start for cut in along) / pixels
                for along, pixels in zip(every, sides, strict=True)
            )
            needed = weights + per_pixel * math.prod(tile)
            tiles = math.prod(map(len, every))
            plans.append(TilePlan(share, halo, tile, tiles, computed, needed))
    if not plans:
        least = [2 * pixels + multiple for pixels, multiple in zip(halo, multiples, strict=True)]
        raise ValueError(
            f"No tile fits {memory_mb:,.0f} MiB: the smallest, of {by_x(least)} px, needs "
            f"{weights + per_pixel * math.prod(least):,.0f} MiB."
        )
    return TilePlans(
        sides, multiples, weights + per_pixel * math.prod(sides), tuple(plans), only_exact
    )


def _as_many(
    sides: tuple[int, ...], tile: tuple[int, ...], halo: tuple[int, ...], multiples: Sequence[int]
) -> tuple[int, ...]:
    """The smallest tile of which there are no more."""
    counts = [len(list(cuts(*one))) for one in zip(sides, tile, halo, strict=True)]
    inner = [side / count for side, count in zip(sides, counts, strict=True)]
    pairs = zip(rounded_up(inner, multiples), halo, counts, strict=True)
    return tuple(side + (2 * around if count > 1 else 0) for side, around, count in pairs)


def _memory(resolved: ResolvedModel, size: tuple[int, ...]) -> tuple[float, float]:
    """Memory in MiB of the weights, and of each pixel of a pass."""
    weights = sum(one.numel() * one.element_size() for one in resolved.twin().parameters()) / 2**20
    peak = peak_memory(resolved.at(size))
    return weights, max(1e-9, peak - weights) / math.prod(size)


def _largest(
    sides: tuple[int, ...], halo: tuple[int, ...], multiples: tuple[int, ...], pixels: float
) -> tuple[int, ...] | None:
    """The largest tile, as near to a cube as the image allows; None if none holds its halo."""
    order = sorted(range(len(sides)), key=sides.__getitem__)
    tile = dict.fromkeys(order, 0)
    for done, axis in enumerate(order):
        side = max(0.0, pixels) ** (1 / (len(order) - done))
        tile[axis] = min(sides[axis], int(side // multiples[axis]) * multiples[axis])
        pixels /= max(1, tile[axis])
    found = tuple(tile[axis] for axis in range(len(sides)))
    holds = all(
        side == whole or side > 2 * around
        for side, whole, around in zip(found, sides, halo, strict=True)
    )
    return found if holds else None
