from __future__ import annotations

import io

from rich.console import Console

from rfsearch.analysis.charts import size_chart


def drawn(sizes: dict[int, int]) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    console.print(size_chart(sizes))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_rows_are_half_octaves_and_bars_are_shares() -> None:
    lines = drawn({8: 10, 11: 20, 12: 60, 32: 10})
    assert [line.split("%")[0].split() for line in lines[1:]] == [
        ["8", "to", "11", "30.00"],
        ["12", "to", "15", "60.00"],
        ["16", "to", "22", "0.00"],
        ["23", "to", "31", "0.00"],
        ["32", "to", "45", "10.00"],
    ]
    lengths = [line.count("█") for line in lines[1:]]
    assert lengths == [20, 40, 0, 0, 6]


def test_counts_beyond_64_bits() -> None:
    assert "100.00%" in drawn({5: 2**128})[1]


def test_nothing_to_draw() -> None:
    assert len(drawn({})) == 1
