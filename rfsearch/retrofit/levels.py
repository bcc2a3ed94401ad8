"""Maps of a network that are looked at: some of its outputs, or what its layers return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from rfsearch.models.timm_models import nearest
from rfsearch.trace.layers import named_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rfsearch.models.resolved import ResolvedModel


def at_levels(model: ResolvedModel, names: Sequence[str]) -> ResolvedModel:
    """A model that gives some maps alone, by their names.

    Args:
        model: The model.
        names: Of outputs, or of layers as in `named_modules()`.

    Raises:
        ValueError: If it has no such output or layer.
    """
    twin = model.twin()
    outputs = _outputs(model, twin, model.images_without_data(twin))
    layers = dict(twin.named_modules())
    for name in names:
        if name not in outputs and (not name or name not in layers):
            known = [*outputs, *layers]
            raise ValueError(
                f"Levels must be outputs or layers of {model.name}, but {name!r} is none"
                f"{nearest(name, known)}."
            )
    return replace(model, run=partial(_maps, model, names))


def _outputs(model: ResolvedModel, module: nn.Module, images: Tensor) -> dict[str, Any]:
    """The outputs by the names that a trace gives them."""
    given = named_tensors(model.call(module, images))
    return {name or "output": tensor for name, tensor in given}


def _maps(
    model: ResolvedModel, names: Sequence[str], module: nn.Module, images: Tensor
) -> dict[str, Any]:
    caught: dict[str, Any] = {}

    def catch(name: str, layer: nn.Module, given: Any, output: Any) -> None:
        caught[name] = output

    layers = dict(module.named_modules())
    looked_at = [name for name in names if name in layers]
    handles = [layers[name].register_forward_hook(partial(catch, name)) for name in looked_at]
    try:
        outputs = _outputs(model, module, images)
    finally:
        for handle in handles:
            handle.remove()
    return {name: outputs.get(name, caught.get(name)) for name in names}
