"""What may be wrong with a network's receptive fields: one rule for each kind of finding.

The rules look at `NetworkFacts`, which closed forms give for an architecture and a trace and
measurements for any other module. A rule without the facts or the target that it needs is silent.
Thresholds are rules of thumb with the sources that their functions name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rfsearch.basics.axes import AXIS_NAMES, by_x
from rfsearch.diagnosis.findings import Finding, NetworkFacts
from rfsearch.diagnosis.layer_field import LayerField
from rfsearch.target.target import ScaleTarget

#: ERF over theoretical receptive field below which it is called far below: the share that
#: Xu et al., "RFLA: Gaussian Receptive Field based Label Assignment for Tiny Object Detection",
#: ECCV 2022, take an ERF to have.
MIN_ERF_RATIO = 0.5
#: Units that must lie across an object, along one axis, for its shape not to be aliased: the
#: sampling theorem's two per period.
UNITS_PER_OBJECT = 2
#: Layers that a remedy names.
_PLACES = 4


def find(facts: NetworkFacts, target: ScaleTarget | None) -> tuple[Finding, ...]:
    """Findings of all rules, those about the target first."""
    found = [*_gridding(facts), *_skipping(facts), *_far_below(facts), *_unproductive(facts)]
    if target is not None:
        found = [*_sized(facts, target), *found]
    return tuple(found)


def _sized(facts: NetworkFacts, target: ScaleTarget) -> Iterator[Finding]:
    """Findings of the rules about the target, along each axis that it has a range for."""
    if not target.axes:
        for rule in (_too_small, _effective_size, _too_coarse, _too_early):
            yield from rule(facts, target)
        return
    # The axis that is furthest from what fits is known of the ERF already.
    yield from _effective_size(facts, target)
    for axis in target.axes:
        yield from find_along(facts, axis, target.along(axis))


def find_along(facts: NetworkFacts, axis: str, target: ScaleTarget) -> Iterator[Finding]:
    """Findings of the rules about objects' sizes along an axis, but for that of the ERF."""
    one = facts.along(AXIS_NAMES[len(facts.input_size)].index(axis))
    for rule in (_too_small, _too_coarse, _too_early):
        for finding in rule(one, target):
            yield replace(finding, message=f"Along the {axis}: {finding.message}")


def _too_small(facts: NetworkFacts, target: ScaleTarget) -> Iterator[Finding]:
    """The widest output must see `MIN_TRF_PER_OBJECT` times the largest object."""
    if not facts.outputs:
        return
    widest = max(facts.outputs, key=lambda output: output.reach.size.low)
    size, limit = widest.reach.size.low, target.theoretical.low
    if size >= limit or facts.attends:
        return
    stride = float(widest.reach.stride.high)
    number = math.ceil((limit - size) / (2 * stride))
    convolutions = "one 3x3 convolution" if number == 1 else f"{number} 3x3 convolutions"
    yield Finding(
        "rf_too_small",
        widest.name,
        size,
        limit,
        f"A theoretical RF of {size:g} px is too small for objects of {target.max_size:g} px, "
        f"which need {limit:g} px.",
        f"Add {convolutions} at the last stride of {stride:g} px, at {2 * stride:g} px each, or "
        "enlarge kernels or dilations there.",
    )


def _effective_size(facts: NetworkFacts, target: ScaleTarget) -> Iterator[Finding]:
    """The ERF must lie within the range of `ScaleTarget.effective`."""
    effective = facts.effective
    if effective is None:
        return
    served = effective.part or target
    allowed = served.effective
    if allowed.low <= effective.size <= allowed.high:
        return
    small = effective.size < allowed.low
    if small and effective.is_cut:
        return
    limit = allowed.low if small else allowed.high
    yield Finding(
        "erf_too_small" if small else "erf_too_large",
        effective.place,
        effective.size,
        limit,
        f"An ERF of {effective.size:g} px ({effective.origin}) is too {_word(small)} for objects "
        f"of up to {served.max_size:g} px: {allowed} fit.",
        "Enlarge kernels or dilations in the stages of large stride; a layer adds "
        "(dilation x stride)^2 (kernel^2 - 1) / 12 to the ERF's variance."
        if small
        else "Use fewer blocks, less dilation or a smaller stride in the last stages, or an "
        "earlier map as the output.",
    )


def _word(small: bool) -> str:
    return "small" if small else "large"


