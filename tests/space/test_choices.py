from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from strategies import stage_dicts

from rfsearch.network.stages import Block, Stage
from rfsearch.space.choices import StageChoices

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


def test_each_kind_of_block_has_its_own_parameters() -> None:
    choices = stage_choices(
        block=["plain", "basic", "mbconv", "attention"],
        depth=1,
        context=["se", "none"],
        expansion=[6, 4],
        kernel_size=[3, 5],
    )
    always = {"block", "depth", "width", "stride"}
    own = {
        "plain": {"kernel_size", "dilation"},
        "basic": {"kernel_size", "dilation", "context"},
        "mbconv": {"kernel_size", "dilation", "context", "expansion"},
        "attention": {"expansion"},
    }
    stages = [choices.unrank(index) for index in range(choices.size)]
    assert choices.size == 2 + 2 * 2 + 2 * 2 * 2 + 2
    for stage in stages:
        names = always | own[stage.block]
        assert set(choices.active_params(stage)) == names
        assert set(choices.active_names(choices.to_params(stage))) == names
    params = choices.to_params(stages[0])
    assert stages[0].block == "plain"
    assert (params["context"], params["expansion"]) == ("se", 6)
    assert (stages[0].context, stages[0].expansion) == ("none", 4)


def test_patterns_that_blocks_cannot_tell_apart_are_counted_once() -> None:
    choices = stage_choices(depth=[1, 2, 3], dilation=["1-2-5", 1, "1-2-3"])
    stages = [choices.unrank(index) for index in range(choices.size)]
    assert [[block.dilation for block in stage.blocks] for stage in stages] == [
        [1],
        *([1, 2], [1, 1]),
        *([1, 2, 5], [1, 1, 1], [1, 2, 3]),
    ]
    named = [choices.to_params(stage)["dilation"] for stage in stages]
    assert named == ["1-2-5", "1-2-5", 1, "1-2-5", 1, "1-2-3"]


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
        ({"block": "inception", "width": [8, 12]}, "divisible by 8 .* but got 12"),
        ({"dilation": ["1-2"], "per_block": ["dilation"]}, "numbers only .* but got '1-2'"),
        ({"dilation": [1, "2-x"]}, "or several different ones as '1-2-5', but got '2-x'"),
        (
            {"kernel_size": [1, 3], "dilation": [1, 2], "per_block": ["kernel_size"]},
            r"must not offer 1 where .* got kernel_size=\[1, 3\] and dilation=\[1, 2\]",
        ),
    ],
)
def test_impossible_choices(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stage_choices(**fields)
