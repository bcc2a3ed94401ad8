"""The exact receptive field of any module, found by running it on NaN.

A NaN in some input columns turns exactly those output units NaN that can depend on them, whatever
the module is made of; bisection over where the NaN columns end finds the interval. This is slow
(some tens of forward passes) but assumes nothing, which makes it the oracle of the closed form.
"""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch

from rfsearch.field.receptive_field import ReceptiveField

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Longest input that is tried, in px.
MAX_LENGTH = 4096
#: Extent of the probed strip across the probed axis, in px.
STRIP = 64


class PlaneField(NamedTuple):
    """A receptive field along both axes of an image."""

    height: ReceptiveField
    width: ReceptiveField


def probe_receptive_field(
    model: nn.Module, in_chans: int, forward: Callable[[nn.Module, Tensor], Tensor] | None = None
) -> PlaneField:
    """Receptive field of the units of a module's output map, along both axes.

    Args:
        model: Any module; a copy of it runs on the CPU in evaluation mode.
        in_chans: Number of input channels.
        forward: Runs the module on images `(1, channels, height, width)` and returns the map
            `(1, channels, height, width)` to look at. `None` means to call the module.

    Raises:
        ValueError: If the units see more than 4096 px, or everything.
    """
    run = forward or (lambda module, images: module(images))
    module = copy.deepcopy(model).cpu().eval()
    # Winograd kernels of oneDNN compute neighbouring outputs together and spread the NaN.
    with torch.inference_mode(), torch.backends.mkldnn.flags(enabled=False):
        return PlaneField(
            height=_probe_axis(lambda strip: run(module, strip.mT).mT, in_chans),
            width=_probe_axis(lambda strip: run(module, strip), in_chans),
        )


def _probe_axis(run: Callable[[Tensor], Tensor], in_chans: int) -> ReceptiveField:
    length = 4 * STRIP
    while length <= MAX_LENGTH:
        field = _probe_strip(run, torch.zeros(1, in_chans, STRIP, length))
        if field is not None:
            return field
        length *= 2
    raise ValueError(
        f"The receptive field must be smaller than {MAX_LENGTH} px to be probed, but a unit in the"
        " middle still sees the border there: a layer of this model may see the whole input."
    )


def _probe_strip(run: Callable[[Tensor], Tensor], strip: Tensor) -> ReceptiveField | None:
    """Field of the units of a strip, or None if the middle one reaches the strip's border."""
    length = strip.shape[-1]

    def reached(first: int, stop: int) -> Tensor:
        """Which output units depend on the columns from `first` to before `stop`."""
        poisoned = strip.clone()
        poisoned[..., first:stop] = float("nan")
        return run(poisoned).isnan()[0].any(dim=0).any(dim=0)

    unit = len(reached(0, 0)) // 2
    begin = bisect_left(range(length), True, key=lambda a: bool(reached(0, a + 1)[unit]))
    end = length - bisect_left(
        range(length), True, key=lambda a: bool(reached(length - a - 1, length)[unit])
    )
    if begin == 0 or end == length or begin >= end:
        return None
    following = bisect_left(
        range(length), True, lo=begin, key=lambda a: bool(reached(0, a + 1)[unit + 1])
    )
    stride = following - begin
    return ReceptiveField(start=begin - unit * stride, size=end - begin, stride=stride)
