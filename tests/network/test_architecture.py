from __future__ import annotations

import json
import subprocess
import sys
from copy import deepcopy
from typing import Any

import pytest
from helpers import architecture, resnet, stage_dict
from hypothesis import given
from strategies import architectures

from rfsearch.field.receptive_field import ReceptiveField, stack, window
from rfsearch.network.architecture import Architecture
from rfsearch.network.stages import DOWNSAMPLINGS, Block, Stage
from rfsearch.network.stems import Stem

GOOD: dict[str, Any] = {
    "stem": {"kernel_size": 7, "stride": 2, "width": 16, "pool": "max"},
    "stages": [
        {
            "block": "plain",
            "width": 16,
            "stride": 1,
            "downsample": "conv",
            "blocks": [{"kernel_size": 3, "dilation": 2}, {"kernel_size": 5, "dilation": 1}],
        },
        {
            "block": "bottleneck",
            "width": 32,
            "stride": 2,
            "downsample": "avg_pool",
            "blocks": [{"kernel_size": 1, "dilation": 1}],
        },
    ],
    "neck": None,
}


def changed(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """The good architecture with one value replaced."""
    values = deepcopy(GOOD)
    place: Any = values
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return values


# -- round trip ------------------------------------------------------------------------------


def test_dictionary_is_exact() -> None:
    assert Architecture.from_dict(GOOD).to_dict() == GOOD


def test_defaults_are_written_out() -> None:
    stages = [{"block": "plain", "width": 4, "stride": 1, "blocks": [{"kernel_size": 3}]}]
    short = {"stem": {"kernel_size": 3, "stride": 1, "width": 4}, "stages": stages}
    assert Architecture.from_dict(short).to_dict() == {
        "stem": {"kernel_size": 3, "stride": 1, "width": 4, "pool": "none"},
        "stages": [
            {
                "block": "plain",
                "width": 4,
                "stride": 1,
                "downsample": "conv",
                "blocks": [{"kernel_size": 3, "dilation": 1}],
            }
        ],
        "neck": None,
    }


@given(architectures())
def test_json_round_trip(arch: Architecture) -> None:
    again = Architecture.from_dict(json.loads(json.dumps(arch.to_dict())))
    assert again == arch
    assert hash(again) == hash(arch)
    assert again.fingerprint == arch.fingerprint
    assert again.to_dict() == arch.to_dict()


@given(architectures(), architectures())
def test_fingerprints_are_equal_where_architectures_are(
    left: Architecture, right: Architecture
) -> None:
    assert (left.fingerprint == right.fingerprint) == (left == right)


def test_fingerprint_does_not_depend_on_the_process() -> None:
    code = (
        "import json, sys; from rfsearch.network.architecture import Architecture; "
        "print(Architecture.from_dict(json.loads(sys.argv[1])).fingerprint)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, json.dumps(GOOD)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={"PYTHONHASHSEED": "7"},
    )
    fingerprint = Architecture.from_dict(GOOD).fingerprint
    assert run.stdout.strip() == fingerprint
    assert len(fingerprint) == 12
    assert int(fingerprint, 16) >= 0


def test_fingerprint_is_pinned() -> None:
    # It identifies candidates in stored studies, so a change of it is a change of format.
    assert Architecture.from_dict(GOOD).fingerprint == "df0c867dc569"


def test_architectures_are_values() -> None:
    same = {Architecture.from_dict(GOOD), Architecture.from_dict(deepcopy(GOOD))}
    assert len(same) == 1
    assert Architecture.from_dict(changed(("stem", "width"), 8)) not in same


def test_cached_readings_do_not_change_equality() -> None:
    used, fresh = Architecture.from_dict(GOOD), Architecture.from_dict(GOOD)
    size = used.receptive_field().size
    sigma = used.expected_erf().sigma
    assert used == fresh
    assert hash(used) == hash(fresh)
    assert (size, sigma) == (fresh.receptive_field().size, fresh.expected_erf().sigma)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (Block(kernel_size=3), "kernel_size"),
        (Stem(kernel_size=3, stride=1, width=8), "width"),
        (architecture(), "stem"),
    ],
    ids=["block", "stem", "architecture"],
)
def test_data_is_frozen(value: Any, field: str) -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(value, field, 5)


