"""Measured effective receptive fields: gradients of an output unit with respect to the input.

Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks",
NeurIPS 2016. Each image's gradient starts from a random sign per output channel, so that the mean
squared gradient estimates the squared norm of the Jacobian over channels, whatever sign a channel
happens to have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rfsearch.basics.axes import InputSize, by_x
from rfsearch.field.erf_map import ErfMap
from rfsearch.measure import _replknet as published
from rfsearch.measure._average import Average
from rfsearch.measure._images import ErfImages, gather
from rfsearch.measure._local import keep_local
from rfsearch.measure._memory import check_fits, out_of_memory
from rfsearch.measure._unclipped import unclipped
from rfsearch.measure.crop import Crop, find_crop
from rfsearch.measure.device import check_device
from rfsearch.measure.initialisation import calibrate, switch_branches_on
from rfsearch.measure.read import Read, output_map, reader
from rfsearch.measure.unit import Unit, UntracedUnit, find_unit, untraced_unit
from rfsearch.models.resolve import Model, resolve_model
from rfsearch.models.resolved import ResolvedModel
from rfsearch.models.several import Shapes
from rfsearch.trace.trace import UntracedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MeasuredERF", "measure_erf", "output_map"]

#: Images between two looks at the standard error, and the fewest that it is believed of.
_IMAGES_PER_LOOK = 4


@dataclass(frozen=True, eq=False, repr=False)
class MeasuredERF(ErfMap):
    """A measured effective receptive field; `map` has the input's sides.

    A map that cannot be traced is measured all the same, on whole images. Then `theoretical_size`,
    `ratio`, `clipped` and `fraction_above` are NaN, and `center` is that of the squared gradient,
    to half a px, in the place of the theoretical receptive field's.

    Attributes:
        standard_error: Standard error over the images of the ERF size, taken between pixels, in
            px; NaN for a single image.
        clipped: Share of the theoretical receptive field's pixels that lies outside the input. As
            an ERF is densest in its middle, less of the |gradient| than this is lost.
        num_images: Number of images with a gradient.
        calibrated: Whether batch statistics were unset and taken from the images.
        reset_scales: Names of switched-off scales (zero-initialised last normalisation, tiny
            layer scale) that were set to one.
        weights: Which weights were measured, in words.
        untraced: Why the map could not be traced; empty where it was.
        replknet_map: Mean over images of the positive gradients that RepLKNet's script sums,
            `(height, width)`; None unless asked for.
    """

    standard_error: float
    clipped: float
    num_images: int
    calibrated: bool
    reset_scales: tuple[str, ...]
    weights: str
    untraced: str = ""
    replknet_map: NDArray[np.float64] | None = None

    def __repr__(self) -> str:
        """The numbers, without the maps."""
        return (
            f"MeasuredERF of {by_x(self.map.shape)} px, {self.num_images} images, weights: "
            f"{self.weights}\n"
            f"    size {self.size} px, standard error {self.standard_error:.2g} px, "
            f"sigma {self.sigma:.1f} px\n"
            f"    theoretical size {self.theoretical_size:g} px, ratio {self.ratio:.3f}, "
            f"clipped {self.clipped:.1%}{', so the size is too small' if self.clipped > 0 else ''}"
        )

    def replknet_area_ratio(self, share: float) -> float:
        """RepLKNet's area ratio as published, with its logarithm: not free of scale.

        To reproduce published tables only; `rfsearch.measure._replknet` says why, and `area_ratio`
        is the one to compare networks by.

        Raises:
            ValueError: If the map was measured without `replknet=True`.
        """
        if self.replknet_map is None:
            raise ValueError(
                "`replknet_area_ratio` needs gradients that start as in the published script: "
                "measure with `replknet=True`."
            )
        return published.area_ratio(self.replknet_map, share)


def measure_erf(
    model: Model,
    input_size: InputSize | Shapes | None = None,
    images: Tensor | str | Path | None = None,
    *,
    follow: str | int | None = None,
    in_chans: int | None = None,
    num_images: int = 64,
    relative_error: float | None = 0.01,
    layer: str | None = None,
    level: str | None = None,
    pretrained: bool = False,
    replknet: bool = False,
    local: bool = False,
    device: torch.device | str | None = None,
    seed: int = 0,
) -> MeasuredERF:
    """Measure the effective receptive field of the unit in the middle of a map.

    The model is left exactly as it was found. A copy runs in evaluation mode; where its batch
    statistics are unset they are taken from the first images, and scales that switch a residual
    branch off until it is trained are set to one. A trained network is measured as it is.

    Measuring stops by itself: after every 4 images it looks whether the standard error of the ERF
    size is small enough, with a margin as long as the images are few. The input may be smaller
    than the theoretical receptive field; `clipped` says how much of that lies outside, and the
    ERF comes out too small: by default the size is one that does not clip. Where the
    field takes up at most half of the input and nothing global lies before the unit, only that
    part of the images goes through the network, which costs as much less time and memory; the
    numbers are the same (`rfsearch.measure.crop` says how that is made sure of). Batch statistics
    are still taken from whole images.

    Args:
        model: A module with `forward_features`, or one whose output is a map `(batch, channels,
            height, width)`, of a sequence `(batch, channels, time)`; the name of a timm model; an
            architecture, whose weights are random; or the path of an exported network's folder.
            Without a method `receptive_fields`, its field is traced.
        input_size: Sides of the input in px, as for `trace_receptive_field`. `None` means those
            of `images`; else the size that the model states, or 224 (4,096 of a sequence, 64 of a
            volume), or where these would clip the receptive field one that does not, up to 1024
            (65,536; 128), if the model takes it.
        follow: Number or name of the input that is looked at, where `input_size` holds the shapes
            of several; the others are noise.
        images: Normalised images `(images, channels, *input_size)`, or a folder of
            image files (flat, or one subfolder per class), which are resized, cropped in the
            middle and normalised as timm states for the model. `None` means white noise.
        in_chans: Channels of the input. `None` means those of `images`, or those that the first
            layer with weights turns out to take.
        num_images: How many images to look at, at most; a tensor is used as it is.
        relative_error: Stop once the standard error of the ERF size is at most this share of it,
            with 90 % confidence. `None` means to use all images.
        layer: Name of a layer, as in `named_modules()`, whose output to look at when it first
            runs. `None` means the model's output.
        level: Key or number of the output map to look at, where the model has several.
        pretrained: Whether a model named by its timm name has its published weights.
        replknet: Whether to measure `replknet_map` too, which costs a second backward pass.
        local: Whether to look at the local field alone: what timm's squeeze-and-excite, global
            context and 2d attention make of the whole map counts as a constant.
        device: Where to compute. `None` means where the model is.
        seed: Of the noise and of the random signs, and of a named model's weights.

    Raises:
        ValueError: If timm knows no such model or its weights cannot be had, the model does not
            run at that size or takes inputs of another number of axes, it has no such layer or
            level, what that returns is no map or has no place in the image, the images cannot be
            read or do not have the stated size, they do not fit into the memory, or no gradient
            reaches the input.
    """
    if relative_error is not None and not 0 < relative_error <= 1:
        raise ValueError(f"`0 < relative_error <= 1` must hold, but got {relative_error}.")
    if not 0 <= seed < 2**32:
        raise ValueError(f"`0 <= seed < 2^32` must hold, but got {seed}.")
    given = images.shape[1] if isinstance(images, Tensor) and images.ndim > 2 else None
    if in_chans is not None and given not in (None, in_chans):
        raise ValueError(f"`images` must have `in_chans={in_chans}` channels, but have {given}.")
    if input_size is None and isinstance(images, Tensor):
        input_size = tuple(images.shape[2:])
    resolved = resolve_model(
        model,
        input_size,
        follow=follow,
        in_chans=in_chans or given,
        pretrained=pretrained,
        seed=seed,
    )
    module = resolved.copy()
    if local:
        keep_local(module)
    if device is not None:
        check_device(device)
        module = module.to(device)
    read = reader(module, layer, level, resolved.run)
    resolved = resolved.over(module)
    if replknet and resolved.num_axes != 2:
        raise ValueError(
            f"`replknet` is of images, but {resolved.name} takes {by_x(resolved.input_size)}."
        )
    if input_size is None:
        resolved = unclipped(resolved, lambda at: _unit(at, read, level, layer).unit)
    size = resolved.input_size
    chosen = gather(resolved, images, num_images, seed)
    like = next(module.parameters(), torch.empty(0))

    def to_calibrate() -> Iterator[Tensor]:
        check_fits(resolved, like.device, read)
        yield from (batch.to(like) for batch in chosen.to_calibrate())

    reset_scales = switch_branches_on(module)
    with out_of_memory(resolved, like.device):
        unit, untraced = _unit(resolved, read, level, layer)
        calibrated = calibrate(module, to_calibrate(), read)
        crop = Crop.whole(size, unit) if untraced else find_crop(resolved, unit, read)
        check_fits(resolved.at(crop.size), like.device, read, gradients=True)
        if isinstance(unit, UntracedUnit):
            unit = replace(unit, middle=_middle(module, chosen, crop, read, seed))
            crop = replace(crop, unit=unit)
        average, summed, seen = Average(crop.unit), np.zeros(crop.size), 0
        looks = chosen.batches(None if relative_error is None else _IMAGES_PER_LOOK)
        for gradients in _gradients(module, looks, crop, read, seed, replknet):
            average.add(gradients.signed)
            summed += gradients.published.sum(axis=0)
            seen += len(gradients.published)
            if relative_error is not None and _is_enough(average, relative_error):
                break
    mean = average.mean
    return MeasuredERF(
        map=crop.in_image(mean.map),
        power=crop.in_image(mean.power),
        center=unit.center,
        theoretical_size=mean.theoretical_size,
        theoretical_sizes=() if untraced else tuple(axis.size for axis in unit.field),
        standard_error=average.standard_error,
        clipped=unit.clipped(size),
        num_images=len(average.sizes),
        calibrated=calibrated,
        reset_scales=reset_scales,
        weights=resolved.weights,
        untraced=untraced,
        replknet_map=crop.in_image(summed / max(1, seen)) if replknet else None,
    )


class _Found(NamedTuple):
    """A unit, and why it could not be traced."""

    unit: Unit
    untraced: str


def _unit(model: ResolvedModel, read: Read, level: str | None, layer: str | None) -> _Found:
    try:
        return _Found(find_unit(model, read, level=level, layer=layer), "")
    except UntracedError as reason:
        return _Found(untraced_unit(model, read), str(reason))


def _middle(
    module: nn.Module, images: ErfImages, crop: Crop, read: Read, seed: int
) -> tuple[float, ...]:
    """The centre of the squared gradient of the first images, to half a px."""
    average = Average(crop.unit)
    looks = images.batches(_IMAGES_PER_LOOK)
    for gradients in _gradients(module, looks, crop, read, seed, replknet=False):
        average.add(gradients.signed)
        if average.sizes:
            break
    power = average.mean.power
    means = (float((places * power).sum()) for places in np.indices(power.shape))
    return tuple(round(2 * mean) / 2 for mean in means)


class _Gradients(NamedTuple):
    """Gradients of some images.

    Attributes:
        signed: From random signs, `(images, channels, *size)` of the crop.
        published: As in RepLKNet's script, `(images, height, width)`; of no images unless asked
            for. Images with a NaN are left out, as they are there.
    """

    signed: NDArray[np.float64]
    published: NDArray[np.float64]


def _gradients(
    module: nn.Module,
    batches: Iterator[Tensor],
    crop: Crop,
    read: Read,
    seed: int,
    replknet: bool,
) -> Iterator[_Gradients]:
    module.requires_grad_(False)
    like = next(module.parameters(), torch.empty(0))
    generator = torch.Generator().manual_seed(seed + 1)  # Not the stream of the noise.
    for batch in batches:
        inputs = crop.of(batch.detach()).to(like, copy=True).requires_grad_()
        channels = read(module, inputs)[(slice(None), *crop.unit.index)]
        if not channels.requires_grad:
            raise ValueError("No gradient reaches the input: the map is not made of it.")
        positive = torch.empty(0, *crop.size)
        if replknet:
            positive = published.published_gradient(channels, inputs)
            positive = positive[~positive.isnan().flatten(1).any(dim=1)]
        signs = torch.randint(0, 2, channels.shape, generator=generator).to(like) * 2 - 1
        (gradient,) = torch.autograd.grad((channels * signs).sum(), inputs)
        yield _Gradients(gradient.double().cpu().numpy(), positive.double().cpu().numpy())


def _is_enough(average: Average, relative_error: float) -> bool:
    if len(average.sizes) < _IMAGES_PER_LOOK:
        return False
    return average.standard_error_bound <= relative_error * average.mean.size
