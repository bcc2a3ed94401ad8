from __future__ import annotations

import json
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from annotated import coco, write_coco
from rich.console import Console

from rfsearch.target.questions import Needs
from rfsearch.target.report import TargetReport
from rfsearch.target.scales import read_scales
from rfsearch.target.target import ScaleTarget

if TYPE_CHECKING:
    from pathlib import Path

FPN = {"P4": 16, "P2": 4, "P3": 8, "P5": 32}


def report(folder: Path, content: Any = None, *, context: float | None = None, **options: Any) -> (
    TargetReport
):  # fmt: skip
    scales = read_scales(write_coco(folder, content), **options)
    target = ScaleTarget.from_sizes(scales.sizes, (0, 1), quiet=True)
    return TargetReport("my.json", scales, (0, 1), Needs(target, context), FPN, target.split(FPN))


def printed(of: TargetReport) -> list[str]:
    console = Console(file=StringIO(), width=80)
    of.print(console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue().splitlines()


def row(lines: list[str], first: str) -> list[str]:
    (found,) = (line for line in lines if line.startswith(first))
    return found[len(first) :].split()


def test_what_was_read_comes_first(tmp_path: Path) -> None:
    content = coco([0, 0, 10, 10], [95, 0, 20, 20], [0, 0, 0, 0])
    lines = printed(report(tmp_path, content, input_size=160, resize="stretch"))
    assert lines[:5] == [
        "annotations     my.json",
        "objects         2 (images: 1; clipped to them: 1)",
        "skipped         1 empty box",
        "resizing        height and width each scaled to 160x160 px",
        "",
    ]


def test_objects_that_a_tile_cuts_off(tmp_path: Path) -> None:
    lines = printed(report(tmp_path, input_size=32, resize="none"))
    assert "cut off         1 objects are larger than the input of 32x32 px" in lines
    assert "cut off" not in "".join(printed(report(tmp_path, input_size=64, resize="none")))


def test_sizes_of_classes(tmp_path: Path) -> None:
    content = coco(categories=[{"id": 3, "name": "screw [red]"}, {"id": 4, "name": "nut"}])
    content["annotations"][2]["category_id"] = 4
    lines = printed(report(tmp_path, content))
    header = row(lines, "class")
    assert "".join(header) == "objectssmallest0%25%50%75%100%largest"
    assert row(lines, "all (px)") == ["3", "10.0", "10.0", "13.0", "16.0", "28.0", "40.0", "40.0"]
    assert row(lines, "screw [red]")[:2] == ["2", "10.0"]
    assert row(lines, "nut")[:2] == ["1", "40.0"]


def test_very_many_classes_are_not_all_shown(tmp_path: Path) -> None:
    categories = [{"id": n, "name": f"class{n}"} for n in range(40)]
    boxes = [[0, 0, 20, 20]] * 40
    content = coco(*boxes, categories=categories)
    for n, entry in enumerate(content["annotations"]):
        entry["category_id"] = n
    found = report(tmp_path, content)
    lines = printed(found)
    assert sum(line.startswith("class") for line in lines) == 1 + 30
    assert row(lines, "10 more") == []
    assert len(found.as_data()["classes"]) == 1 + 40


def test_levels(tmp_path: Path) -> None:
    lines = printed(report(tmp_path))
    assert row(lines, "P2  ") == ["4", "10", "to", "32", "2", "48", "32", "to", "112"]
    assert row(lines, "P3") == ["8", "32", "to", "40", "1", "60", "40", "to", "140"]
    assert row(lines, "P4") == ["16", "none", "of", "them"]
    assert [line[:2] for line in lines if line[:1] == "P"] == ["P2", "P3", "P4", "P5", "P2"]
    wide = "P2 serves a factor of 3.2, above 3: its receptive field fits the largest."
    assert wide in lines


def test_an_object_where_levels_meet_counts_once(tmp_path: Path) -> None:
    found = report(tmp_path, coco(*([0, 0, side, side] for side in (10, 32, 40))))
    counts = [found.objects_of(part) for part in found.parts.values()]
    assert counts == [1, 2]


def test_the_end_is_the_target(tmp_path: Path) -> None:
    lines = printed(report(tmp_path, context=2))
    assert row(lines, "target") == ["10", "to", "40", "px"]
    assert row(lines, "theoretical RF") == ["at", "least", "120", "px"]
    assert row(lines, "ERF size") == ["80", "to", "280", "px"]
    assert lines[-5:] == [
        "[target]",
        "min_size = 10",
        "max_size = 40",
        "theoretical = [120, inf]",
        "effective = [80, 280]",
    ]


def test_advice_leads_to_levels_unless_they_are_given(tmp_path: Path) -> None:
    with_levels = report(tmp_path)
    text = " ".join(printed(with_levels))
    assert "above 3, one receptive field cannot fit all of them" in " ".join(text.split())
    assert "--levels" not in text
    without = TargetReport("a", with_levels.scales, (0, 1), with_levels.needs, {}, {})
    assert "To split it: --levels 4,8,16,32." in " ".join(" ".join(printed(without)).split())
    assert not any(line.startswith("level") for line in printed(without))


def test_nothing_is_advised_where_one_field_fits(tmp_path: Path) -> None:
    found = report(tmp_path, coco([0, 0, 10, 10], [0, 0, 20, 20]))
    assert "above 3" not in " ".join(printed(found))
    assert found.as_data()["advice"] is None


def test_80_columns_are_enough(tmp_path: Path) -> None:
    lines = printed(report(tmp_path))
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)


def test_data(tmp_path: Path) -> None:
    data = report(tmp_path, input_size=(160, 200), resize="none", context=2).as_data()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["input_size"] == [160, 200]
    assert (data["resize"], data["images"], data["objects"]) == ("none", 1, 3)
    assert sum(data["skipped"].values()) == data["clipped"] == data["larger_than_input"] == 0
    assert [one["name"] for one in data["classes"]] == [None, "screw"]
    assert data["classes"][0]["quantiles"]["0.5"] == 16
    assert [one["source"] for one in data["questions"]] == ["data", "given", "assumed", "data"]
    assert data["target"] == {
        "min_size": 10,
        "max_size": 40,
        "theoretical": [120, None],
        "effective": [80, 280],
    }
    assert data["levels"]["P3"] == {
        "stride": 8,
        "min_size": 32,
        "max_size": 40,
        "theoretical": [120, None],
        "effective": [80, 280],
    }
    assert list(data["levels"]) == ["P2", "P3"]
    assert data["experiment"].startswith("[target]\nmin_size = 10\n")


def test_quantiles_of_the_target_are_among_the_columns(tmp_path: Path) -> None:
    found = report(tmp_path)
    sizes = found.scales.sizes
    other = TargetReport("a", found.scales, (0.1, 0.5), found.needs, {}, {})
    quantiles = other.as_data()["classes"][0]["quantiles"]
    assert list(quantiles) == ["0.1", "0.25", "0.5", "0.75"]
    assert quantiles["0.1"] == pytest.approx(np.quantile(sizes, 0.1))