# -- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("stem", "kernel_size"), 4, "stem: `kernel_size` must be odd, so that the window has a "),
        (("stem", "kernel_size"), 0, "stem, kernel_size: Input should be greater than or equal"),
        (("stem", "kernel_size"), 103, "stem, kernel_size: Input should be less than or equal"),
        (("stem", "stride"), 0, "stem, stride: Input should be greater than or equal to 1"),
        (("stem", "stride"), 9, "stem, stride: Input should be less than or equal to 8"),
        (("stem", "width"), 0, "stem, width: Input should be greater than or equal to 1"),
        (("stem", "width"), 16.0, "stem, width: Input should be a valid integer"),
        (("stem", "width"), "16", "stem, width: Input should be a valid integer"),
        (("stem", "width"), True, "stem, width: Input should be a valid integer"),
        (("stem", "width"), None, "stem, width: Input should be a valid integer"),
        (("stem", "pool"), "min", "stem, pool: Input should be 'none', 'max', 'avg', 'conv' or"),
        (("stem", "bias"), 1, "stem, bias: unknown key; allowed keys are kind, kernel_size, "),
        (
            ("stages", 0, "block"),
            "nonesuch",
            "stage 1, block: block 'nonesuch' is not registered here: ",
        ),
        (("stages", 0, "context"), "se", "stage 1: `context` must be 'none' for plain blocks"),
        (("stages", 0, "expansion"), 2, "stage 1: `expansion` must be 4 for plain blocks, which"),
        (("stages", 1, "width"), 30, "stage 2: `width` must be divisible by 4 for bottleneck"),
        (("stages", 1, "downsample"), "blur", "stage 2, downsample: Input should be 'conv', "),
        (("stages", 1, "blocks"), [], "stage 2, blocks: "),
        (("stages", 1, "depth"), 1, "stage 2, depth: unknown key; allowed keys are block, width"),
        (("stages", 0, "blocks", 1, "kernel_size"), 2, "stage 1, block 2, kernel_size: must be "),
        (("stages", 1, "blocks", 0, "kernel_size"), -1, "stage 2, block 1, kernel_size: Input"),
        (("stages", 0, "blocks", 0, "dilation"), 0, "stage 1, block 1, dilation: Input should"),
        (("stages", 0, "blocks", 0, "dilation"), 65, "stage 1, block 1, dilation: Input should"),
        (("stages", 1, "blocks", 0, "dilation"), 2, "stage 2, block 1: `dilation` must be 1 "),
        (("stages", 1, "blocks", 0, "groups"), 2, "stage 2, block 1, groups: unknown key; "),
        (("stages",), [], "stages: "),
        (("head",), {}, "head: unknown key; allowed keys are num_axes, stem, stages, neck."),
    ],
)
def test_impossible_values_name_their_place(
    path: tuple[str | int, ...], value: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=r"^architecture: ") as caught:
        Architecture.from_dict(changed(path, value))
    text = str(caught.value)
    assert text.startswith(f"architecture: {message}")
    assert "\n" not in text
    if "unknown key" not in text and value not in ([], {}):
        assert text.endswith(f", but got {value!r}.")


@pytest.mark.parametrize(
    ("path", "key", "message"),
    [
        (
            (),
            "stem",
            "architecture: stem: missing key; allowed keys are num_axes, stem, stages, neck.",
        ),
        (("stem",), "width", "architecture: stem, width: missing key; "),
        (("stages", 1), "block", "architecture: stage 2, block: missing key; "),
        (("stages", 0, "blocks", 1), "kernel_size", "architecture: stage 1, block 2, kernel_size"),
    ],
)
def test_missing_keys_name_their_place(
    path: tuple[str | int, ...], key: str, message: str
) -> None:
    values = deepcopy(GOOD)
    place: Any = values
    for part in path:
        place = place[part]
    del place[key]
    with pytest.raises(ValueError, match="missing key") as caught:
        Architecture.from_dict(values)
    assert str(caught.value).startswith(message)


def test_downsampling_message_says_the_value() -> None:
    match = r"^architecture: stage 1: `downsample` .* where `stride` is 1, but got 'max_pool'\.$"
    with pytest.raises(ValueError, match=match):
        Architecture.from_dict(
            {"stem": GOOD["stem"], "stages": [stage_dict(downsample="max_pool")]}
        )


def test_something_else_than_a_dictionary() -> None:
    with pytest.raises(ValueError, match=r"^architecture: .*valid dictionary") as caught:
        Architecture.from_dict([])  # type: ignore[arg-type]  # the mistake that is tested
    assert "\n" not in str(caught.value)


# -- readings --------------------------------------------------------------------------------


def test_level_is_named_after_the_number_of_stages() -> None:
    two = Architecture.from_dict(GOOD)
    assert two.levels == ("C3",)
    assert two.receptive_fields() == {"C3": two.receptive_field()}
    assert two.receptive_field("C3") == two.receptive_field()
    assert two.expected_erf("C3").sigma == two.expected_erf().sigma
    assert resnet("basic", (2, 2, 2, 2)).levels == ("C5",)


@pytest.mark.parametrize("reading", ["receptive_field", "expected_erf"])
def test_unknown_level(reading: str) -> None:
    with pytest.raises(ValueError, match=r"`level` must be one of C3, but got 'P3'\."):
        getattr(Architecture.from_dict(GOOD), reading)("P3")


