from __future__ import annotations

import math
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rfsearch.basics.ranges import Range
from rfsearch.basics.validation import parse
from rfsearch.search.config import TargetConfig
from rfsearch.space.constraint import RFConstraint
from rfsearch.target.questions import Answer, Needs
from rfsearch.target.target import ScaleTarget

TARGET = ScaleTarget(12, 30)
WIDE = ScaleTarget(12, 60, quiet=True)


def answers(needs: Needs) -> dict[str, Answer]:
    return {one.question: one for one in needs.answers((0.05, 0.95))}


def test_the_smallest_object_is_in_the_data() -> None:
    _, answer, source = answers(Needs(TARGET))["Smallest object?"]
    assert source == "data"
    assert answer.startswith("12 px (5 % of the objects are smaller)")
    assert "2 units of a map with a stride of up to 6 px" in answer


def test_an_object_too_small_for_any_stride() -> None:
    answer = answers(Needs(ScaleTarget(1.5, 3)))["Smallest object?"].answer
    assert answer.endswith("even at a stride of 1 px: enlarge the input.")


@pytest.mark.parametrize(("size", "stride"), [(12, 6), (13.9, 6), (14, 7), (2, 1), (0.5, 1)])
def test_the_smallest_object_spans_two_units(size: float, stride: int) -> None:
    assert Needs(ScaleTarget(size, size)).max_output_stride == stride


def test_context_is_assumed_until_it_is_given() -> None:
    assumed = answers(Needs(TARGET))["Largest context?"]
    assert assumed.source == "assumed"
    assert assumed.answer.startswith("30 px, the largest object alone.")
    assert "--context 2" in assumed.answer
    given_ = answers(Needs(TARGET, context=2.5))["Largest context?"]
    assert given_[1:] == ("75 px: 2.5 x 30 px, the largest object.", "given")


@pytest.mark.parametrize(
    ("dense", "are_masks", "is_dense", "source"),
    [
        (None, False, False, "assumed"),
        (None, True, True, "data"),
        (False, True, False, "given"),
        (True, False, True, "given"),
    ],
)
def test_masks_ask_for_dense_prediction(
    dense: bool | None, are_masks: bool, is_dense: bool, source: str
) -> None:
    needs = Needs(TARGET, dense=dense, are_masks=are_masks)
    answer = answers(needs)["Dense prediction?"]
    assert needs.is_dense == is_dense
    assert answer.source == source
    assert answer.answer.startswith("yes: output stride of at most 6 px" if is_dense else "no")
    assert ("--dense" in answer.answer) == (source == "assumed")


def test_several_scales_are_in_the_data() -> None:
    assert answers(Needs(TARGET))["Several scales?"].answer.startswith("no: a factor of 2.5")
    assert answers(Needs(WIDE))["Several scales?"].answer.startswith("yes: a factor of 5.0")


@given(st.floats(1, 10))
def test_context_enlarges_what_has_to_be_seen(context: float) -> None:
    needs = Needs(TARGET, context=context)
    assert needs.effective(TARGET).low == pytest.approx(context * TARGET.effective.low)
    assert needs.effective(TARGET).high == pytest.approx(context * TARGET.effective.high)
    assert needs.theoretical(TARGET) == Range(context * TARGET.theoretical.low, math.inf)


@pytest.mark.parametrize("context", [0, 0.9, -2, math.inf, math.nan])
def test_impossible_contexts(context: float) -> None:
    with pytest.raises(ValueError, match=r"`context` must be .* at least 1 .*, but got"):
        Needs(TARGET, context=context)


@pytest.mark.parametrize("context", [None, 1, 2, 1.3])
@pytest.mark.parametrize("dense", [None, True])
def test_an_experiment_takes_the_table(context: float | None, dense: bool | None) -> None:
    needs = Needs(TARGET, context, dense)
    values = tomllib.loads(needs.experiment_toml())["target"]
    config = parse(TargetConfig, values, "experiment.toml")
    assert (config.min_size, config.max_size) == (12, 30)
    assert config.max_output_stride == (6 if dense else None)
    bounds = {name: values[name] for name in ("theoretical", "effective") if name in values}
    ranges = RFConstraint(TARGET, **bounds).ranges()
    assert ranges["theoretical"].low == pytest.approx(needs.theoretical(TARGET).low)
    assert ranges["theoretical"].high == math.inf
    assert ranges["expected"][:2] == pytest.approx(needs.effective(TARGET)[:2])
