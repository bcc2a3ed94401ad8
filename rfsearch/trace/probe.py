"""The exact receptive field of any module, found by running it on NaN.

A NaN in some input columns (samples of a sequence, planes of a volume) turns exactly those output
units NaN that can depend on them, whatever the module is made of; bisection over where the NaN
columns end finds the intervals. This is slow (some tens of forward passes) but assumes nothing,
which makes it the oracle of the closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch

from rfsearch.basics.axes import ByAxis
from rfsearch.field.receptive_field import ReceptiveField
from rfsearch.field.unit_grid import EMPTY, Grid, Interval
from rfsearch.models.resolve import resolve_model

if TYPE_CHECKING:
    from torch import Tensor, nn


class _Extents(NamedTuple):
    """What is tried, in px.

    Attributes:
        across: Extents of the probed strip across the probed axis: the next is for modules that
            refuse.
        step: What lengths of the strip are a multiple of; the first is four times as long.
        longest: Longest strip.
        compared: Parts of the strip whose units are compared, until they show two periods.
    """

    across: tuple[int, ...]
    step: int
    longest: int
    compared: tuple[int, ...]


#: By the number of axes.
_EXTENTS = {
    1: _Extents((1,), 1024, 2**18, (64, 128, 1024, 4096)),
    2: _Extents((64,), 64, 4096, (64, 128)),
    3: _Extents((16, 32, 64), 64, 1024, (64, 128)),
}


@dataclass(frozen=True)
class ProbedField:
    """A receptive field along each axis of the input.

    Attributes:
        fields: Of the units that see most, where they differ.
        sizes: Sizes of the fields of the units of one period along each axis, in px: one size
            each, unless the module samples up.
    """

    fields: ByAxis[ReceptiveField]
    sizes: ByAxis[tuple[int, ...]] = field(default=ByAxis(), compare=False)

    @property
    def axes(self) -> dict[str, ReceptiveField]:
        """The fields by the names of the axes: `time`, or `height` and `width`, or `depth` too."""
        return self.fields.named

    @property
    def height(self) -> ReceptiveField:
        """The field along the height, of images and volumes."""
        return self.fields.height

    @property
    def width(self) -> ReceptiveField:
        """The field along the width, as `height`."""
        return self.fields.width


def probe_receptive_field(
    model: nn.Module,
    in_chans: int | None = None,
    forward: Callable[[nn.Module, Tensor], Tensor] | None = None,
) -> ProbedField:
    """Receptive field of the units of a module's output map, along each axis.

    Neighbouring units are compared over a period, so that units need not be alike; their stride
    is a `Fraction` where it is no whole number of px.

    Args:
        model: Any module; a copy of it runs on the CPU in evaluation mode.
        in_chans: Number of input channels. `None` means those that the first layer with weights
            turns out to take.
        forward: Runs the module on inputs `(1, channels, *input_size)` and returns the map to
            look at, of as many axes. `None` means to call the module.

    Raises:
        ValueError: If the units see more than 4,096 px (2^18 of a sequence, 1,024 of a volume),
            or everything, or repeat after no 64 px (2,048 of a sequence).
    """
    resolved = resolve_model(model, in_chans=in_chans, forward=forward)
    run, module = forward or _call, resolved.copy().cpu()
    # Winograd kernels of oneDNN compute neighbouring outputs together and spread the NaN.
    with torch.inference_mode(), torch.backends.mkldnn.flags(enabled=False):
        grids = [
            _probe_axis(partial(run, module), resolved.in_chans, resolved.num_axes, axis)
            for axis in range(resolved.num_axes)
        ]
    return ProbedField(
        ByAxis(*(grid.field() for grid in grids)), ByAxis(*(grid.sizes for grid in grids))
    )


def _call(module: nn.Module, images: Tensor) -> Tensor:
    output: Tensor = module(images)
    return output


def _probe_axis(run: Callable[[Tensor], Tensor], in_chans: int, num_axes: int, axis: int) -> Grid:
    across, step, longest, _ = _EXTENTS[num_axes]
    length, widths = 4 * step, list(across)
    while length <= longest:
        sides = [widths[0]] * num_axes
        sides[axis] = length
        try:
            grid = _probe_strip(_Strip(run, torch.zeros(1, in_chans, *sides), axis))
        except RuntimeError:
            widths.pop(0)
            if not widths:
                raise
            continue
        if grid is not None:
            return grid
        length = -(-length * 3 // (2 * step)) * step
    raise ValueError(
        f"The receptive field must be smaller than {longest} px to be probed, but a unit in the"
        " middle still sees the border there: a layer of this model may see the whole input."
    )


class _Strip(NamedTuple):
    """A strip of zeros, how to run the module on it, and the axis that it lies along."""

    run: Callable[[Tensor], Tensor]
    zeros: Tensor
    axis: int

    @property
    def length(self) -> int:
        """Pixels along the axis."""
        return self.zeros.shape[2 + self.axis]

    def reached(self, first: int, stop: int) -> Tensor:
        """Which output units depend on the columns from `first` to before `stop`."""
        poisoned = self.zeros.clone()
        poisoned.narrow(2 + self.axis, first, stop - first).fill_(float("nan"))
        return self.run(poisoned).isnan()[0].movedim(1 + self.axis, 0).flatten(1).any(1)

    def longer(self) -> _Strip:
        """A strip four times as long."""
        sides = list(self.zeros.shape)
        sides[2 + self.axis] *= 4
        return self._replace(zeros=self.zeros.new_zeros(sides))


def _probe_strip(strip: _Strip) -> Grid | None:
    """The units in the middle of a strip, or None if they reach its border."""
    length, compared_parts = strip.length, _EXTENTS[strip.zeros.ndim - 2].compared
    # Both ends of a large field show in two runs that the strip is too short.
    count = len(strip.reached(0, 0))
    middle = count // 2
    if strip.reached(0, 1)[middle] or strip.reached(length - 1, length)[middle]:
        return None
    for compared in compared_parts:
        half = max(1, round(count * compared / length / 2))
        units = slice(max(0, middle - half), middle + half + 1)
        seen = _intervals(strip, units)
        if any(start == 0 or stop == length for start, stop in seen if start < stop):
            return None
        grid = _period(seen, units.start)
        if grid is not None and _holds_further_on(strip.longer(), grid):
            return grid
    raise ValueError(
        f"The units must repeat within {compared_parts[-1] // 2} px to be probed, but those in the"
        f" middle see {[interval.size for interval in seen[:8]]} px and so on without a pattern."
    )


def _holds_further_on(strip: _Strip, grid: Grid) -> bool:
    """Whether the units of a strip that is longer see what a pattern says.

    What drifts slowly looks like a pattern in a short one.
    """
    length = strip.length
    for stop in (length // 7, length - length // 7):
        reached = strip.reached(0, stop).tolist()
        for unit, found in enumerate(reached):
            seen = grid.interval(unit)
            # What comes round the border is not looked at.
            if 0 <= seen.start < seen.stop <= length and found != (seen.start < stop):
                return False
    return True


def _intervals(strip: _Strip, units: slice) -> list[Interval]:
    """What some units of a strip see."""
    length = strip.length
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
