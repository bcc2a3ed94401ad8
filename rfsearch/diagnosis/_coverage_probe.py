"""Which pixels of their receptive fields the units of any module touch, found with NaN.

A NaN in one input column turns exactly those units NaN that touch the column, whatever the module
is made of. All units of a map are alike up to a shift by their stride, so as many columns as the
largest stride, each poisoned in an image of its own, tell every pixel of every layer's field: one
batch instead of an image per pixel. Exact along each axis; layers whose hull disagrees with their
traced receptive field are left out, which is what becomes of anything that is not a map.

What mixes the whole image would turn everything NaN. Such layers are replaced: by the identity
where they keep the shape (gates, normalisation over space), else by zeros (global pooling).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from math import lcm, prod
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from rfsearch.models.copies import copied
from rfsearch.trace.layers import named_tensors

if TYPE_CHECKING:
    from rfsearch.diagnosis.layer_field import LayerField

#: Extents of the probed strip across the probed axis, in px, by the number of axes: the next is
#: for modules that refuse.
_STRIPS = {1: (1,), 2: (32, 64, 96, 224), 3: (16, 32, 64)}
#: Images in one pass. oneDNN and NNPACK are off, whose Winograd kernels spread the NaN.
_BATCH = 8
#: Most pixels that are run through the module.
MAX_PIXELS = 2**23
#: Largest period of the strides, in px, that is probed.
MAX_PERIOD = 128
_ALIGNMENT = 64


class Touched(NamedTuple):
    """Pixels of a receptive field along one axis.

    Attributes:
        size: Size of the field, from the first pixel touched to the last, in px.
        missing: Pixels between these that are never touched, in the unit that misses most.
    """

    size: int
    missing: int


def probe_coverage(
    model: nn.Module,
    layers: tuple[LayerField, ...],
    global_layers: tuple[str, ...],
    in_chans: int,
    run: Callable[[nn.Module, Tensor], Any] | None = None,
) -> dict[str, Touched]:
    """Touched pixels of the layers of a module, along the axis where most are missing.

    Args:
        model: Any module; a copy of it runs on the CPU in evaluation mode.
        layers: Its traced layers. Those whose strides are no whole number are left out.
        global_layers: Names of the layers that mix the whole image.
        in_chans: Channels of the input.
        run: Runs the module on images. `None` means to call it.

    Returns:
        By the layers' names, those that were found to agree with their traced sizes.

    Raises:
        ValueError: If the module does not run on strips, or it would take too many pixels.
    """
    module = copied(model).cpu()
    for name, child in module.named_modules():
        if name in global_layers:
            child.register_forward_hook(_bypass)
    num_axes = len(layers[0].reach.size) if layers else 2
    axes = range(num_axes) if _axes_differ(module, layers) else range(num_axes - 1, num_axes)
    with torch.inference_mode(), _plain_kernels():
        probed = _Probed(module, run or _call, in_chans, num_axes)
        found = [_probe_axis(probed, layers, axis) for axis in axes]
    all_known = set(found[0]).intersection(*found)
    return {
        name: max((one[name] for one in found), key=lambda one: one.missing) for name in all_known
    }


@contextmanager
def _plain_kernels() -> Iterator[None]:
    with warnings.catch_warnings():
        # Some builds of torch warn of a GPU that is not there when oneDNN's flags are touched.
        warnings.simplefilter("ignore", UserWarning)
        with (
            torch.backends.mkldnn.flags(enabled=False),
            torch.backends.nnpack.flags(enabled=False),
        ):
            yield


def _bypass(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    if not isinstance(output, Tensor):
        return output
    given = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
    if given is not None and given.shape == output.shape:
        return given
    return torch.zeros_like(output)


def _axes_differ(module: nn.Module, layers: tuple[LayerField, ...]) -> bool:
    """Whether the axes may differ in which pixels are touched."""
    extents = (extent for one in layers for extent in (one.reach.size, one.reach.stride))
    windows = (
        getattr(child, name, None)
        for child in module.modules()
        for name in ("kernel_size", "stride", "dilation")
    )
    return any(extent.low != extent.high for extent in extents) or any(
        isinstance(window, tuple) and len(set(window)) > 1 for window in windows
    )


class _Probed(NamedTuple):
    """A module, how to run it, and the channels and axes of its input."""

    module: nn.Module
    run: Callable[[nn.Module, Tensor], Any]
    in_chans: int
    num_axes: int


def _call(module: nn.Module, images: Tensor) -> Any:
    return module(images)


def _probe_axis(probed: _Probed, layers: tuple[LayerField, ...], axis: int) -> dict[str, Touched]:
    strides = {
        one.name: int(one.reach.stride[axis]) for one in layers if one.reach.stride[axis] % 1 == 0
    }
    sizes = {one.name: int(one.reach.size[axis]) for one in layers}
    period, largest = lcm(*strides.values()), max(sizes.values(), default=0)
    if period > MAX_PERIOD:
        raise ValueError(f"Its strides repeat after {period} px, which is too much to probe")
    # Paths that leave a short image are cut off, so what it shows to be touched is touched, and
    # it is enough where nothing is missing. Else all fields that matter must lie within the image.
    found: dict[str, Touched] = {}
    for length in (largest + 2 * period, 2 * (largest + period)):
        aligned = -(-length // _ALIGNMENT) * _ALIGNMENT
        reached = _reached_on_some_strip(probed, period, aligned, axis, strides)
        touched = {name: _touched(seen, period // strides[name]) for name, seen in reached.items()}
        found |= {name: one for name, one in touched.items() if one and one.size == sizes[name]}
        if not any(
            one and (one.missing or one.size < sizes[name]) for name, one in touched.items()
        ):
            break
    return found


def _reached_on_some_strip(
    probed: _Probed,
    period: int,
    length: int,
    axis: int,
    strides: Mapping[str, int],
) -> Mapping[str, Tensor]:
    reason = ""
    for strip in _STRIPS[probed.num_axes]:
        sides = [strip] * probed.num_axes
        sides[axis] = length
        pixels = period * prod(sides)
        if pixels > MAX_PIXELS:
            reason = reason or f"{pixels:,} px are too many to probe"
            break
        try:
            return _reached(probed, sides, period, axis, strides)
        except Exception as error:  # Whatever a module raises for images that it cannot take.
            reason = " ".join(str(error).split())[:120] or type(error).__name__
    raise ValueError(f"It does not run on strips of {length} px ({reason})")


def _reached(
    probed: _Probed,
    sides: Sequence[int],
    period: int,
    axis: int,
    strides: Mapping[str, int],
) -> Mapping[str, Tensor]:
    """By layer, `(period, units)`: which units each poisoned column turns NaN."""
    first = sides[axis] // 2
    records: dict[str, list[Tensor]] = {}
    units = {name: sides[axis] // stride for name, stride in strides.items()}
    hooks = [
        child.register_forward_hook(partial(_record, records, units, name, axis, len(sides)))
        for name, child in probed.module.named_modules()
    ]
    try:
        for begin in range(0, period, _BATCH):
            columns = range(begin, min(begin + _BATCH, period))
            images = torch.zeros(len(columns), probed.in_chans, *sides)
            for image, column in zip(images, columns, strict=True):
                image.select(1 + axis, first + column).fill_(torch.nan)
            probed.run(probed.module, images)
    finally:
        for hook in hooks:
            hook.remove()
    # A module that runs several times in a pass has no one field.
    passes = -(-period // _BATCH)
    return {name: torch.cat(seen) for name, seen in records.items() if len(seen) == passes}


def _record(
    records: dict[str, list[Tensor]],
    units: Mapping[str, int],
    name: str,
    axis: int,
    num_axes: int,
    module: nn.Module,
    inputs: Any,
    output: Any,
) -> None:
    """Record which units along the axis are NaN, in any channel and at any place across."""
    for key, tensor in named_tensors(output):
        label = f"{name}[{key}]" if key else name or "(model)"
        if tensor.ndim == 2 + num_axes and tensor.is_floating_point() and label in units:
            # Channels are last in some networks; about so many units lie along the axis.
            expected = units[label]
            dim = min((2 + axis, 1 + axis), key=lambda d: abs(tensor.shape[d] - expected))
            if tensor.shape[dim] == 1 < expected:
                continue  # Inside a gate: pooled from the whole image.
            seen = tensor.isnan().movedim(dim, 1).flatten(2).any(2)
            records.setdefault(label, []).append(seen)


def _touched(reached: Tensor, units: int) -> Touched | None:
    """Read the touched pixels off which units each column reaches.

    Unit `u` and column `c` are to each other as unit `u + units` and column `c + period`: the
    columns of one period and every `units`-th unit give all pixels that one unit touches.

    Args:
        reached: `(period, units of the map)`.
        units: Units in a period; after up-sampling they may differ from each other.
    """
    widest, missing = 0, 0
    for phase in range(units):
        seen = reached[:, phase::units].flip(1).T.flatten().nonzero().flatten()
        if len(seen):
            size = int(seen[-1] - seen[0]) + 1
            widest, missing = max(widest, size), max(missing, size - len(seen))
    return Touched(widest, missing) if widest else None
