"""Images of one line of four handwritten digits, among loose digits.

The lines of all classes hold the same digits in another order, so that a class can only be told by
a network that sees the line as a whole: 10 px high and 40 px wide.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits

import rfsearch as rfs

#: Side of a digit, and height and width of an image, in px.
SIDE, IMAGE = 10, (40, 96)
#: The digits of a line, in every order that begins with the first of them or the second.
DIGITS = (1, 4, 6, 9)
LINES = tuple(order for order in permutations(DIGITS) if order[0] in DIGITS[:2])


def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """1,797 handwritten digits (scikit-learn, UCI), `(digits, SIDE, SIDE)`, with what they are."""
    given = load_digits()
    images = torch.from_numpy(given.images)[:, None]
    larger = torch.nn.functional.interpolate(images, (SIDE, SIDE), mode="bilinear")
    return (larger[:, 0] * 255 / 16).round().to(torch.uint8).numpy(), given.target


def images(
    pool: tuple[NDArray[np.uint8], NDArray[np.int64]], number: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images `(images, 1, height, width)`, and which line each has."""
    rng = np.random.default_rng(seed)
    pixels, names = pool
    height, width = IMAGE
    found = np.zeros((number, 1, height, width), np.uint8)
    labels = rng.integers(len(LINES), size=number)
    for image, label in zip(found[:, 0], labels, strict=True):
        for loose in rng.choice(pixels[np.isin(names, DIGITS)], 24):
            top, left = rng.integers(height - SIDE + 1), rng.integers(width - SIDE + 1)
            image[top : top + SIDE, left : left + SIDE] = loose
        line = np.hstack([rng.choice(pixels[names == digit]) for digit in LINES[label]])
        top, left = rng.integers(height - SIDE + 1), rng.integers(width - line.shape[1] + 1)
        image[top : top + SIDE, left : left + line.shape[1]] = line
    return torch.from_numpy(found), torch.from_numpy(labels)


def data(seed: int, num_train: int = 2500, num_valid: int = 1000) -> rfs.ImageData:
    """Images for training and, of other digits, for judging."""
    pixels, names = digits()
    train = images((pixels[:1200], names[:1200]), num_train, seed)
    valid = images((pixels[1200:], names[1200:]), num_valid, 1000 + seed)
    return rfs.ImageData(*train, *valid, tuple("".join(map(str, line)) for line in LINES))
