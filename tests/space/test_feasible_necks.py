"""The feasible set of spaces with necks: nothing that fits is lost. The oracle is enumeration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import necked_space_dicts

from rfsearch.space.budget import Budget
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.space import SearchSpace
from rfsearch.target.target import ScaleTarget


@st.composite
def constraints(draw: st.DrawFn) -> RFConstraint:
    budget = Budget(
        max_output_stride=draw(st.none() | st.sampled_from((1, 2, 4))),
        max_params_m=draw(st.none() | st.sampled_from((0.003, 0.01))),
        input_size=(48, 48),
    )
    skipped = draw(st.sampled_from((None, None, 0.0, 0.5)))
    if draw(st.booleans()):
        low = draw(st.integers(2, 20))
        budget = draw(st.none() | st.just(budget))
        return RFConstraint(ScaleTarget(low, low * 2), budget=budget, max_skipped=skipped)
    low = draw(st.integers(1, 40))
    theoretical = draw(st.none() | st.tuples(st.just(low), st.none() | st.integers(low, 80)))
    effective = draw(st.none() | st.tuples(st.integers(1, 20), st.integers(20, 40)))
    return RFConstraint(None, theoretical, effective, budget=budget, max_skipped=skipped)


@given(necked_space_dicts(), constraints())
def test_nothing_that_fits_is_lost(values: dict[str, Any], constraint: RFConstraint) -> None:
    check(SearchSpace(**values), constraint)


@pytest.mark.slow
@given(necked_space_dicts(), constraints())
@settings(max_examples=400, deadline=None)
def test_nothing_is_lost_of_more_spaces(values: dict[str, Any], constraint: RFConstraint) -> None:
    check(SearchSpace(**values), constraint)


def check(space: SearchSpace, constraint: RFConstraint) -> None:
    assume(space.size <= 100)
    feasible = space.feasible(constraint)
    members = [arch for arch in space if constraint.is_feasible(arch)]
    ways = feasible._paths
    for member in members:
        params = space.active_params(space.to_params(member))
        assert all(len(edges) for edges in ways.consistent(params))
    assert feasible.is_exact
    assert feasible.count == len(members)
    if members:
        assert feasible.sample(np.random.default_rng(0)) in members


SMALL = SearchSpace(
    stem={"kernel_size": 3, "stride": [1, 2], "width": 4},
    stages=[
        {"block": "basic", "depth": [1, 2], "width": 4, "stride": 2, "kernel_size": [3, 5]}
        for _ in range(3)
    ],
    neck={
        "kind": ["none", "fpn", "unet"],
        "width": 4,
        "num_levels": [2, 3],
        "widths": [[4], [4, 4]],
    },
)


def test_large_sets_say_that_their_count_is_a_bound() -> None:
    assert SMALL.feasible(RFConstraint(theoretical=None, effective=None)).is_exact
    feasible = SearchSpace.load("fpn").feasible(RFConstraint(ScaleTarget(16, 48)))
    assert not feasible.is_exact
    assert feasible.count <= SearchSpace.load("fpn").size


@pytest.mark.parametrize(
    "name", ["deeplab", "unet", "fpn", pytest.param("multiscale", marks=pytest.mark.slow)]
)
def test_samples_fit(name: str) -> None:
    space, constraint = SearchSpace.load(name), RFConstraint(ScaleTarget(20, 50))
    feasible = space.feasible(constraint)
    rng = np.random.default_rng(0)
    drawn = [feasible.sample(rng) for _ in range(3)]
    assert all(constraint.is_feasible(arch) and arch in space for arch in drawn)
    params = space.to_params(drawn[0])
    assert feasible.nearest(params) == params


def test_no_candidate_that_fits_is_lost_in_a_large_space() -> None:
    space, constraint = SearchSpace.load("unet"), RFConstraint(ScaleTarget(12, 36))
    feasible = space.feasible(constraint)
    rng = np.random.default_rng(0)
    found = [a for a in (space.sample(rng) for _ in range(40)) if constraint.is_feasible(a)]
    assert len(found) > 3
    for arch in found:
        assert all(len(edges) for edges in feasible._paths.consistent(space.to_params(arch)))


def test_images_that_do_not_fit_the_strides() -> None:
    # Two of the stem's strides make last strides of 8 and 16 px.
    free = RFConstraint(theoretical=None, effective=None, budget=Budget(input_size=(40, 40)))
    feasible = SMALL.feasible(free)
    strides = {
        arch.input_multiple: feasible.contains(arch)
        for arch in (SMALL.sample(np.random.default_rng(seed)) for seed in range(60))
    }
    assert strides == {1: True, 8: True, 16: False}
    assert feasible.sample(np.random.default_rng(0)).takes((40, 40))


def test_gaps_are_those_of_the_last_stage_where_a_neck_upsamples() -> None:
    """A unit behind an upsampling has none of its own; the candidates are judged all the same."""
    stage = {"block": "plain", "depth": 2, "width": 8, "dilation": [1, 4]}
    space = SearchSpace(
        stem={"kernel_size": 3, "stride": 1, "width": 8},
        stages=[stage],
        neck={"kind": ["none", "unet"], "widths": [[8]]},
    )
    constraint = RFConstraint(theoretical=None, effective=None, max_gridding=0.01)
    fits = [arch for arch in space if constraint.is_feasible(arch)]
    assert {arch.stages[0].blocks[0].dilation for arch in fits} == {1}
    assert {arch.neck is None for arch in fits} == {True, False}
    feasible = space.feasible(constraint)
    assert not feasible.is_empty()
    assert feasible.sample(np.random.default_rng(0)) in fits
