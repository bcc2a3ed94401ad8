"""The feasible set against enumeration: the oracle is asking every candidate."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from oracle import check_axis
from strategies import space_dicts

from rfsearch.feasible.path_set import wilson_interval
from rfsearch.network.architecture import Architecture
from rfsearch.network.model import build_model
from rfsearch.space.budget import Budget
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.feasible import FeasibleSet
from rfsearch.space.space import SearchSpace
from rfsearch.target.target import ScaleTarget

ANY = RFConstraint(theoretical=None, effective=None)
TOY = SearchSpace.load("toy")
#: Large graphs, whose parts are compared with enumeration in the spaces below.
SLOW = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("dilated", "resnet", "convnext", "efficientnet", "multiscale")
]
LARGE = ["plain", "residual", *SLOW]
#: Three kinds of block, two stem pools, two ways to downsample, and choices of each block's own.
MIXED = SearchSpace(
    stem={"kernel_size": 3, "stride": 2, "width": 8, "pool": ["none", "max"]},
    stages=[
        {
            "block": ["plain", "basic", "bottleneck"],
            "depth": [1, 2],
            "width": 8,
            "stride": [1, 2],
            "downsample": ["conv", "avg_pool"],
            "kernel_size": [1, 3],
            "dilation": [1, 2],
            "per_block": ["kernel_size", "dilation"],
        }
    ],
)
#: Stems and blocks that do not have the same parameters, and patterns of dilations.
DIVERSE = SearchSpace(
    stem={"kind": ["conv", "patch", "deep"], "stride": 2, "width": 8, "pool": ["none", "max"]},
    stages=[
        {
            "block": ["basic", "mbconv", "attention", "convnext", "inception"],
            "depth": [1, 2],
            "width": 8,
            "stride": 2,
            "downsample": ["conv", "blur_pool"],
            "context": ["none", "se"],
            "expansion": [2, 4],
            "dilation": [1, 2, "1-2"],
        }
    ],
)
SPACES = pytest.mark.parametrize("space", [TOY, MIXED, DIVERSE], ids=["toy", "mixed", "diverse"])
CONSTRAINTS = {
    "any": ANY,
    "TRF": RFConstraint(theoretical=(15, 31), effective=None),
    "TRF from below": RFConstraint(theoretical=(20, None), effective=None),
    "skipped": RFConstraint(theoretical=None, effective=None, max_skipped=0.0),
    "units": RFConstraint(ScaleTarget(3, 7), effective=None, max_gridding=None),
    "global, units": RFConstraint(ScaleTarget(3, 7), max_gridding=None, global_context=True),
    "global, TRF": RFConstraint(theoretical=(15, 31), effective=None, global_context=True),
    "global, ERF": RFConstraint(
        theoretical=(15, 40), effective=(10, 25), max_gridding=0.1, global_context=True
    ),
    "ERF": RFConstraint(theoretical=None, effective=(9, 20)),
    "ERF from below": RFConstraint(theoretical=None, effective=(15, None)),
    "both": RFConstraint(theoretical=(15, 40), effective=(10, 25)),
    "stride": RFConstraint(
        theoretical=(11, None), effective=None, budget=Budget(max_output_stride=4)
    ),
    "costs": RFConstraint(
        theoretical=None,
        effective=(9, 25),
        budget=Budget(
            max_params_m=0.004, max_flops_g=0.004, input_size=(33, 41), in_chans=1, num_classes=7
        ),
    ),
    "training memory": RFConstraint(
        theoretical=None,
        effective=(9, 25),
        budget=Budget(
            max_training_memory_mb=0.5, batch_size=3, input_size=(33, 41), num_classes=7
        ),
    ),
    "gridding": RFConstraint(theoretical=(9, None), effective=None, max_gridding=0.05),
    "nothing fits": RFConstraint(theoretical=(1, 2), effective=None),
}


@cache
def members_of(space: SearchSpace) -> list[Architecture]:
    """All candidates, which remember what one constraint has asked for the next."""
    return list(space)


@cache
def fitting(space: SearchSpace, constraint: RFConstraint) -> list[Architecture]:
    return [arch for arch in members_of(space) if constraint.is_feasible(arch)]


@st.composite
def small_sets(draw: st.DrawFn) -> tuple[SearchSpace, RFConstraint]:
    space = SearchSpace(**draw(space_dicts()))
    assume(space.size <= 120)
    low = draw(st.integers(1, 40))
    high = draw(st.none() | st.integers(low, 80))
    budget = Budget(max_output_stride=draw(st.sampled_from((2, 4, 12))))
    effective = draw(st.none() | st.just((draw(st.integers(1, 20)), draw(st.integers(20, 40)))))
    theoretical = draw(st.none() | st.just((low, high)))
    return space, RFConstraint(theoretical=theoretical, effective=effective, budget=budget)


# -- counting --------------------------------------------------------------------------------


@pytest.mark.parametrize("constraint", CONSTRAINTS.values(), ids=CONSTRAINTS)
@SPACES
def test_count_is_that_of_enumeration(space: SearchSpace, constraint: RFConstraint) -> None:
    feasible = space.feasible(constraint)
    members = fitting(space, constraint)
    assert feasible.count == len(members)
    assert feasible.is_exact
    assert feasible.fraction == len(members) / space.size


@given(small_sets())
def test_count_of_random_spaces(case: tuple[SearchSpace, RFConstraint]) -> None:
    space, constraint = case
    assert space.feasible(constraint).count == len(fitting(space, constraint))


@pytest.mark.parametrize("name", ["toy", "hybrid", *LARGE])
def test_without_a_constraint_everything_fits(name: str) -> None:
    space = SearchSpace.load(name)
    feasible = space.feasible(ANY)
    assert feasible.count == space.size
    assert sum(feasible.histogram().values()) == space.size


def test_counts_beyond_64_bits() -> None:
    stage = {"block": "plain", "depth": 64, "width": 8, "kernel_size": [1, 3]}
    space = SearchSpace(
        stem={"kernel_size": 3, "stride": 1, "width": 8},
        stages=[stage | {"per_block": ["kernel_size"]}] * 2,
    )
    assert space.size == 2**128
    feasible = space.feasible(RFConstraint(theoretical=(7, 7), effective=None))
    assert feasible.count == 128 * 127 // 2
    assert space.feasible(ANY).count == 2**128
    assert feasible.sample(np.random.default_rng(0)).receptive_field().size == 7


@SPACES
@pytest.mark.parametrize("name", ["any", "TRF", "TRF from below", "stride", "skipped", "units"])
def test_histogram_is_that_of_enumeration(space: SearchSpace, name: str) -> None:
    sizes = Counter(a.receptive_field().size for a in fitting(space, CONSTRAINTS[name]))
    assert space.feasible(CONSTRAINTS[name]).histogram() == dict(sorted(sizes.items()))


def test_bounds_that_no_candidate_exceeds_cost_nothing() -> None:
    gates = {"theoretical": (15, 31), "effective": None}
    budget = Budget(max_params_m=1e6, max_flops_g=1e6, max_training_memory_mb=1e6)
    bounded, free = (MIXED.feasible(RFConstraint(**gates, budget=each)) for each in (budget, None))
    assert bounded.count == free.count
    nodes = [[len(layer.first) for layer in each._paths.layers] for each in (bounded, free)]
    assert nodes[0] == nodes[1]


def test_networks_that_are_too_large_for_the_images_do_not_fit() -> None:
    space = SearchSpace(
        stem={"kernel_size": 3, "stride": 1, "width": 4},
        stages=[
            {
                "block": "plain",
                "depth": 1,
                "width": 4,
                "stride": [1, 4],
                "downsample": ["conv", "avg_pool"],
            }
        ],
    )
    budget = Budget(max_training_memory_mb=1e6, input_size=(3, 3))
    constraint = RFConstraint(theoretical=None, effective=None, budget=budget)
    fits = [arch for arch in space if constraint.is_feasible(arch)]
    assert 0 < len(fits) == space.feasible(constraint).count < space.size
    with pytest.raises(ValueError, match="must fit into its padded input"):
        constraint.verdicts(next(arch for arch in space if arch not in fits))


def test_a_large_set_with_an_erf_gate_says_that_its_count_is_a_bound() -> None:
    feasible = SearchSpace.load("plain").feasible(RFConstraint(ScaleTarget(24, 48)))
    assert not feasible.is_exact
    low, high = feasible.estimate(np.random.default_rng(0), 50)
    assert 0 < low < high <= feasible.count


def test_equal_questions_share_one_set() -> None:
    first = TOY.feasible(RFConstraint(theoretical=(24, 96), effective=None))
    again = SearchSpace.load("toy").feasible(RFConstraint(theoretical=[24, 96], effective=None))
    assert again is first


def test_wilson_interval() -> None:
    # Brown, Cai and DasGupta, "Interval Estimation for a Binomial Proportion", 2001, equation 4.
    assert wilson_interval(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson_interval(0, 10)[0] == 0
    assert wilson_interval(10, 10)[1] == pytest.approx(1)


# -- sampling --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["TRF", "both", "costs"])
@pytest.mark.parametrize("space", [TOY, MIXED], ids=["toy", "mixed"])
def test_samples_are_uniform(space: SearchSpace, name: str) -> None:
    feasible = space.feasible(CONSTRAINTS[name])
    members = fitting(space, CONSTRAINTS[name])
    rng = np.random.default_rng(0)
    draws = 10 * len(members)
    drawn = Counter(feasible.sample(rng) for _ in range(draws))
    assert set(drawn) == set(members)
    expected = draws / len(members)
    statistic = sum((drawn[member] - expected) ** 2 / expected for member in members)
    # Chi-square has a mean of n - 1 and a variance of 2 (n - 1).
    freedom = len(members) - 1
    assert abs(statistic - freedom) < 4 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("name", LARGE)
def test_samples_of_a_large_space_fit(name: str) -> None:
    # Kernels of ConvNeXts are too large for small objects.
    target = ScaleTarget(24, 48) if name == "convnext" else ScaleTarget(10, 14)
    space, constraint = SearchSpace.load(name), RFConstraint(target)
    feasible = space.feasible(constraint)
    rng = np.random.default_rng(0)
    drawn = [feasible.sample(rng) for _ in range(2)]
    assert all(constraint.is_feasible(arch) and arch in space for arch in drawn)
    assert len(set(drawn)) == 2
    assert all(feasible.contains(arch) for arch in drawn)


def narrow(architecture: Architecture) -> Architecture:
    """With few channels, which do not matter to the field but to the time."""
    values = architecture.to_dict()
    for part in (values["stem"], *values["stages"]):
        part["width"] = 8
    return Architecture.from_dict(values)


@pytest.mark.parametrize("name", ["plain", "dilated", "residual"])
def test_networks_of_samples_have_the_field_by_the_nan_oracle(name: str) -> None:
    constraint = RFConstraint(
        theoretical=(24, 40), effective=None, budget=Budget(max_output_stride=4)
    )
    feasible = SearchSpace.load(name).feasible(constraint)
    drawn = feasible.sample(np.random.default_rng(0))
    field = drawn.receptive_field()
    assert 24 <= field.size <= 40
    model = build_model(narrow(drawn), in_chans=1, num_classes=0).eval()

    def interval(unit: int) -> tuple[int, int]:
        start = field.start + unit * field.stride
        return start, start + field.size

    # Winograd kernels of oneDNN spread a NaN.
    with torch.backends.mkldnn.flags(enabled=False):
        verdicts = [
            check_axis(model.forward_features, 1, interval, field),
            check_axis(lambda x: model.forward_features(x.mT).mT, 1, interval, field),
        ]
    for verdict in verdicts:
        assert verdict.checked > 3
        assert not verdict.wrong, verdict.wrong[:4]


def test_no_candidate_that_fits_is_lost_in_a_large_space() -> None:
    # Candidates found without the graph must lie on one of its ways.
    space, constraint = SearchSpace.load("plain"), RFConstraint(ScaleTarget(24, 48))
    feasible = space.feasible(constraint)
    rng = np.random.default_rng(0)
    found = [a for a in (space.sample(rng) for _ in range(60)) if constraint.is_feasible(a)]
    assert len(found) > 4
    for arch in found:
        params = space.to_params(arch)
        assert feasible.nearest(params) == params
        assert all(len(edges) for edges in feasible._paths.consistent(params))


def test_sampling_an_empty_set() -> None:
    feasible = TOY.feasible(CONSTRAINTS["nothing fits"])
    assert feasible.count == 0
    assert feasible.fraction == 0
    assert feasible.estimate(np.random.default_rng(0)) == (0, 0)
    assert feasible.histogram() == {}
    assert feasible.nearest(TOY.to_params(TOY[0])) is None
    assert feasible.allowed({}) == ()
    with pytest.raises(ValueError, match=r"passes all gates: the set is empty\."):
        feasible.sample(np.random.default_rng(0))


# -- nearest ---------------------------------------------------------------------------------


def change(space: SearchSpace, wanted: dict[str, Any], member: Architecture) -> tuple[int, int]:
    """Number and total size of the changes from a proposal to a member, by definition."""
    number = size = 0
    for name, value in active(space, member).items():
        if wanted[name] != value:
            number += 1
            options = space.choices()[name]
            numeric = not any(isinstance(option, str) for option in options)
            ranks = sorted(options) if numeric else []
            size += abs(ranks.index(wanted[name]) - ranks.index(value)) if numeric else 1
    return number, size


@cache
def active(space: SearchSpace, member: Architecture) -> dict[str, Any]:
    """Parameters whose change changes the member."""
    params = space.to_params(member)
    return {
        name: value
        for name, value in params.items()
        if len(space.choices()[name]) == 1
        or any(
            space.from_params(params | {name: other}) != member
            for other in space.choices()[name]
            if other != value
        )
    }


@pytest.mark.parametrize("name", ["TRF", "both", "costs", "stride"])
@SPACES
def test_nearest_is_optimal(space: SearchSpace, name: str) -> None:
    feasible = space.feasible(CONSTRAINTS[name])
    members = fitting(space, CONSTRAINTS[name])
    rng = np.random.default_rng(0)
    for _ in range(15):
        proposal = {
            n: options[rng.integers(len(options))] for n, options in space.choices().items()
        }
        found = feasible.nearest(proposal)
        assert found is not None
        member = space.from_params(found)
        assert member in members
        least = min(change(space, proposal, other) for other in members)
        assert change(space, proposal, member) == least
        kept = set(space.choices()) - set(active(space, member))
        assert all(found[n] == proposal[n] for n in kept)


def test_nearest_of_a_member_is_itself() -> None:
    feasible = MIXED.feasible(CONSTRAINTS["both"])
    for member in fitting(MIXED, CONSTRAINTS["both"])[:20]:
        params = MIXED.to_params(member)
        assert feasible.nearest(params) == params


def test_nearest_keeps_what_is_fixed() -> None:
    feasible = TOY.feasible(CONSTRAINTS["TRF"])
    proposal = TOY.to_params(TOY[0])
    for depth in (1, 2):
        found = feasible.nearest(proposal | {"stage1_depth": depth}, fixed=["stage1_depth"])
        assert found is not None
        assert found["stage1_depth"] == depth
    fixed = {"stage1_stride": 1, "stage1_kernel_size": 1, "stage1_depth": 1, "stage2_depth": 1}
    assert feasible.nearest(proposal | fixed, fixed=list(fixed)) is None


def test_nearest_passes_over_what_is_to_be_avoided() -> None:
    feasible = TOY.feasible(CONSTRAINTS["TRF"])
    members = fitting(TOY, CONSTRAINTS["TRF"])
    seen: set[Architecture] = set()
    for _ in members:
        found = feasible.nearest(
            TOY.to_params(TOY[0]), avoid=lambda params: TOY.from_params(params) in seen
        )
        assert found is not None
        seen.add(TOY.from_params(found))
    assert seen == set(members)
    assert feasible.nearest({}, avoid=lambda params: TOY.from_params(params) in seen) is None


# -- allowed ---------------------------------------------------------------------------------


def by_enumeration(
    space: SearchSpace, members: list[Architecture], partial: dict[str, Any], name: str
) -> set[Any]:
    """Values of `name` for which a member has these parameters, inactive ones being free."""
    found: set[Any] = set()
    for member in members:
        params = active(space, member)
        if all(params.get(n, value) == value for n, value in partial.items()):
            found |= {params[name]} if name in params else set(space.choices()[name])
    return found


@SPACES
@pytest.mark.parametrize("constraint_name", ["TRF", "stride"])
def test_allowed_is_complete_and_sound(space: SearchSpace, constraint_name: str) -> None:
    constraint = CONSTRAINTS[constraint_name]
    feasible, members = space.feasible(constraint), fitting(space, constraint)
    rng = np.random.default_rng(0)
    for _ in range(4):
        partial: dict[str, Any] = {}
        for name, options in space.choices().items():
            allowed = feasible.allowed(partial)
            assert set(allowed) == by_enumeration(space, members, partial, name)
            assert list(allowed) == [value for value in options if value in allowed]
            partial[name] = allowed[rng.integers(len(allowed))]
        assert space.from_params(partial) in members


def test_allowed_for_a_parameter_out_of_order() -> None:
    feasible, members = TOY.feasible(CONSTRAINTS["TRF"]), fitting(TOY, CONSTRAINTS["TRF"])
    partial = {"stage2_depth": 2}
    expected = by_enumeration(TOY, members, partial, "stage1_depth")
    assert set(feasible.allowed(partial, "stage1_depth")) == expected


def test_allowed_for_no_parameter() -> None:
    feasible: FeasibleSet = TOY.feasible(ANY)
    with pytest.raises(ValueError, match=r"must be an undecided parameter .* but got 'depth'"):
        feasible.allowed({}, "depth")
    with pytest.raises(ValueError, match=r"must be an undecided parameter .* but got None"):
        feasible.allowed(TOY.to_params(TOY[0]))
