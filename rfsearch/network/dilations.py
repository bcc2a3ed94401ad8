"""Dilations that the blocks of a stage go through in turn.

Equal dilations one after another leave pixels between their taps untouched; a pattern such as 1,
2, 5 does not (Wang et al., "Understanding Convolution for Semantic Segmentation", WACV 2018).
"""

from __future__ import annotations

from itertools import cycle, islice
from typing import Any

from rfsearch.basics.sides import Sides, as_sides, joined, sides

MAX_DILATION = 64


#: A dilation, or a pattern of several as text.
Choice = Sides | str


def dilations(choice: Choice, depth: int) -> tuple[Sides, ...]:
    """Dilation of each of `depth` blocks.

    >>> dilations("1-2-5", 4), dilations((1, 2), 1), dilations("1x2-1", 2)
    ((1, 2, 5, 1), ((1, 2),), ((1, 2), 1))
    """
    pattern = _numbers(choice) if isinstance(choice, str) else [choice]
    return tuple(islice(cycle(pattern), depth))


def where_taps_are(dilation: Sides, kernel_size: Sides) -> Sides:
    """A dilation without what makes no difference: along axes where there is one tap it is 1.

    >>> where_taps_are(2, (1, 7)), where_taps_are(2, 3), where_taps_are(2, 1)
    ((1, 2), 2, 1)
    """
    if isinstance(dilation, int) and isinstance(kernel_size, int):
        return dilation if kernel_size > 1 else 1
    axes = max(len(sides(value, 1)) for value in (dilation, kernel_size))
    pairs = zip(sides(dilation, axes), sides(kernel_size, axes), strict=True)
    return joined([apart if taps > 1 else 1 for apart, taps in pairs])


def _numbers(text: str) -> list[Any]:
    """The numbers of a pattern, each for all axes or for each of them."""
    parts = [as_sides(part) for part in text.split("-")]
    return [int(part) if isinstance(part, str) and part.isdecimal() else part for part in parts]


def check_dilation(choice: Any) -> Choice:
    """Refuse what is neither a dilation nor a pattern of several different ones.

    Returns:
        The choice, `"1x2"` and lists of numbers as tuples.

    Raises:
        ValueError: If it is not.
    """
    checked = as_sides(choice)
    pattern = _numbers(checked) if isinstance(checked, str) else [checked]
    along = [each for one in pattern for each in (one if isinstance(one, tuple) else (one,))]
    known = all(type(each) is int and 1 <= each <= MAX_DILATION for each in along)
    if not known or (isinstance(checked, str) and len(set(pattern)) == 1):
        raise ValueError(
            f"must be an integer from 1 to {MAX_DILATION}, one for each axis as [1, 2], or "
            f"several different ones as '1-2-5', but got {choice!r}."
        )
    found: Choice = checked
    return found
