from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import optuna
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle

from rfsearch.analysis.analysis import trials_dataframe
from rfsearch.analysis.erf_effect import metric_label
from rfsearch.analysis.plots import erf_heat_map, score_against_erf
from rfsearch.basics.ranges import Range
from rfsearch.field.erf_map import Center, ErfMap

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

TARGET = Range(10, 30)


def frame() -> pd.DataFrame:
    """Three trained trials, and one each that was pruned, failed, or repeats another."""
    rows = [
        # value, trf_size, erf_init, erf_trained, duplicate_of
        (0.5, 40, 10.0, 20.0, None),
        (0.9, 50, 12.0, 25.0, None),
        (0.7, 20, 15.0, 12.0, None),
        (None, 20, 15.0, None, None),
        (None, 4, None, None, None),
        (0.9, 50, 12.0, 25.0, 1),
    ]
    columns = ["value", "trf_size", "erf_init", "erf_trained", "duplicate_of"]
    types = {"trf_size": "Int64", "duplicate_of": "Int64"}
    made = pd.DataFrame(rows, columns=columns).astype(
        {name: types.get(name, "Float64") for name in columns}
    )
    made["baseline"] = pd.Series([None] * len(made), dtype="string")
    made["control"] = False
    made["metric"] = pd.Series(["accuracy"] * len(made), dtype="string")
    made["erf_ratio"] = made["erf_init"] / made["trf_size"]
    made["erf_ratio_trained"] = made["erf_trained"] / made["trf_size"]
    return made


def empty_frame() -> pd.DataFrame:
    return trials_dataframe(optuna.create_study())


def panels(table: pd.DataFrame, effective: Range | None) -> list[Axes]:
    return list(score_against_erf(table, effective).axes)


def points(axes: Axes) -> set[tuple[float, float]]:
    (line,) = axes.get_lines()
    return {(float(x), float(y)) for x, y in np.column_stack(line.get_data())}


def segments(axes: Axes, color: str) -> list[list[float]]:
    """Start, end and height of the horizontal lines with this colour."""
    wanted = mpl.colors.to_rgb(color)
    found = [
        collection
        for collection in axes.collections
        if isinstance(collection, LineCollection)
        and tuple(collection.get_color()[0][:3]) == wanted
    ]
    (collection,) = found
    return [[float(s[0, 0]), float(s[1, 0]), float(s[0, 1])] for s in collection.get_segments()]


def shaded(axes: Axes) -> list[tuple[float, float]]:
    """Ranges that are shaded from top to bottom."""
    spans = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return [(span.get_x(), span.get_x() + span.get_width()) for span in spans]


@pytest.mark.parametrize(
    ("metrics", "label"),
    [
        (["accuracy"], "accuracy"),
        (["miou", None], "mIoU"),
        (["ap"], "AP"),
        ([None], "score"),
        (["ap", "miou"], "score"),
    ],
)
def test_scores_are_called_by_their_metric(metrics: list[str | None], label: str) -> None:
    table = pd.DataFrame({"metric": pd.Series(metrics, dtype="string")})
    assert metric_label(table) == label


def test_there_are_two_panels_of_accuracy() -> None:
    left, right = panels(frame(), TARGET)
    assert left.get_ylabel() == "accuracy"
    assert "ratio" in left.get_xlabel()
    assert "(px)" in right.get_xlabel()
    assert left.get_ylim() == right.get_ylim()


def test_every_trained_candidate_is_a_point() -> None:
    left, right = panels(frame(), TARGET)
    assert points(right) == {(20, 0.5), (25, 0.9), (12, 0.7)}
    assert points(left) == {(20 / 40, 0.5), (25 / 50, 0.9), (12 / 20, 0.7)}


def test_all_points_are_in_view() -> None:
    for axes in panels(frame(), TARGET):
        (low, high), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        for x, y in points(axes):
            assert low < x < high
            assert bottom < y < top


def test_lines_lead_from_the_erf_before_training() -> None:
    left, right = panels(frame(), None)
    assert sorted(segments(right, "#999999")) == [[10, 20, 0.5], [12, 25, 0.9], [15, 12, 0.7]]
    expected = [[10 / 40, 20 / 40, 0.5], [12 / 50, 25 / 50, 0.9], [15 / 20, 12 / 20, 0.7]]
    assert sorted(segments(left, "#999999")) == sorted(expected)


@pytest.mark.parametrize("target", [Range(10, 30), Range(3.5, 4.5)])
def test_the_target_is_shaded_in_px(target: Range) -> None:
    left, right = panels(frame(), target)
    assert shaded(right) == [(target.low, target.high)]
    assert shaded(left) == []


def test_the_target_of_each_candidate_is_shaded_as_ratio() -> None:
    left, _ = panels(frame(), TARGET)
    expected = [[10 / 40, 30 / 40, 0.5], [10 / 50, 30 / 50, 0.9], [10 / 20, 1.0, 0.7]]
    assert sorted(segments(left, "#009E73")) == sorted(expected)


def test_a_target_without_upper_bound_ends_at_the_largest_erf() -> None:
    _, right = panels(frame(), Range(10, math.inf))
    assert shaded(right) == [(10, 25)]


def test_nothing_is_shaded_without_a_target() -> None:
    for axes in panels(frame(), None):
        assert shaded(axes) == []
        assert len(axes.collections) == 1


