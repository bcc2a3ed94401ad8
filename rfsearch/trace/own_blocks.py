"""Blocks of the user's own: one instance of each is traced, and the trace answers for it.

A block joins search spaces under its name (`rfsearch.network.block_registry`). What architectures
ask of its nodes is read off a trace, which is made once for each shape: receptive field, gaps and
expected squared gradient of its operations, and costs of runs on tensors without data.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import nn

from rfsearch.basics.axes import by_x
from rfsearch.basics.sides import most
from rfsearch.field.expression import Node
from rfsearch.field.part import Kept
from rfsearch.field.receptive_field import ReceptiveField
from rfsearch.models.copies import without_data
from rfsearch.network.block_parts import BlockShape
from rfsearch.network.block_registry import register_kind
from rfsearch.network.blocks import Kind
from rfsearch.tape.expressions import gradient_of
from rfsearch.tape.tape import TapedGradient
from rfsearch.tape.taped_part import TapedPart
from rfsearch.trace.costs import DatalessRun
from rfsearch.trace.result import TracedModel
from rfsearch.trace.trace import trace_receptive_field

Build = Callable[..., nn.Module]

#: Sides of the maps at which a block is traced, in output units: what it sees may not differ.
_SIDES = (64, 48)
#: Of numbers that have to be equal.
_DIGITS = 9
#: What a trace advises, which a block cannot be told.
_ADVICE = re.compile('; `unknown="pointwise"` [a-z ]*pointwise')
#: What every block is told, by keyword.
_SHAPE = ("in_channels", "out_channels", "stride", "kernel_size", "dilation")


def register_block(name: str, build: Build, options: Mapping[str, Any] | None = None) -> None:
    """Make a block of your own known to search spaces in this process.

    A stage then says `block = "ghost"`. Its blocks have the kernel sizes and dilations of the
    stage, and one value of each option. A package offers its blocks to every process, the command
    line's and workers' too, by an entry point of the group `rfsearch.blocks`: the block's name,
    and the module that registers it.

    The block must return one map whose units all see alike and in squares, `stride` times as far
    apart as those of its input. It begins with the weights that `build` gives it.

    Args:
        name: An identifier that no block has yet.
        build: `build(in_channels, out_channels, stride, kernel_size, dilation, **options)` gives
            a module; all arguments are given by name.
        options: What else `build` takes, by name: a list of choices, or one value. Choices are
            texts, numbers or booleans.

    Raises:
        ValueError: If the name is no identifier or taken, `build` does not take such arguments,
            or options have no choices or other names than those of a stage's fields.

    >>> def behind(in_channels, out_channels, stride, kernel_size, dilation, kind):
    ...     pool = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}[kind]
    ...     return nn.Sequential(
    ...         nn.Conv2d(in_channels, out_channels, 1, bias=False),
    ...         nn.BatchNorm2d(out_channels),
    ...         pool(kernel_size, stride, kernel_size // 2),
    ...     )
    >>> register_block("pooled_behind", behind, options={"kind": ["max", "avg"]})
    """
    if not isinstance(options, Mapping | None):
        raise ValueError(f"`options` of block {name!r} must be a dictionary, but got {options!r}.")
    given = sorted((options or {}).items(), key=lambda pair: str(pair[0]))
    offered = {option: _choices(name, option, values) for option, values in given}
    if not callable(build):
        raise ValueError(f"`build` of block {name!r} must be a function, but got {build!r}.")
    try:
        inspect.signature(build).bind(**dict.fromkeys((*_SHAPE, *offered)))
    except TypeError as error:
        takes = ", ".join((*_SHAPE, *offered))
        raise ValueError(f"`build` of block {name!r} must take {takes}: {error}.") from None
    make = partial(_build, name, build)
    register_kind(name, Kind(partial(_lower, name, make), options=offered, build=make))


def _choices(block: str, option: str, given: Any) -> tuple[Any, ...]:
    """Choices of an option, of which there may be one."""
    place = f"Option {option!r} of block {block!r}"
    if not isinstance(option, str) or not option.isidentifier() or option in _SHAPE:
        others = ", ".join(_SHAPE)
        raise ValueError(f"{place} must have an identifier as its name that is none of {others}.")
    values = tuple(given) if isinstance(given, list | tuple) else (given,)
    for number, value in enumerate(values):
        is_plain = isinstance(value, str | bool | int | float)
        if not is_plain or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"{place} must offer texts, numbers or booleans, but got {value!r}.")
        if value in values[:number]:  # Optuna takes True for 1.
            raise ValueError(f"{place} must offer different values, but got {value!r} twice.")
    if not values:
        raise ValueError(f"{place} must offer a value, but got {given!r}.")
    return values


def _told(shape: BlockShape) -> dict[str, Any]:
    return {name: getattr(shape, name) for name in _SHAPE} | dict(shape.options)


def _place(name: str, shape: BlockShape) -> str:
    told = ", ".join(f"{key}={value!r}" for key, value in _told(shape).items())
    return f"block {name!r} ({told})"


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300].removesuffix(".")


def _build(name: str, build: Build, shape: BlockShape) -> nn.Module:
    try:
        module = build(**_told(shape))
    except Exception as error:  # Whatever a user's function raises.
        raise ValueError(f"{_place(name, shape)} cannot be built: {_reason(error)}.") from error
    if not isinstance(module, nn.Module):
        raise ValueError(f"{_place(name, shape)} must be a module, but got {module!r:.80}.")
    return module


class Seen(NamedTuple):
    """What a block's units see.

    Attributes:
        field: Theoretical receptive field along an axis, in px of the block's input.
        touched: The input units that output unit 0 touches along an axis.
        spread: Mean and variance of the expected squared gradient along an axis.
        global_layers: Names of layers that mix the whole map.
    """

    field: ReceptiveField
    touched: tuple[int, ...]
    spread: tuple[float, float]
    global_layers: tuple[str, ...]


@dataclass(frozen=True)
class TracedBlock(TapedPart):
    """A block that was traced.

    Attributes:
        name: The block's.
        shape: Of the instance that was traced.
        seen: What its units see.
        twin: The instance without data.
    """

    name: str
    shape: BlockShape
    seen: Seen = field(repr=False, compare=False)
    twin: nn.Module = field(repr=False, compare=False)

    @property
    def receptive_field(self) -> ReceptiveField:
        """That of its trace."""
        return self.seen.field

    @property
    def touched(self) -> tuple[int, ...]:
        """Those of its trace."""
        return self.seen.touched

    @property
    def global_layers(self) -> tuple[str, ...]:
        """Those of its trace."""
        return self.seen.global_layers

    @property
    def channels(self) -> int:
        """Output channels."""
        return self.shape.out_channels

    @property
    def parameters(self) -> int:
        """Number of trainable values."""
        return sum(parameter.numel() for parameter in self.twin.parameters())

    def gradient_of(self, whole: Node) -> TapedGradient:
        """That of one tape, on which the tapes of such blocks are written in their places."""
        return gradient_of(whole)

    def run(self, size: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        """As `torch.utils.flop_counter` counts a run without data."""
        try:
            flops, output = _run_at(self, size).counted
        except Exception as error:  # Whatever a module raises.
            sides = by_x(size)
            raise ValueError(
                f"{_place(self.name, self.shape)} must run on a map of {sides} px, but it fails: "
                f"{_reason(error)}."
            ) from error
        return flops, tuple(output.shape[2:])

    def kept(self, size: tuple[int, ...]) -> Kept:
        """What autograd keeps of a run without data."""
        return _run_at(self, size).kept()


@lru_cache(maxsize=4096)
def _run_at(block: TracedBlock, size: tuple[int, ...]) -> DatalessRun:
    image = torch.empty(1, block.shape.in_channels, *size, device="meta")
    return DatalessRun(block.twin, image, None, is_part=True)


@cache
def _lower(name: str, build: Callable[[BlockShape], nn.Module], shape: BlockShape) -> TracedBlock:
    """Trace one instance, with the random numbers of others left as they are."""
    with torch.random.fork_rng(devices=[]):
        module = build(shape)
    try:
        blocks = [_traced(name, module, shape, side * most(shape.stride)) for side in _SIDES]
        if len({block.seen for block in blocks}) > 1:
            raise ValueError("what its units see must not depend on the size of the map.")
    except ValueError as error:
        reason = _ADVICE.sub("", str(error))
        raise ValueError(f"{_place(name, shape)}: {reason}") from None
    return blocks[0]


def _traced(name: str, module: nn.Module, shape: BlockShape, side: int) -> TracedBlock:
    traced = trace_receptive_field(module, (side, side), in_chans=shape.in_channels)
    _check_output(traced, shape)
    tape, step = traced.taped()
    playing = tape.play()
    if playing.located(step, "output") != step:
        raise ValueError("its output must have positions, but it is made of what was pooled.")
    layers = (name if layer == "(model)" else layer for layer in traced.global_layers)
    named = tuple(dict.fromkeys(layers))
    height, width = (
        Seen(
            along,
            playing.coverage(step, axis, 0).pixels,
            (round(arrival.mean, _DIGITS), round(arrival.variance, _DIGITS)),
            named,
        )
        for axis, (along, arrival) in enumerate(
            zip((traced.output.height, traced.output.width), playing.arrivals(step), strict=True)
        )
    )
    if height != width:
        raise ValueError(
            f"its units must see squares, but see {height.field.size}x{width.field.size} px, in "
            f"variances of {height.spread[1]:g} and {width.spread[1]:g} px^2."
        )
    return TracedBlock(tape, step, name, shape, height, without_data(module))


def _check_output(traced: TracedModel, shape: BlockShape) -> None:
    """Refuse an output that is no map of the shape that was asked for.

    Raises:
        ValueError: If it is none, or its units do not all see alike.
    """
    output = traced.output
    if list(traced.outputs) != ["output"] or len(output.shape) != 4:
        shapes = ", ".join(f"`{key}` {one.shape}" for key, one in traced.outputs.items())
        raise ValueError(f"its output must be one map, but got {shapes}.")
    if output.shape[1] != shape.out_channels:
        raise ValueError(
            f"its output must have {shape.out_channels} channels, but got {output.shape[1]}."
        )
    height, width = output.stride
    if not height == width == shape.stride:
        raise ValueError(
            f"its output must have a stride of {shape.stride}, but got {height}x{width}."
        )
    if output.periods != (1, 1):
        raise ValueError(
            "its units must all see alike, but their fields repeat after "
            f"{output.periods[0]}x{output.periods[1]} units, as behind an upsampling."
        )
