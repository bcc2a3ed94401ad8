from __future__ import annotations

import pytest

from rfsearch.space.constraint import RFConstraint
from rfsearch.space.remedies import Remedy, remedies, require_feasible
from rfsearch.space.space import SearchSpace
from rfsearch.target.target import ScaleTarget

#: Receptive fields of 5, 7 and 11 px.
SMALL = SearchSpace(
    stem={"kernel_size": 3, "stride": 1, "width": 4},
    stages=[{"block": "plain", "depth": [1, 2], "width": 4, "kernel_size": [3, 5]}],
)


def theoretical(low: float, high: float | None) -> RFConstraint:
    return RFConstraint(theoretical=(low, high), effective=None)


@pytest.mark.parametrize(
    "constraint",
    [
        theoretical(11, None),
        theoretical(7, 8),
        RFConstraint(ScaleTarget(3, 4)),
        RFConstraint(theoretical=None, effective=None),
    ],
)
def test_a_target_that_can_be_met(constraint: RFConstraint) -> None:
    require_feasible(SMALL, constraint)


def test_a_target_beyond_the_space() -> None:
    with pytest.raises(ValueError, match="No candidate") as error:
        require_feasible(SMALL, theoretical(13, None))
    assert str(error.value) == (
        "No candidate of the space passes all gates (theoretical at least 13 px): its theoretical "
        "receptive fields reach from 5 to 11 px. It would with kernel_size 5 in the stem, or "
        "stride 2 in the stem, or pool max in the stem, or depth 3 in stage 1, or kernel_size 7 "
        "in stage 1."
    )


def test_a_gap_between_two_receptive_fields() -> None:
    with pytest.raises(ValueError, match=r"theoretical 8 to 8 px.* from 5 to 11 px"):
        require_feasible(SMALL, theoretical(8, 8))


def test_a_target_that_no_single_choice_helps() -> None:
    with pytest.raises(ValueError, match=r"reach from 5 to 11 px\.$"):
        require_feasible(SMALL, theoretical(5000, None))


def test_the_measured_erf_is_never_larger_than_the_theoretical_field() -> None:
    constraint = RFConstraint(theoretical=None, effective=(12, None), expected=False)
    with pytest.raises(ValueError, match=r"\(measured at least 12 px\)"):
        require_feasible(SMALL, constraint)


def test_every_remedy_works_alone() -> None:
    constraint = theoretical(13, 15)
    found = list(remedies(SMALL, constraint))
    assert Remedy("stem", "kernel_size", 5) in found
    assert Remedy("stage 1", "kernel_size", 7) in found
    for part, key, value in found:
        values = SMALL.model_dump()
        place = values["stem"] if part == "stem" else values["stages"][0]
        place[key] = (*place[key], value)
        changed = SearchSpace.model_validate(values)
        assert any(constraint.is_feasible(architecture) for architecture in changed)
    assert not any(constraint.is_feasible(architecture) for architecture in SMALL)


def test_impossible_choices_are_no_remedies() -> None:
    # A kernel of one tap cannot stand beside several dilations that all blocks share.
    stage = {"block": "plain", "depth": 1, "width": 4, "dilation": [1, 2]}
    space = SearchSpace(
        stem={"kernel_size": 5, "stride": 1, "width": 4},
        stages=[stage | {"kernel_size": [3, 5], "per_block": ["kernel_size"]}],
    )
    found = list(remedies(space, theoretical(5, 5)))
    assert Remedy("stage 1", "kernel_size", 1) not in found


STEM = {"kernel_size": 3, "stride": 1, "width": 4}
HALVED = {"block": "plain", "depth": 1, "width": 4, "stride": 2}


def test_rates_are_a_remedy() -> None:
    space = SearchSpace(
        stem=STEM,
        stages=[HALVED],
        neck={"kind": "aspp", "rates": [[1, 2, 3]], "width": 4},
    )
    found = list(remedies(space, theoretical(29, 29)))
    assert Remedy("neck", "rates", (3, 6, 9)) not in found
    assert Remedy("neck", "rates", (2, 4, 6)) in found
    assert str(Remedy("neck", "rates", (2, 4, 6))) == "rates (2, 4, 6) in the neck"


def test_where_necks_upsample_a_failing_candidate_is_named() -> None:
    space = SearchSpace(stem=STEM, stages=[HALVED] * 2, neck={"kind": "merge", "width": 4})
    assert space[0].receptive_field().size == 13
    require_feasible(space, theoretical(13, 13))
    with pytest.raises(ValueError, match="No candidate") as error:
        require_feasible(space, theoretical(200, None))
    assert str(error.value).endswith(
        "its last maps' theoretical receptive fields reach from 9 to 9 px. Of one of them: "
        "theoretical RF of 13 px is 187 px below the lower bound of 200 px."
    )


def test_a_measured_erf_that_only_the_neck_reaches() -> None:
    space = SearchSpace(stem=STEM, stages=[HALVED] * 2, neck={"kind": "unet", "widths": [4, 4]})
    size = space[0].receptive_field().size
    last_stage = space.feasible(RFConstraint(theoretical=None, effective=None)).histogram()
    assert max(last_stage) < size
    require_feasible(space, RFConstraint(theoretical=None, effective=(size, None), expected=False))
