"""The ERF along one axis against that of the map."""

from __future__ import annotations

import numpy as np
import pytest

from rfsearch.space import feasible as feasible_module
from rfsearch.space._axis_profiles import AxisProfiles
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.space import SearchSpace, shipped_spaces

ANY = RFConstraint(theoretical=None, effective=None)
LARGEST, SMALLEST = feasible_module._LARGEST, feasible_module._SMALLEST
PIXELS = feasible_module._PIXELS


@pytest.mark.parametrize(
    "name", [name for name in shipped_spaces() if not SearchSpace.load(name).upsamples]
)
def test_the_map_is_never_far_from_one_axis(name: str) -> None:
    space = SearchSpace.load(name)
    feasible, axes, rng = space.feasible(ANY), AxisProfiles(space), np.random.default_rng(0)
    compared = 0
    while compared < 8:
        path = feasible._paths.draw(rng)
        architecture = space.from_params(feasible._params(path))
        if architecture.receptive_field().size > 400:  # These take seconds.
            continue
        compared += 1
        sizes, exact = axes.sizes(path), architecture.expected_erf().size
        assert sizes is not None
        (size,) = sizes
        assert SMALLEST * size - PIXELS <= exact <= LARGEST * size + PIXELS
        if name in ("toy", "plain"):  # Where no branches meet, they are the same.
            assert size == exact


def test_large_fields_are_left_to_the_check() -> None:
    stage = {"block": "plain", "depth": 8, "width": 8, "kernel_size": 7, "dilation": 8}
    space = SearchSpace(
        stem={"kernel_size": 7, "stride": 4, "width": 8}, stages=[stage | {"stride": 2}]
    )
    (path,) = space.feasible(ANY)._by_cost({})
    assert AxisProfiles(space).sizes(path) is None
