"""Spaces whose choices differ between axes, and spaces of sequences."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import optuna
import pytest

from rfsearch.basics.validation import parse
from rfsearch.network.architecture import Architecture
from rfsearch.search.sampler import RFSampler
from rfsearch.space.budget import Budget
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.space import SearchSpace, shipped_spaces
from rfsearch.target.target import ScaleTarget

RECTANGULAR = {
    "stem": {"kernel_size": [3, [1, 5]], "stride": [1, [1, 2]], "width": 4},
    "stages": [
        {
            "block": ["plain", "basic"],
            "depth": [1, 2],
            "width": 8,
            "kernel_size": [3, [1, 7], [7, 1]],
            "dilation": [1, 2, [1, 2], "1-2x1"],
        },
        {
            "block": "mbconv",
            "depth": [1, 2],
            "width": 8,
            "stride": [[2, 1]],
            "downsample": ["conv", "max_pool"],
            "kernel_size": [3, [1, 5]],
            "per_block": "kernel_size",
            "expansion": 2,
        },
    ],
}
SEQUENCES = {
    "axes": 1,
    "stem": {"kernel_size": [3, 7], "stride": 1, "width": 8, "padding": "causal"},
    "stages": [
        {
            "block": ["plain", "basic", "mbconv"],
            "depth": [1, 3],
            "width": 8,
            "stride": [1, 2],
            "kernel_size": kernel_size,
            "dilation": dilation,
            "padding": "causal",
        }
        for kernel_size, dilation in (([3, 5], [1, 2, "1-2-4"]), (3, [1, "1-2-4"]))
    ],
}


def sizes(architecture: Architecture) -> tuple[int, ...]:
    return tuple(architecture.receptive_field(axis=axis).size for axis in architecture.axes)


@pytest.fixture(scope="module", params=[RECTANGULAR, SEQUENCES], ids=["rectangular", "sequences"])
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return SearchSpace.model_validate(request.param)


@pytest.fixture(scope="module")
def members(space: SearchSpace) -> list[Architecture]:
    return list(space)


def test_every_architecture_once(space: SearchSpace, members: list[Architecture]) -> None:
    assert len(set(members)) == space.size == len(members)
    for member in members[:: max(1, len(members) // 50)]:
        assert member in space
        assert space.from_params(space.to_params(member)) == member


def test_counts_by_field(space: SearchSpace, members: list[Architecture]) -> None:
    constraint = RFConstraint(
        theoretical=(15, 40), effective=None, budget=Budget(max_output_stride=2)
    )
    feasible = space.feasible(constraint)
    fits = [
        all(15 <= size <= 40 for size in sizes(member))
        and all(member.receptive_field(axis=axis).stride <= 2 for axis in member.axes)
        for member in members
    ]
    assert feasible.is_exact
    assert feasible.count == sum(fits) > 0
    sampled = list(zip(members, fits, strict=True))[::9]
    assert all(constraint.is_feasible(member) == fit for member, fit in sampled)
    everything = space.feasible(RFConstraint(theoretical=None, effective=None))
    for number, axis in enumerate(members[0].axes):
        assert everything.histogram(axis) == Counter(sizes(m)[number] for m in members)


def test_the_graph_loses_no_candidate_whose_erf_fits(
    space: SearchSpace, members: list[Architecture]
) -> None:
    constraint = RFConstraint(theoretical=None, effective=(11, 21), max_gridding=None)
    feasible = space.feasible(constraint)
    fitting = [m for m in members[::7] if constraint.is_feasible(m)]
    assert 0 < len(fitting) < len(members[::7])
    assert all(feasible.nearest(space.to_params(m)) == space.to_params(m) for m in fitting)
    rng = np.random.default_rng(0)
    for _ in range(20):
        drawn = feasible.sample(rng)
        assert all(11 <= drawn.expected_erf(axis=axis).size <= 21 for axis in drawn.axes)


def test_draws_are_uniform() -> None:
    space = SearchSpace.model_validate(RECTANGULAR)
    constraint = RFConstraint(theoretical=(19, 27), effective=None)
    feasible = space.feasible(constraint)
    assert 20 < feasible.count < 200
    rng = np.random.default_rng(0)
    drawn = Counter(feasible.sample(rng) for _ in range(40 * feasible.count))
    assert len(drawn) == feasible.count
    counts = np.array(list(drawn.values()))
    # Chi-squared over its degrees of freedom.
    assert ((counts - 40) ** 2 / 40).sum() / (len(counts) - 1) < 1.5


def test_a_study_stores_pairs_as_text() -> None:
    space = SearchSpace.model_validate(RECTANGULAR)
    constraint = RFConstraint(theoretical=(15, 40), effective=(8, 30), max_gridding=None)
    study = optuna.create_study(sampler=RFSampler(space, constraint))
    wanted = next(a for a in space if a.stem.kernel_size == (1, 5) and constraint.is_feasible(a))
    study.enqueue_trial(space.to_params(wanted))

    def objective(trial: optuna.Trial) -> float:
        arch = space.suggest(trial)
        constraint.check(trial, arch)
        return arch.cost(48).flops

    study.optimize(objective, n_trials=5)
    first = study.trials[0]
    assert space.from_params(first.params) == wanted
    assert first.params["stem_kernel_size"] == "1x5"
    attributes = first.user_attrs
    height, width = sizes(wanted)
    assert (attributes["trf_height"], attributes["trf_width"]) == (height, width)
    assert "trf_size" not in attributes
    assert attributes["erf_expected_width"] == wanted.expected_erf(axis="width").size
    assert all(trial.state == optuna.trial.TrialState.COMPLETE for trial in study.trials)


def test_the_worst_axis_decides() -> None:
    space = SearchSpace.model_validate(RECTANGULAR)
    constraint = RFConstraint(theoretical=(15, 40), effective=None)
    flat = next(a for a in space if sizes(a)[0] < 15 <= sizes(a)[1] <= 40)
    (theoretical,) = constraint.verdicts(flat)
    assert theoretical.axis == "height"
    assert str(theoretical).startswith(f"theoretical RF along height of {sizes(flat)[0]} px is")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (
            ("stages", 0, "kernel_size"),
            [[1, 7, 7]],
            "one for each of height, width where .* 1x7x7 in st",
        ),
        (("stages", 0, "kernel_size"), [3, [3, 3]], "choices must differ, but got 3 twice"),
        (("stages", 0, "kernel_size"), [[1, 4]], "must be odd, .* but got 1x4"),
        (("stages", 0, "stride"), [[1, 99]], "stride 1: .* less than or equal to 8"),
        (("stages", 0, "dilation"), [[1, 2, 3]], "`dilation` must be one number or .* 1x2x3"),
        (
            ("stages", 0, "dilation"),
            ["1x"],
            "dilation 1: must be an integer from 1 to 64, one for",
        ),
        (("stages", 1, "kernel_size"), [3, [1, 5]], None),
        (("stages", 1, "dilation"), [1, 2], "must not offer 1 where each block .*=\\[3, 1x5\\]"),
        (
            ("axes",),
            1,
            "must be one number where the input has one axis, but got 1x[25] in the stem",
        ),
        (("axes",), 4, "axes: Input should be 1, 2 or 3"),
        (("neck",), {"kind": "merge", "width": 8}, "strides must be the same .* but got 1x2 in"),
    ],
)
def test_what_there_is_not(place: tuple[Any, ...], value: Any, message: str | None) -> None:
    import copy

    values: Any = copy.deepcopy(RECTANGULAR)
    inside = values
    for step in place[:-1]:
        inside = inside[step]
    inside[place[-1]] = value
    if message is None:
        assert SearchSpace.model_validate(values)
        return
    with pytest.raises(ValueError, match=message):
        parse(SearchSpace, values, "space.toml")


def test_a_histogram_of_axes_that_differ_asks_which() -> None:
    feasible = SearchSpace.model_validate(RECTANGULAR).feasible(
        RFConstraint(theoretical=None, effective=None)
    )
    with pytest.raises(ValueError, match="`axis` must be one of height, width where choices"):
        feasible.histogram()
    with pytest.raises(ValueError, match="`axis` must be one of height, width, but got 'time'"):
        feasible.histogram("time")


#: Of each shipped space: its size, how many members have a theoretical field of 64 to 192 px,
#: and of three random members the fingerprint, the field, and sigma and size of the expected ERF.
SHIPPED: dict[str, tuple[int, int, tuple[tuple[Any, ...], ...]]] = {
    "convnext": (
        403_107_840,
        6_900_714,
        (
            ("234aa4cf8b5b", (-1528, 3072, 16), 178.561294, 1130),
            ("65b71d125dd2", (-281, 565, 4), 28.021816, 207),
            ("2acde4fce67f", (-1664, 3336, 8), 122.356525, 774),
        ),
    ),
    "deeplab": (
        9_704_448,
        279_040,
        (
            ("1693ddfdf4eb", (-321, 643, 8), 45.561825, 319),
            ("8c78c6b34104", (-115, 231, 8), 19.351074, 125),
            ("d59d7698ba91", (-1047, 2095, 32), 313.791303, 1985),
        ),
    ),
    "dilated": (
        1_829_661_696,
        571_957_902,
        (
            ("867ffc9ece68", (-573, 1147, 8), 142.650819, 902),
            ("5a06d5ae30b9", (-175, 351, 4), 29.975173, 201),
            ("39d75216cccc", (-186, 373, 2), 36.260243, 247),
        ),
    ),
    "efficientnet": (
        5_804_752_896,
        3_356_121_600,
        (
            ("1afcac3e7031", (-139, 279, 8), 26.594914, 165),
            ("8b88fd66c8c8", (-115, 231, 8), 25.270204, 153),
            ("07c03f0d4bed", (-35, 71, 2), 7.174614, 43),
        ),
    ),
    "fpn": (
        107_495_424,
        57_297_792,
        (
            ("ea866b1a8f85", (-103, 207, 16), 22.717768, 133),
            ("facc958c611b", (-95, 191, 16), 25.748788, 139),
            ("24c63569a897", (-116, 233, 32), 31.538396, 157),
        ),
    ),
    "hybrid": (
        18_895_680,
        7_397_872,
        (
            ("9e96f3c953cf", (-92, 195, 32), 24.486271, 159),
            ("35b09b9f63e2", (-204, 403, 32), 53.825636, 335),
            ("bb598de71863", (-166, 331, 16), 27.65721, 185),
        ),
    ),
    "multiscale": (
        3_023_308_800,
        928_813_878,
        (
            ("4eb21889f869", (-289, 563, 4), 50.637091, 357),
            ("d6b283b8eb48", (-186, 371, 2), 22.83085, 157),
            ("a834554c11db", (-54, 107, 1), 7.448128, 61),
        ),
    ),
    "plain": (
        2_902_376_448,
        1_385_306_550,
        (
            ("cd645b2835d3", (-347, 717, 32), 97.151085, 543),
            ("fd0afd8b9c96", (-19, 40, 2), 5.85235, 32),
            ("5f62bd8044ef", (-65, 138, 16), 22.28415, 118),
        ),
    ),
    "residual": (
        10_319_560_704,
        3_147_347_568,
        (
            ("b7e955f61e05", (-75, 151, 4), 14.370651, 91),
            ("4690b640b207", (-74, 149, 4), 10.822247, 67),
            ("d838bca50bac", (-435, 871, 16), 59.653148, 391),
        ),
    ),
    "resnet": (
        89_248_075_776,
        11_824_391_664,
        (
            ("3af69d60fb85", (-192, 399, 32), 46.312764, 271),
            ("e01df0bdff7f", (-183, 367, 32), 41.861655, 245),
            ("844e055c8d7b", (-162, 323, 32), 37.920864, 219),
        ),
    ),
    "toy": (
        108,
        0,
        (
            ("d11005b0244c", (-7, 16, 4), 3.774917, 16),
            ("8f1c41cf6aa6", (-16, 33, 4), 6.63325, 31),
            ("6438139f5bbd", (-9, 19, 4), 4.082483, 19),
        ),
    ),
    "unet": (
        127_401_984,
        45_998_016,
        (
            ("5a67317db5af", (-89, 179, 8), 21.246372, 129),
            ("4827ad7d3ade", (-161, 325, 8), 22.137654, 153),
            ("3959e06c2666", (-131, 261, 2), 19.754195, 145),
        ),
    ),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_spaces_are_what_they_were(name: str) -> None:
    size, fitting, expected = SHIPPED[name]
    space = SearchSpace.load(name)
    assert space.size == size
    constraint = RFConstraint(theoretical=(64, 192), effective=None, max_gridding=None)
    assert space.feasible(constraint).count == fitting
    rng = np.random.default_rng(0)
    for fingerprint, field, sigma, erf_size in expected:
        member = space.sample(rng)
        erf = member.expected_erf()
        assert member.fingerprint == fingerprint
        assert tuple(member.receptive_field()) == field
        assert (round(erf.sigma, 6), erf.size) == (sigma, erf_size)


def test_all_shipped_spaces_are_in_the_table() -> None:
    assert set(SHIPPED) <= set(shipped_spaces())
    assert len(SHIPPED) == 12


LINES = ScaleTarget.apart(height=(4, 5), width=(9, 11), quiet=True)


def test_an_elongated_target_is_held_to_along_each_axis() -> None:
    """Of square and of rectangular candidates."""
    space = SearchSpace.model_validate(RECTANGULAR)
    constraint = RFConstraint(LINES, max_gridding=None)
    ranges = constraint.ranges("height")
    assert (ranges["theoretical"].low, ranges["expected"][:2]) == (7.5, (5, 17.5))
    assert constraint.ranges("width")["expected"][:2] == (11, 38.5)
    sampled = list(space)[::11]
    for member in sampled:
        fields = dict(zip(member.axes, sizes(member), strict=True))
        erfs = {axis: member.expected_erf(axis=axis).size for axis in member.axes}
        fits = fields["height"] >= 7.5 and fields["width"] >= 16.5
        fits &= 5 <= erfs["height"] <= 17.5 and 11 <= erfs["width"] <= 38.5
        assert constraint.is_feasible(member) == fits
    feasible = space.feasible(constraint)
    fitting = [member for member in sampled if constraint.is_feasible(member)]
    assert 0 < len(fitting) < len(sampled)
    assert all(feasible.contains(member) for member in fitting)


def test_square_spaces_keep_one_state_for_an_elongated_target() -> None:
    space = SearchSpace.load("toy")
    assert space.alike == (2,)
    constraint = RFConstraint(ScaleTarget.apart((6, 8), (8, 10), quiet=True), max_gridding=None)
    fitting = [member for member in space if constraint.is_feasible(member)]
    assert space.feasible(constraint).count == len(fitting) > 0


def test_an_elongated_target_is_none_of_a_sequence() -> None:
    space = SearchSpace.model_validate(SEQUENCES)
    message = "The target has height and width apart .*, but the networks have the axis 'time'"
    with pytest.raises(ValueError, match=message):
        space.feasible(RFConstraint(LINES)).count  # noqa: B018
    with pytest.raises(ValueError, match="`axis` must be one of height, width where the target"):
        RFConstraint(LINES).ranges()
    assert RFConstraint(LINES).described()["theoretical"] == (
        "height at least 7.5 px, width at least 16.5 px"
    )
