"""What the values of masks mean, decided in this one place for targets and for training.

| value | meaning |
|---|---|
| 0 | the background of numbered objects; of classes the first |
| 255 beside 0 alone | the object, as in every binary mask; of two classes the second |
| 255 beside others, but not 254 or more than 255 | ignored: neither learned nor measured |
| below 0 | refused, unless it is stated to be ignored |
| any other | an object, or a class |

Whoever states the background, the classes' values or those to ignore is believed. What is no
mask is refused: values that lie between those around them are shades, of a photograph or of edges
that were smoothed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rfsearch.basics.images import read_numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Class of the pixels of a mask that are neither learned nor counted.
IGNORED = 255
_BINARY = frozenset({0, IGNORED})
#: Share of a value's pixels that lie between others, and of such values, from which on it is no
#: mask: masks have none or a few, photographs more than half.
_SHADES = 0.5


class ClassValues(NamedTuple):
    """Which values of masks are which classes.

    Attributes:
        values: Of each class, in their order.
        ignored: Values that are neither learned nor counted.
    """

    values: tuple[int, ...]
    ignored: frozenset[int]

    @classmethod
    def of(
        cls,
        found: Collection[int],
        num_classes: int,
        values: Sequence[int] | None = None,
        ignored: Collection[int] | None = None,
    ) -> ClassValues:
        """Those of masks.

        Args:
            found: All values of all masks.
            num_classes: How many classes there are.
            values: Of each class, where that is stated.
            ignored: Values to ignore, where that is stated.

        Raises:
            ValueError: If as many values as classes are not stated, or one has two meanings.
        """
        if values is not None:
            if len(values) != num_classes or len({*values, *(ignored or ())}) < len(
                (*values, *(ignored or ()))
            ):
                raise ValueError(
                    f"`values` must be {num_classes} different numbers, one of each class, and "
                    f"none in `ignored`, but got {list(values)}."
                )
            return cls(tuple(values), ignored_values(found, ignored) - {*values})
        is_binary = num_classes == 2 and {*found} <= _BINARY and IGNORED in found
        if is_binary and ignored is None:
            return cls((0, IGNORED), frozenset())
        return cls(tuple(range(num_classes)), ignored_values(found, ignored))

    def classes(self, numbers: NDArray[np.integer[Any]], source: Path) -> NDArray[np.uint8]:
        """The class of each pixel, or `IGNORED`.

        Raises:
            ValueError: If there is a value without a meaning.
        """
        known = np.array([*self.values, *self.ignored])
        meaning = np.array([*range(len(self.values)), *[IGNORED] * len(self.ignored)], np.uint8)
        order = np.argsort(known)
        place = np.searchsorted(known[order], numbers).clip(max=len(known) - 1)
        unknown = numbers[known[order][place] != numbers]
        if unknown.size:
            raise ValueError(
                f"{source}: the value {unknown[0]} is no class: these are "
                f"{', '.join(map(str, self.values))}, and ignored is "
                f"{', '.join(map(str, sorted(self.ignored))) or 'none'}. State others as `values`,"
                " one for each class, or as `ignored`."
            )
        found: NDArray[np.uint8] = meaning[order][place]
        return found


def ignored_values(found: Collection[int], stated: Collection[int] | None) -> frozenset[int]:
    """Values of masks that are neither learned nor measured; see the module.

    >>> ignored_values({0, 1, 2, 255}, None), ignored_values({0, 255}, None)
    (frozenset({255}), frozenset())
    """
    if stated is not None:
        return frozenset(stated)
    is_void = max(found) == IGNORED and IGNORED - 1 not in found and not {*found} <= _BINARY
    return frozenset({IGNORED}) if is_void else frozenset()


def distinct_values(numbers: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """All values of a mask in ascending order."""
    if numbers.dtype == np.uint8:
        return np.flatnonzero(np.bincount(numbers.ravel(), minlength=256)).astype(np.int64)
    return np.unique(numbers).astype(np.int64)


def read_mask(file: Path) -> NDArray[np.integer[Any]]:
    """Read an image that is a mask: `(height, width)`.

    Raises:
        ValueError: If it is no readable image of one channel of whole numbers, or of shades.
    """
    numbers = read_numbers(file)
    values, shades = _count_shades(numbers)
    if shades > max(1, _SHADES * values):
        raise ValueError(
            f"{file}: not a mask but shades: {shades} of its {values} values lie between the "
            "values around them. Give masks instead of photographs, and resize masks without "
            "smoothing their edges."
        )
    return numbers


def _count_shades(numbers: NDArray[np.integer[Any]]) -> tuple[int, int]:
    """How many values there are beside 0, and of how many most pixels lie between others."""
    from scipy.ndimage import maximum_filter, minimum_filter

    values = distinct_values(numbers)
    if len(values) <= 2:
        return len(values), 0
    is_between = (minimum_filter(numbers, 3) < numbers) & (numbers < maximum_filter(numbers, 3))
    is_between &= ~_in_a_square(numbers)
    place = np.searchsorted(values, numbers)
    between = np.bincount(place[is_between], minlength=len(values))
    is_shade = (between > _SHADES * np.bincount(place.ravel())) & (values != 0)
    return int((values != 0).sum()), int(is_shade.sum())


def _in_a_square(numbers: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Which pixels are in a square of 2 x 2 px of one value, as most of an object are."""
    first = numbers[:-1, :-1]
    squares = (
        (first == numbers[1:, :-1]) & (first == numbers[:-1, 1:]) & (first == numbers[1:, 1:])
    )
    inside = np.zeros(numbers.shape, bool)
    height, width = squares.shape
    for down in (0, 1):
        for right in (0, 1):
            inside[down : down + height, right : right + width] |= squares
    return inside
