from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from rfsearch.data.tiles import (
    NOWHERE,
    TRAIN_STEP,
    Area,
    AreaTiling,
    Origin,
    Tiling,
    split_images,
)

SIDE = 8


def covered(
    area: Area, corners: list[tuple[int, int]], size: tuple[int, int]
) -> NDArray[np.int64]:
    """How many tiles show each pixel."""
    count = np.zeros(size, np.int64)
    for top, left in corners:
        assert area.top <= top <= area.bottom - SIDE
        assert area.left <= left <= area.right - SIDE
        count[top : top + SIDE, left : left + SIDE] += 1
    return count


@st.composite
def boxes(draw: st.DrawFn, size: tuple[int, int]) -> NDArray[np.float64]:
    """Objects in or partly outside an image."""
    height, width = size
    found = []
    for _ in range(draw(st.integers(0, 12))):
        left, top = draw(st.floats(-5, width - 1)), draw(st.floats(-5, height - 1))
        found.append((left, top, left + draw(st.floats(1, 20)), top + draw(st.floats(1, 20))))
    return np.array(found, float).reshape(-1, 4)


sizes = st.tuples(st.integers(SIDE, 90), st.integers(SIDE, 90))


@given(st.data(), sizes, st.floats(0.05, 0.9), st.integers(0, 5))
def test_no_pixel_and_no_object_is_seen_in_both_parts(
    data: st.DataObject, size: tuple[int, int], valid_share: float, seed: int
) -> None:
    corners = data.draw(boxes(size))
    tiling = AreaTiling(image_size=SIDE, valid_share=valid_share, seed=seed)
    ((train, valid),) = split_images([size], [corners], tiling)
    in_train = covered(train, train.tiles(SIDE, 4), size) > 0
    in_valid = covered(valid, valid.apart(SIDE), size) > 0
    assert not (in_train & in_valid).any()
    for left, top, right, bottom in corners.clip(0):
        rows = slice(int(top), int(np.ceil(bottom)))
        columns = slice(int(left), int(np.ceil(right)))
        assert not (in_train[rows, columns].any() and in_valid[rows, columns].any())


@given(sizes, st.floats(0.05, 0.9), st.integers(0, 5))
def test_an_image_without_objects_is_used_but_for_what_is_smaller_than_a_tile(
    size: tuple[int, int], valid_share: float, seed: int
) -> None:
    tiling = AreaTiling(image_size=SIDE, valid_share=valid_share, seed=seed)
    ((train, valid),) = split_images([size], [np.zeros((0, 4))], tiling)
    if max(size) < 2 * SIDE:
        assert (train, valid) == (Area(0, 0, *size), NOWHERE)
        return
    areas = [(a.bottom - a.top) * (a.right - a.left) for a in (train, valid)]
    assert sum(areas) == size[0] * size[1]
    assert valid.apart(SIDE)
    wanted = max(SIDE, round(valid_share * max(size)))
    assert areas[1] == min(wanted, max(size) - SIDE) * min(size)
    assert train.tiles(SIDE, 4)


@given(sizes)
def test_tiles_for_training_cover_the_area_and_those_for_validation_do_not_overlap(
    size: tuple[int, int],
) -> None:
    area = Area(0, 0, *size)
    assert covered(area, area.tiles(SIDE, 4), size).min() >= 1
    assert covered(area, area.apart(SIDE), size).max() == 1
    rows = sorted({top for top, _ in area.tiles(SIDE, 4)})
    assert max(np.diff(rows), default=0) <= 4


def test_training_tiles_overlap_by_half() -> None:
    assert TRAIN_STEP == 0.5
    assert Area(0, 0, 8, 16).tiles(8, 4) == [(0, 0), (0, 4), (0, 8)]


def test_an_object_on_the_border_belongs_to_validation_whole() -> None:
    # 30 x 12 px: the last 10 columns validate, or the first.
    on_the_border = np.array([[18.5, 2, 23, 6], [8, 2, 11.5, 6]])
    seen = set()
    for seed in range(8):
        tiling = AreaTiling(image_size=SIDE, valid_share=1 / 3, seed=seed)
        ((train, valid),) = split_images([(12, 30)], [on_the_border], tiling)
        seen.add((train, valid))
    assert seen == {
        (Area(0, 0, 12, 18), Area(0, 20, 12, 30)),
        (Area(0, 12, 12, 30), Area(0, 0, 12, 10)),
    }


@pytest.mark.parametrize(("number", "share", "valid"), [(10, 0.2, 2), (3, 0.01, 1), (4, 0.5, 2)])
def test_whole_images_are_split_by_their_number(number: int, share: float, valid: int) -> None:
    tiling = Tiling(image_size=SIDE, valid_share=share)
    splits = split_images([(20, 30)] * number, [np.zeros((0, 4))] * number, tiling)
    whole = Area(0, 0, 20, 30)
    assert sum(split.valid == whole for split in splits) == valid
    for split in splits:
        assert sorted(split) == [NOWHERE, whole]


@pytest.mark.parametrize("kind", ["images", "areas"])
def test_the_split_depends_on_the_seed_alone(kind: str) -> None:
    images = ([(64, 64)] * 6, [np.zeros((0, 4))] * 6)
    first, second, *others = (
        split_images(*images, Tiling(image_size=SIDE, split=kind, seed=seed))
        for seed in (0, 0, 1, 2)
    )
    assert first == second
    assert any(other != first for other in others)


def test_impossible_tilings_are_refused() -> None:
    for values in ({"image_size": 7}, {"scale": 0}, {"valid_share": 1}, {"split": "tiles"}):
        with pytest.raises(ValidationError):
            Tiling(**{"image_size": 8, **values})
    with pytest.raises(ValidationError, match="split"):
        AreaTiling(image_size=8, split="images")


def test_copies_are_in_one_part_and_named_images_validate() -> None:
    def parts(names: list[str], first: list[int], **values: object) -> list[bool]:
        origins = [Origin(*one) for one in zip(names, first, strict=True)]
        images = ([(20, 30)] * len(names), [np.zeros((0, 4))] * len(names))
        splits = split_images(*images, Tiling(image_size=SIDE, **values), origins)
        return [split.train == NOWHERE for split in splits]

    names = ["train/a.png", "train/b.png", "val/a.png", "val/deep/c.png"]
    assert parts(names, [0, 1, 2, 3], valid=["val/*"]) == [False, False, True, True]
    assert parts(names, [0, 1, 0, 3], valid=["val/*"]) == [False, False, False, True]
    for seed in range(10):
        first, *_, last = parts(names, [0, 1, 2, 0], seed=seed, valid_share=0.5)
        assert first == last
        # Some validate, whichever of the copies are drawn.
        for copies in ([0, 0, 0, 3], [0, 1, 1, 1]):
            drawn = parts(names, copies, seed=seed, valid_share=0.25)
            assert 0 < sum(drawn) < 4
            assert [drawn[one] for one in copies] == drawn
    with pytest.raises(ValueError, match=r"`valid` must be patterns .* none of the 4 is like"):
        parts(names, [0, 1, 2, 3], valid=["test/*"])
    with pytest.raises(ValidationError, match='`split` must be "images"'):
        Tiling(image_size=SIDE, split="areas", valid=["val/*"])
