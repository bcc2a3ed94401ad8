from __future__ import annotations

from collections import Counter
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from helpers import SPACES, architecture, stage_dict
from hypothesis import assume, given
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from strategies import space_dicts

from rfsearch.feasible.choices import NotOfferedError
from rfsearch.feasible.paths import random_below
from rfsearch.network.architecture import Architecture
from rfsearch.space.space import SearchSpace, arithmetic_progression, shipped_spaces

STEM = {"kernel_size": 3, "stride": 1, "width": 8}
STAGE = {"block": "plain", "depth": [1, 2], "width": 8, "kernel_size": [3, 5]}
#: A stage with choices of every kind, among them some that make others meaningless.
MIXED = {
    "block": ["plain", "bottleneck"],
    "depth": [1, 3],
    "width": [8, 16],
    "stride": [1, 2, 4],
    "downsample": ["conv", "max_pool"],
    "kernel_size": [1, 3, 7],
    "dilation": [1, 2, 3],
}


def small_space() -> SearchSpace:
    return SearchSpace(stem=STEM, stages=[STAGE])


def mixed_space() -> SearchSpace:
    return SearchSpace(stem=STEM, stages=[MIXED, STAGE])


def huge_space() -> SearchSpace:
    stage = MIXED | {"depth": list(range(1, 13)), "per_block": ["kernel_size", "dilation"]}
    return SearchSpace(stem=STEM, stages=[stage] * 4)


def by_brute_force(space: SearchSpace) -> set[Architecture]:
    """What all combinations of all parameters make."""
    choices = space.choices()
    return {
        space.from_params(dict(zip(choices, combination, strict=True)))
        for combination in product(*choices.values())
    }


# -- counting and enumerating ----------------------------------------------------------------


def test_size_by_hand() -> None:
    # One way in, and two depths of two kernel sizes each.
    assert small_space().size == 4
    # A stage of its own: 1 way with stride 1 and 2 with each other stride; the kernel size 1 has
    # one dilation and the others three.
    assert SearchSpace(stem=STEM, stages=[MIXED]).size == 2 * 2 * 2 * (1 + 2 + 2) * (1 + 3 + 3)
    assert mixed_space().size == 280 * 4


def test_toy_is_enumerated_completely() -> None:
    space = SearchSpace.load("toy")
    members = list(space)
    assert len(members) == len(set(members)) == space.size == 108
    assert set(members) == by_brute_force(space)
    assert all(member in space for member in members)


@pytest.mark.parametrize(
    "per_block", [[], ["kernel_size"], ["dilation"], ["dilation", "kernel_size"]]
)
def test_choices_per_block_are_counted_exactly(per_block: list[str]) -> None:
    kernels = [3, 5] if per_block == ["kernel_size"] else [1, 3]
    stage = {"block": "plain", "depth": [1, 3], "width": 8, "kernel_size": kernels}
    stage |= {"dilation": [1, 2], "per_block": per_block}
    space = SearchSpace(stem=STEM, stages=[stage])
    assert set(space) == by_brute_force(space)
    assert len(list(space)) == space.size


@given(space_dicts())
def test_size_is_the_number_of_distinct_architectures(values: dict[str, Any]) -> None:
    space = SearchSpace.model_validate(values)
    assume(space.size <= 500)
    expected = by_brute_force(space)
    members = list(space)
    assert space.size == len(members) == len(expected)
    assert set(members) == expected


def test_size_exceeds_64_bits_and_iteration_is_lazy() -> None:
    space = huge_space()
    # Per stage: 2 blocks x 2 widths x 5 ways in x 7 blocks to choose from at each depth.
    assert space.size == (20 * sum(7**depth for depth in range(1, 13))) ** 4
    assert space.size > 2**63
    first = list(islice(space, 100))
    assert len(set(first)) == 100
    assert space[space.size - 1] in space
    assert space.sample(np.random.default_rng(0)) in space


@pytest.mark.parametrize("index", [-1, 4, 2**70])
def test_number_outside_the_space(index: int) -> None:
    with pytest.raises(IndexError, match=rf"`0 <= index < 4` must hold, but got {index}\."):
        small_space()[index]


def test_order_is_reproducible() -> None:
    assert [member.receptive_field().size for member in small_space()] == [5, 7, 7, 11]
    assert list(small_space()) == list(small_space())


