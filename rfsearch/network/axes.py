"""What parts of a network there are for inputs with one, two or three axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rfsearch.basics.axes import AXIS_NAMES
from rfsearch.basics.sides import as_text
from rfsearch.network.blocks import KINDS

if TYPE_CHECKING:
    from rfsearch.network.stages import Stage
    from rfsearch.network.stems import Stem


def check_stem(stem: Stem, axes: int) -> None:
    """Refuse a stem that there is not for so many axes.

    Raises:
        ValueError: One line with the rule, the value and the number of axes.
    """
    check_numbers("the stem", axes, kernel_size=stem.kernel_size, stride=stem.stride)
    _check_padding("the stem", stem.padding, axes)
    if axes != 2:
        _check("the stem", axes, "kind", stem.kind, ("conv", "deep", "tiered", "quad"))
        _check("the stem", axes, "pool", stem.pool, ("none", "max", "avg", "conv"))


def check_stage(stage: Stage, number: int, axes: int) -> None:
    """Refuse a stage that there is not for so many axes.

    Args:
        stage: The stage.
        number: Its number, from 1.
        axes: How many axes the input has.

    Raises:
        ValueError: One line with the rule, the value and the number of axes.
    """
    place = f"stage {number}"
    check_numbers(place, axes, stride=stage.stride)
    for block in stage.blocks:
        check_numbers(place, axes, kernel_size=block.kernel_size, dilation=block.dilation)
        if stage.kind.build is not None:
            _check_alike(place, stage.block, stage.stride, block.kernel_size, block.dilation)
    _check_padding(place, stage.padding, axes)
    if axes != 2:
        kinds = tuple(name for name, kind in KINDS.items() if kind.takes_any_axes)
        _check(place, axes, "block", stage.block, kinds)
        _check(place, axes, "context", stage.context, ("none", "se"))
        _check(place, axes, "downsample", stage.downsample, ("conv", "max_pool", "avg_pool"))


def check_neck(kind: str, axes: int) -> None:
    """Refuse a neck where the input is no image.

    Raises:
        ValueError: If it is not.
    """
    if axes != 2:
        _check("the neck", axes, "kind", kind, ("none",))


def check_numbers(place: str, axes: int, **values: Any) -> None:
    """Refuse several numbers where they are not one for each axis.

    Raises:
        ValueError: One line with the rule, the value and the place.
    """
    for name, value in values.items():
        if isinstance(value, tuple) and len(value) != axes:
            named = f" or one for each of {', '.join(AXIS_NAMES[axes])}" if axes > 1 else ""
            raise ValueError(
                f"`{name}` must be one number{named} where the input has {_axes(axes)}, but got "
                f"{as_text(value)} in {place}."
            )


def _check_alike(place: str, block: str, *values: Any) -> None:
    for value in values:
        if isinstance(value, tuple):
            raise ValueError(
                f"`stride`, `kernel_size` and `dilation` must be one number each for {block} "
                f"blocks, which are not built in, but got {as_text(value)} in {place}."
            )


def _check_padding(place: str, padding: str, axes: int) -> None:
    if axes != 1:
        _check(place, axes, "padding", padding, ("centred",))


def _check(place: str, axes: int, name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        which = allowed[0] if len(allowed) == 1 else f"one of {', '.join(allowed)}"
        raise ValueError(
            f"`{name}` must be {which} where the input has {_axes(axes)}, but got {value!r} in "
            f"{place}."
        )


def _axes(number: int) -> str:
    return "one axis" if number == 1 else f"{number} axes"
