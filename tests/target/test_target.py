from __future__ import annotations

import math
import warnings
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
from annotated import coco, voc, voc_object, write, write_coco
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rfsearch.basics.ranges import Range, pixel_range
from rfsearch.target.target import (
    ERF_PER_OBJECT,
    MAX_SCALE_RATIO,
    MIN_TRF_PER_OBJECT,
    OBJECT_PER_STRIDE,
    REACH_PER_STRIDE,
    ScaleTarget,
)

INF = math.inf


def test_rule() -> None:
    target = ScaleTarget(min_size=24, max_size=40)
    assert target.theoretical == Range(60, INF)
    assert target.effective == Range(40, 140)


def test_rule_follows_the_constants() -> None:
    target = ScaleTarget(10, 20)
    assert target.theoretical == Range(MIN_TRF_PER_OBJECT * 20, INF)
    assert target.effective == Range(ERF_PER_OBJECT[0] * 20, ERF_PER_OBJECT[1] * 20)


def test_rule_looks_at_the_largest_object() -> None:
    assert ScaleTarget(10, 20).effective == ScaleTarget(20, 20).effective


def test_targets_are_frozen_values() -> None:
    target = ScaleTarget(10, 20)
    assert target == ScaleTarget(10, 20)
    assert hash(target) == hash(ScaleTarget(10, 20))
    with pytest.raises(FrozenInstanceError, match="max_size"):
        target.max_size = 30  # type: ignore[misc]  # the mistake that is tested


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 10), (-1, 10), (20, 10), (10, INF), (float("nan"), 10), (10, float("nan"))],
)
def test_impossible_targets(low: float, high: float) -> None:
    with pytest.raises(ValueError, match=r"`0 < min_size <= max_size` must hold .* min_size="):
        ScaleTarget(low, high)


