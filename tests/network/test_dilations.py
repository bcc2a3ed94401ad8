from __future__ import annotations

from typing import Any

import pytest
from helpers import architecture, stage_dict

from rfsearch.field.coverage import coverage
from rfsearch.network.dilations import check_dilation, dilations


def test_blocks_go_through_a_pattern_in_turn() -> None:
    assert dilations("1-2-5", 5) == (1, 2, 5, 1, 2)
    assert dilations("1-2-5", 2) == (1, 2)
    assert dilations(4, 3) == (4, 4, 4)


@pytest.mark.parametrize("choice", [1, 64, "1-2", "1-2-5-9"])
def test_dilations_and_patterns(choice: int | str) -> None:
    assert check_dilation(choice) == choice


@pytest.mark.parametrize(
    "choice", [0, 65, True, 2.0, "2", "2-2", "1-", "1-0", "1-65", "a-b", None]
)
def test_neither_dilation_nor_pattern(choice: Any) -> None:
    with pytest.raises(ValueError, match=r"must be an integer from 1 to 64, .* but got"):
        check_dilation(choice)


@pytest.mark.parametrize(("choice", "gaps"), [(2, True), ("1-2-5", False), ("1-2-3", False)])
def test_hybrid_dilations_leave_no_gaps(choice: int | str, gaps: bool) -> None:
    stage = stage_dict("plain", kernels=(3, 3, 3))
    for block, dilation in zip(stage["blocks"], dilations(choice, 3), strict=True):
        block["dilation"] = dilation
    arch = architecture(stage, kernel_size=1)
    assert bool(coverage(arch.lower()).missing) == gaps
