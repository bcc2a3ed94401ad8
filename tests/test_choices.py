from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from strategies import stage_dicts

from rfsearch.choices import StageChoices
from rfsearch.stages import Block, Stage
from rfsearch.stem_choices import StemChoices
from rfsearch.stems import Stem

STEM = StemChoices.model_validate(
    {"kernel_size": [3, 7], "stride": 2, "width": [8, 16], "pool": ["none", "max"]}
)
STAGE: dict[str, Any] = {"block": "plain", "depth": [1, 2], "width": 8}


def stage_choices(**fields: Any) -> StageChoices:
    return StageChoices.model_validate(STAGE | fields)


def test_one_value_is_a_list_of_one() -> None:
    assert stage_choices(width=8) == stage_choices(width=[8]) == stage_choices(width=(8,))


def test_defaults() -> None:
    assert stage_choices().values() == {
        "block": ("plain",),
        "depth": (1, 2),
        "width": (8,),
        "stride": (1,),
        "downsample": ("conv",),
        "context": ("none",),
        "expansion": (4,),
        "kernel_size": (3,),
        "dilation": (1,),
    }


def test_stem_outcomes() -> None:
    outcomes = STEM.outcomes()
    assert len(outcomes) == len(set(outcomes)) == STEM.size == 8
    assert {STEM.unrank(index) for index in range(STEM.size)} == set(outcomes)
    assert Stem(kernel_size=7, stride=2, width=16, pool="max") in outcomes
    for stem in outcomes:
        assert STEM.from_params(STEM.to_params(stem)) == stem


def test_parameters_per_block() -> None:
    values = stage_choices(depth=[1, 3], kernel_size=[3, 5], per_block=["kernel_size"]).values()
    assert "kernel_size" not in values
    assert [name for name in values if name.startswith("block")] == [
        "block",
        "block1_kernel_size",
        "block2_kernel_size",
        "block3_kernel_size",
    ]
    assert values["dilation"] == (1,)


def test_blocks_choose_on_their_own() -> None:
    choices = stage_choices(kernel_size=[3, 5], dilation=[1, 2], per_block=["kernel_size"])
    params = {"block": "plain", "depth": 2, "width": 8, "stride": 1, "downsample": "conv"}
    params |= {"context": "none", "expansion": 4}
    params |= {"block1_kernel_size": 5, "block2_kernel_size": 3, "dilation": 2}
    blocks = (Block(kernel_size=5, dilation=2), Block(kernel_size=3, dilation=2))
    stage = Stage(block="plain", width=8, stride=1, blocks=blocks)
    assert choices.from_params(params) == stage
    assert choices.to_params(stage) == params


def test_entries_count_a_stride_of_one_once() -> None:
    choices = stage_choices(stride=[1, 2], downsample=["max_pool", "conv"])
    assert choices.entries() == [(1, "conv"), (2, "max_pool"), (2, "conv")]


@pytest.mark.parametrize(
    ("per_block", "groups"),
    [
        ([], [[(1, 1)], [(3, 1)], [(3, 2)]]),
        (["dilation"], [[(1, 1)], [(3, 1), (3, 2)]]),
        (["kernel_size", "dilation"], [[(1, 1), (3, 1), (3, 2)]]),
    ],
)
def test_block_groups(per_block: list[str], groups: list[list[tuple[int, int]]]) -> None:
    choices = stage_choices(kernel_size=[1, 3], dilation=[1, 2], per_block=per_block)
    found = [
        [(b.kernel_size, b.dilation) for b in group] for (group,) in choices.groups("plain", 1)
    ]
    assert found == groups
    assert choices.groups("plain", 2) == [group * 2 for group in choices.groups("plain", 1)]


@given(stage_dicts())
def test_numbers_make_different_stages(values: dict[str, Any]) -> None:
    choices = StageChoices.model_validate(values)
    stages = [choices.unrank(index) for index in range(choices.size)]
    assert len(set(stages)) == choices.size
    for stage in stages:
        assert choices.from_params(choices.to_params(stage)) == stage


def test_number_beyond_the_last() -> None:
    choices = stage_choices()
    with pytest.raises(IndexError, match="must be below `size`"):
        choices.unrank(choices.size)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": [8, 8]}, "choices must differ, but got 8 twice"),
        ({"depth": []}, "at least 1 item"),
        ({"kernel_size": [3, 4]}, "must be odd, so that the window has a middle, but got 4"),
        ({"per_block": ["width"]}, "'kernel_size' or 'dilation'"),
        ({"block": ["plain", "bottleneck"], "width": [8, 10]}, "divisible by 4 .* but got 10"),
        (
            {"kernel_size": [1, 3], "dilation": [1, 2], "per_block": ["kernel_size"]},
            r"must not offer 1 where .* got kernel_size=\[1, 3\] and dilation=\[1, 2\]",
        ),
    ],
)
def test_impossible_choices(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stage_choices(**fields)
