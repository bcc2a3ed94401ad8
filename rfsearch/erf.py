"""Measured effective receptive fields: gradients of an output unit with respect to the input.

Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks",
NeurIPS 2016. Each image's gradient starts from a random sign per output channel, so that the mean
squared gradient estimates the squared norm of the Jacobian over channels, whatever sign a channel
happens to have.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from rfsearch.erf_map import Center, ErfMap
from rfsearch.probe import PlaneField
from rfsearch.trace import trace_receptive_field

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

#: Pixels in one backward pass, to bound the memory.
_PIXELS_PER_PASS = 2**20
#: A scale that is constant and at most this large was never trained: it switches its branch off.
_SWITCHED_OFF = 1e-4


@dataclass(frozen=True, eq=False)
class MeasuredERF(ErfMap):
    """A measured effective receptive field; `map` has the input's height and width.

    Attributes:
        standard_error: Standard error of `size` over the images, in px.
        clipped: Share of the theoretical receptive field's area that lies outside the input. As
            an ERF is densest in its middle, less of the |gradient| than this is lost.
        num_images: Number of images with a gradient.
        calibrated: Whether batch statistics were unset and taken from the images.
        reset_scales: Names of switched-off scales (zero-initialised last normalisation, tiny
            layer scale) that were set to one.
    """

    standard_error: float
    clipped: float
    num_images: int
    calibrated: bool
    reset_scales: tuple[str, ...]


def measure_erf(
    model: nn.Module,
    input_size: int | tuple[int, int],
    images: Tensor | None = None,
    *,
    num_images: int = 16,
    level: str | None = None,
    device: torch.device | str | None = None,
    seed: int = 0,
) -> MeasuredERF:
    """Measure the effective receptive field of the unit in the middle of an output map.

    The model is left exactly as it was found. A copy runs in evaluation mode; where its batch
    statistics are unset they are taken from the images, and scales that switch a residual branch
    off until it is trained are set to one.

    Args:
        model: A module with `forward_features`, or one whose output is a map `(batch, channels,
            height, width)`. Without a method `receptive_fields`, its field is traced.
        input_size: Side or `(height, width)` of the input, in px.
        images: Normalised images `(images, channels, height, width)` of that size. `None` means
            white noise.
        num_images: How many images of noise.
        level: Output map to look at, where the model has several.
        device: Where to compute. `None` means where the model is.
        seed: Of the noise and of the random signs.

    Raises:
        ValueError: If the images do not have the stated size, the model has no such level or no
            output map, or no gradient reaches the input.
    """
    height, width = (input_size, input_size) if isinstance(input_size, int) else input_size
    module = copy.deepcopy(model).eval()
    if device is not None:
        module = module.to(device)
    place = next((p.device for p in module.parameters()), torch.device("cpu"))
    generator = torch.Generator().manual_seed(seed)
    if images is None:
        shape = (num_images, input_channels(module), height, width)
        images = torch.randn(shape, generator=generator)
    if tuple(images.shape[-2:]) != (height, width):
        raise ValueError(
            f"`images` must be {height}x{width} px as `input_size` says, "
            f"but got {images.shape[-2]}x{images.shape[-1]} px."
        )
    batches = images.split(max(1, _PIXELS_PER_PASS // (height * width)))
    reset_scales = _switch_branches_on(module)
    calibrated = _calibrate(module, batches, place)
    gradients = list(_gradients(module, batches, place, level, generator))
    magnitude = np.concatenate([np.abs(g).sum(axis=1) for g in gradients])
    power = np.concatenate([np.square(g).sum(axis=1) for g in gradients])
    field = _field(module, level, (height, width))
    rows, columns = _output_shape(module, images[:1].to(place), level)
    center = Center(field.height.center_of(rows // 2), field.width.center_of(columns // 2))
    return _summarise(magnitude, power, center, field, calibrated, reset_scales)


def input_channels(model: nn.Module) -> int:
    """Input channels of a model: those of its first convolution, or 3."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    return 3


def output_map(model: nn.Module, images: Tensor, level: str | None = None) -> Tensor:
    """The map `(batch, channels, height, width)` of a level: its features, without the head.

    Raises:
        ValueError: If there is no such level, or the output is not a map.
    """
    forward = getattr(model, "forward_features", model)
    output = forward(images)
    if isinstance(output, Mapping):
        if level is None and len(output) == 1:
            level = next(iter(output))
        if level not in output:
            raise ValueError(f"`level` must be one of {', '.join(output)}, but got {level!r}.")
        output = output[level]
    if not isinstance(output, torch.Tensor) or output.ndim != 4:
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise ValueError(
            "The model's output must be a map (batch, channels, height, width), "
            f"but got {shape}; remove its pooling and classifier."
        )
    return output


