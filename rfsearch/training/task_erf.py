"""The ERF of a task's network, measured on images of the task that fill its receptive field."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from rfsearch.measure.erf import MeasuredERF, measure_erf

if TYPE_CHECKING:
    from torch import Tensor

    from rfsearch.training._level_maps import Backbone

#: Largest side in px of the images that an ERF is measured on; what lies beyond is clipped.
LARGEST_ERF_INPUT = 1024


def measure_on(images: Tensor, model: Backbone, level: str, seed: int) -> MeasuredERF:
    """Measure the ERF of one of a network's maps.

    The images are mirrored at their borders until they cover the receptive field, so that a
    network is judged by what it would see of a large image, not by the size of these. All
    networks are judged by the same images: measuring does not stop before the last. Of networks
    with parts that mix the whole image it is the ERF of the local field, which the expected ERF
    describes; `Architecture.global_layers` stands beside it.

    Args:
        images: Normalised images `(images, channels, height, width)`, or inputs with other axes.
        model: The network, without a head or with one that is not looked at.
        level: The map.
        seed: Of the random signs.
    """
    every = [model.receptive_fields(axis) for axis in model.axes]
    fields = [of_axis[level] for of_axis in every]
    # Room for the unit that is measured beside the middle, too.
    step = max(*(field.stride for field in fields), model.input_multiple)
    wanted = max(field.size for field in fields) + 2 * step
    side = min(-(-wanted // step) * step, max(1, LARGEST_ERF_INPUT // step) * step)
    return measure_erf(
        model,
        side,
        mirror(images, side),
        relative_error=None,
        local=True,
        level=level if len(every[0]) > 1 else None,
        seed=seed,
    )


def mirror(images: Tensor, side: int) -> Tensor:
    """Inputs `(images, channels, side, ...)`: the middle of what mirrored copies fill.

    >>> mirror(torch.arange(3.0).expand(1, 1, 3, 3), 5)[0, 0, 0]
    tensor([0., 0., 1., 2., 2.])
    """
    for dim, pixels in enumerate(images.shape[2:], start=2):
        images = images.index_select(dim, _mirrored(pixels, side))
    return images


def _mirrored(pixels: int, side: int) -> Tensor:
    """For each of `side` positions around the middle, the pixel that is seen there."""
    position = np.arange(side) + (pixels - side) // 2
    position %= 2 * pixels
    return torch.from_numpy(np.minimum(position, 2 * pixels - 1 - position))
