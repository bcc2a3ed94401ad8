"""Search spaces with blocks of the user's own: counted, drawn and gated like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_blocks import NAMES

from rfsearch.space.budget import Budget
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.space import SearchSpace

STEM = {"stride": 2, "width": 8}
GHOSTS: dict[str, Any] = {
    "stem": STEM,
    "stages": [
        {"block": ["ghost", "plain"], "depth": [1, 2], "width": 8, "stride": [1, 2]},
        {"block": "ghost", "depth": 2, "width": [8, 12], "options": {"expansion": 2}},
    ],
}
#: Stages whose blocks meet: sums before rectifiers, joined channels before normalisations.
MEETING: dict[str, Any] = {
    "stem": STEM,
    "stages": [
        {"block": ["dense", "mbconv"], "depth": [1, 2], "width": 8, "kernel_size": [3, 5]},
        {
            "block": ["preactivated", "dense", "basic"],
            "depth": [1, 2],
            "width": 8,
            "stride": [1, 2],
            "kernel_size": [3, 5],
            "per_block": ["kernel_size"],
        },
    ],
}
COSTS = Budget(max_params_m=0.002, max_flops_g=0.0012, input_size=(32, 32))


def test_options_are_choices_of_the_stage() -> None:
    space = SearchSpace(**GHOSTS)
    # A plain stage has no options; two sizes of ghost stages have two, and then four.
    assert space.size == 2 * 2 * (1 + 4) * 2 * 2
    names = ("stage1_ghost.expansion", "stage1_ghost.se", "stage2_ghost.expansion")
    assert [space.choices()[name] for name in names] == [(2, 3), (False, True), (2,)]
    members = list(space)
    assert len(set(members)) == space.size
    for arch in members:
        assert space.from_params(space.to_params(arch)) == arch
        assert arch in space
    plain = next(arch for arch in members if arch.stages[0].block == "plain")
    active = space.active_params(space.to_params(plain))
    assert "stage1_ghost.se" not in active
    assert active["stage2_ghost.expansion"] == 2


@pytest.mark.parametrize("space", [GHOSTS, MEETING], ids=["ghosts", "meeting"])
@pytest.mark.parametrize(
    "constraint",
    [
        RFConstraint(theoretical=(20, 45), effective=None),
        RFConstraint(theoretical=(20, 45), effective=None, budget=COSTS),
        RFConstraint(theoretical=None, effective=(20, 33), max_gridding=None),
    ],
    ids=["field", "costs", "expected"],
)
def test_the_feasible_set_is_that_of_enumeration(
    space: dict[str, Any], constraint: RFConstraint
) -> None:
    space_ = SearchSpace(**space)
    fitting = {arch for arch in space_ if constraint.is_feasible(arch)}
    feasible = space_.feasible(constraint)
    assert 0 < len(fitting) < space_.size
    if feasible.is_exact:
        assert feasible.count == len(fitting)
    assert feasible.count >= len(fitting)
    for arch in fitting:  # None is never drawn.
        params = space_.active_params(space_.to_params(arch))
        assert all(len(edges) for edges in feasible._paths.consistent(params))
    rng = np.random.default_rng(0)
    assert {feasible.sample(rng) for _ in range(100)} <= fitting


def test_a_space_in_toml_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(
        "stem = {stride = 2, width = 8}\n"
        '[[stages]]\nblock = ["ghost", "plain"]\ndepth = [1, 2]\nwidth = 8\nstride = [1, 2]\n'
        '[[stages]]\nblock = "ghost"\ndepth = 2\nwidth = [8, 12]\noptions.expansion = 2\n'
    )
    assert SearchSpace.load(path) == SearchSpace(**GHOSTS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("expansion = 9", "option 'expansion' of ghost blocks must be one of 2, 3, but got 9."),
        ("se = [true, true]", "choices must differ, but got True twice."),
        ("se = []", "should have at least 1 item"),
        ("sizes = 1", "`options` must be those of the stage's blocks (expansion, se), but got 's"),
    ],
)
def test_choices_of_options_that_are_not_offered(
    tmp_path: Path, options: str, message: str
) -> None:
    path = tmp_path / "space.toml"
    path.write_text(
        "stem = {stride = 2, width = 8}\n"
        f'[[stages]]\nblock = "ghost"\ndepth = 1\nwidth = 8\noptions = {{ {options} }}\n'
    )
    with pytest.raises(ValueError, match=r"^space\.toml: stage 1") as caught:
        SearchSpace.load(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_necks_follow_blocks_that_divide_sizes(name: str) -> None:
    stage = {"block": name, "depth": 1, "width": 8, "stride": 2}
    neck = {"kind": ["none", "merge", "fpn"], "width": 8, "num_levels": 2}
    space = SearchSpace(stem=STEM, stages=[stage, stage], neck=neck)
    constraint = RFConstraint(theoretical=(15, None), effective=None)
    fitting = sum(constraint.is_feasible(arch) for arch in space)
    assert space.feasible(constraint).count >= fitting > 0
