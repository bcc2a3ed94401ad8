"""What is composed of parts against readings of the whole architecture."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from rfsearch.basics.axes import AXIS_NAMES
from rfsearch.space._path_fields import PathFields
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.space import SearchSpace, shipped_spaces

ANY = RFConstraint(theoretical=None, effective=None)
#: Maps of large fields take long.
SMALL = RFConstraint(theoretical=(1, 120), effective=None)
STEM: dict[str, Any] = {"kernel_size": [3, 5], "stride": [1, 2], "width": 8}
STAGE: dict[str, Any] = {"depth": [1, 2], "width": 8, "stride": [1, 2], "kernel_size": [3, 5]}
#: What shipped spaces do not have: other axes, axes apart, and windows of even size.
MORE: dict[str, dict[str, Any]] = {
    "sequences": {"axes": 1, "stem": STEM, "stages": [STAGE | {"block": ["plain", "basic"]}] * 2},
    "volumes": {
        "axes": 3,
        "stem": STEM | {"kernel_size": 3},
        "stages": [STAGE | {"block": "basic", "kernel_size": 3}],
    },
    "apart": {
        "stem": STEM | {"kernel_size": [3, "1x7"]},
        "stages": [STAGE | {"block": ["plain", "basic"], "kernel_size": [3, "5x3"]}] * 2,
    },
    "poolings": {
        "stem": STEM,
        "stages": [
            STAGE
            | {"block": ["basic", "bottleneck"], "downsample": ["conv", "avg_pool", "blur_pool"]}
        ]
        * 2,
    },
}


#: Of large graphs and maps.
SLOW = {"dilated", "resnet", "efficientnet"}


@cache
def spaces() -> dict[str, SearchSpace]:
    shipped = {name: SearchSpace.load(name) for name in shipped_spaces()}
    known = {name: space for name, space in shipped.items() if not space.upsamples}
    return known | {name: SearchSpace(**space) for name, space in MORE.items()}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in spaces()],
)
def test_they_are_those_of_the_whole(name: str) -> None:
    space = spaces()[name]
    feasible, fields, rng = space.feasible(SMALL), PathFields(space), np.random.default_rng(0)
    names = AXIS_NAMES[space.axes][: 1 if len(space.alike) == 1 else None]
    for _ in range(6):
        path = feasible._paths.draw(rng)
        whole = space.from_params(feasible._params(path))
        assert fields.gridding(path) == whole.coverage().gridding
        sizes = tuple(whole.expected_erf(axis=axis).size for axis in names)
        assert fields.erf_sizes(path) == sizes


def test_large_fields_are_left_to_the_check() -> None:
    stage = {"block": "plain", "depth": 8, "width": 8, "kernel_size": 7, "dilation": 8}
    space = SearchSpace(
        stem={"kernel_size": 7, "stride": 4, "width": 8}, stages=[stage | {"stride": 2}]
    )
    (path,) = space.feasible(ANY)._by_cost({})
    assert PathFields(space).erf_sizes(path) is None
