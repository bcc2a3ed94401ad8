"""Which of a network's tensors is looked at: its output, one of several maps, or any layer's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from torch import Tensor, nn

from rfsearch.basics.axes import AXIS_NAMES
from rfsearch.models.timm_models import nearest
from rfsearch.trace.layers import named_tensors

#: Runs a module on images and returns the tensor to look at.
Read = Callable[[nn.Module, Tensor], Tensor]
#: Runs a module on images.
Forward = Callable[[nn.Module, Tensor], Any]


class NoMapError(ValueError):
    """There is no map to look at, whatever the model computes."""


def output_map(
    model: nn.Module, images: Tensor, level: str | None = None, call: Forward | None = None
) -> Tensor:
    """The map of a level: the model's features, without the head.

    Args:
        model: A module with `forward_features`, or one to call.
        images: `(batch, channels, *input_size)`.
        level: Key of a mapping or number in a sequence of maps, where the model returns several.
        call: Runs a model on images; None means to call it.

    Raises:
        ValueError: If there is no such level, or the output is not a map.
    """
    forward = getattr(model, "forward_features", model)
    given = forward(images) if call is None else call(model, images)
    outputs = dict(named_tensors(given))
    if list(outputs) == [""]:
        output = outputs[""]
    else:
        if level is None and len(outputs) == 1:
            level = next(iter(outputs))
        if level not in outputs:
            raise NoMapError(f"`level` must be one of {', '.join(outputs)}, but got {level!r}.")
        output = outputs[level]
    if output.ndim not in (3, images.ndim):
        raise NoMapError(
            "The model's output must be a map (batch, channels, "
            f"{', '.join(AXIS_NAMES[images.ndim - 2])}) or a sequence of "
            f"tokens (batch, tokens, channels), but got {tuple(output.shape)}; remove its pooling "
            "and classifier, or name a `layer` before them."
        )
    return output


class _Reached(BaseException):  # not an error: it leaves the model's forward
    """The layer has run; what follows it need not."""


def layer_map(model: nn.Module, images: Tensor, layer: str, call: Forward | None = None) -> Tensor:
    """What a layer returns the first time it runs; the model is left there.

    Raises:
        ValueError: If the layer does not run, or returns no map.
    """
    caught: list[object] = []

    def catch(module: nn.Module, inputs: object, output: object) -> None:
        caught.append(output)
        raise _Reached

    handle = model.get_submodule(layer).register_forward_hook(catch)
    try:
        with suppress(_Reached):
            _ = model(images) if call is None else call(model, images)
    finally:
        handle.remove()
    if not caught:
        raise NoMapError(f"`layer` must be used by the model, but `{layer}` is never called.")
    output = caught[0]
    if not isinstance(output, Tensor):
        raise NoMapError(
            f"`layer` must return one map, but `{layer}` returns a {type(output).__name__}."
        )
    return output


def reader(
    model: nn.Module, layer: str | None, level: str | None, call: Forward | None = None
) -> Read:
    """How to get the map to look at: a layer's by its name, or the model's own.

    Args:
        model: Whose layers these are.
        layer: Name of the layer.
        level: Name of an output.
        call: Runs the model on images; None means to call it.

    Raises:
        ValueError: If the model has no such layer, or both a layer and a level are named.
    """
    if layer is None:
        return lambda module, images: output_map(module, images, level, call)
    if level is not None:
        raise ValueError(
            f"`layer` and `level` must not be given both, but got {layer!r} and {level!r}."
        )
    names = [name for name, _ in model.named_modules() if name]
    if layer not in names:
        near = nearest(layer, names) or f"; its layers begin with {', '.join(names[:3])}"
        raise ValueError(
            f"`layer` must be the name of one of the model's, but got {layer!r}{near}."
        )
    return lambda module, images: layer_map(module, images, layer, call)
