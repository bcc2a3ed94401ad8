from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rfsearch.target._measuring import measure_objects
from rfsearch.target.annotations import AnnotatedImage, AnnotatedObject, Annotations, Box
from rfsearch.target.object_scales import ObjectScales, ScaleSummary, Skipped
from rfsearch.target.target import ScaleTarget

GOOD = AnnotatedObject(0, "screw", Box(10, 10, 30, 15))


def annotations(
    *objects: AnnotatedObject,
    size: tuple[int, int] | None = (80, 100),
    source: Path = Path("a.json"),
    are_masks: bool = False,
) -> Annotations:
    images = (AnnotatedImage("a.png", size), AnnotatedImage("b.png", (50, 50)))
    return Annotations(source, images, objects, ("nut", "screw"), are_masks)


def measure(*objects: AnnotatedObject, **others: Any) -> ObjectScales:
    return measure_objects(annotations(*objects, **others), None, "none")


def test_a_good_object() -> None:
    scales = measure(GOOD)
    assert scales.heights.tolist() == [5]
    assert scales.widths.tolist() == [20]
    assert scales.sizes.tolist() == pytest.approx([10])
    assert (scales.class_names, scales.labels.tolist()) == (("nut", "screw"), [1])
    assert (len(scales), scales.num_images, scales.num_clipped) == (1, 2, 0)
    assert scales.skipped == Skipped()
    assert str(scales.skipped) == "none"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (GOOD._replace(is_crowd=True), "crowd"),
        (GOOD._replace(image=None), "missing_image"),
        (GOOD._replace(label=None), "unknown_category"),
        (GOOD._replace(box=None), "no_box"),
        (GOOD._replace(box=Box(10, 10, 10, 20)), "empty_box"),
        (GOOD._replace(box=Box(10, 20, 30, 10)), "empty_box"),
        (GOOD._replace(box=Box(100, 0, 120, 10)), "outside"),
        (GOOD._replace(box=Box(0, -20, 10, -10)), "outside"),
        # The first reason counts.
        (AnnotatedObject(None, None, None, True), "crowd"),
        (AnnotatedObject(None, None, None), "missing_image"),
        (AnnotatedObject(0, None, None), "unknown_category"),
    ],
)
def test_objects_that_are_skipped(wrong: AnnotatedObject, reason: str) -> None:
    # Not the same twice, which would be another reason.
    other = wrong._replace(label=wrong.label and "nut")
    scales = measure(wrong, GOOD, other)
    assert len(scales) == 1
    assert scales.skipped._asdict() == {**Skipped()._asdict(), reason: 2}
    assert scales.skipped.total == 2
    assert str(scales.skipped) == f"2 {reason.replace('_', ' ')}"


def test_several_reasons_in_words() -> None:
    assert str(Skipped(crowd=3, empty_box=1)) == "3 crowd, 1 empty box"


def test_clipping_to_the_image() -> None:
    scales = measure(GOOD._replace(box=Box(-5, 70, 15, 90)), GOOD)
    assert (scales.heights[0], scales.widths[0]) == (10, 15)
    assert scales.num_clipped == 1
    assert scales.skipped.total == 0


def test_sums_of_floats_are_not_clipped() -> None:
    scales = measure(GOOD._replace(box=Box(0, 0, 100 + 1e-9, 80 + 1e-9)))
    assert (scales.widths[0], scales.heights[0], scales.num_clipped) == (100, 80, 0)


def test_without_a_size_nothing_is_clipped_or_outside() -> None:
    scales = measure(GOOD._replace(box=Box(-5, 1000, 15, 1100)), size=None)
    assert (scales.heights[0], scales.widths[0], scales.num_clipped) == (100, 20, 0)


def test_boxes_too_huge_for_a_number() -> None:
    scales = measure(GOOD._replace(box=Box(0, 0, 1e300, 1e300)), size=None)
    with pytest.raises(ValueError, match="must be positive numbers of px, but got inf"):
        ScaleTarget.from_sizes(scales.sizes)


def test_objects_are_resized_with_their_image() -> None:
    other = GOOD._replace(image=1)
    scales = measure_objects(annotations(GOOD, other), (100, 100), "stretch")
    assert scales.heights.tolist() == pytest.approx([5 * 100 / 80, 5 * 2])
    assert scales.widths.tolist() == pytest.approx([20, 20 * 2])
    assert (scales.input_size, scales.resize) == ((100, 100), "stretch")


