from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rfsearch.data.scenes import Scenes, make_scenes

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Height and width of the solid objects, whose images are 10 px wide.
SHAPES = ((4, 6), (8, 2), (5, 5), (10, 10), (3, 9))


def solid_objects() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Filled rectangles; each class has a shape and a grey value of its own."""
    objects = np.zeros((len(SHAPES), 10, 10), np.uint8)
    for label, (height, width) in enumerate(SHAPES):
        top, left = (10 - height) // 2, (10 - width) // 2
        objects[label, top : top + height, left : left + width] = grey(label)
    return objects, np.arange(len(SHAPES))


def grey(label: int) -> int:
    return 50 + 20 * label


def scenes(num_scenes: int = 20, **options: Any) -> Scenes:
    """Scenes of the solid objects, by default at their own size."""
    return make_scenes(*solid_objects(), num_scenes, **{"object_size": 10, **options})


def inside(image: NDArray[np.uint8], box: NDArray[np.int64]) -> NDArray[np.uint8]:
    x, y, width, height = box
    return image[y : y + height, x : x + width]


def outside(image: NDArray[np.uint8], box: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The image with its box made black."""
    rest = image.copy()
    inside(rest, box)[:] = 0
    return rest


def test_shapes_and_types() -> None:
    made = scenes(7, canvas_size=24)
    assert (made.images.shape, made.images.dtype) == ((7, 24, 24), np.uint8)
    assert (made.labels.shape, made.labels.dtype) == ((7,), np.int64)
    assert (made.boxes.shape, made.boxes.dtype) == ((7, 4), np.int64)


def test_the_same_seed_gives_the_same_scenes() -> None:
    first, second, other = (scenes(seed=seed) for seed in (3, 3, 4))
    for name in ("images", "labels", "boxes"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
        assert not np.array_equal(getattr(first, name), getattr(other, name))


def test_the_objects_are_not_changed() -> None:
    objects, labels = solid_objects()
    make_scenes(objects, labels, 5, object_size=10, canvas_size=20)
    assert np.array_equal(objects, solid_objects()[0])


# -- the whole object -------------------------------------------------------------------------


@given(object_size=st.integers(8, 30), margin=st.integers(0, 12), seed=st.integers(0, 99))
def test_boxes_are_the_tight_boxes_of_the_objects(
    object_size: int, margin: int, seed: int
) -> None:
    made = scenes(
        5, object_size=object_size, canvas_size=object_size + margin, coverage=0, seed=seed
    )
    for image, (x, y, width, height) in zip(made.images, made.boxes, strict=True):
        rows, columns = np.nonzero(image)
        assert (x, y) == (columns.min(), rows.min())
        assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)


def test_boxes_are_x_y_width_height() -> None:
    made = scenes(coverage=0, canvas_size=30)
    for label, (_, _, width, height) in zip(made.labels, made.boxes, strict=True):
        assert (height, width) == SHAPES[label]


def test_the_whole_object_is_seen_among_fragments() -> None:
    made = scenes(200, canvas_size=24, coverage=2.0)
    assert set(made.labels) == set(range(len(SHAPES)))
    for image, label, box in zip(made.images, made.labels, made.boxes, strict=True):
        assert (inside(image, box) == grey(label)).all()


def test_objects_lie_everywhere() -> None:
    made = scenes(400, canvas_size=14, coverage=0)
    whole = made.labels == SHAPES.index((10, 10))
    assert set(made.boxes[whole, 0]) == set(made.boxes[whole, 1]) == set(range(5))


def test_an_object_as_large_as_the_canvas() -> None:
    made = scenes(10, canvas_size=10, coverage=0)
    assert np.array_equal(made.images, solid_objects()[0][made.labels])


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_boxes_grow_with_the_object_size(factor: int) -> None:
    small = scenes(coverage=0, canvas_size=60)
    large = scenes(coverage=0, canvas_size=60, object_size=10 * factor)
    assert np.array_equal(small.labels, large.labels)
    # Antialiasing blurs an edge over less than one pixel of the original on either side.
    growth = large.boxes[:, 2:] - factor * small.boxes[:, 2:]
    assert (np.abs(growth) <= factor).all()
    assert (growth >= 0).all()


def test_object_sizes_are_sides_of_boxes() -> None:
    made = scenes(coverage=0)
    areas = [SHAPES[label][0] * SHAPES[label][1] for label in made.labels]
    assert made.object_sizes == pytest.approx(np.sqrt(areas))


# -- the fragments ----------------------------------------------------------------------------


def test_one_fragment_has_the_stated_size() -> None:
    # The area of one fragment of 0.4 x 10 px, of a canvas of 40 px.
    made = scenes(200, canvas_size=40, fragment_share=0.4, coverage=16 / 1600)
    rests = [outside(i, box) for i, box in zip(made.images, made.boxes, strict=True)]
    areas = [np.count_nonzero(rest) for rest in rests]
    assert max(areas) == 16
    for rest in rests:
        rows, columns = np.nonzero(rest)
        if len(rows):
            assert np.ptp(rows) < 4
            assert np.ptp(columns) < 4


@pytest.mark.parametrize(("fragment_share", "side"), [(0.2, 3), (0.5, 5), (0.84, 8), (1.0, 10)])
def test_fragments_grow_with_their_share(fragment_share: float, side: int) -> None:
    made = scenes(
        200, canvas_size=40, fragment_share=fragment_share, coverage=side**2 / 1600, seed=1
    )
    areas = [
        np.count_nonzero(outside(image, box))
        for image, box in zip(made.images, made.boxes, strict=True)
    ]
    assert max(areas) == side**2


def test_fragments_are_cut_from_the_objects() -> None:
    made = scenes(canvas_size=40)
    assert set(np.unique(made.images)) == {0, *(grey(label) for label in range(len(SHAPES)))}


@pytest.mark.parametrize("coverage", [0.0, 0.25, 1.0, 3.0])
def test_coverage_is_the_area_of_all_fragments(coverage: float) -> None:
    # Fragments of a white plane. Thrown at random, they leave exp(-coverage) of the canvas empty.
    plane = np.full((1, 10, 10), 255, np.uint8)
    made = make_scenes(
        plane, np.zeros(1, int), 40, object_size=10, canvas_size=100, coverage=coverage
    )
    empty = np.mean([np.mean(image == 0) for image in made.images])
    without_object = empty / (1 - 10**2 / 100**2)
    assert without_object == pytest.approx(np.exp(-coverage), abs=0.02)


# -- mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"object_size": 49}, r"object_size <= canvas_size.* object_size=49 and canvas_size=48"),
        ({"object_size": 3}, r"`4 <= object_size.* object_size=3"),
        ({"fragment_share": 0.0}, r"`0 < fragment_share <= 1`.* fragment_share=0\.0"),
        ({"fragment_share": 1.5}, r"`0 < fragment_share <= 1`.* fragment_share=1\.5"),
        ({"coverage": -1.0}, r"`coverage >= 0`.* coverage=-1\.0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scenes(**options)


@pytest.mark.parametrize(("num_objects", "num_labels"), [(0, 0), (5, 4)])
def test_objects_without_labels_are_refused(num_objects: int, num_labels: int) -> None:
    objects, labels = solid_objects()
    message = f"equally many and not empty, but got {num_objects} and {num_labels}"
    with pytest.raises(ValueError, match=message):
        make_scenes(objects[:num_objects], labels[:num_labels], 3)


def test_a_black_object_is_refused() -> None:
    objects, labels = solid_objects()
    objects[2] = 0
    with pytest.raises(ValueError, match="number 2 is black"):
        make_scenes(objects, labels, 3)
