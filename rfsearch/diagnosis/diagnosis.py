"""The diagnosis of a network: facts from closed forms, or from a trace and measurements."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from rfsearch.basics.axes import by_x
from rfsearch.diagnosis._rules import find
from rfsearch.diagnosis.findings import (
    Effective,
    Finding,
    Gaps,
    NetworkFacts,
    Skipped,
    UncheckedWarning,
)
from rfsearch.diagnosis.layer_field import (
    architecture_layers,
    architecture_nodes,
    architecture_outputs,
)
from rfsearch.diagnosis.network_fields import NetworkFields, network_fields
from rfsearch.field.coverage import PIXEL, coverage
from rfsearch.field.expression import along
from rfsearch.field.skipping import skipped_units

if TYPE_CHECKING:
    from rfsearch.basics.axes import InputSize
    from rfsearch.models.resolve import Model
    from rfsearch.models.resolved import ResolvedModel
    from rfsearch.models.several import Shapes
    from rfsearch.network.architecture import Architecture
    from rfsearch.target.target import ScaleTarget

#: Images of noise for a measured ERF: the 95 % square changes little between one and many.
NUM_IMAGES = 4


def diagnose(
    model: Model,
    target: ScaleTarget | None = None,
    input_size: InputSize | Shapes | None = None,
    *,
    follow: str | int | None = None,
    layer: str | None = None,
    in_chans: int | None = None,
    erf: bool = True,
) -> tuple[Finding, ...]:
    """Say what may be wrong with a network's receptive fields.

    An architecture is diagnosed in closed form. Any other module is traced, its gaps are probed
    and its ERF is measured, at its weights as they are (see `measure_erf` for what is switched
    on) and on larger images than `input_size` where those would cut its receptive field. What
    cannot be found out for a module is warned of, and the rules that need it are silent.

    Args:
        model: An architecture, a module, the name of a timm model, which gets random weights, or
            the path of an exported network's folder, which is diagnosed at its own.
        target: The object scales to see. Without, the rules that need them are silent.
        input_size: Sides of the input in px, as for `trace_receptive_field`. `None` means the
            size that the model states, or 224 (4,096 of a sequence, 64 of a volume).
        follow: Which of several inputs is followed, as there.
        layer: Name of a module, as in `named_modules()`, whose output is diagnosed as that of the
            network. `None` means the network's own outputs.
        in_chans: Channels of the input. `None` means those that the first layer with weights
            turns out to take.
        erf: Whether to measure the ERF of a module, which takes most of the time.

    Raises:
        ValueError: If timm knows no such model, it has no such layer, or it does not run at
            `input_size`.
    """
    from rfsearch.models.resolve import resolve_model

    resolved = resolve_model(model, input_size, follow=follow, in_chans=in_chans)
    return diagnose_fields(resolved, network_fields(resolved, layer), target, layer=layer, erf=erf)


def diagnose_fields(
    model: ResolvedModel,
    fields: NetworkFields,
    target: ScaleTarget | None,
    *,
    layer: str | None = None,
    erf: bool = True,
) -> tuple[Finding, ...]:
    """Diagnose a model whose fields are known already; see `diagnose`."""
    if model.architecture is not None and layer is None:
        return diagnose_architecture(model.architecture, target, model.input_size)
    for name, reason in fields.unfollowed.items():
        _warn(f"The fields of `{name}` could not be followed: {reason}")
    facts = NetworkFacts(
        model.input_size,
        fields.layers,
        fields.outputs,
        _measured(model, fields, layer, target) if erf else None,
        _probed_gaps(model, fields, layer) if fields.outputs else None,
        fields.skipped,
        _attends(fields),
    )
    return find(facts, target)


def diagnose_architecture(
    architecture: Architecture, target: ScaleTarget | None, input_size: tuple[int, ...]
) -> tuple[Finding, ...]:
    """Diagnose an architecture in closed form: no network is built.

    Args:
        architecture: What to look at.
        target: The object scales to see. Without, the rules that need them are silent.
        input_size: Sides of the input in px.
    """
    layers, outputs = architecture_layers(architecture), architecture_outputs(architecture)
    attends = any(stage.block == "attention" for stage in architecture.stages)
    # Of units that attend to everything, the closed form knows the lesser part of what they see.
    effective = None if attends else _expected(architecture, target)
    gaps, skipped = _gaps(architecture), _skipped(architecture)
    facts = NetworkFacts(input_size, layers, outputs, effective, gaps, skipped, attends)
    return find(facts, target)


def _expected(architecture: Architecture, target: ScaleTarget | None) -> Effective:
    """The expected ERF of the last map, or of the level that is furthest from what it serves."""
    apart = architecture.axes_differ or bool(target and target.axes)
    axes: tuple[str | None, ...] = architecture.axes if apart else (None,)
    found = []
    for level, part in _served(architecture, target).items():
        for axis in axes:
            erf = architecture.expected_erf(level, axis)
            of_axis = part or target if axis else part
            served = of_axis.along(axis) if of_axis and axis else of_axis
            origin = "expected at initialisation" + (f", along {axis}" if axis else "")
            found.append(Effective(erf.size, erf.theoretical_size, origin, level, served))
    return max(found, key=lambda one: one.part.effective.violation(one.size) if one.part else 0)


def _served(
    architecture: Architecture, target: ScaleTarget | None
) -> Mapping[str, ScaleTarget | None]:
    """What each level serves; the last one all of it where it is not split among several."""
    if target is not None and len(architecture.levels) > 1:
        fields = architecture.receptive_fields(architecture.axes[0])
        with suppress(ValueError):  # No level serves some of the objects.
            return target.split({level: field.stride for level, field in fields.items()})
    return {architecture.levels[-1]: None}


def _gaps(architecture: Architecture) -> Gaps | None:
    """Gaps in what the last stage's units touch, or those of a neck that does not upsample.

    Behind an upsampling units touch different pixels, and each of several units of the last
    stage: the backbone's gaps are what is wrong with them.
    """
    nodes, found = architecture_nodes(architecture), list[Gaps]()
    for axis in range(architecture.num_axes if architecture.axes_differ else 1):
        seen, place = PIXEL, ""
        for name, _, node in nodes:
            seen = coverage(along(node, axis), seen)
            place = place or (name if seen.missing else "")
        found.append(Gaps(seen.missing, seen.size, place))
    worst = max(found, key=lambda gaps: gaps.missing / gaps.size)
    return worst if worst.missing else None


def _skipped(architecture: Architecture) -> Skipped | None:
    """The first part that skips most, on the way to the last stage."""
    axes = range(architecture.num_axes if architecture.axes_differ else 1)
    found = [
        Skipped(max(skipped_units(along(node, axis)) for axis in axes), name)
        for name, _, node in architecture_nodes(architecture)
    ]
    worst = max(found, key=lambda one: one.share)
    return worst if worst.share else None


def _measured(
    model: ResolvedModel, fields: NetworkFields, layer: str | None, target: ScaleTarget | None
) -> Effective | None:
    """The ERF of the last map, on images that hold its field, as far as that can be had."""
    from rfsearch.measure.erf import measure_erf

    try:
        measured = measure_erf(model, num_images=NUM_IMAGES, layer=layer)
    except ValueError as reason:
        _warn(f"The ERF was not measured: {reason}")
        return None
    place = fields.outputs[-1].name if fields.outputs else layer or "output"
    is_cut = measured.clipped > 0  # NaN of what cannot be traced.
    if is_cut:
        sides = by_x(measured.map.shape)
        _warn(
            f"The ERF was measured on images of {sides} px, which cut the receptive field: it is "
            f"{measured.size:g} px or more."
        )
    if target is not None and target.axes:
        parts = {axis: target.along(axis) for axis in target.axes}
        sizes = dict(zip(parts, measured.sizes, strict=True))
        worst = max(parts, key=lambda axis: parts[axis].effective.violation(sizes[axis]))
        origin, part = f"measured, along {worst}", parts[worst]
        return Effective(sizes[worst], math.nan, origin, place, part, is_cut)
    return Effective(measured.size, measured.theoretical_size, "measured", place, is_cut=is_cut)


def _probed_gaps(model: ResolvedModel, fields: NetworkFields, layer: str | None) -> Gaps | None:
    from rfsearch.diagnosis._coverage_probe import probe_coverage
    from rfsearch.measure.read import reader

    layers, output = fields.layers, fields.outputs[-1]
    run = model.run if layer is None else reader(model.twin(), layer, None, model.run)
    try:
        touched = probe_coverage(model.module, layers, fields.global_layers, model.in_chans, run)
    except ValueError as reason:
        _warn(f"Gridding was not checked: {reason}.")
        return None
    known = [one for one in layers if one.name in touched]
    last = [one for one in known if one.reach == output.reach]
    if not last:
        _warn(
            "Gridding was not checked: which pixels the output touches could not be found exactly,"
            " because of layers that see the whole image or maps of another layout."
        )
        return None
    size, missing = touched[last[-1].name]
    if not missing:
        return None
    place = next(one.name for one in known if touched[one.name].missing)
    return Gaps(missing, size, place)


def _attends(fields: NetworkFields) -> bool:
    """Whether a layer that mixes the whole image is attention over positions, by its type."""
    kinds = [one.kind.lower() for one in fields.layers if one.name in fields.global_layers]
    return any("att" in kind and "channel" not in kind for kind in kinds)


def _warn(message: str) -> None:
    warnings.warn(message, UncheckedWarning, stacklevel=5)
