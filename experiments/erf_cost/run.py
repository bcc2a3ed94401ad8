"""What does a measured ERF cost, against the published loop of RepLKNet?

The published loop takes 50 images of 1024 px one at a time; ours runs on the part of them that the
unit sees and stops when the standard error of the ERF size is small enough. Both look at the same
networks with the same weights, batch statistics and switched-on branches, on the same kind of
white noise, and both maps are read in the same way: the smallest square around the unit's own
centre with 95 % of the unlogged map. Prints a table.

Images cost alike, so that a few of the loop's are timed and stand for 50. How much its images
differ is seen on the part that the unit sees, where the gradients are the same.

Run: python experiments/erf_cost/run.py [--side 1024] [--images 50] [NETWORK ...]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
import timm
import torch
from numpy.typing import NDArray
from torch import nn

import rfsearch as rfs
from rfsearch.field.erf_map import ErfMap
from rfsearch.measure.crop import Crop, find_crop
from rfsearch.measure.initialisation import calibrate, switch_branches_on
from rfsearch.measure.read import Read, reader
from rfsearch.measure.unit import Unit, find_unit
from rfsearch.models.resolve import resolve_model

NETWORKS = (
    "resnet18",
    "resnet50",
    "resnet50:layer2",  # One layer of it.
    "mobilenetv3_large_100",
    "convnext_tiny",
)
PUBLISHED_IMAGES = 50
#: Before ours and again after it.
TIMED_IMAGES = 2
#: Sides of the images that batch statistics are taken from.
CALIBRATION_SIDE = 256


def prepared(name: str) -> nn.Module:
    """A network that is as ready for the published loop as a trained one."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name).eval()
    switch_branches_on(model)
    calibrate(
        model,
        [torch.randn(8, 3, CALIBRATION_SIDE, CALIBRATION_SIDE)],
        lambda net, images: net(images),
    )
    return model


def published_loop(
    model: nn.Module, read: Read, crop: Crop, num_images: int, seed: int
) -> NDArray[np.float64]:
    """`erf/visualize_erf.py` of RepLKNet on noise; a map for each image."""
    generator = torch.Generator().manual_seed(seed)
    maps = []
    for _ in range(num_images):
        noise = torch.randn(1, 3, *crop.image, generator=generator)
        images = crop.of(noise).clone().requires_grad_()
        unit = read(model, images)[(slice(None), *crop.unit.index)]
        (gradient,) = torch.autograd.grad(unit.relu().sum(), images)
        maps.append(gradient.relu().sum((0, 1)).double().numpy())
    return np.stack(maps)


def jackknife(maps: NDArray[np.float64], unit: Unit) -> tuple[float, float]:
    """ERF size in px of the mean of some maps, and its standard error."""

    def size(mean: NDArray[np.float64]) -> float:
        return ErfMap(mean, mean, unit.center, unit.theoretical_size).side_between_pixels()

    total, count = maps.sum(axis=0), len(maps)
    without = np.array([size(total - one) for one in maps])
    error = np.sqrt((count - 1) / count * np.square(without - without.mean()).sum())
    return size(total), float(error)


@contextmanager
def timer() -> Iterator[list[float]]:
    """CPU time of what is inside, in s, added to the list that is given."""
    seconds: list[float] = []
    start = time.process_time()
    yield seconds
    seconds.append(time.process_time() - start)


def compare(network: str, side: int, num_images: int) -> dict[str, object]:
    name, _, layer = network.partition(":")
    model, size = prepared(name), (side, side)
    read = reader(model, layer or None, None)
    resolved = resolve_model(model, size)
    unit = find_unit(resolved, read, level=None, layer=layer or None)
    whole = Crop.whole(size, unit)
    # The two take turns, so that other work on the machine slows both down.
    with timer() as before:
        published_loop(model, read, whole, TIMED_IMAGES, seed=1)
    with timer() as short:
        ours = rfs.measure_erf(model, side, layer=layer or None)
    with timer() as long:
        full = rfs.measure_erf(
            model, side, layer=layer or None, num_images=num_images, relative_error=None
        )
    with timer() as after:
        published_loop(model, read, whole, TIMED_IMAGES, seed=1)
    loop_seconds = (before[0] + after[0]) / (2 * TIMED_IMAGES) * PUBLISHED_IMAGES
    crop = find_crop(resolved, unit, read)
    loop_size, loop_error = jackknife(
        published_loop(model, read, crop, num_images, seed=2), crop.unit
    )
    per_image = loop_seconds / PUBLISHED_IMAGES * num_images / long[0]
    row = {
        "network": network,
        "field": unit.theoretical_size,
        "crop": crop.size[0],
        "loop: CPU s": loop_seconds,
        "loop: ERF size": loop_size,
        "loop: error": loop_error * (num_images / PUBLISHED_IMAGES) ** 0.5,
        "ours: CPU s": short[0],
        "ours: images": ours.num_images,
        "ours: ERF size": ours.size,
        "ours: error": ours.standard_error,
        "ratio": loop_seconds / short[0],
        "ours, many: images": num_images,
        "ours, many: CPU s": long[0],
        "ours, many: error": full.standard_error,
        "ratio per image": per_image,
        # The cost of an error goes with its square, for either.
        "ratio at one error": per_image * (loop_error / full.standard_error) ** 2,
    }
    print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--images", type=int, default=PUBLISHED_IMAGES)
    given = parser.parse_args()
    frame = pd.DataFrame([compare(one, given.side, given.images) for one in given.networks])
    print(frame.round(2).T.to_string(header=False))
    print(
        f"threads: {torch.get_num_threads()}, torch {torch.__version__}, timm {timm.__version__}"
    )


if __name__ == "__main__":
    main()