@given(
    st.lists(st.tuples(st.floats(-50, 150), st.floats(-50, 150), st.floats(-9, 99)), max_size=8)
)
def test_every_object_is_kept_or_counted(corners: list[tuple[float, float, float]]) -> None:
    boxes = [Box(left, top, left + side, top + side) for left, top, side in corners]
    scales = measure(*(GOOD._replace(box=box) for box in boxes))
    assert len(scales) + scales.skipped.total == len(boxes)
    assert ((scales.heights > 0) & (scales.heights <= 80)).all()
    assert ((scales.widths > 0) & (scales.widths <= 100)).all()


# -- image files -----------------------------------------------------------------------------


def test_sizes_that_are_not_annotated_come_from_the_files(tmp_path: Path) -> None:
    Image.new("L", (200, 100)).save(tmp_path / "a.png")
    unsized = annotations(GOOD, size=None, source=tmp_path / "a.json")
    scales = measure_objects(unsized, (50, 50), "letterbox")
    assert scales.sizes.tolist() == pytest.approx([10 / 4])
    of_folder = annotations(GOOD, size=None, source=tmp_path)
    assert measure_objects(of_folder, (50, 50), "letterbox").sizes.tolist() == [2.5]


def test_images_whose_size_is_needed_but_not_known(tmp_path: Path) -> None:
    unsized = annotations(GOOD, GOOD._replace(image=1), size=None, source=tmp_path / "a.json")
    assert measure_objects(unsized, None, "none").skipped.total == 0
    scales = measure_objects(unsized, (50, 50), "letterbox")
    assert scales.skipped == Skipped(missing_image=1)
    assert len(scales) == 1


def test_images_of_a_folder_are_checked(tmp_path: Path) -> None:
    Image.new("L", (100, 80)).save(tmp_path / "a.png")
    found = annotations(GOOD, GOOD._replace(image=1))
    scales = measure_objects(found, None, "none", tmp_path)
    assert (len(scales), scales.skipped) == (1, Skipped(missing_image=1))
    Image.new("L", (80, 100)).save(tmp_path / "a.png")
    message = r"a\.json: .*a\.png must be 80x100 px as annotated, but is 100x80 px"
    with pytest.raises(ValueError, match=message):
        measure_objects(found, None, "none", tmp_path)


def test_masks_need_no_images(tmp_path: Path) -> None:
    scales = measure_objects(annotations(GOOD, are_masks=True), (40, 40), "stretch", tmp_path)
    assert (len(scales), scales.are_masks) == (1, True)


# -- what is asked of them -------------------------------------------------------------------


def several() -> ObjectScales:
    boxes = [(2, "screw"), (8, "screw"), (32, "nut"), (4, "screw")]
    return measure(*(AnnotatedObject(0, name, Box(0, 0, side, side)) for side, name in boxes))


def test_summaries_are_of_all_and_then_of_the_most_frequent() -> None:
    assert several().summaries((0, 0.5)) == [
        ScaleSummary(None, 4, 2, pytest.approx((2, 6)), 32),
        ScaleSummary("screw", 3, 2, pytest.approx((2, 4)), 8),
        ScaleSummary("nut", 1, 32, pytest.approx((32, 32)), 32),
    ]


def test_classes_without_objects_are_left_out() -> None:
    assert [one.name for one in measure(GOOD).summaries(())] == [None, "screw"]


def test_only_some_classes() -> None:
    only = several().only(["nut"])
    assert (only.sizes.tolist(), only.class_names) == ([32], ("nut",))
    assert only.labels.tolist() == [0]
    both = several().only(["screw", "nut"])
    assert (both.class_names, both.labels.tolist()) == (("nut", "screw"), [1, 1, 0, 1])


def test_a_class_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="no class 'bolt'; the classes are nut, screw"):
        several().only(["nut", "bolt"])


def test_objects_larger_than_the_input() -> None:
    tall = GOOD._replace(box=Box(0, 0, 5, 45))
    found = annotations(GOOD, tall)
    assert measure_objects(found, (40, 40), "none").num_larger_than_input == 1
    assert measure_objects(found, (40, 10), "none").num_larger_than_input == 2
    assert measure_objects(found, (40, 40), "letterbox").num_larger_than_input == 0
    assert measure(GOOD, tall).num_larger_than_input == 0


def test_sizes_cannot_be_changed() -> None:
    scales = measure(GOOD)
    for array in (scales.heights, scales.widths, scales.labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 3
    assert np.array_equal(scales.heights, [5])
