"""Objects whose heights and widths are kept apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from rfsearch.cli._models import parse_target
from rfsearch.cli.app import app
from rfsearch.target._elongation import elongation
from rfsearch.target.questions import Needs
from rfsearch.target.target import ScaleTarget

LINES = ScaleTarget.apart(height=(8, 12), width=(100, 140), quiet=True)
SIDES = st.lists(st.floats(1, 1000), min_size=1, max_size=30)


def write_boxes(folder: Path, boxes: list[tuple[int, int]]) -> Path:
    """A COCO file with boxes of these widths and heights."""
    annotations = [
        {"id": n, "image_id": 1, "category_id": 1, "bbox": [1, 1 + n, width, height]}
        for n, (width, height) in enumerate(boxes)
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 4000, "width": 4000}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "line"}],
    }
    path = folder / "boxes.json"
    path.write_text(json.dumps(content))
    return path


def test_the_rule_holds_along_each_axis() -> None:
    assert LINES.along("height").theoretical.low == 18
    assert LINES.along("width").theoretical.low == 210
    assert LINES.along("height").effective[:2] == (12, 42)
    assert LINES.along("width").effective[:2] == (140, 490)


def test_there_is_no_single_range() -> None:
    for ask in ("theoretical", "effective"):
        with pytest.raises(ValueError, match=r"a range for each of .* \(height 8 to 12"):
            getattr(LINES, ask)
    with pytest.raises(ValueError, match="`axis` must be one of height, width, but got 'time'"):
        LINES.along("time")
    with pytest.raises(ValueError, match="Levels share objects by one size, but the target has"):
        LINES.split({"P2": 4, "P3": 8})


def test_one_range_is_that_of_all_axes() -> None:
    square = ScaleTarget(10, 14)
    assert square.axes == ()
    assert square.along("height") is square
    assert square.shortest == 10


@pytest.mark.parametrize(
    ("height", "width"), [((12, 8), (100, 140)), ((0, 8), (1, 2)), ((8, 12), (100, float("inf")))]
)
def test_ranges_that_are_none(height: tuple[float, float], width: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"must hold for a target|px large at most"):
        ScaleTarget.apart(height, width)


@given(SIDES, st.floats(2.0, 20.0))
def test_elongated_boxes_have_two_ranges(heights: list[float], factor: float) -> None:
    high = np.array(heights)
    target = ScaleTarget.from_boxes(high, high * factor * 1.0001, (0, 1), quiet=True)
    assert target.axes == ("height", "width")
    assert target.height == (high.min(), high.max())
    assert target.shortest == high.min()


@given(SIDES, st.floats(0.51, 1.9))
def test_other_boxes_have_one(heights: list[float], factor: float) -> None:
    high = np.array(heights)
    target = ScaleTarget.from_boxes(high, high * factor, quiet=True)
    assert target == ScaleTarget.from_sizes(np.sqrt(high * (high * factor)), quiet=True)


def test_which_way_they_lie() -> None:
    found = elongation(np.array([8.0, 8.0, 90.0, 30.0]), np.array([120.0, 80.0, 9.0, 30.0]))
    assert found.median == 10
    assert (found.wide, found.tall) == (0.5, 0.25)


def test_the_stride_that_is_advised_does_not_skip_the_shorter_side() -> None:
    assert Needs(LINES).max_output_stride == 4
    mixed = ScaleTarget.from_boxes([8, 8, 120, 120], [120, 120, 8, 8], (0, 1), quiet=True)
    assert Needs(mixed).max_output_stride == 4
    assert "max_output_stride = 4" in Needs(LINES, dense=True).experiment_toml()
    assert "height = [8, 12]\nwidth = [100, 140]" in Needs(LINES).experiment_toml()


def test_objects_larger_than_the_images_along_an_axis() -> None:
    assert LINES.beyond((64, 128)) is not None
    assert LINES.beyond((64, 256)) is None


def test_from_annotations(tmp_path: Path) -> None:
    path = write_boxes(tmp_path, [(100, 8), (120, 10), (140, 12)])
    target = ScaleTarget.from_coco(path, quantiles=(0, 1))
    assert (target.height, target.width) == ((8, 12), (100, 140))


def test_the_command_says_how_elongated_objects_are(tmp_path: Path) -> None:
    path = write_boxes(tmp_path, [(100, 8), (120, 10), (140, 12)])
    printed = CliRunner().invoke(app, ["target", str(path), "--quantiles", "0", "1"])
    assert printed.exit_code == 0
    text = " ".join(printed.output.split())
    assert "target height 8 to 12 px, width 100 to 140 px" in text
    assert "theoretical RF height at least 18 px, width at least 210 px" in text
    assert "Objects are elongated: the longer side is 12.0 times the shorter one" in text
    assert "100% are wide, 0% tall" in text
    assert "A map's stride of up to 4 px does not skip their shorter side." in text
    data = json.loads(CliRunner().invoke(app, ["target", str(path), "--json"]).output)
    assert data["elongation"] == {"median": 12.0, "wide": 1.0, "tall": 0.0}
    assert set(data["target"]) == {"height", "width"}


def test_context_is_for_one_range(tmp_path: Path) -> None:
    path = write_boxes(tmp_path, [(100, 8)])
    refused = CliRunner().invoke(app, ["target", str(path), "--context", "2"])
    assert refused.exit_code == 2
    assert "`context` must be 1 where objects are so elongated" in refused.output


def test_the_notation_of_the_command_line() -> None:
    assert parse_target("8:12x100:140") == LINES
    assert parse_target("8:12") == ScaleTarget(8, 12)
    for text in ("8:12x100", "8x12", "1:2x3:4x5:6", "a:bxc:d", ""):
        with pytest.raises(ValueError, match=r"--target must be MIN:MAX .* 8:12x100:140, but got"):
            parse_target(text)
