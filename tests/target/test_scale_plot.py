from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from annotated import coco, write_coco
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation

from rfsearch.target.scale_plot import scale_histogram
from rfsearch.target.scales import read_scales
from rfsearch.target.target import ScaleTarget

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes

    from rfsearch.target.object_scales import ObjectScales

TARGET = ScaleTarget(10, 40, quiet=True)
FPN = {"P2": 4, "P3": 8}


def scales_of(folder: Path, num_classes: int) -> ObjectScales:
    """Three objects of each class, 10 to 40 px, and one more of the first."""
    categories = [{"id": n, "name": f"class {n}"} for n in range(num_classes)]
    boxes: list[Any] = [[0, 0, side, side] for side in (10, 16, 40)] * num_classes
    content = coco(*boxes, [0, 0, 20, 20], categories=categories)
    for n, entry in enumerate(content["annotations"]):
        entry["category_id"] = (n // 3) % num_classes
    return read_scales(write_coco(folder, content))


def panels(
    scales: ObjectScales, target: ScaleTarget, parts: Mapping[str, ScaleTarget] | None = None
) -> list[Axes]:
    figure = scale_histogram(scales, target, parts)
    figure.canvas.draw()
    return list(figure.axes)


def bars(axes: Axes) -> list[Rectangle]:
    return [one for one in axes.patches if isinstance(one, Rectangle) and one.get_alpha() is None]


def bands(axes: Axes) -> list[tuple[float, float]]:
    found = [one for one in axes.patches if isinstance(one, Rectangle) and one.get_alpha()]
    return [(one.get_x(), one.get_x() + one.get_width()) for one in found]


def test_a_row_for_all_and_one_for_each_class(tmp_path: Path) -> None:
    rows = panels(scales_of(tmp_path, 2), TARGET)
    assert [row.get_ylabel() for row in rows] == ["all\n(7)", "class 0\n(4)", "class 1\n(3)"]
    for row, count in zip(rows, (7, 4, 3), strict=True):
        assert sum(bar.get_height() for bar in bars(row)) == count
        assert bands(row) == [(10, 40)]


def test_the_only_class_is_not_shown_twice(tmp_path: Path) -> None:
    (row,) = panels(scales_of(tmp_path, 1), TARGET)
    assert row.get_ylabel() == "all\n(4)"


def test_rare_classes_are_left_to_the_first_row(tmp_path: Path) -> None:
    rows = panels(scales_of(tmp_path, 12), TARGET)
    assert len(rows) == 1 + 8
    assert sum(bar.get_height() for bar in bars(rows[0])) == 3 * 12 + 1


def test_bars_are_of_equal_width_in_octaves(tmp_path: Path) -> None:
    (row,) = panels(scales_of(tmp_path, 1), TARGET)
    edges = np.array([bar.get_x() for bar in bars(row)])
    assert np.diff(np.log2(edges)) == pytest.approx(0.25)
    assert row.get_xscale() == "log"
    assert [label.get_text() for label in row.get_xticklabels()] == ["8", "16", "32"]
    low, high = row.get_xlim()
    assert low < 10
    assert high > 40


def test_levels_are_shaded_and_named(tmp_path: Path) -> None:
    parts = TARGET.split(FPN)
    first, second, _ = panels(scales_of(tmp_path, 2), TARGET, parts)
    assert bands(first) == bands(second) == [(10, 32), (32, 40)]
    names = [one for one in first.texts if isinstance(one, Annotation)]
    assert [one.get_text() for one in names] == ["P2\n10 to 32", "P3\n32 to 40"]
    assert not second.texts
    colors = {one.get_facecolor() for one in first.patches if one.get_alpha()}
    assert len(colors) == 2


@pytest.mark.parametrize("high", [33, 36, 45, 64])
def test_names_of_levels_do_not_overlap(tmp_path: Path, high: float) -> None:
    target = ScaleTarget(14, high, quiet=True)
    parts = target.split({"P1": 2, **FPN})
    assert len(parts) == 3
    row = panels(scales_of(tmp_path, 1), target, parts)[0]
    boxes = [one.get_window_extent() for one in row.texts]
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[n + 1 :])


def test_sizes_outside_the_target_are_shown(tmp_path: Path) -> None:
    (row,) = panels(scales_of(tmp_path, 1), ScaleTarget(100, 200))
    assert row.get_xlim()[0] < 10
    assert row.get_xlim()[1] > 200


def test_one_size_only(tmp_path: Path) -> None:
    scales = read_scales(write_coco(tmp_path, coco([0, 0, 20, 20])))
    (row,) = panels(scales, ScaleTarget(20, 20))
    assert sum(bar.get_height() for bar in bars(row)) == 1


def test_names_are_not_taken_for_mathematics(tmp_path: Path) -> None:
    names = [{"id": 3, "name": "$x_"}, {"id": 4, "name": "$"}]
    content = coco(categories=names)
    content["annotations"][0]["category_id"] = 4
    rows = panels(read_scales(write_coco(tmp_path, content)), TARGET)
    assert [row.get_ylabel() for row in rows[1:]] == ["$x_\n(2)", "$\n(1)"]
