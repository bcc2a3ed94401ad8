from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rfsearch.analysis.pareto import pareto_front

rows = st.lists(st.tuples(*[st.one_of(st.none(), st.integers(0, 4))] * 3), max_size=20)


def dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """With the first maximised, the others minimised."""
    left, right = ((-x, y, z) for x, y, z in (a, b))
    return all(p <= q for p, q in zip(left, right, strict=True)) and left != right


@given(rows)
def test_the_front_is_what_nothing_dominates(values: list[tuple[float | None, ...]]) -> None:
    frame = pd.DataFrame(values, columns=["value", "cost", "size"]).astype("Float64")
    front = pareto_front(frame, {"value": "maximize", "cost": "minimize", "size": "minimize"})
    known = {i: row for i, row in enumerate(values) if None not in row}
    expected = {i for i in known if not any(dominates(known[j], known[i]) for j in known)}  # type: ignore[arg-type]
    assert set(front.index) == expected
    assert front["value"].is_monotonic_decreasing


@pytest.mark.parametrize(
    ("objectives", "what"),
    [({}, "empty"), ({"cost": "minimize"}, "'cost'"), ({"value": "max"}, "'max'")],
)
def test_wrong_objectives(objectives: dict[str, str], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        pareto_front(pd.DataFrame({"value": [1.0]}), objectives)  # type: ignore[arg-type]
