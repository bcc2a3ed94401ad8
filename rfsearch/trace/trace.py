"""Exact theoretical receptive fields of any module, by following its operations.

The module runs once on tensors without data; every operation says which of its input's units each
of its output's units sees. Nothing of the size of an image is computed, and no weight is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rfsearch.basics.validation import checked_size
from rfsearch.field.unit_grid import PIXELS
from rfsearch.trace._layout import Factor, Source, Span
from rfsearch.trace._mode import TracingMode, refuse_stale_views, tracing
from rfsearch.trace.call import Axis, Dependence, Record, attach, dependence_of
from rfsearch.trace.layers import Layers, meta_twin, named_tensors
from rfsearch.trace.result import TracedMap, TracedModel, traced_map
from rfsearch.trace.timm_models import create_model, input_channels


def trace_receptive_field(
    model: nn.Module | str,
    input_size: int | tuple[int, int],
    *,
    in_chans: int | None = None,
    forward: Callable[[nn.Module, Tensor], Any] | None = None,
    unknown: Literal["error", "pointwise"] = "error",
) -> TracedModel:
    """Trace the theoretical receptive fields of a model: of its outputs and of all its layers.

    The fields are those of interior units of a large enough image, whatever `input_size` is;
    `clipped` of an output says how much lies outside. Only sizes that the model derives from its
    input depend on it: adaptive pooling, resizing to a given size, windows of attention, padding
    as TensorFlow's "same".

    Fields are intervals: pixels between dilated taps count. Positions of a tensor are followed
    one by one, channels are not: each is taken to see what any channel at its position sees.
    Batch normalisation is that of evaluation, and dropout is off. What a roll brings round the
    border (shifted windows) is not followed: these models mask it.

    Args:
        model: Any module, which is left exactly as it is found, or the name of a timm model.
        input_size: Side or `(height, width)` of the input, in px.
        in_chans: Channels of the input. `None` means those of the first convolution, or 3. Where
            these are more than 4, a timm model that states its channels is believed.
        forward: Runs the module on images `(1, channels, height, width)`. `None` means to call
            the module.
        unknown: What to do with an operation that is not known: refuse the model, or treat the
            operation as pointwise.

    Raises:
        ValueError: If timm knows no such model, the model does not run at `input_size`, it uses
            an operation that is not known or moves data in a way that cannot be followed, or no
            output depends on the input.
    """
    size = checked_size(input_size)
    if unknown not in ("error", "pointwise"):
        raise ValueError(f"`unknown` must be one of error, pointwise, but got {unknown!r}.")
    if in_chans is not None and in_chans < 1:
        raise ValueError(f"`in_chans >= 1` must hold, but got {in_chans}.")
    twin = _twin(_create(model) if isinstance(model, str) else model)
    layers = Layers(twin)
    mode = TracingMode(layers, pointwise_if_unknown=unknown == "pointwise")
    images = _images(twin, in_chans or input_channels(twin), size)
    try:
        with tracing(mode):
            output = twin(images) if forward is None else forward(twin, images)
    except Exception as error:
        if mode.refusal is not None:
            raise ValueError(mode.refusal) from None
        place = f" in layer `{layers.current}`" if layers.current else ""
        raise ValueError(
            f"The model must run at an input of {size[0]}x{size[1]} px, but it fails{place}: "
            f"{_one_line(error)}"
        ) from error
    outputs = {one.name: one for one in _outputs(output, size)}
    if not outputs:
        raise ValueError("The model's output must depend on its input, but no tensor of it does.")
    causes = tuple(name or "(model)" for name in layers.causes)
    return TracedModel(outputs, causes, size, tuple(layers.rows))


def _outputs(output: Any, size: tuple[int, int]) -> Iterator[TracedMap]:
    for key, tensor in named_tensors(output):
        name, dependence = key or "output", dependence_of(tensor)
        if dependence is None:
            continue
        try:
            refuse_stale_views([tensor])
            traced = traced_map(name, tuple(tensor.shape), dependence, size)
        except ValueError as reason:
            raise ValueError(f"{reason} (output `{name}`).") from None
        if traced is not None:
            yield traced


def _twin(model: nn.Module) -> nn.Module:
    try:
        return meta_twin(model)
    except Exception as error:
        raise ValueError(f"The model must allow a copy, but: {_one_line(error)}") from error


def _create(name: str) -> nn.Module:
    with torch.device("meta"):
        return create_model(name)


def _images(model: nn.Module, in_chans: int, size: tuple[int, int]) -> Tensor:
    kinds = (p.dtype for p in model.parameters() if p.is_floating_point())
    images = torch.empty(1, in_chans, *size, device="meta", dtype=next(kinds, torch.float32))
    axes = []
    for dim, length in enumerate(size, 2):
        spans: list[Span | None] = [None] * 4
        spans[dim] = Span((Factor(length, 1),))
        axes.append(Axis((Source(tuple(spans), PIXELS),)))
    height, width = axes
    attach(images, Record(Dependence(height, width)))
    return images


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
