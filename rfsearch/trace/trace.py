"""Exact theoretical receptive fields of any module, by following its operations.

The module runs once on tensors without data; every operation says which of its input's units each
of its output's units sees. Nothing of the size of an image is computed, and no weight is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

from torch import Tensor, nn

from rfsearch.basics.axes import InputSize
from rfsearch.field.expected_erf import ExpectedERF
from rfsearch.field.unit_grid import PIXELS
from rfsearch.models.resolve import Model, resolve_model
from rfsearch.models.resolved import ResolvedModel
from rfsearch.models.several import Shapes
from rfsearch.tape.recorder import Recorder
from rfsearch.trace._layout import Factor, Source, Span
from rfsearch.trace._mode import TracingMode, refresh, tracing
from rfsearch.trace.call import (
    Axis,
    Dependence,
    Record,
    attach,
    base_of,
    dependence_of,
    located,
)
from rfsearch.trace.costs import DatalessRun
from rfsearch.trace.layers import Layers, named_tensors
from rfsearch.trace.result import TracedModel
from rfsearch.trace.traced_map import TracedMap, traced_maps


class UntracedError(ValueError):
    """A model's fields cannot be followed, or it does not run on tensors without data.

    Attributes:
        traced: What was followed until then: layers, but no output.
    """

    def __init__(self, message: str, traced: TracedModel) -> None:
        super().__init__(message)
        self.traced = traced


def trace_receptive_field(
    model: Model,
    input_size: InputSize | Shapes,
    *,
    follow: str | int | None = None,
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
        model: Any module, which is left exactly as it is found; the name of a timm model; an
            architecture; or the path of an exported network's folder.
        input_size: Sides of the input in px: `(16000,)` of a sequence, `(height, width)` of an
            image, `(depth, height, width)` of a volume. An integer is the side along each of the
            axes that the first convolution has. Of several inputs the shapes `(channels, *sides)`
            of all, in a tuple or in a dictionary by the names of arguments.
        follow: Number or name of the input that is followed, where there are several.
        in_chans: Channels of the input. `None` means those that the first layer with weights
            turns out to take.
        forward: Runs the module on an input `(1, channels, *input_size)`, or on all of several.
            `None` means to call the module.
        unknown: What to do with an operation that is not known: refuse the model, or treat the
            operation as pointwise.

    Raises:
        ValueError: If timm knows no such model, the model does not run at `input_size` or takes
            inputs of another number of axes, it uses an operation that is not known or moves data
            in a way that cannot be followed, or no output depends on the input. Of several
            outputs, those that can be followed are given; `unfollowed` names the others.
    """
    if unknown not in ("error", "pointwise"):
        raise ValueError(f"`unknown` must be one of error, pointwise, but got {unknown!r}.")
    resolved = resolve_model(model, input_size, follow=follow, in_chans=in_chans, forward=forward)
    if follow is not None or forward is None:
        forward = resolved.run
    size, twin = resolved.input_size, resolved.twin()
    is_pointwise = unknown == "pointwise"
    images = _images(resolved.images_without_data(twin))
    recorder = Recorder(twin, images, located, base_of, is_pointwise)
    layers = Layers(twin, recorder.settled)
    mode = TracingMode(layers, recorder, is_pointwise)
    run = DatalessRun(twin, resolved.images_without_data(twin), forward)
    steps: dict[str, int] = {}

    def found(outputs: dict[str, TracedMap], unfollowed: dict[str, str]) -> TracedModel:
        causes = tuple(name or "(model)" for name in layers.causes)
        return TracedModel(
            outputs, causes, size, tuple(layers.rows), run, unfollowed, recorder.tape, steps
        )

    try:
        with tracing(mode, twin):
            output = twin(images) if forward is None else forward(twin, images)
    except Exception as error:
        if mode.refusal is not None:
            raise UntracedError(mode.refusal, found({}, {})) from None
        failure = resolved.failure(error, layers.current)
        raise UntracedError(str(failure), found({}, {})) from error
    outputs: dict[str, TracedMap] = {}
    unfollowed: dict[str, str] = {}
    for name, tensor, dependence in _outputs(output):
        try:
            refresh(tensor)
            dependence = dependence_of(tensor) or dependence
            maps = traced_maps(name, tuple(tensor.shape), dependence, size)
        except ValueError as reason:
            unfollowed[name] = dependence.refusal or f"{reason} (output `{name}`)."
            continue
        outputs |= {one.name: one for one in maps}
        if len(maps) == 1:
            steps[name] = recorder.settled(tensor) or 0
    if unfollowed and not outputs:
        raise UntracedError(next(iter(unfollowed.values())), found({}, unfollowed))
    if not outputs:
        raise ValueError("The model's output must depend on its input, but no tensor of it does.")
    return found(outputs, unfollowed)


