from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from strategies import space_dicts

from rfsearch.network.stems import Stem
from rfsearch.space.stem_choices import StemChoices

STEM = StemChoices.model_validate(
    {"kernel_size": [3, 7], "stride": 2, "width": [8, 16], "pool": ["none", "max"]}
)


def test_outcomes() -> None:
    outcomes = STEM.outcomes
    assert len(outcomes) == len(set(outcomes)) == STEM.size == 8
    assert {STEM.unrank(index) for index in range(STEM.size)} == set(outcomes)
    assert Stem(kernel_size=7, stride=2, width=16, pool="max") in outcomes


def test_patches_have_neither_kernel_size_nor_pooling() -> None:
    choices = StemChoices.model_validate(
        {
            "kind": ["patch", "conv"],
            "kernel_size": [3, 7],
            "stride": [2, 4],
            "width": 8,
            "pool": ["max", "none"],
        }
    )
    patches = [stem for stem in choices.outcomes if stem.kind == "patch"]
    assert [(p.kernel_size, p.stride, p.pool) for p in patches] == [(2, 2, "none"), (4, 4, "none")]
    assert choices.size == 2 + 2 * 2 * 2
    assert choices.active_params(patches[1]) == {"kind": "patch", "stride": 4, "width": 8}
    params = {"kind": "patch", "kernel_size": 7, "stride": 4, "width": 8, "pool": "none"}
    assert choices.from_params(params) == patches[1]
    assert choices.to_params(patches[1]) == params | {"kernel_size": 3, "pool": "max"}


@given(space_dicts())
def test_numbers_make_different_stems(values: dict[str, Any]) -> None:
    choices = StemChoices.model_validate(values["stem"])
    stems = [choices.unrank(index) for index in range(choices.size)]
    assert len(set(stems)) == choices.size
    for stem in stems:
        assert choices.from_params(choices.to_params(stem)) == stem


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kernel_size": [2]}, "must be odd"),
        ({"kind": "tree"}, "'conv', 'deep'"),
        ({"pool": ["max", "max"]}, "choices must differ, but got 'max' twice"),
    ],
)
def test_impossible_choices(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StemChoices.model_validate({"stride": 1, "width": 8} | fields)
