"""The diagnosis of a network: facts from closed forms, or from a trace and measurements."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from rfsearch.diagnosis._rules import find
from rfsearch.diagnosis.findings import Effective, Finding, Gaps, NetworkFacts, UncheckedWarning
from rfsearch.diagnosis.layer_field import (
    LayerField,
    architecture_layers,
    architecture_nodes,
    architecture_outputs,
)
from rfsearch.field.coverage import PIXEL, coverage
from rfsearch.network.architecture import Architecture

if TYPE_CHECKING:
    from torch import nn

    from rfsearch.target.target import ScaleTarget
    from rfsearch.trace.result import TracedModel

#: Images of noise for a measured ERF: the 95 % square changes little between one and many.
NUM_IMAGES = 4


def diagnose(
    model: Architecture | nn.Module | str,
    target: ScaleTarget | None = None,
    input_size: int | tuple[int, int] = 224,
    *,
    erf: bool = True,
) -> tuple[Finding, ...]:
    """Say what may be wrong with a network's receptive fields.

    An architecture is diagnosed in closed form. Any other module is traced, its gaps are probed
    and its ERF is measured, at its weights as they are (see `measure_erf` for what is switched
    on). What cannot be found out for a module is warned of, and the rules that need it are
    silent.

    Args:
        model: An architecture, a module, or the name of a timm model, which gets random weights.
        target: The object scales to see. Without, the rules that need them are silent.
        input_size: Side or `(height, width)` of the input in px.
        erf: Whether to measure the ERF of a module, which takes most of the time.

    Raises:
        ValueError: If timm knows no such model, or it does not run at `input_size` or cannot be
            traced.
    """
    size = (input_size, input_size) if isinstance(input_size, int) else input_size
    if isinstance(model, Architecture):
        model.cost(size)  # Refuses an image that is too small for the network.
        return diagnose_architecture(model, target, size)
    from rfsearch.trace.trace import trace_receptive_field

    return diagnose_traced(trace_receptive_field(model, size), model, target, erf=erf)


def diagnose_architecture(
    architecture: Architecture, target: ScaleTarget | None, input_size: tuple[int, int]
) -> tuple[Finding, ...]:
    """Diagnose an architecture in closed form: no network is built.

    Args:
        architecture: What to look at.
        target: The object scales to see. Without, the rules that need them are silent.
        input_size: `(height, width)` of the input in px.
    """
    layers, outputs = architecture_layers(architecture), architecture_outputs(architecture)
    attends = any(stage.block == "attention" for stage in architecture.stages)
    # Of units that attend to everything, the closed form knows the lesser part of what they see.
    effective = None if attends else _expected(architecture, target)
    facts = NetworkFacts(input_size, layers, outputs, effective, _gaps(architecture), attends)
    return find(facts, target)


def _expected(architecture: Architecture, target: ScaleTarget | None) -> Effective:
    """The expected ERF of the last map, or of the level that is furthest from what it serves."""
    found = [
        Effective(erf.size, erf.theoretical_size, "expected at initialisation", level, part)
        for level, part in _served(architecture, target).items()
        for erf in (architecture.expected_erf(level),)
    ]
    return max(found, key=lambda one: one.part.effective.violation(one.size) if one.part else 0)


def _served(
    architecture: Architecture, target: ScaleTarget | None
) -> Mapping[str, ScaleTarget | None]:
    """What each level serves; the last one all of it where it is not split among several."""
    fields = architecture.receptive_fields()
    if target is not None and len(fields) > 1:
        with suppress(ValueError):  # No level serves some of the objects.
            return target.split({level: field.stride for level, field in fields.items()})
    return {architecture.levels[-1]: None}


def diagnose_traced(
    traced: TracedModel, model: nn.Module | str, target: ScaleTarget | None, *, erf: bool = True
) -> tuple[Finding, ...]:
    """Diagnose a module of which there is a trace already; see `diagnose`."""
    return find(_facts(traced, _with_weights(model), erf), target)


def _gaps(architecture: Architecture) -> Gaps | None:
    """Gaps in what the last stage's units touch, or those of a neck that does not upsample.

    Behind an upsampling units touch different pixels, and each of several units of the last
    stage: the backbone's gaps are what is wrong with them.
    """
    seen, place = PIXEL, ""
    for name, _, node in architecture_nodes(architecture):
        seen = coverage(node, seen)
        place = place or (name if seen.missing else "")
    return Gaps(seen.missing, seen.size, place) if seen.missing else None


def _with_weights(model: nn.Module | str) -> nn.Module:
    if not isinstance(model, str):
        return model
    from rfsearch.trace.timm_models import seeded_model

    return seeded_model(model, seed=0)  # The same findings every time.


def _facts(traced: TracedModel, model: nn.Module, erf: bool) -> NetworkFacts:
    from rfsearch.diagnosis.traced_layers import traced_layers, traced_outputs

    layers, outputs = traced_layers(traced, model), traced_outputs(traced)
    return NetworkFacts(
        traced.input_size,
        layers,
        outputs,
        _measured(traced, model) if erf else None,
        _probed_gaps(traced, model, layers, outputs[-1]),
        _attends(traced, layers),
    )


def _measured(traced: TracedModel, model: nn.Module) -> Effective | None:
    """The ERF of the last map, and the part of the theoretical field that the image holds."""
    from rfsearch.measure.erf import measure_erf

    try:
        measured = measure_erf(model, traced.input_size, num_images=NUM_IMAGES)
    except ValueError as reason:
        _warn(f"The ERF was not measured: {reason}")
        return None
    within = min(measured.theoretical_size, max(traced.input_size))
    return Effective(measured.size, within, "measured")


def _probed_gaps(
    traced: TracedModel, model: nn.Module, layers: tuple[LayerField, ...], output: LayerField
) -> Gaps | None:
    from rfsearch.diagnosis._coverage_probe import probe_coverage
    from rfsearch.trace.timm_models import input_channels

    try:
        touched = probe_coverage(model, layers, traced.global_layers, input_channels(model))
    except ValueError as reason:
        _warn(f"Gridding was not checked: {reason}.")
        return None
    known = [layer for layer in layers if layer.name in touched]
    last = [layer for layer in known if layer.reach == output.reach]
    if not last:
        _warn(
            "Gridding was not checked: which pixels the output touches could not be found exactly,"
            " because of layers that see the whole image or maps of another layout."
        )
        return None
    size, missing = touched[last[-1].name]
    if not missing:
        return None
    place = next(layer.name for layer in known if touched[layer.name].missing)
    return Gaps(missing, size, place)


def _attends(traced: TracedModel, layers: tuple[LayerField, ...]) -> bool:
    """Whether a layer that mixes the whole image is attention over positions, by its type."""
    kinds = [layer.kind.lower() for layer in layers if layer.name in traced.global_layers]
    return any("att" in kind and "channel" not in kind for kind in kinds)


def _warn(message: str) -> None:
    warnings.warn(message, UncheckedWarning, stacklevel=5)