# -- membership ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stranger",
    [
        architecture(stage_dict(kernels=(7,))),
        architecture(stage_dict(kernels=(3, 5))),
        architecture(stage_dict(kernels=(3, 3, 3))),
        architecture(stage_dict(kernels=(3,), dilation=2)),
        architecture(stage_dict(stride=2)),
        architecture(stage_dict("basic")),
        architecture(stage_dict(width=16)),
        architecture(stage_dict(), stage_dict()),
        architecture(stage_dict(), stride=2),
        architecture(stage_dict(), pool="max"),
    ],
    ids=lambda stranger: stranger.fingerprint,
)
def test_strangers_are_not_members(stranger: Architecture) -> None:
    assert stranger not in small_space()


def test_other_things_are_not_members() -> None:
    assert "residual" not in small_space()
    assert small_space()[0].to_dict() not in small_space()


# -- sampling --------------------------------------------------------------------------------


def test_sampling_is_uniform() -> None:
    space = SearchSpace.load("toy")
    rng = np.random.default_rng(0)
    draws = 5_400
    counts = Counter(space.sample(rng) for _ in range(draws))
    expected = draws / space.size
    assert set(counts) == set(space)
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    # Quantiles 0.0005 and 0.9995 of chi-square with 107 degrees of freedom.
    assert 65.3 < chi_square < 161.8