def _too_coarse(facts: NetworkFacts, target: ScaleTarget) -> Iterator[Finding]:
    """The finest output must have a unit in every object, so a stride of at most its side."""
    if not facts.outputs:
        return
    finest = min(facts.outputs, key=lambda output: output.reach.stride.high)
    stride, limit = float(finest.reach.stride.high), target.min_size
    if stride <= limit:
        return
    halvings = math.ceil(math.log2(stride / limit))
    last = "halving" if halvings == 1 else f"{halvings} halvings"
    places = [layer.name for layer in facts.layers if _coarsens(layer, limit)]
    yield Finding(
        "stride_too_coarse",
        finest.name,
        stride,
        limit,
        f"An output stride of {stride:g} px leaves objects of {limit:g} px without a unit of "
        "their own.",
        f"Drop the last {last} of the resolution{_at(places)} (a stride of 1 and twice the "
        "dilation after it keep the RF), or add an output of finer stride.",
    )


def _coarsens(layer: LayerField, limit: float) -> bool:
    """Whether a layer brings the units further apart than so many px."""
    return layer.downsamples and layer.reach.stride.high > limit


def _at(places: Sequence[str]) -> str:
    """Where it is, in a sentence."""
    more = f" and {len(places) - _PLACES} more" if len(places) > _PLACES else ""
    return f" at {', '.join(places[:_PLACES])}{more}" if places else ""


def _too_early(facts: NetworkFacts, target: ScaleTarget) -> Iterator[Finding]:
    """Keep two units across the smallest object until one of them has seen all of it.

    That late downsampling keeps information is strategy 3 of Iandola et al., "SqueezeNet", 2016;
    two units are the sampling theorem's. The first layer that breaks the rule is reported.
    """
    limit = target.min_size
    coarsest = limit / UNITS_PER_OBJECT
    for layer in facts.layers:
        if layer.before is None or not layer.downsamples or layer.reach.stride.high <= coarsest:
            continue
        seen = layer.before.size.low
        if seen < limit:
            yield Finding(
                "downsampling_too_early",
                layer.name,
                seen,
                limit,
                f"The stride rises to {layer.reach.stride} px where the RF is {seen:g} px: fewer "
                f"than {UNITS_PER_OBJECT} units are left across objects of {limit:g} px before "
                "any unit sees one whole.",
                f"Move this downsampling behind layers that bring the RF to {limit:g} px.",
            )
        return


def _gridding(facts: NetworkFacts) -> Iterator[Finding]:
    """Every pixel inside the receptive field should be touched (Wang et al., WACV 2018)."""
    gaps = facts.gaps
    if gaps is None:
        return
    share = gaps.missing / gaps.size
    yield Finding(
        "gridding",
        gaps.place,
        share,
        0.0,
        f"{gaps.missing} of the {gaps.size} pixels along the RF ({share:.0%}) are never touched.",
        "Use dilations without a common factor, such as 1, 2, 5, kernels of at least the stride, "
        "or undilated layers at the end.",
    )


def _skipping(facts: NetworkFacts) -> Iterator[Finding]:
    """Every unit of a map should be read (`rfsearch.field.skipping`)."""
    skipped = facts.skipped
    if skipped is None:
        return
    yield Finding(
        "skipped_units",
        skipped.place,
        skipped.share,
        0.0,
        f"It reads a map of which {skipped.share:.0%} of the units along an axis are read by "
        "nothing: what was computed for them is lost, though later layers may cover the pixels "
        "again.",
        "Use a kernel of at least the stride, whose dilation has no factor in common with it, or "
        "a pooling in the place of the stride.",
    )


def _far_below(facts: NetworkFacts) -> Iterator[Finding]:
    """The ERF should have `MIN_ERF_RATIO` of the theoretical receptive field."""
    effective = facts.effective
    if effective is None or effective.is_cut:
        return
    # Nothing is below a field that is not known, which is NaN.
    if not effective.size < MIN_ERF_RATIO * effective.theoretical:
        return
    ratio = effective.size / effective.theoretical
    yield Finding(
        "erf_far_below_trf",
        effective.place,
        ratio,
        MIN_ERF_RATIO,
        f"The ERF of {effective.size:g} px ({effective.origin}) is {ratio:.2f} of the theoretical "
        f"RF's {effective.theoretical:g} px.",
        "Prefer fewer layers of larger kernels to many small ones: the ERF grows with the root "
        "of the depth (Luo et al., 2016), the theoretical RF with the depth.",
    )


def _unproductive(facts: NetworkFacts) -> Iterator[Finding]:
    """Every layer should see more than its input does (`LayerField.is_unproductive`)."""
    idle = [layer for layer in facts.layers if layer.is_unproductive(facts.input_size)]
    if not idle:
        return
    first = idle[0]
    assert first.before is not None
    yield Finding(
        "unproductive_layers",
        first.name,
        len(idle),
        0.0,
        f"{_layers(len(idle))} from here on {'adds' if len(idle) == 1 else 'add'} no context: "
        f"along every path, the input already sees {first.before.smallest} px of an image of "
        f"{by_x(facts.input_size)} px.",
        "Remove them, use larger images, or downsample later.",
    )


def _layers(number: int) -> str:
    return "1 layer" if number == 1 else f"{number} layers"