@pytest.mark.parametrize(("low", "high"), [(10, 10), (10, 29), (10, 30), (32, 96)])
def test_one_field_fits_a_ratio_of_three(low: float, high: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ScaleTarget(low, high).advice is None


def test_wide_targets_point_to_pyramids() -> None:
    assert MAX_SCALE_RATIO == 3
    match = (
        r"Objects of 24 to 96 px differ by a factor of 4\.0: above 3, one receptive field cannot "
        r"fit all of them\..*feature pyramid"
    )
    with pytest.warns(UserWarning, match=match) as caught:
        target = ScaleTarget(24, 96)
    assert len(caught) == 1
    assert target.advice == str(caught[0].message)
    assert target.effective == Range(96, 336)


def test_quiet_targets_do_not_warn() -> None:
    target = ScaleTarget(24, 96, quiet=True)
    assert target.advice is not None
    assert target == ScaleTarget.from_sizes([24, 96], (0, 1), quiet=True)
    assert repr(target) == "ScaleTarget(min_size=24, max_size=96)"
    assert replace(target, max_size=48) == ScaleTarget(24, 48)


def test_warning_points_at_the_users_line() -> None:
    with pytest.warns(UserWarning, match="pyramid") as caught:
        ScaleTarget(1, 96)
    assert caught[0].filename == __file__


def test_from_sizes() -> None:
    sizes = np.arange(50, 101)
    assert ScaleTarget.from_sizes(sizes, (0.0, 1.0)) == ScaleTarget(50, 100)
    assert ScaleTarget.from_sizes(sizes, (0.1, 0.9)) == ScaleTarget(55, 95)
    assert ScaleTarget.from_sizes(sizes) == ScaleTarget(52.5, 97.5)


def test_from_sizes_of_any_shape_and_order() -> None:
    assert ScaleTarget.from_sizes([[30, 10], [20, 25]], (0, 1)) == ScaleTarget(10, 30)
    assert ScaleTarget.from_sizes([12.5]) == ScaleTarget(12.5, 12.5)


def test_from_wide_sizes_warns() -> None:
    with pytest.warns(UserWarning, match="Objects of 10 to 100 px"):
        ScaleTarget.from_sizes([10, 100], (0, 1))


def test_no_sizes() -> None:
    with pytest.raises(ValueError, match="`sizes` must hold at least one object size"):
        ScaleTarget.from_sizes([])


@pytest.mark.parametrize(("wrong", "text"), [(0, "0"), (-3, "-3"), (INF, "inf"), (np.nan, "nan")])
def test_sizes_that_are_none(wrong: float, text: str) -> None:
    with pytest.raises(ValueError, match=rf"`sizes` must be positive .* but got {text}\.$"):
        ScaleTarget.from_sizes([10, wrong, 20])


@pytest.mark.parametrize("quantiles", [(0.9, 0.1), (-0.1, 0.5), (0.5, 1.1)])
def test_impossible_quantiles(quantiles: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"`0 <= low <= high <= 1` must hold, but got quantiles"):
        ScaleTarget.from_sizes([10, 20], quantiles)


# -- from annotations -----------------------------------------------------------------------


def test_from_coco(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    with pytest.warns(UserWarning, match="Objects of 10 to 40 px differ") as caught:
        assert ScaleTarget.from_coco(path, quantiles=(0, 1)) == ScaleTarget(10, 40, quiet=True)
    assert caught[0].filename == __file__
    halved = ScaleTarget.from_coco(path, 50, quantiles=(0, 0.5))
    assert halved == ScaleTarget(5, 8)
    stretched = ScaleTarget.from_coco(path, (40, 25), "stretch", quantiles=(0, 0))
    assert (stretched.height, stretched.width) == ((5 / 2, 5 / 2), (16 / 4, 16 / 4))


def test_from_voc(tmp_path: Path) -> None:
    boxes = (voc_object(0, 0, 20, 20), voc_object(0, 0, 30, 30), voc_object(0, 0, 9, 9, "nut"))
    write(tmp_path / "a.xml", voc(*boxes))
    for path in (tmp_path, tmp_path / "a.xml"):
        target = ScaleTarget.from_voc(path, 200, "none", quantiles=(0, 1), classes=["screw"])
        assert target == ScaleTarget(20, 30)


def test_from_csv(tmp_path: Path) -> None:
    Image.new("L", (100, 50)).save(tmp_path / "a.png")
    path = write(tmp_path / "b" / "a.csv", "image,xmin,ymin,xmax,ymax\na.png,0,0,30,30\n")
    assert ScaleTarget.from_csv(path) == ScaleTarget(30, 30)
    assert ScaleTarget.from_csv(path, 200, images=tmp_path) == ScaleTarget(60, 60)


def test_from_masks(tmp_path: Path) -> None:
    mask = np.zeros((50, 50), dtype=np.uint8)
    mask[:8, :8] = mask[20:40, 20:40] = 1
    mask[45:, 45:] = 2
    Image.fromarray(mask).save(tmp_path / "a.png")
    whole = ScaleTarget.from_masks(tmp_path, quantiles=(1, 1), semantic=False)
    assert whole == ScaleTarget(40, 40)
    parts = ScaleTarget.from_masks(tmp_path, 100, semantic=True, classes=["1"], quantiles=(1, 1))
    assert parts == ScaleTarget(40, 40)
    assert ScaleTarget.from_masks(tmp_path, semantic=True, quantiles=(0, 0)).min_size == 5


def test_objects_that_are_skipped_are_warned_of(tmp_path: Path) -> None:
    content = coco([0, 0, 10, 10], [0, 0, 0, 5], [0, 0, 9, 9])
    content["annotations"][2]["iscrowd"] = 1
    path = write_coco(tmp_path, content)
    with pytest.warns(UserWarning, match=r"coco\.json: 1 objects were skipped \(1 empty box\)\.$"):
        assert ScaleTarget.from_coco(path) == ScaleTarget(10, 10)


def test_crowds_are_skipped_without_a_warning(tmp_path: Path) -> None:
    content = coco([0, 0, 10, 10], [0, 0, 9, 9])
    content["annotations"][1]["iscrowd"] = 1
    assert ScaleTarget.from_coco(write_coco(tmp_path, content)) == ScaleTarget(10, 10)


# -- levels ----------------------------------------------------------------------------------


def test_split() -> None:
    target = ScaleTarget(20, 100, quiet=True)
    parts = target.split({"P4": 16, "P2": 4, "P3": 8, "P5": 32})
    assert parts == {
        "P2": ScaleTarget(20, 32),
        "P3": ScaleTarget(32, 64),
        "P4": ScaleTarget(64, 100),
    }
    assert list(parts) == ["P2", "P3", "P4"]


def test_wide_parts_do_not_warn() -> None:
    (part,) = ScaleTarget(8, 60, quiet=True).split({"C2": 4}).values()
    assert part.advice is not None
    assert hash(part) == hash(ScaleTarget(8, 60, quiet=True))


def test_split_says_what_is_missing() -> None:
    match = r"No level serves objects of 5 to 8 px; the levels are P2 \(stride 4 px: 8 to 32 px\)"
    with pytest.raises(ValueError, match=match):
        ScaleTarget(5, 12).split({"P2": 4, "P3": 8})


def test_the_ends_of_the_reach_follow_the_constants() -> None:
    low, high = (4 * end for end in REACH_PER_STRIDE)
    assert ScaleTarget(low, high, quiet=True).split({"C2": 4}) == {
        "C2": ScaleTarget(low, high, quiet=True)
    }
    for size in (low * 0.99, high * 1.01):
        with pytest.raises(ValueError, match="No level serves"):
            ScaleTarget(size, size).split({"C2": 4})
    meets = 4 * OBJECT_PER_STRIDE[1]
    parts = ScaleTarget(meets - 1, meets + 1).split({"C2": 4, "C3": 8})
    assert parts["C2"].max_size == meets == parts["C3"].min_size


@given(st.floats(8, 60), st.floats(1.01, 8))
def test_parts_are_targets_within_the_target(low: float, ratio: float) -> None:
    target = ScaleTarget(low, low * ratio, quiet=True)
    parts = list(target.split({"P2": 4, "P3": 8, "P4": 16, "P5": 32}).values())
    assert (parts[0].min_size, parts[-1].max_size) == (target.min_size, target.max_size)
    assert max(part.effective.high for part in parts) == target.effective.high


# -- ranges ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "octaves"),
    [(8, 1), (16, 0), (32, -1), (64, 0), (128, 1), (256, 2), (4, 2), (16 * 2**0.5, -0.5)],
)
def test_violation_in_octaves(size: float, octaves: float) -> None:
    assert Range(16, 64).violation(size) == pytest.approx(octaves)


def test_violation_of_open_ranges() -> None:
    assert Range(16, INF).violation(4) == 2
    assert Range(16, INF).violation(1024) == -6
    assert Range(0, 16).violation(4) == -2
    assert Range(0, INF).violation(4) == -INF


@given(st.floats(1, 100), st.floats(1, 4), st.floats(0.5, 1_000))
def test_violation_is_positive_exactly_outside(low: float, ratio: float, size: float) -> None:
    allowed = Range(low, low * ratio)
    assert (allowed.violation(size) <= 0) == (allowed.low <= size <= allowed.high)


@given(st.floats(1, 100), st.floats(1, 4), st.floats(1, 8))
def test_too_small_and_too_large_weigh_the_same(low: float, ratio: float, factor: float) -> None:
    allowed = Range(low, low * ratio)
    small, large = allowed.violation(low / factor), allowed.violation(low * ratio * factor)
    assert small == pytest.approx(large, abs=1e-9)
    assert small == pytest.approx(math.log2(factor), abs=1e-9)


def test_text() -> None:
    assert str(Range(16, 64)) == "16 to 64 px"
    assert str(Range(22.5, INF)) == "at least 22.5 px"


def test_bounds_of_a_user() -> None:
    assert pixel_range((16, 64), "effective") == Range(16, 64)
    assert pixel_range((16, None), "effective") == Range(16, INF)
    assert pixel_range((0, 16), "effective") == Range(0, 16)


@pytest.mark.parametrize("bounds", [(64, 16), (-1, 16), (INF, None), (float("nan"), 3)])
def test_impossible_bounds(bounds: tuple[float, float | None]) -> None:
    with pytest.raises(ValueError, match=r"`0 <= low <= high` must hold for `effective`, but got"):
        pixel_range(bounds, "effective")