def test_sampling_is_seeded() -> None:
    space = huge_space()
    draws = [[space.sample(np.random.default_rng(seed)) for _ in range(2)] for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize("limit", [1, 2, 3, 255, 256, 257, 2**64, 10**30])
def test_random_below_stays_below(limit: int) -> None:
    rng = np.random.default_rng(0)
    values = [random_below(limit, rng) for _ in range(400)]
    assert all(0 <= value < limit for value in values)
    assert max(values) >= int(0.9 * (limit - 1))
    assert min(values) <= int(0.1 * limit)


def test_random_below_hits_every_number() -> None:
    rng = np.random.default_rng(0)
    assert {random_below(257, rng) for _ in range(4_000)} == set(range(257))


# -- parameters ------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [small_space(), mixed_space(), SearchSpace.load("toy")])
def test_parameters_round_trip(space: SearchSpace) -> None:
    for member in space:
        params = space.to_params(member)
        assert params.keys() == space.choices().keys()
        assert all(params[name] in options for name, options in space.choices().items())
        assert space.from_params(params) == member


def test_parameters_without_a_choice_may_be_left_out() -> None:
    params = {"stage1_depth": 2, "stage1_kernel_size": 5}
    assert small_space().from_params(params) == architecture(stage_dict(kernels=(5, 5)))


def test_missing_parameter() -> None:
    with pytest.raises(ValueError, match=r"`stage1_depth` must be one of 1, 2, but got None\."):
        small_space().from_params({"stage1_kernel_size": 5})


def test_parameter_that_is_not_offered() -> None:
    params = {"stage1_depth": 2, "stage1_kernel_size": 7}
    with pytest.raises(ValueError, match=r"`stage1_kernel_size` must be one of 3, 5, but got 7\."):
        small_space().from_params(params)


def test_parameter_without_a_choice_is_checked_too() -> None:
    params = {"stem_width": 9, "stage1_depth": 2, "stage1_kernel_size": 5}
    with pytest.raises(ValueError, match=r"`stem_width` must be one of 8, but got 9\."):
        small_space().from_params(params)


def test_inactive_parameters_change_nothing() -> None:
    space = SearchSpace(stem=STEM, stages=[MIXED])
    active = {"block": "plain", "depth": 1, "width": 8, "stride": 1, "kernel_size": 1}
    made = {
        space.from_params(
            {f"stage1_{k}": v for k, v in active.items()}
            | {"stage1_downsample": downsample, "stage1_dilation": dilation}
        )
        for downsample in ("conv", "max_pool")
        for dilation in (1, 2, 3)
    }
    assert made == {architecture(stage_dict(kernels=(1,)))}


@pytest.mark.parametrize(
    ("options", "progression"),
    [
        ((3, 5, 7), (3, 7, 2)),
        ((1, 2), (1, 2, 1)),
        ((1, 2, 4), None),
        ((7, 5, 3), None),
        ((3,), None),
        (("conv", "max_pool"), None),
        ((1, 2.0), None),
        ((False, True), None),
    ],
)
def test_arithmetic_progression(
    options: tuple[Any, ...], progression: tuple[int, int, int] | None
) -> None:
    assert arithmetic_progression(options) == progression


# -- Optuna ----------------------------------------------------------------------------------


def new_study(seed: int = 0) -> optuna.Study:
    return optuna.create_study(
        direction="maximize", sampler=optuna.samplers.RandomSampler(seed=seed)
    )


def test_distributions() -> None:
    expected: dict[str, BaseDistribution] = {
        "stage1_block": CategoricalDistribution(("plain", "bottleneck")),
        "stage1_depth": IntDistribution(1, 3, step=2),
        "stage1_width": IntDistribution(8, 16, step=8),
        "stage1_stride": CategoricalDistribution((1, 2, 4)),
        "stage1_downsample": CategoricalDistribution(("conv", "max_pool")),
        "stage1_kernel_size": CategoricalDistribution((1, 3, 7)),
        "stage1_dilation": IntDistribution(1, 3),
    }
    assert SearchSpace(stem=STEM, stages=[MIXED]).distributions() == expected


@pytest.mark.parametrize("name", ["toy", "plain", "dilated", "residual", "hybrid"])
def test_every_trial_suggests_the_same_parameters(name: str) -> None:
    space, study = SearchSpace.load(name), new_study()
    for _ in range(20):
        trial = study.ask()
        member = space.suggest(trial)
        assert trial.distributions == space.distributions()
        assert space.from_params(trial.params) == member
        assert member in space


def test_suggest_reads_the_trial() -> None:
    params = {"stage1_depth": 2, "stage1_kernel_size": 5}
    trial = optuna.trial.FixedTrial(params)
    assert small_space().suggest(trial) == architecture(stage_dict(kernels=(5, 5)))


def test_space_of_one_suggests_nothing() -> None:
    space = SearchSpace(stem=STEM, stages=[STAGE | {"depth": 1, "kernel_size": 3}])
    assert space.size == 1
    assert space.distributions() == {}
    assert space.suggest(optuna.trial.FixedTrial({})) == architecture(stage_dict())


def test_known_candidate_can_be_enqueued() -> None:
    space, study = mixed_space(), new_study()
    member = space.sample(np.random.default_rng(3))
    study.enqueue_trial(space.to_params(member))
    assert space.suggest(study.ask()) == member


@pytest.mark.filterwarnings("ignore:Fixed parameter:UserWarning")  # Optuna's own, of the same
@pytest.mark.parametrize(
    ("name", "value"),
    [("stage1_depth", 3), ("stage1_kernel_size", 4), ("stage1_kernel_size", 7)],
)
def test_enqueued_value_that_is_not_offered(name: str, value: int) -> None:
    study = new_study()
    study.enqueue_trial({"stage1_depth": 1, "stage1_kernel_size": 3} | {name: value})
    with pytest.raises(ValueError, match=rf"`{name}` must be one of .*, but got {value}\."):
        small_space().suggest(study.ask())


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"stem_width": 99}, "`stem_width` must be 8, which is all that is offered, but got 99"),
        ({"stage1_colour": 3}, "no parameter `stage1_colour`, which was enqueued; it has stem_"),
        ({"stage9_depth": 1}, "no parameter `stage9_depth`"),
    ],
)
def test_enqueued_parameter_that_would_be_ignored(params: dict[str, int], message: str) -> None:
    study = optuna.create_study()
    study.enqueue_trial(params)
    with pytest.raises(NotOfferedError, match=message):
        SearchSpace.load("toy").suggest(study.ask())


def test_what_else_is_enqueued_is_the_objectives() -> None:
    study = optuna.create_study()
    study.enqueue_trial({"learning_rate": 0.1, "stem_width": 8})
    assert SearchSpace.load("toy").suggest(study.ask()).stem.width == 8


def test_enqueued_category_that_is_not_offered() -> None:
    space, study = SearchSpace(stem=STEM, stages=[MIXED]), new_study()
    study.enqueue_trial({"stage1_block": "basic"})
    match = r"`stage1_block` must be one of plain, bottleneck, but got 'basic'"
    with pytest.raises(ValueError, match=match):
        space.suggest(study.ask())


# -- files -----------------------------------------------------------------------------------

GOOD = """
[stem]
kernel_size = 3
stride = 1
width = 8

[[stages]]
block = "plain"
depth = [1, 2]
width = 8
kernel_size = [3, 5]
"""