def _switch_branches_on(module: nn.Module) -> tuple[str, ...]:
    """Set untrained switched-off scales to one, and say which."""
    names = []
    for name, child in module.named_modules():
        kinds = ("weight",) if "norm" in type(child).__name__.lower() else ("gamma",)
        for kind in kinds:
            scale = getattr(child, kind, None)
            if not isinstance(scale, nn.Parameter):
                continue
            if (
                bool((scale == scale.flatten()[0]).all())
                and abs(scale.flatten()[0]) <= _SWITCHED_OFF
            ):
                nn.init.ones_(scale)
                names.append(f"{name}.{kind}")
    return tuple(names)


def _calibrate(module: nn.Module, batches: Sequence[Tensor], place: torch.device) -> bool:
    """Fill unset batch statistics from the images; True if there were any."""
    unset = [
        child
        for child in module.modules()
        if isinstance(child, nn.modules.batchnorm._BatchNorm)
        and child.num_batches_tracked is not None
        and int(child.num_batches_tracked) == 0
    ]
    for norm in unset:
        norm.train()
        norm.momentum = None  # The plain average over batches.
    if unset:
        with torch.no_grad():
            for batch in batches:
                module(batch.to(place))
    module.eval()
    return bool(unset)


def _gradients(
    module: nn.Module,
    batches: Sequence[Tensor],
    place: torch.device,
    level: str | None,
    generator: torch.Generator,
) -> Iterator[NDArray[np.float64]]:
    module.requires_grad_(False)
    for batch in batches:
        inputs = batch.to(place).requires_grad_()
        output = output_map(module, inputs, level)
        unit = output[:, :, output.shape[2] // 2, output.shape[3] // 2]
        signs = torch.randint(0, 2, unit.shape, generator=generator).to(place) * 2 - 1
        (gradient,) = torch.autograd.grad((unit * signs).sum(), inputs)
        yield gradient.double().cpu().numpy()


def _field(module: nn.Module, level: str | None, size: tuple[int, int]) -> PlaneField:
    known = getattr(module, "receptive_fields", None)
    if known is None:
        traced = trace_receptive_field(
            module,
            size,
            in_chans=input_channels(module),
            forward=lambda model, x: output_map(model, x, level),
        )
        return PlaneField(traced.output.height, traced.output.width)
    fields = known()
    field = fields[level] if level is not None else list(fields.values())[-1]
    return PlaneField(field, field)


@torch.no_grad()
def _output_shape(module: nn.Module, image: Tensor, level: str | None) -> tuple[int, int]:
    output = output_map(module, image, level)
    return output.shape[2], output.shape[3]


def _summarise(
    magnitude: NDArray[np.float64],
    power: NDArray[np.float64],
    center: Center,
    field: PlaneField,
    calibrated: bool,
    reset_scales: tuple[str, ...],
) -> MeasuredERF:
    """Average over images that weigh alike, whatever the scale of their gradients."""
    totals = magnitude.sum(axis=(1, 2))
    alive = np.isfinite(totals) & (totals > 0)
    if not alive.any():
        raise ValueError("No gradient reaches the input: every path to the unit is switched off.")
    magnitude = magnitude[alive] / totals[alive, None, None]
    power = power[alive] / power[alive].sum(axis=(1, 2), keepdims=True)
    size = max(field.height.size, field.width.size)
    per_image = [ErfMap(m, p, center, size).size for m, p in zip(magnitude, power, strict=True)]
    spread = float(np.std(per_image, ddof=1)) if len(per_image) > 1 else float("nan")
    return MeasuredERF(
        map=magnitude.mean(axis=0),
        power=power.mean(axis=0),
        center=center,
        theoretical_size=size,
        standard_error=spread / len(per_image) ** 0.5,
        clipped=_clipped(center, field, magnitude.shape[1], magnitude.shape[2]),
        num_images=len(per_image),
        calibrated=calibrated,
        reset_scales=reset_scales,
    )


def _clipped(center: Center, field: PlaneField, height: int, width: int) -> float:
    inside = 1.0
    for middle, axis, pixels in zip(center, field, (height, width), strict=True):
        first = middle - (axis.size - 1) / 2
        seen = min(pixels, first + axis.size) - max(0.0, first)
        inside *= max(0.0, seen) / axis.size
    return 1 - inside
