from __future__ import annotations

import math
from collections import Counter

import pytest
from helpers import SPACES
from hypothesis import given, settings
from strategies import space_dicts

from rfsearch.constraint import RFConstraint
from rfsearch.reachable import count_receptive_fields, count_sizes, require_reachable
from rfsearch.space import SearchSpace
from rfsearch.target import ScaleTarget

#: All blocks, both stem pools, both poolings, and shared choices beside those of each block.
MIXED = SearchSpace(
    stem={"kernel_size": [3, 5], "stride": 2, "width": [4, 8], "pool": ["none", "max"]},
    stages=[
        {
            "block": ["plain", "basic", "bottleneck"],
            "depth": [1, 2],
            "width": 8,
            "stride": [1, 2],
            "downsample": ["conv", "avg_pool"],
            "kernel_size": [1, 3],
            "dilation": [1, 2],
            "per_block": ["kernel_size", "dilation"],
        }
    ],
)
SMALL = SearchSpace(
    stem={"kernel_size": 3, "stride": 1, "width": 4},
    stages=[{"block": "plain", "depth": [1, 2], "width": 4, "kernel_size": [3, 5]}],
)
#: The largest space that a property test enumerates.
ENUMERABLE = 300


def enumerated(space: SearchSpace) -> Counter[object]:
    return Counter(architecture.receptive_field() for architecture in space)


@pytest.mark.parametrize(
    "space", [SearchSpace.load("toy"), MIXED, SMALL], ids=["toy", "mixed", "small"]
)
def test_counts_are_those_of_enumeration(space: SearchSpace) -> None:
    assert count_receptive_fields(space) == enumerated(space)


@settings(max_examples=30)
@given(
    space_dicts().map(lambda values: SearchSpace(**values)).filter(lambda s: s.size <= ENUMERABLE)
)
def test_counts_are_those_of_enumeration_in_random_spaces(space: SearchSpace) -> None:
    assert count_receptive_fields(space) == enumerated(space)


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.toml")), ids=lambda path: path.stem)
def test_counts_of_a_shipped_space_add_up_to_its_size(path: object) -> None:
    space = SearchSpace.load(str(path))
    fields = count_receptive_fields(space)
    assert fields.total() == space.size
    assert sum(count_sizes(space).values()) == space.size
    assert min(fields.values()) > 0


def test_sizes_are_sorted_and_counted_by_hand() -> None:
    # Stem 3; one or two blocks of 3 or 5.
    assert list(count_sizes(SMALL).items()) == [(5, 1), (7, 2), (11, 1)]


def test_counts_are_exact_beyond_64_bits() -> None:
    stage = {"block": "plain", "depth": 64, "width": 4, "kernel_size": [3, 5]}
    space = SearchSpace(
        stem={"kernel_size": 3, "stride": 1, "width": 4},
        stages=[stage | {"per_block": ["kernel_size"]}],
    )
    sizes = count_sizes(space)
    assert space.size == sum(sizes.values()) == 2**64
    # Three is the stem's; k of 64 blocks have a kernel of 5.
    assert sizes == {3 + 2 * 64 + 2 * k: math.comb(64, k) for k in range(65)}


# -- unreachable targets ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theoretical", "wanted"),
    [
        ((12, None), "at least 12 px"),
        ((1, 4), "1 to 4 px"),
        ((8, 10), "8 to 10 px"),
    ],
)
def test_a_receptive_field_that_no_candidate_has_is_refused(
    theoretical: tuple[float, float | None], wanted: str
) -> None:
    constraint = RFConstraint(theoretical=theoretical, effective=None)
    with pytest.raises(ValueError, match="the space reaches 5 to 11 px") as error:
        require_reachable(SMALL, constraint)
    assert f"No candidate can have a theoretical receptive field of {wanted}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("gates", [{"measured": False}, {"expected": False}])
def test_an_erf_above_every_receptive_field_is_refused(gates: dict[str, bool]) -> None:
    constraint = RFConstraint(theoretical=None, effective=(12, 20), **gates)
    with pytest.raises(ValueError, match=r"an ERF of 12 to 20 px.* reaches 5 to 11 px"):
        require_reachable(SMALL, constraint)


def test_an_erf_above_the_receptive_fields_that_fit_is_refused() -> None:
    constraint = RFConstraint(theoretical=(1, 8), effective=(9, None))
    with pytest.raises(ValueError, match="No candidate can have an ERF of at least 9 px"):
        require_reachable(SMALL, constraint)


def test_a_default_target_that_is_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 30 px: the space reaches 5 to 11 px"):
        require_reachable(SMALL, RFConstraint(ScaleTarget(10, 20)))


@pytest.mark.parametrize(
    "constraint",
    [
        RFConstraint(theoretical=(11, None), effective=(11, None)),
        RFConstraint(theoretical=(1, 5), effective=(5, 5)),
        RFConstraint(theoretical=(7, 7), effective=None),
        RFConstraint(theoretical=None, effective=None),
        RFConstraint(theoretical=None, effective=(12, 20), expected=False, measured=False),
        RFConstraint(ScaleTarget(3, 4)),
    ],
)
def test_targets_within_reach_pass(constraint: RFConstraint) -> None:
    require_reachable(SMALL, constraint)