def bad(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


def test_file_and_python_give_the_same_space(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert SearchSpace.load(path) == SearchSpace.load(str(path)) == small_space()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            bad("depth = ", "dept = "),
            "stage 1, depth: missing key; allowed keys are block, depth, width, stride, "
            "downsample, context, expansion, kernel_size, dilation, padding, per_block, options.",
        ),
        (
            bad("width = 8\nkernel", "width = 8\ncolour = 1\nkernel"),
            "stage 1, colour: unknown key; allowed keys are block, depth, width, stride, "
            "downsample, context, expansion, kernel_size, dilation, padding, per_block, options.",
        ),
        (
            bad("stride = 1", "stride = 1\nnorm = 'batch'"),
            "stem, norm: unknown key; allowed keys are kind, kernel_size, stride, width, pool, "
            "padding.",
        ),
        (
            bad("[stem]", "[steam]"),
            "stem: missing key; allowed keys are axes, stem, stages, neck.",
        ),
        (
            bad("[3, 5]", "[3, 4]"),
            "stage 1, kernel_size 2: must be odd, so that the window has a middle, but got 4.",
        ),
        (
            bad("[1, 2]", "[1, 0]"),
            "stage 1, depth 2: Input should be greater than or equal to 1, but got 0.",
        ),
        (bad("[1, 2]", "[2, 2]"), "stage 1, depth: choices must differ, but got 2 twice."),
        (
            bad("width = 8\n\n", 'width = "8"\n\n'),
            "stem, width 1: Input should be a valid integer, but got '8'.",
        ),
        (
            bad("width = 8\n\n", "width = 8.0\n\n"),
            "stem, width 1: Input should be a valid integer, but got 8.0.",
        ),
        (
            bad("stride = 1", "stride = true"),
            "stem, stride 1: Input should be a valid integer, but got True.",
        ),
        (
            bad("[3, 5]", '3\ndilation = [1, "1-"]'),
            "stage 1, dilation 2: must be an integer from 1 to 64, one for each axis as [1, 2], "
            "or several different ones as '1-2-5', but got '1-'.",
        ),
        (
            bad('"plain"', '"bottleneck"').replace("width = 8\nkernel", "width = 6\nkernel"),
            "stage 1: `width` must be divisible by 4 for bottleneck blocks, but got 6.",
        ),
        (
            bad("[3, 5]", '[1, 3]\ndilation = [1, 2]\nper_block = ["kernel_size"]'),
            "stage 1: `kernel_size` must not offer 1 where each block chooses it but all blocks "
            "share one of several dilations, but got kernel_size=[1, 3] and dilation=[1, 2].",
        ),
    ],
)
def test_bad_file_gets_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"^mine\.toml: ") as caught:
        SearchSpace.load(path)
    assert str(caught.value) == f"mine.toml: {message}"


@pytest.mark.parametrize("key", ["depth", "width", "kernel_size"])
def test_empty_list_of_choices(tmp_path: Path, key: str) -> None:
    stage = {"depth": "[1, 2]", "width": "8", "kernel_size": "[3, 5]"} | {key: "[]"}
    lines = [f"{name} = {value}" for name, value in stage.items()]
    path = tmp_path / "mine.toml"
    head = GOOD[: GOOD.index("depth")]
    path.write_text(head + "\n".join(lines))
    with pytest.raises(ValueError, match=rf"^mine\.toml: stage 1, {key}: .*at least 1 item") as e:
        SearchSpace.load(path)
    assert "\n" not in str(e.value)


def test_file_without_stages(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("stages = []\n" + GOOD[: GOOD.index("[[")])
    with pytest.raises(ValueError, match=r"^mine\.toml: stages: .*at least 1 item") as caught:
        SearchSpace.load(path)
    assert "\n" not in str(caught.value)


def test_file_that_is_not_toml(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[stem\n")
    with pytest.raises(ValueError, match=r"mine\.toml: not a TOML file \(.+\)\.$") as caught:
        SearchSpace.load(path)
    assert "\n" not in str(caught.value)


def test_file_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.toml: cannot be read \(No such file"):
        SearchSpace.load(tmp_path / "none.toml")


def test_unknown_name() -> None:
    match = r"must be a \.toml file or one of .*residual, .*but got 'resdual'\.$"
    with pytest.raises(ValueError, match=match):
        SearchSpace.load("resdual")


def test_shipped_spaces_are_those_of_the_folder() -> None:
    shipped = {name: path.read_text() for name, path in shipped_spaces().items()}
    assert shipped == {
        path.stem: path.read_text() for path in SPACES.glob("*.toml") if path.stem != "baselines"
    }
