"""Small charts for a terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.bar import Bar
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

_BAR_WIDTH = 40
#: Rows per octave of receptive-field sizes.
_PER_OCTAVE = 2


def size_chart(sizes: Mapping[int, int]) -> Table:
    """How many candidates there are in each range of theoretical receptive fields.

    Args:
        sizes: Number of candidates by size in px; counts may exceed 2^63.
    """
    ranges: dict[int, int] = {}
    for size, count in sizes.items():
        step = math.floor(_PER_OCTAVE * math.log2(size))
        ranges[step] = ranges.get(step, 0) + count
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for heading in ("RF in px", "share"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("candidates, half an octave of sizes a row", no_wrap=True)
    total, largest = sum(ranges.values()), max(ranges.values(), default=1)
    for step in range(min(ranges, default=0), max(ranges, default=-1) + 1):
        low = math.ceil(2 ** (step / _PER_OCTAVE))
        high = math.ceil(2 ** ((step + 1) / _PER_OCTAVE)) - 1
        if low > high:
            continue
        count = ranges.get(step, 0)
        bar = Bar(1.0, 0, count / largest, width=_BAR_WIDTH)
        table.add_row(f"{low} to {high}", f"{count / total:.2%}", bar)
    return table
