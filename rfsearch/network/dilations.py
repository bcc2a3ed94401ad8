"""Dilations that the blocks of a stage go through in turn.

Equal dilations one after another leave pixels between their taps untouched; a pattern such as 1,
2, 5 does not (Wang et al., "Understanding Convolution for Semantic Segmentation", WACV 2018).
"""

from __future__ import annotations

from itertools import cycle, islice
from typing import Any

MAX_DILATION = 64


def dilations(choice: int | str, depth: int) -> tuple[int, ...]:
    """Dilation of each of `depth` blocks.

    >>> dilations("1-2-5", 4), dilations(2, 2)
    ((1, 2, 5, 1), (2, 2))
    """
    pattern = [choice] if isinstance(choice, int) else [int(each) for each in choice.split("-")]
    return tuple(islice(cycle(pattern), depth))


def check_dilation(choice: Any) -> int | str:
    """Refuse what is neither a dilation nor a pattern of several different ones.

    Raises:
        ValueError: If it is not.
    """
    numbers = choice.split("-") if isinstance(choice, str) else [choice]
    values = [int(n) if isinstance(n, str) and n.isdecimal() else n for n in numbers]
    known = all(type(value) is int and 1 <= value <= MAX_DILATION for value in values)
    if not known or (isinstance(choice, str) and len(set(values)) == 1):
        raise ValueError(
            f"must be an integer from 1 to {MAX_DILATION}, or several different ones as '1-2-5', "
            f"but got {choice!r}."
        )
    checked: int | str = choice
    return checked
