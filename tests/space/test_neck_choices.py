"""Choices for the neck: counted, named and refused."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from hypothesis import assume, given
from strategies import necked_space_dicts

from rfsearch.network.necks import ASPP, FPN, Merge, UNet
from rfsearch.space.neck_choices import NeckChoices
from rfsearch.space.space import SearchSpace

STEM = {"kernel_size": 3, "stride": 1, "width": 8}
STAGE = {"block": "plain", "depth": 1, "width": 8, "stride": 2}
ALL = {
    "kind": ["none", "aspp", "unet", "fpn", "merge"],
    "rates": [[1, 2], [3]],
    "width": [4, 8],
    "image_pooling": [False, True],
    "widths": [8, 4],
    "num_levels": 2,
}


def space(neck: dict[str, Any], stages: int = 2, **stage: Any) -> SearchSpace:
    return SearchSpace(stem=STEM, stages=[STAGE | stage] * stages, neck=neck)


def test_every_neck_is_counted_once() -> None:
    outcomes = NeckChoices(**ALL).outcomes
    assert outcomes[0] is None
    assert len(set(outcomes)) == len(outcomes) == 1 + 2 * 2 * 2 + 1 + 2 + 2
    assert ASPP(rates=(3,), width=8, image_pooling=True) in outcomes
    assert UNet(widths=(8, 4)) in outcomes
    assert FPN(width=4, num_levels=2) in outcomes
    assert Merge(width=4) in outcomes


def test_parameters() -> None:
    choices = space(ALL).choices()
    assert choices["neck_kind"] == ("none", "aspp", "unet", "fpn", "merge")
    assert choices["neck_rates"] == ("1,2", "3")
    assert choices["neck_widths"] == ("8,4",)
    arch = space(ALL).from_params(
        {"neck_kind": "aspp", "neck_rates": "1,2", "neck_width": 8, "neck_image_pooling": False}
    )
    assert arch.neck == ASPP(rates=(1, 2), width=8)
    with pytest.raises(ValueError, match="`neck_rates` must be one of 1,2, 3, but got '1'"):
        space(ALL).from_params({"neck_kind": "aspp", "neck_rates": "1"})


@given(necked_space_dicts())
def test_members_are_distinct_and_named(values: dict[str, Any]) -> None:
    random = SearchSpace(**values)
    assume(random.size <= 300)
    members = list(random)
    assert len(set(members)) == random.size
    for member in members[:: max(1, len(members) // 20)]:
        params = random.to_params(member)
        assert member in random
        assert random.from_params(params) == member
        active = random.active_params(params)
        firsts = {name: options[0] for name, options in random.choices().items()}
        assert random.from_params(firsts | active) == member


def test_a_neck_that_is_not_offered_is_no_member() -> None:
    bare = SearchSpace(stem=STEM, stages=[STAGE] * 2)
    with_neck = space({"kind": "merge", "width": 4})
    assert with_neck[0] not in bare
    assert bare[0] not in with_neck
    assert bare[0] in space(ALL)


def test_optuna_suggests_it() -> None:
    everything = space(ALL)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(10):
        trial = study.ask()
        arch = everything.suggest(trial)
        assert arch in everything
        assert trial.params.keys() == everything.distributions().keys()
    assert {trial.params["neck_kind"] for trial in study.trials} > {"none"}


@pytest.mark.parametrize(
    ("neck", "message"),
    [
        ({"kind": "fpn", "width": 8}, "neck: `num_levels` must be given for 'fpn'"),
        (
            {"kind": "fpn", "width": 8, "num_levels": 2, "rates": [1]},
            r"neck: `rates` must be left out without 'aspp', but got \[\(1,\)\]",
        ),
        (
            {"kind": ["none", "none"]},
            "neck, kind: choices must differ, but got 'none' twice",
        ),
        ({"kind": "fpn", "width": 8, "num_levels": 3}, "'fpn' neck needs 3 stages .* but got 2"),
        ({"kind": "unet", "widths": [1, 2, 3]}, "'unet' neck needs 3 stages .* but got 2"),
    ],
)
def test_impossible_choices(neck: dict[str, Any], message: str) -> None:
    from rfsearch.basics.validation import parse

    values = {"stem": STEM, "stages": [STAGE] * 2, "neck": neck}
    with pytest.raises(ValueError, match=message):
        parse(SearchSpace, values, "x.toml")


def test_strides_that_do_not_divide() -> None:
    merge = {"kind": ["none", "merge"], "width": 4}
    assert space(merge, stride=[1, 2, 4], downsample="avg_pool").size > 0
    with pytest.raises(ValueError, match=r"got stride 4 in stage 1, .*; use 1, 2 or a pooling"):
        space(merge, stride=[1, 4], downsample=["avg_pool", "conv"])
    assert space({"kind": "aspp", "rates": [2], "width": 4}, stride=[1, 4]).size == 4
