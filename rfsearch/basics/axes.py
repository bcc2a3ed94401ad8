"""The axes of an input beside its batch and channels, and what is said of each of them.

A sequence has the axis `time`, an image `height` and `width`, a volume `depth`, `height` and
`width`: in this order, everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

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

    >>> size = ByAxis((224, 160))
    >>> size.width, size.named
    (160, {'height': 224, 'width': 160})
    """

    __slots__ = ()

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


def on_axis(values: Mapping[str, Any], axis: str) -> Any:
    """The value of the axis that a user names.

    Raises:
        ValueError: If there is no such axis.
    """
    if axis not in values:
        raise ValueError(f"`axis` must be one of {', '.join(values)}, but got {axis!r}.")
    return values[axis]
