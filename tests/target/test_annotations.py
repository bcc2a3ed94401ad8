from __future__ import annotations

from typing import Any

import pytest

from rfsearch.target.annotations import Box, box_of, size_of


@pytest.mark.parametrize(
    ("box", "clipped"),
    [
        (Box(1, 2, 3, 4), Box(1, 2, 3, 4)),
        (Box(0, 0, 20, 10), Box(0, 0, 20, 10)),
        (Box(-5, -6, 25, 16), Box(0, 0, 20, 10)),
    ],
)
def test_clipping(box: Box, clipped: Box) -> None:
    assert box.clip((10, 20)) == clipped
    assert not box.clip((10, 20)).is_empty


@pytest.mark.parametrize("box", [Box(20, 0, 30, 5), Box(-9, 0, 0, 5), Box(0, 10, 5, 12)])
def test_outside_is_empty_after_clipping(box: Box) -> None:
    assert not box.is_empty
    assert box.clip((10, 20)).is_empty


@pytest.mark.parametrize("box", [Box(1, 1, 1, 5), Box(1, 5, 4, 5), Box(4, 1, 1, 5)])
def test_empty_boxes(box: Box) -> None:
    assert box.is_empty


@pytest.mark.parametrize(
    "values",
    [[1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 3, None], [1, 2, 3, "x"], [1, 2, 3, "nan"],
     [1, 2, 3, float("inf")], [1, 2, 3, 10**400], [1, 2, 3, [4]], []],
)  # fmt: skip
def test_values_that_are_no_box(values: list[Any]) -> None:
    assert box_of(values) is None


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(80, "100", (80, 100)), ("80.0", 100.0, (80, 100)), (0, 100, None), (None, 5, None),
     ("", "", None), (" 0 ", "0", None)],
)  # fmt: skip
def test_sizes(height: Any, width: Any, size: tuple[int, int] | None) -> None:
    assert size_of(height, width, "a.json") == size


@pytest.mark.parametrize(
    "value", ["x", -3, 80.5, float("inf"), float("nan"), "nan", [80], {"a": 1}, "8" * 999]
)
def test_what_is_no_size_is_refused_and_not_taken_as_unknown(value: Any) -> None:
    for name, (height, width) in {"height": (value, 5), "width": (0, value)}.items():
        with pytest.raises(ValueError, match=f"^a.json: {name} must be a whole number of px"):
            size_of(height, width, "a.json")
