"""Each rule, just inside and just outside of its limit."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, replace

import pytest

from rfsearch.diagnosis._rules import find
from rfsearch.diagnosis.findings import Effective, Finding, Gaps, NetworkFacts
from rfsearch.diagnosis.layer_field import Extent, LayerField, Reach
from rfsearch.target.target import ScaleTarget

TARGET = ScaleTarget(16, 40)


def reach(size: float, stride: float = 1, smallest: float | None = None) -> Reach:
    numbers = (size, size if smallest is None else smallest, stride)
    return Reach(*(Extent(number, number) for number in numbers))


def output(size: float = 100, stride: float = 8, name: str = "C5") -> LayerField:
    return LayerField(name, "output", reach(size, stride))


def layer(name: str, before: Reach, after: Reach) -> LayerField:
    return LayerField(name, "Conv2d", after, before=before)


#: Nothing is wrong with it.
SOUND = NetworkFacts((64, 64), (), (output(),), Effective(70, 100, "measured"))


def kinds(facts: NetworkFacts, target: ScaleTarget | None = TARGET) -> list[str]:
    return [finding.kind for finding in find(facts, target)]


def only(facts: NetworkFacts, target: ScaleTarget | None = TARGET) -> Finding:
    (finding,) = find(facts, target)
    assert all(math.isfinite(number) for number in (finding.value, finding.limit))
    assert finding.message.endswith(".")
    assert finding.remedy.endswith(".")
    return finding


def test_nothing_is_found_in_a_sound_network() -> None:
    assert find(SOUND, TARGET) == ()


def test_a_finding_is_frozen() -> None:
    finding = only(replace(SOUND, outputs=(output(59),)))
    with pytest.raises(FrozenInstanceError):
        finding.kind = "other"  # type: ignore[misc]


def test_rf_too_small() -> None:
    assert kinds(replace(SOUND, outputs=(output(60),))) == []
    finding = only(replace(SOUND, outputs=(output(59),)))
    assert (finding.kind, finding.place, finding.value, finding.limit) == (
        "rf_too_small",
        "C5",
        59,
        60,
    )
    assert "59 px is too small for objects of 40 px, which need 60 px" in finding.message


def test_the_remedy_for_a_small_rf_is_enough_and_not_more() -> None:
    # 60 - 13 = 47 px are missing; a 3x3 at a stride of 8 adds 16.
    assert "Add 3 3x3 convolutions" in only(replace(SOUND, outputs=(output(13),))).remedy
    assert "Add 2 3x3 convolutions" in only(replace(SOUND, outputs=(output(28),))).remedy
    assert "Add one 3x3 convolution " in only(replace(SOUND, outputs=(output(44),))).remedy


def test_the_widest_of_several_outputs_must_see_enough() -> None:
    assert kinds(replace(SOUND, outputs=(output(20, 4, "P2"), output(90, 8, "P3")))) == []
    small = replace(SOUND, outputs=(output(20, 4, "P2"), output(50, 8, "P3")))
    assert only(small).place == "P3"


def test_the_narrower_axis_counts() -> None:
    narrow = Reach(Extent(100, 59), Extent(100, 59), Extent(8, 8))
    facts = replace(SOUND, outputs=(LayerField("C5", "output", narrow),))
    assert only(facts).value == 59


def test_attention_sees_enough_whatever_its_windows() -> None:
    assert kinds(replace(SOUND, outputs=(output(16),), attends=True)) == []


@pytest.mark.parametrize(
    ("size", "kind", "limit"),
    [(39.9, "erf_too_small", 40), (40, None, 0), (140, None, 0), (141, "erf_too_large", 140)],
)
def test_erf_outside_of_the_range_for_the_target(
    size: float, kind: str | None, limit: float
) -> None:
    facts = replace(SOUND, effective=Effective(size, size, "measured", "C5"))
    assert kinds(facts) == [kind] * (kind is not None)
    if kind:
        finding = only(facts)
        assert (finding.value, finding.limit, finding.place) == (size, limit, "C5")
        assert "40 to 140 px fit" in finding.message


def test_erf_far_below_the_theoretical_field() -> None:
    assert kinds(replace(SOUND, effective=Effective(50, 100, "measured"))) == []
    finding = only(replace(SOUND, effective=Effective(50, 101, "expected")), None)
    assert (finding.kind, finding.value, finding.limit) == ("erf_far_below_trf", 50 / 101, 0.5)
    assert "The ERF of 50 px (expected) is 0.50 of the theoretical RF's 101 px" in finding.message


@pytest.mark.parametrize(("size", "kind"), [(5, None), (50, None), (141, "erf_too_large")])
def test_an_erf_that_the_images_cut_is_only_known_to_be_as_large(
    size: float, kind: str | None
) -> None:
    facts = replace(SOUND, effective=Effective(size, 500, "measured", is_cut=True))
    assert kinds(facts) == [kind] * (kind is not None)


def test_stride_too_coarse() -> None:
    assert kinds(replace(SOUND, outputs=(output(stride=16),))) == []
    finding = only(replace(SOUND, outputs=(output(stride=32),)))
    assert (finding.kind, finding.place, finding.value, finding.limit) == (
        "stride_too_coarse",
        "C5",
        32,
        16,
    )
    assert "Drop the last halving" in finding.remedy
    assert "last 2 halvings" in only(replace(SOUND, outputs=(output(stride=64),))).remedy


def test_the_finest_of_several_outputs_must_be_fine_enough() -> None:
    assert kinds(replace(SOUND, outputs=(output(stride=8), output(stride=32)))) == []


def test_downsampling_too_early() -> None:
    # Below 2 units across 16 px from a stride above 8 on.
    fine = layer("conv1", reach(1, 1), reach(7, 8))
    early = layer("conv2", reach(15, 8), reach(31, 16))
    assert kinds(replace(SOUND, layers=(fine,))) == []
    finding = only(replace(SOUND, layers=(fine, early)))
    assert (finding.kind, finding.place, finding.value, finding.limit) == (
        "downsampling_too_early",
        "conv2",
        15,
        16,
    )
    late = layer("conv2", reach(16, 8), reach(32, 16))
    assert kinds(replace(SOUND, layers=(fine, late))) == []


def test_only_the_first_downsampling_below_two_units_counts() -> None:
    late = layer("conv2", reach(16, 8), reach(32, 16))
    # A branch that has seen less cannot lose what is lost already.
    branch = layer("pool", reach(9, 8), reach(17, 32))
    assert kinds(replace(SOUND, layers=(late, branch))) == []


def test_gridding() -> None:
    finding = only(replace(SOUND, gaps=Gaps(6, 27, "layer4.0.conv1")), None)
    assert (finding.kind, finding.place, finding.value, finding.limit) == (
        "gridding",
        "layer4.0.conv1",
        6 / 27,
        0,
    )
    assert "6 of the 27 pixels along the RF (22%)" in finding.message


def test_unproductive_layers() -> None:
    border = layer("conv5", reach(80, 4, smallest=64), reach(88, 4, smallest=72))
    after = layer("conv6", reach(88, 4, smallest=72), reach(96, 4, smallest=80))
    before = layer("conv4", reach(72, 4, smallest=63), reach(80, 4, smallest=64))
    pointwise = layer("mlp", reach(96, 4, smallest=80), reach(96, 4, smallest=80))
    assert kinds(replace(SOUND, layers=(before, pointwise)), None) == []
    finding = only(replace(SOUND, layers=(before, border, after, pointwise)), None)
    assert (finding.kind, finding.place, finding.value, finding.limit) == (
        "unproductive_layers",
        "conv5",
        2,
        0,
    )
    assert "2 layers from here on add no context" in finding.message
    one = only(replace(SOUND, layers=(before, border)), None)
    assert "1 layer from here on adds no context" in one.message


def test_a_layer_is_productive_while_one_axis_has_more_to_see() -> None:
    border = layer("conv5", reach(80, 4, smallest=64), reach(88, 4, smallest=72))
    assert kinds(replace(SOUND, layers=(border,), input_size=(64, 65)), None) == []


def test_rules_without_their_facts_or_target_are_silent() -> None:
    small = replace(SOUND, outputs=(output(5, 64),), effective=None)
    assert kinds(small, None) == []
    assert kinds(small) == ["rf_too_small", "stride_too_coarse"]
