"""Measured effective receptive fields: gradients of an output unit with respect to the input.

Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks",
NeurIPS 2016. Each image's gradient starts from a random sign per output channel, so that the mean
squared gradient estimates the squared norm of the Jacobian over channels, whatever sign a channel
happens to have.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rfsearch.basics.validation import checked_size
from rfsearch.field.erf_map import ErfMap
from rfsearch.measure import _replknet as published
from rfsearch.measure._average import Average
from rfsearch.measure._images import gather
from rfsearch.measure._local import keep_local
from rfsearch.measure.crop import Crop, find_crop
from rfsearch.measure.initialisation import calibrate, switch_branches_on
from rfsearch.measure.read import Read, output_map, reader
from rfsearch.measure.unit import find_unit
from rfsearch.trace.timm_models import seeded_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MeasuredERF", "measure_erf", "output_map"]

#: Images between two looks at the standard error, and the fewest that it is believed of.
_IMAGES_PER_LOOK = 4


@dataclass(frozen=True, eq=False)
class MeasuredERF(ErfMap):
    """A measured effective receptive field; `map` has the input's height and width.

    Attributes:
        standard_error: Standard error over the images of the ERF size, taken between pixels, in
            px; NaN for a single image.
        clipped: Share of the theoretical receptive field's area that lies outside the input. As
            an ERF is densest in its middle, less of the |gradient| than this is lost.
        num_images: Number of images with a gradient.
        calibrated: Whether batch statistics were unset and taken from the images.
        reset_scales: Names of switched-off scales (zero-initialised last normalisation, tiny
            layer scale) that were set to one.
        replknet_map: Mean over images of the positive gradients that RepLKNet's script sums,
            `(height, width)`; None unless asked for.
    """

    standard_error: float
    clipped: float
    num_images: int
    calibrated: bool
    reset_scales: tuple[str, ...]
    replknet_map: NDArray[np.float64] | None = None

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
    model: nn.Module | str,
    input_size: int | tuple[int, int],
    images: Tensor | str | Path | None = None,
    *,
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
    than the theoretical receptive field; `clipped` says how much of that lies outside. Where the
    field takes up at most half of the input and nothing global lies before the unit, only that
    part of the images goes through the network, which costs as much less time and memory; the
    numbers are the same (`rfsearch.measure.crop` says how that is made sure of). Batch statistics
    are still taken from whole images.

    Args:
        model: A module with `forward_features`, or one whose output is a map `(batch, channels,
            height, width)`, or the name of a timm model. Without a method `receptive_fields`, its
            field is traced.
        input_size: Side or `(height, width)` of the input, in px.
        images: Normalised images `(images, channels, height, width)` of that size, or a folder of
            image files (flat, or one subfolder per class), which are resized, cropped in the
            middle and normalised as timm states for the model. `None` means white noise.
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
        ValueError: If timm knows no such model or its weights cannot be had, the model has no
            such layer or level, what that returns is no map or has no place in the image, the
            images cannot be read or do not have the stated size, or no gradient reaches the
            input.
    """
    size = checked_size(input_size)
    if relative_error is not None and not relative_error > 0:
        raise ValueError(f"`relative_error > 0` must hold, but got {relative_error}.")
    module = _copy(model, pretrained, seed).eval()
    if local:
        keep_local(module)
    if device is not None:
        module = module.to(device)
    read = reader(module, layer, level)
    chosen = gather(module, images, size, num_images, seed)
    like = next(module.parameters(), torch.empty(0))
    reset_scales = switch_branches_on(module)
    unit = find_unit(module, size, read, level=level, layer=layer)
    calibrated = calibrate(module, (batch.to(like) for batch in chosen.to_calibrate()), read)
    crop = find_crop(module, size, unit, read)
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
        standard_error=average.standard_error,
        clipped=unit.clipped(size),
        num_images=len(average.sizes),
        calibrated=calibrated,
        reset_scales=reset_scales,
        replknet_map=crop.in_image(summed / max(1, seen)) if replknet else None,
    )


def _copy(model: nn.Module | str, pretrained: bool, seed: int) -> nn.Module:
    if isinstance(model, str):
        return seeded_model(model, seed, pretrained=pretrained)
    if pretrained:
        raise ValueError(
            "`pretrained` must go with the name of a timm model, "
            f"but got a module ({type(model).__name__}), which has its own weights."
        )
    return copy.deepcopy(model)


class _Gradients(NamedTuple):
    """Gradients of some images.

    Attributes:
        signed: From random signs, `(images, channels, height, width)` of the crop.
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