def _outputs(output: Any) -> Iterator[tuple[str, Tensor, Dependence]]:
    for key, tensor in named_tensors(output):
        dependence = dependence_of(tensor)
        if dependence is not None:
            yield key or "output", tensor, dependence


def _images(images: Tensor) -> Tensor:
    """Remember of images without data that each pixel is its own."""
    axes = []
    for dim, length in enumerate(images.shape[2:], 2):
        spans: list[Span | None] = [None] * images.ndim
        spans[dim] = Span((Factor(length, 1),))
        axes.append(Axis((Source(tuple(spans), PIXELS),), is_flat=length == 1))
    attach(images, Record(Dependence(tuple(axes))))
    return images


def expected_erf(
    model: Model,
    input_size: InputSize | Shapes | None = None,
    *,
    follow: str | int | None = None,
    level: str | None = None,
    layer: str | None = None,
    initialisation: Literal["fan_in", "module"] = "fan_in",
    in_chans: int | None = None,
    forward: Callable[[nn.Module, Tensor], Any] | None = None,
    unknown: Literal["error", "pointwise"] = "error",
) -> ExpectedERF:
    """The effective receptive field to expect of a random initialisation of any model.

    The model is traced: no image is needed, and no weight. The expected squared gradient of an
    output unit is carried back operation by operation, by the rules that hold for architectures
    (`rfsearch.field.gradients`). It is that of the local field: what parts that mix the whole
    image have pooled or attended to counts as a constant. Factors that are learned, such as layer
    scale and those of normalisations, count as one.

    Args:
        model: Any module, which is left exactly as it is found; the name of a timm model; an
            architecture; or the path of an exported network's folder.
        input_size: Sides of the input in px, as for `trace_receptive_field`. `None` means the
            size that the model states, or 224 (4,096 of a sequence, 64 of a volume).
        follow: Which of several inputs is followed, as there.
        level: Name of the output, where the model has several. `None` means the last.
        layer: Name of a layer, as in `named_modules()`, whose output to look at instead.
        initialisation: `"fan_in"`: weights have mean 0 and variance one over their fan-in.
            `"module"`: convolutions, linear layers and learned factors have the mean square that
            they have in the module now.
        in_chans: Channels of the input, as for `trace_receptive_field`.
        forward: Runs the module on images, as there.
        unknown: What to do with an operation that cannot be traced or has no rule: refuse the
            model, or treat the operation as pointwise.

    Raises:
        ValueError: As for `trace_receptive_field`; or if there is no such level or layer, no rule
            is known for an operation before it, or it has no positions.
    """
    if initialisation not in ("fan_in", "module"):
        raise ValueError(
            f"`initialisation` must be one of fan_in, module, but got {initialisation!r}."
        )
    resolved = resolve_model(model, input_size, follow=follow, in_chans=in_chans, forward=forward)
    forward = forward if follow is None else None  # It is how the resolved model runs.
    traced = trace_receptive_field(resolved, resolved.input_size, forward=forward, unknown=unknown)
    if initialisation == "fan_in":
        return traced.expected_erf(level, layer=layer)
    return traced.expected_erf(level, layer=layer, weight_powers=weight_powers(resolved))


def weight_powers(model: ResolvedModel) -> dict[str, float]:
    """Mean squares of the parameters that a model has, by name."""
    weights = dict(model.copy().named_parameters())
    return {
        name: float(weight.detach().double().square().mean()) for name, weight in weights.items()
    }
