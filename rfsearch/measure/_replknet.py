"""The effective receptive field as RepLKNet's published script computes it, to reproduce papers.

Ding et al., "Scaling Up Your Kernels to 31x31", CVPR 2022, and its `erf/` folder. Do not compare
networks by it. It takes a logarithm, log10(A + 1), of gradients on whatever scale a network gives
them, so that multiplying the last layer by a constant changes the ratio; its squares are centred
on the image and not on what the unit sees, which is up to half a stride away; images with large
gradients outweigh the others; and gradients of different channels cancel, as all start from +1.
`ErfMap.area_ratio` has none of these faults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def published_gradient(unit: Tensor, inputs: Tensor) -> Tensor:
    """Positive gradients of the rectified unit, summed over channels: `(images, height, width)`.

    Args:
        unit: The unit's channels, `(images, channels)`, with their graph.
        inputs: The images that they came from; the graph is kept.
    """
    (gradient,) = torch.autograd.grad(unit.relu().sum(), inputs, retain_graph=True)
    return gradient.relu().sum(dim=1)


def area_ratio(summed: NDArray[np.float64], share: float) -> float:
    """Share of the image inside the smallest square that holds more than `share` of log10(A + 1).

    Args:
        summed: A, the mean over images of `published_gradient`, `(height, width)`.
        share: The published ones are 0.2, 0.3, 0.5 and 0.99.

    Returns:
        NaN where no square of the published loop, which begins at 3 px, holds so much.
    """
    logs = np.log10(summed + 1)
    (row, column), total = (side // 2 for side in logs.shape), logs.sum()
    for reach in range(1, row):
        rows = slice(row - reach, row + 1 + reach)
        # NOTE: a negative start would count from the end; the published images are square.
        columns = slice(max(0, column - reach), column + 1 + reach)
        if logs[rows, columns].sum() / total > share:
            return (2 * reach + 1) ** 2 / logs.size
    return float("nan")
