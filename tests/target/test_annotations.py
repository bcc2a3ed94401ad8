from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from annotated import write

from rfsearch.target.annotations import Box, box_of, read_text, size_of

if TYPE_CHECKING:
    from pathlib import Path


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
     ("", "", None), ("x", 5, None), (float("inf"), 5, None), (float("nan"), 5, None),
     (-3, 5, None)],
)  # fmt: skip
def test_sizes(height: Any, width: Any, size: tuple[int, int] | None) -> None:
    assert size_of(height, width) == size


def test_text(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("\ufeffÄ".encode())
    assert read_text(tmp_path / "a") == "Ä"
    (tmp_path / "a").write_bytes(b"\xff\x00")
    with pytest.raises(ValueError, match=r"a: not a text file in UTF-8\.$"):
        read_text(tmp_path / "a")
    with pytest.raises(ValueError, match=r"b: cannot be read \(No such file or directory\)\.$"):
        read_text(tmp_path / "b")
    with pytest.raises(ValueError, match=r"cannot be read \(Is a directory\)\.$"):
        read_text(write(tmp_path / "c" / "d", "").parent)
