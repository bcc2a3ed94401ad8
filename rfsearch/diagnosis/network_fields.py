"""What the layers and outputs of a network see, whatever the network is made of."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rfsearch.diagnosis.findings import Skipped
from rfsearch.diagnosis.layer_field import (
    LayerField,
    architecture_layers,
    architecture_outputs,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rfsearch.models.resolved import ResolvedModel


@dataclass(frozen=True)
class NetworkFields:
    """Receptive fields of a network's layers and outputs.

    Attributes:
        layers: The layers, first to last.
        outputs: The outputs, without those that could not be followed.
        global_layers: Names of the layers that mix the whole image.
        unfollowed: Why, for each output that could not be followed.
        skipped: Units that a traced model skips.
    """

    layers: tuple[LayerField, ...]
    outputs: tuple[LayerField, ...]
    global_layers: tuple[str, ...] = ()
    unfollowed: Mapping[str, str] = field(default_factory=dict)
    skipped: Skipped | None = None


def network_fields(model: ResolvedModel, layer: str | None = None) -> NetworkFields:
    """The fields of an architecture in closed form, or of any other model by a trace.

    Args:
        model: What to look at.
        layer: Name of a module whose output is taken for the network's, which is traced to there.
            `None` means the network's own.

    Raises:
        ValueError: If the model does not run, there is no such layer, or no output depends on
            the input.
    """
    if model.architecture is not None and layer is None:
        return NetworkFields(
            architecture_layers(model.architecture),
            architecture_outputs(model.architecture),
            model.architecture.global_layers,
        )
    from rfsearch.diagnosis._traced_layers import traced_layers, traced_outputs
    from rfsearch.measure.read import reader
    from rfsearch.trace.trace import UntracedError, trace_receptive_field

    twin = model.twin()
    forward = None if layer is None else reader(twin, layer, None, model.run)
    try:
        traced = trace_receptive_field(model, model.input_size, forward=forward)
        unfollowed = traced.unfollowed
    except UntracedError as reason:
        model.check_runs()  # What does not run at this size is refused.
        traced = reason.traced
        unfollowed = traced.unfollowed or {"output": str(reason)}
    skipped = None
    with suppress(ValueError):  # Of what no rule is known nothing is said.
        share, place = traced.most_skipped()
        skipped = Skipped(share, place) if share else None
    return NetworkFields(
        traced_layers(traced, twin),
        traced_outputs(traced),
        traced.global_layers,
        unfollowed,
        skipped,
    )