def test_field_by_hand() -> None:
    layers = [
        window(7, 2),
        window(3, 2, padding=1),
        window(3, dilation=2),
        window(5),
        window(2, 2, padding=0),
        window(1),
    ]
    assert Architecture.from_dict(GOOD).receptive_field() == stack(layers)
    assert stack(layers) == ReceptiveField(start=-21, size=47, stride=8)


@pytest.mark.parametrize(
    ("block", "depths", "field"),
    [
        ("basic", (2, 2, 2, 2), ReceptiveField(-217, 435, 32)),
        ("basic", (3, 4, 6, 3), ReceptiveField(-449, 899, 32)),
        ("bottleneck", (3, 4, 6, 3), ReceptiveField(-213, 427, 32)),
        ("bottleneck", (3, 4, 23, 3), ReceptiveField(-485, 971, 32)),
    ],
    ids=["resnet18", "resnet34", "resnet50", "resnet101"],
)
def test_resnets(block: str, depths: tuple[int, ...], field: ReceptiveField) -> None:
    assert resnet(block, depths).receptive_field() == field


@pytest.mark.parametrize(
    ("arch", "parameters", "gigaflops"),
    [
        # torchvision's own table; its "GFLOPS" are multiply-adds.
        (resnet("basic", (2, 2, 2, 2)), 11_689_512, 1.814),
        (resnet("basic", (3, 4, 6, 3)), 21_797_672, 3.664),
        (resnet("bottleneck", (3, 4, 6, 3)), 25_557_032, 4.089),
    ],
    ids=["resnet18", "resnet34", "resnet50"],
)
def test_cost_of_resnets(arch: Architecture, parameters: int, gigaflops: float) -> None:
    cost = arch.cost((224, 224), num_classes=1000)
    assert cost.parameters == parameters
    assert round(cost.flops / 2e9, 3) == gigaflops
    assert cost.output == (7, 7)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("stem", "kind"), "patch", r"be the stride and `pool` 'none' .* got 7, 2 and 'max'\.$"),
        (("stages", 0, "block"), "attention", r"`kernel_size` must be 1 for .* but got 5\.$"),
    ],
)
def test_kinds_that_do_not_go_with_the_rest(
    path: tuple[str | int, ...], value: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Architecture.from_dict(changed(path, value))


def test_what_is_lacking_is_not_written() -> None:
    arch = architecture(stage_dict("mbconv", context="se", expansion=6), stage_dict("basic"))
    mbconv, basic = arch.to_dict()["stages"]
    assert (mbconv["context"], mbconv["expansion"]) == ("se", 6)
    assert not {"context", "expansion"} & set(basic)
    assert "kind" not in arch.to_dict()["stem"]


def test_global_layers() -> None:
    attention = stage_dict("attention", kernels=(1,))
    arch = architecture(stage_dict("basic"), stage_dict("basic", context="gc"), attention)
    assert arch.global_layers == ("stage 2 gc", "stage 3 attention")
    assert architecture().global_layers == ()


@pytest.mark.parametrize("downsample", DOWNSAMPLINGS)
def test_stage_downsamples_once(downsample: str) -> None:
    stage = stage_dict(stride=3, kernels=(3, 3), downsample=downsample)
    layers = {
        "conv": [window(3), window(3, 3), window(3)],
        "max_pool": [window(3), window(3, 3, padding=0), window(3), window(3)],
        "avg_pool": [window(3), window(3, 3, padding=0), window(3), window(3)],
        "blur_pool": [window(3), window(3, 3), window(3), window(3)],
    }
    assert architecture(stage).receptive_field() == stack(layers[downsample])


def test_stage_depth() -> None:
    stage = Stage.model_validate(stage_dict(kernels=(3, 5, 7)))
    assert stage.depth == 3


@given(architectures())
def test_effective_field_is_inside_the_theoretical_one(arch: Architecture) -> None:
    erf, field = arch.expected_erf(), arch.receptive_field()
    assert erf.theoretical_size == field.size
    assert erf.sigma <= field.size / 2
    assert field.stride == arch.stem.stride * (1 if arch.stem.pool == "none" else 2) * _product(
        [stage.stride for stage in arch.stages]
    )


def _product(values: list[int]) -> int:
    total = 1
    for value in values:
        total *= value
    return total


def test_a_field_is_asked_for_by_the_name_of_an_axis() -> None:
    arch = resnet("basic", (1,))
    assert arch.axes == ("height", "width")
    assert arch.receptive_field(axis="width") == arch.receptive_field()
    with pytest.raises(ValueError, match="`axis` must be one of height, width, but got 'time'"):
        arch.receptive_field(axis="time")
