"""What does a measured ERF cost, against the published loop of RepLKNet?

The published loop takes 50 images one at a time; ours takes batches and stops when the standard
error of the ERF size is small enough. Both look at the same networks with the same weights, batch
statistics and switched-on branches, on the same kind of white noise, and both maps are read in
the same way: the smallest square around the unit's own centre with 95 % of the unlogged map.
Prints a table. Run: python experiments/erf_cost/run.py
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import pandas as pd
import timm
import torch
from numpy.typing import NDArray
from torch import nn

import rfsearch as rfs
from rfsearch.erf_initialisation import calibrate, switch_branches_on
from rfsearch.erf_map import ErfMap

NETWORKS = ("resnet18", "resnet50", "mobilenetv3_large_100", "convnext_tiny")
SIDE = 256
PUBLISHED_IMAGES = 50


class Published(NamedTuple):
    """What the published loop gives.

    Attributes:
        maps: One for each image, `(images, height, width)`.
        seconds: CPU time.
    """

    maps: NDArray[np.float64]
    seconds: float


def prepared(name: str) -> nn.Module:
    """A network that is as ready for the published loop as a trained one."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name).eval()
    switch_branches_on(model)
    calibrate(model, [torch.randn(8, 3, SIDE, SIDE)], lambda net, images: net(images))
    return model


def published_loop(model: nn.Module) -> Published:
    """`erf/visualize_erf.py` of RepLKNet, on the CPU and on noise."""
    generator = torch.Generator().manual_seed(1)
    maps = []
    start = time.process_time()
    for _ in range(PUBLISHED_IMAGES):
        images = torch.randn(1, 3, SIDE, SIDE, generator=generator).requires_grad_()
        output = model.forward_features(images)
        unit = output[:, :, output.shape[2] // 2, output.shape[3] // 2]
        (gradient,) = torch.autograd.grad(unit.relu().sum(), images)
        maps.append(gradient.relu().sum((0, 1)).double().numpy())
    return Published(np.stack(maps), time.process_time() - start)


def jackknife(maps: NDArray[np.float64], like: ErfMap) -> tuple[float, float]:
    """ERF size in px of the mean of some maps, and its standard error."""

    def size(mean: NDArray[np.float64]) -> float:
        return ErfMap(mean, mean, like.center, like.theoretical_size).side_between_pixels()

    total, count = maps.sum(axis=0), len(maps)
    without = np.array([size(total - one) for one in maps])
    error = np.sqrt((count - 1) / count * np.square(without - without.mean()).sum())
    return size(total), float(error)


def timed(model: nn.Module, **options: object) -> tuple[rfs.MeasuredERF, float]:
    start = time.process_time()
    erf = rfs.measure_erf(model, SIDE, **options)
    return erf, time.process_time() - start


def compare(name: str) -> dict[str, object]:
    model = prepared(name)
    ours, seconds = timed(model)
    full, full_seconds = timed(model, num_images=PUBLISHED_IMAGES, relative_error=None)
    loop = published_loop(model)
    size, error = jackknife(loop.maps, ours)
    images_for_same = PUBLISHED_IMAGES * (full.standard_error / error) ** 2
    row = {
        "network": name,
        "loop CPU s": loop.seconds,
        "loop size": size,
        "loop error": error,
        "ours CPU s": seconds,
        "ours images": ours.num_images,
        "ours size": ours.size,
        "ours error": ours.standard_error,
        "of size %": 100 * ours.standard_error / ours.size,
        "ratio": loop.seconds / seconds,
        "50 images: error": full.standard_error,
        "50 images: CPU s": full_seconds,
        "ratio at the loop's error": loop.seconds
        / (images_for_same * full_seconds / PUBLISHED_IMAGES),
    }
    print({k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    return row


def main() -> None:
    frame = pd.DataFrame([compare(name) for name in NETWORKS])
    print(frame.round(2).T.to_string(header=False))
    print(
        f"threads: {torch.get_num_threads()}, torch {torch.__version__}, timm {timm.__version__}"
    )


if __name__ == "__main__":
    main()
