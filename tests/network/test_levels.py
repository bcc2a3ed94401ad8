from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rfsearch.network.levels import served_ranges, split_range

MEANT, REACH = (4, 8), (2, 16)
FPN = {"P2": 4, "P3": 8, "P4": 16, "P5": 32}


def split(low: float, high: float, **strides: int) -> dict[str, tuple[float, float]]:
    return split_range(low, high, strides, MEANT, REACH)


def test_doubling_strides_share_four_to_eight_strides() -> None:
    assert served_ranges(FPN, MEANT, REACH) == {
        "P2": (8, 32),
        "P3": (32, 64),
        "P4": (64, 128),
        "P5": (128, 512),
    }


def test_each_level_gets_its_part() -> None:
    assert split(20, 100, **FPN) == {"P2": (20, 32), "P3": (32, 64), "P4": (64, 100)}
    assert split(100, 500, **FPN) == {"P4": (100, 128), "P5": (128, 500)}


def test_one_level() -> None:
    assert split(10, 60, C4=4) == {"C4": (10, 60)}
    assert split(8, 64, C4=4) == {"C4": (8, 64)}


@pytest.mark.parametrize(("size", "level"), [(8, "P2"), (32, "P2"), (33, "P3"), (512, "P5")])
def test_one_size_is_of_one_level(size: float, level: str) -> None:
    assert split(size, size, **FPN) == {level: (size, size)}


def test_neighbours_far_apart_meet_in_the_geometric_middle() -> None:
    middle = pytest.approx(math.sqrt(8 * 4 * 4 * 16))
    parts = split(20, 250, fine=4, coarse=16)
    assert parts == {"fine": (20, middle), "coarse": (middle, 250)}
    # The farthest that two can be apart.
    assert split(8, 512, fine=4, coarse=32) == {"fine": (8, 64), "coarse": (64, 512)}


def test_strides_closer_than_a_factor_of_two() -> None:
    middle = pytest.approx(math.sqrt(8 * 4 * 4 * 6))
    assert split(20, 40, fine=4, coarse=6) == {"fine": (20, middle), "coarse": (middle, 40)}


def test_the_order_of_levels_does_not_matter() -> None:
    backwards = dict(reversed(FPN.items()))
    assert list(split(20, 100, **backwards).items()) == list(split(20, 100, **FPN).items())


LEVELS = (
    r"the levels are P2 \(stride 4 px: 8 to 32 px\), P3 \(stride 8 px: 32 to 64 px\), "
    r"P4 \(stride 16 px: 64 to 128 px\), P5 \(stride 32 px: 128 to 512 px\)\."
)


@pytest.mark.parametrize(
    ("low", "high", "sizes", "remedy"),
    [
        (5, 100, "5 to 8 px", "Add a level of stride 2 px."),
        (2, 100, "2 to 8 px", "Add a level of stride 1 px."),
        (5, 6, "5 to 6 px", "Add a level of stride 2 px."),
        (1, 20, "1 to 8 px", "Enlarge the input: even a stride of 1 px serves objects from 2 px"),
        (100, 1000, "512 to 1000 px", "Add a level of stride 128 px."),
        (600, 600, "600 to 600 px", "Add a level of stride 128 px."),
        (4, 600, "4 to 8 px and 512 to 600 px", "Add a level of stride 2 px. Add a level of str"),
    ],
)
def test_sizes_that_no_level_serves(low: float, high: float, sizes: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=f"No level serves objects of {sizes}; {LEVELS} {remedy}"):
        split(low, high, **FPN)


def test_gaps_between_levels() -> None:
    message = (
        r"No level serves objects of 64 to 128 px; the levels are C2 \(stride 4 px: 8 to 64 px\), "
        r"C6 \(stride 64 px: 128 to 1024 px\)\. Add a level of stride 16 px\.$"
    )
    with pytest.raises(ValueError, match=message):
        split(10, 200, C2=4, C6=64)
    # On one side of the gap nothing is missing.
    assert split(10, 64, C2=4, C6=64) == {"C2": (10, 64)}
    assert split(128, 300, C2=4, C6=64) == {"C6": (128, 300)}


@pytest.mark.parametrize("strides", [{}, {"a": 0}, {"a": -4, "b": 8}, {"a": 8, "b": 8}])
def test_impossible_strides(strides: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="`strides` must be positive and different for each leve"):
        split(10, 20, **strides)


@given(
    st.lists(st.integers(1, 128), min_size=1, max_size=6, unique=True),
    st.floats(1, 3000),
    st.floats(1, 100),
)
def test_parts_are_the_whole_and_within_reach(
    strides: list[int], low: float, ratio: float
) -> None:
    high = low * ratio
    levels = {f"C{stride}": stride for stride in strides}
    served = served_ranges(levels, MEANT, REACH)
    try:
        parts = split(low, high, **levels)
    except ValueError:
        # Some size between the ends is served by none.
        probes = [low, high, *(edge * off for one in served.values() for edge in one
                               for off in (1 - 1e-9, 1 + 1e-9))]  # fmt: skip
        assert any(
            low <= size <= high and not any(a <= size <= b for a, b in served.values())
            for size in probes
        )
        return
    ends = list(parts.values())
    assert (ends[0][0], ends[-1][1]) == (low, high)
    assert all(one[1] == other[0] for one, other in pairwise(ends))
    assert all(start < end for start, end in ends) or len(ends) == 1
    for name, (start, end) in parts.items():
        # Where neighbours meet is a square root.
        assert 2 * levels[name] <= start * (1 + 1e-12)
        assert end * (1 - 1e-12) <= 16 * levels[name]


@given(
    st.lists(st.integers(1, 128), min_size=1, max_size=4, unique=True),
    st.floats(2, 3000),
    st.floats(1, 100),
)
def test_remedies_lead_to_levels_that_serve_everything(
    strides: list[int], low: float, ratio: float
) -> None:
    levels = {f"C{stride}": stride for stride in strides}
    for _ in range(8):
        try:
            split(low, low * ratio, **levels)
            break
        except ValueError as error:
            added = [
                int(text) for text in re.findall(r"Add a level of stride (\d+) px", str(error))
            ]
            assert added
            assert not set(added) & set(levels.values())
            levels |= {f"C{stride}": stride for stride in added}
    else:
        pytest.fail(f"{levels} do not serve {low} to {low * ratio} px.")


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True))
def test_powers_of_two_without_holes_serve_everything(octaves: list[int]) -> None:
    strides = {f"P{n}": 2**n for n in range(min(octaves), max(octaves) + 1)}
    low, high = 2 * min(strides.values()), 16 * max(strides.values())
    parts = split(low, high, **strides)
    assert list(parts) == list(strides)
    for name in list(parts)[1:-1]:
        assert parts[name] == (4 * strides[name], 8 * strides[name])
