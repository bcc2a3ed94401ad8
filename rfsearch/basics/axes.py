"""The axes of an input beside its batch and channels, and what is said of each of them.

A sequence has the axis `time`, an image `height` and `width`, a volume `depth`, `height` and
`width`: in this order, everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import index
from typing import Any, Self, TypeAlias, TypeVar

#: A side in px that an input has along each of its axes, or a side for each.
InputSize: TypeAlias = "int | Sequence[int]"
Value = TypeVar("Value", covariant=True)

#: Names of the axes by how many there are, the outermost first.
AXIS_NAMES: Mapping[int, tuple[str, ...]] = {
    1: ("time",),
    2: ("height", "width"),
    3: ("depth", "height", "width"),
}
#: How many axes each number stands for, in order: two that are alike where the windows of a
#: network are square, else one and one.
Alike = tuple[int, ...]
SQUARE: Alike = (2,)


class ByAxis(tuple[Value, ...]):
    """A value for each axis of an input: a tuple that knows their names.

    >>> size = ByAxis(224, 160)
    >>> size.width, size.named
    (160, {'height': 224, 'width': 160})
    """

    __slots__ = ()

    def __new__(cls, *values: Value) -> Self:
        """From as many values as there are axes."""
        return super().__new__(cls, values)

    def __getnewargs__(self) -> tuple[Value, ...]:
        """What copies are made of."""
        return tuple(self)

    @property
    def named(self) -> dict[str, Value]:
        """The values by the names of their axes."""
        return dict(zip(AXIS_NAMES[len(self)], self, strict=True))

    def __getattr__(self, name: str) -> Value:
        """The value of one axis."""
        names = AXIS_NAMES.get(len(self), ())
        if name not in names:
            raise AttributeError(f"There is no axis `{name}`: the axes are {', '.join(names)}.")
        return self[names.index(name)]


def checked_sides(input_size: InputSize) -> tuple[int, ...]:
    """The sides in px that are given: a single one of an integer.

    Raises:
        ValueError: If it is no size of one to three axes, or larger than any input.
    """
    from rfsearch.basics.limits import MAX_INPUT_SIDE

    try:
        given = input_size if isinstance(input_size, Sequence) else (input_size,)
        sides = tuple(map(index, given))
    except TypeError:
        sides = ()
    if len(sides) not in AXIS_NAMES or not all(1 <= side <= MAX_INPUT_SIDE for side in sides):
        raise ValueError(
            "`input_size` must be a side or one for each of one to three axes, each of 1 to "
            f"{MAX_INPUT_SIDE:,} px, but got {input_size!r}."
        )
    return sides


def by_x(values: Iterable[object]) -> str:
    """Values of all axes in one word.

    >>> by_x((224, 160))
    '224x160'
    """
    return "x".join(map(str, values))


def on_axis(values: Mapping[str, Any], axis: str) -> Any:
    """The value of the axis that a user names.

    Raises:
        ValueError: If there is no such axis.
    """
    if axis not in values:
        raise ValueError(f"`axis` must be one of {', '.join(values)}, but got {axis!r}.")
    return values[axis]