@pytest.mark.parametrize("target", [None, TARGET, Range(10, math.inf)])
def test_a_study_without_trained_candidates_can_be_drawn(
    target: Range | None, tmp_path: Path
) -> None:
    figure = score_against_erf(empty_frame(), target)
    assert len(figure.axes) == 2
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert points(figure.axes[1]) == set()


def test_the_table_is_not_changed() -> None:
    table = frame()
    score_against_erf(table, TARGET)
    pd.testing.assert_frame_equal(table, frame())


def test_no_global_figure_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("pyplot")

    pyplot = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.setattr(pyplot, "figure", refuse)
    assert len(score_against_erf(frame(), TARGET).axes) == 2
    assert pyplot.get_fignums() == []


# -- the heat map of an ERF ------------------------------------------------------------------


def heat_map(side: int, canvas: tuple[int, int], center: Center, field: int) -> Axes:
    """The drawing of a uniform square of |gradient|."""
    values = np.zeros(canvas)
    top, left = (round(middle - (side - 1) / 2) for middle in center)
    values[top : top + side, left : left + side] = 1 / side**2
    figure = erf_heat_map(ErfMap(values, values, center, field), "a title")
    figure.canvas.draw()
    return figure.axes[0]


def squares(axes: Axes) -> dict[str, tuple[float, float, float, float]]:
    return {
        str(patch.get_label()): (*patch.get_xy(), patch.get_width(), patch.get_height())
        for patch in axes.patches
        if isinstance(patch, Rectangle)
    }


def test_squares_lie_where_the_pixels_are() -> None:
    # Pixel i extends from i - 1/2 to i + 1/2.
    axes = heat_map(11, (40, 60), Center(20, 30), 21)
    assert squares(axes) == {
        "50 % of the |gradient|: 9 px": (25.5, 15.5, 9, 9),
        "95 % of the |gradient|: 11 px": (24.5, 14.5, 11, 11),
        "theoretical receptive field: 21 px": (19.5, 9.5, 21, 21),
    }
    (image,) = axes.images
    assert tuple(image.get_extent()) == (-0.5, 59.5, 39.5, -0.5)
    assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, 59.5), (39.5, -0.5))
    assert axes.get_aspect() == 1


def test_colours_are_over_the_mean() -> None:
    (image,) = heat_map(10, (40, 40), Center(19.5, 19.5), 10).images
    values = np.asarray(image.get_array())
    assert values.max() == pytest.approx(40**2 / 10**2)
    assert values.min() == pytest.approx(values.max() / 1000)


def test_field_larger_than_the_input_is_shown() -> None:
    axes = heat_map(11, (40, 40), Center(20, 20), 61)
    assert "theoretical receptive field: 61 px" in squares(axes)
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    assert left < -10.5 < 50.5 < right
    assert top < -10.5 < 50.5 < bottom


def test_huge_field_is_named_only() -> None:
    axes = heat_map(11, (40, 40), Center(20, 20), 900)
    assert "theoretical receptive field (beyond the frame): 900 px" in squares(axes)
    assert axes.get_xlim() == (-20, 60)


def test_expected_map_lies_beside_around_the_same_centre() -> None:
    values = np.zeros((40, 60))
    values[10, 20] = 1.0
    own = np.outer([1.0, 2.0, 1.0], [1.0, 2.0, 1.0])
    measured = ErfMap(values, values, Center(10, 20), 3)
    expected = ErfMap(own, own, Center(1, 1), 3)
    figure = erf_heat_map(measured, "a title", expected)
    left, right, _ = figure.axes
    assert (left.get_title(), right.get_title()) == ("measured", "expected")
    shown = np.asarray(right.images[0].get_array())
    assert shown.shape == (40, 60)
    assert shown[10, 20] == shown.max() == pytest.approx(4 / 16 * 2400)
    assert shown[9, 21] == pytest.approx(1 / 16 * 2400)
    assert "95 % of the |gradient|: 3 px" in squares(right)
    # At the image's edge, what lies outside is not shown, and still counts.
    edge = ErfMap(values, values, Center(0, 20), 3)
    clipped = erf_heat_map(edge, "a title", expected).axes[1]
    assert "95 % of the |gradient|: 3 px" in squares(clipped)


def test_controls_are_hollow_beside_the_candidates() -> None:
    table = frame()
    table.loc[3, ["value", "erf_trained", "erf_ratio_trained", "control"]] = [0.2, 60.0, 3.0, True]
    for axes, x in zip(panels(table, TARGET), (3.0, 60.0), strict=True):
        candidates, controls = axes.get_lines()
        assert len(candidates.get_xdata()) == 3
        assert (controls.get_xdata(), controls.get_ydata()) == ([x], [0.2])
        assert controls.get_markerfacecolor() == "none"


@pytest.mark.parametrize("name", [r"$\frac{$", "2 $ to 3 $", "$x^$"])
def test_names_are_no_mathematics(name: str) -> None:
    figure = erf_heat_map(ErfMap(np.ones((3, 3)) / 9, np.ones((3, 3)) / 9, Center(1, 1), 3), name)
    scores = score_against_erf(frame().assign(metric=name), None)
    for drawn in (figure, scores):
        written = io.StringIO()
        with mpl.rc_context({"svg.fonttype": "none"}):
            drawn.savefig(written, format="svg")
        assert f">{name}<" in written.getvalue()
