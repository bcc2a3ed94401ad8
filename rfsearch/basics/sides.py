"""Numbers along axes: one where all axes are alike, else one for each, such as `(1, 7)`.

In the order of an image's axes, so height before width. What stands for several numbers in a
study, in a table or on a command line is text: `"1x7"`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, SerializationInfo
from pydantic_core import CoreSchema, core_schema

from rfsearch.basics.axes import by_x

#: One number for all axes, or one for each.
Sides = int | tuple[int, ...]
_TEXT = re.compile(r"\d+(x\d+)+")


def sides(value: Sides, axes: int) -> tuple[int, ...]:
    """The number along each of so many axes.

    >>> sides(3, 2), sides((1, 7), 2)
    ((3, 3), (1, 7))
    """
    return (value,) * axes if isinstance(value, int) else value


def number(value: Sides, axis: int | None) -> int:
    """The number along an axis; of None, which stands for any, the one that all have.

    Raises:
        ValueError: If no axis is given, and they have several.
    """
    if isinstance(value, int):
        return value
    if axis is None:
        raise ValueError(f"The axes differ, so that one must be named: {as_text(value)}.")
    return value[axis]


def joined(values: Sequence[int]) -> Sides:
    """One number where all are alike.

    >>> joined([3, 3]), joined([1, 7])
    (3, (1, 7))
    """
    return values[0] if len(set(values)) == 1 else tuple(values)


def as_sides(value: Any) -> Any:
    """Several numbers from a list, a tuple or text, and anything else as it is.

    >>> as_sides([1, 7]), as_sides("1x7"), as_sides([3, 3]), as_sides(3), as_sides("3")
    ((1, 7), (1, 7), 3, 3, '3')
    """
    if isinstance(value, str) and _TEXT.fullmatch(value):
        value = [int(number) for number in value.split("x")]
    if isinstance(value, list | tuple) and value and all(type(each) is int for each in value):
        return joined(value)
    return value


def as_text(value: Any) -> Any:
    """What stands for numbers in a study and in text: `"1x7"` for several, else the number.

    >>> as_text((1, 7)), as_text(3)
    ('1x7', 3)
    """
    return by_x(value) if isinstance(value, tuple) else value


def most(value: Sides) -> int:
    """The largest number along any axis.

    >>> most(3), most((1, 7))
    (3, 7)
    """
    return max(value) if isinstance(value, tuple) else value


def times(one: Sides, other: Sides) -> Sides:
    """The products along each axis.

    >>> times(2, 4), times((1, 2), 2)
    (8, (2, 4))
    """
    if isinstance(one, int) and isinstance(other, int):
        return one * other
    axes = len(one) if isinstance(one, tuple) else len(sides(other, 0))
    return joined([a * b for a, b in zip(sides(one, axes), sides(other, axes), strict=True)])


@dataclass(frozen=True)
class Whole:
    """What pydantic takes for a field of type `Sides`: whole numbers within bounds.

    Attributes:
        low: The smallest.
        high: The largest.
    """

    low: int
    high: int

    def __get_pydantic_core_schema__(self, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        def checked(value: Any, check: core_schema.ValidatorFunctionWrapHandler) -> Sides:
            value = as_sides(value)
            if isinstance(value, tuple):
                return tuple(check(each) for each in value)
            found: int = check(value)
            return found

        return core_schema.no_info_wrap_validator_function(
            checked,
            core_schema.int_schema(strict=True, ge=self.low, le=self.high),
            serialization=core_schema.plain_serializer_function_ser_schema(
                _serialised, info_arg=True
            ),
        )


def _serialised(value: Sides, info: SerializationInfo) -> Any:
    return list(value) if info.mode_is_json() and isinstance(value, tuple) else value
