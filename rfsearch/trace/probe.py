"""The exact receptive field of any module, found by running it on NaN.

A NaN in some input columns turns exactly those output units NaN that can depend on them, whatever
the module is made of; bisection over where the NaN columns end finds the intervals. This is slow
(some tens of forward passes) but assumes nothing, which makes it the oracle of the closed form.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch

from rfsearch.field.receptive_field import ReceptiveField
from rfsearch.field.unit_grid import EMPTY, Grid, Interval

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Longest input that is tried, in px.
MAX_LENGTH = 4096
#: Extent of the probed strip across the probed axis, in px.
STRIP = 64
#: Parts of the strip, in px, whose units are compared, until they show two periods.
_COMPARED = (64, 128)


@dataclass(frozen=True)
class PlaneField:
    """A receptive field along both axes of an image.

    Attributes:
        height: Along the height: of the units that see most, where they differ.
        width: Along the width.
        sizes: Sizes of the fields of the units of one period along `(height, width)`, in px:
            one size each, unless the module samples up.
    """

    height: ReceptiveField
    width: ReceptiveField
    sizes: tuple[tuple[int, ...], tuple[int, ...]] = field(default=((), ()), compare=False)


def probe_receptive_field(
    model: nn.Module, in_chans: int, forward: Callable[[nn.Module, Tensor], Tensor] | None = None
) -> PlaneField:
    """Receptive field of the units of a module's output map, along both axes.

    Neighbouring units are compared over a period, so that units need not be alike; their stride
    is a `Fraction` where it is no whole number of px.

    Args:
        model: Any module; a copy of it runs on the CPU in evaluation mode.
        in_chans: Number of input channels.
        forward: Runs the module on images `(1, channels, height, width)` and returns the map
            `(1, channels, height, width)` to look at. `None` means to call the module.

    Raises:
        ValueError: If the units see more than 4096 px, or everything, or repeat after no 64 px.
    """
    run = forward or (lambda module, images: module(images))
    module = copy.deepcopy(model).cpu().eval()
    # Winograd kernels of oneDNN compute neighbouring outputs together and spread the NaN.
    with torch.inference_mode(), torch.backends.mkldnn.flags(enabled=False):
        height = _probe_axis(lambda strip: run(module, strip.mT).mT, in_chans)
        width = _probe_axis(lambda strip: run(module, strip), in_chans)
    return PlaneField(height.field(), width.field(), (height.sizes, width.sizes))


def _probe_axis(run: Callable[[Tensor], Tensor], in_chans: int) -> Grid:
    length = 4 * STRIP
    while length <= MAX_LENGTH:
        grid = _probe_strip(run, torch.zeros(1, in_chans, STRIP, length))
        if grid is not None:
            return grid
        length = -(-length * 3 // (2 * STRIP)) * STRIP
    raise ValueError(
        f"The receptive field must be smaller than {MAX_LENGTH} px to be probed, but a unit in the"
        " middle still sees the border there: a layer of this model may see the whole input."
    )


class _Strip(NamedTuple):
    """A strip of zeros and how to run the module on it."""

    run: Callable[[Tensor], Tensor]
    zeros: Tensor

    def reached(self, first: int, stop: int) -> Tensor:
        """Which output units depend on the columns from `first` to before `stop`."""
        poisoned = self.zeros.clone()
        poisoned[..., first:stop] = float("nan")
        return self.run(poisoned).isnan()[0].any(dim=0).any(dim=0)


def _probe_strip(run: Callable[[Tensor], Tensor], zeros: Tensor) -> Grid | None:
    """The units in the middle of a strip, or None if they reach its border."""
    strip, length = _Strip(run, zeros), zeros.shape[-1]
    # Both ends of a large field show in two runs that the strip is too short.
    count = len(strip.reached(0, 0))
    middle = count // 2
    if strip.reached(0, 1)[middle] or strip.reached(length - 1, length)[middle]:
        return None
    for compared in _COMPARED:
        half = max(1, round(count * compared / length / 2))
        units = slice(max(0, middle - half), middle + half + 1)
        seen = _intervals(strip, units)
        if any(start == 0 or stop == length for start, stop in seen if start < stop):
            return None
        grid = _period(seen, units.start)
        if grid is not None and _holds_further_on(run, zeros, grid):
            return grid
    raise ValueError(
        f"The units must repeat within {_COMPARED[-1] // 2} px to be probed, but those in the "
        f"middle see {[interval.size for interval in seen[:8]]} px and so on without a pattern."
    )


def _holds_further_on(run: Callable[[Tensor], Tensor], zeros: Tensor, grid: Grid) -> bool:
    """Whether the units of a strip four times as long see what a pattern says.

    What drifts slowly looks like a pattern in a short one.
    """
    length = 4 * zeros.shape[-1]
    strip = _Strip(run, zeros.new_zeros(*zeros.shape[:-1], length))
    for stop in (length // 7, length - length // 7):
        reached = strip.reached(0, stop).tolist()
        for unit, found in enumerate(reached):
            seen = grid.interval(unit)
            if seen.stop > 0 and seen.start < length and found != (seen.start < stop):
                return False
    return True


def _intervals(strip: _Strip, units: slice) -> list[Interval]:
    """What some units of a strip see."""
    length = strip.zeros.shape[-1]
    starts = _changes(lambda a: strip.reached(0, a)[units], 0, length)
    stops = _changes(lambda a: ~strip.reached(a, length)[units], 0, length)
    seen = []
    for start, stop in zip(starts, stops, strict=True):
        seen.append(Interval(start - 1, stop) if stop >= start > 0 else EMPTY)
    return seen


def _changes(state: Callable[[int], Tensor], low: int, high: int) -> list[int]:
    """For each unit the first number of columns at which its state is true.

    Bisection for all units at once: where no unit changes between two numbers, none is tried.
    """

    def search(low: int, high: int, before: Tensor, after: Tensor) -> Iterator[Tensor]:
        changed = after & ~before
        if not changed.any():
            return
        if high - low == 1:
            yield changed * high
            return
        middle = (low + high) // 2
        between = state(middle)
        yield from search(low, middle, before, between)
        yield from search(middle, high, between, after)

    first, last = state(low), state(high)
    found = sum(search(low, high, first, last), torch.zeros(len(first), dtype=torch.int64))
    return torch.as_tensor(found).tolist()


def _period(seen: list[Interval], first: int) -> Grid | None:
    """The pattern that neighbouring units repeat, numbered from unit 0 of the strip, if any."""
    for period in range(1, len(seen) // 2 + 1):
        step = max(b.start - a.start for a, b in zip(seen, seen[period:], strict=False))
        alike = (
            (a.start + step, a.stop + step) == b or (a.size == b.size == 0)
            for a, b in zip(seen, seen[period:], strict=False)
        )
        if step > 0 and all(alike):
            return _numbered(seen[:period], step, first)
    return None


def _numbered(period: list[Interval], step: int, first: int) -> Grid:
    """The grid of which these are the units from `first` on."""
    widest = []
    for unit in range(len(period)):
        turns, phase = divmod(unit - first, len(period))
        start, stop = period[phase]
        moved = turns * step if start < stop else 0
        widest.append(Interval(start + moved, stop + moved))
    return Grid(step, tuple(widest), tuple(widest))
