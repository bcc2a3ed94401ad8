"""Whether objects stand out by contrast alone: what Otsu's threshold of each image finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rfsearch.basics.images import read_pixels
from rfsearch.target.annotations import Box
from rfsearch.target.mask_values import read_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Most images that are looked at, evenly spread; and most of those of one thing each.
SAMPLE, SAMPLE_OF_WHOLE = 12, 100
#: From this share on objects count as found by a threshold.
SEPARABLE = 0.9
#: Overlap from which on a part above the threshold is an object.
_OVERLAP = 0.5
#: Parts of fewer px are noise.
_SPECK = 9


class Contrast(NamedTuple):
    """How much of the objects a threshold finds.

    Attributes:
        score: Of masks the Dice coefficient, of boxes the F1 score at an overlap of 0.5, of whole
            images the share of those with one thing on a plain ground; in [0, 1].
        measure: Which of them, in words.
        images: How many images were looked at.
    """

    score: float
    measure: str
    images: int

    @property
    def is_enough(self) -> bool:
        """Whether a threshold finds nearly all objects, and nearly nothing else."""
        return self.score >= SEPARABLE


def otsu(grey: NDArray[np.integer[Any]]) -> int:
    """The threshold that parts an 8-bit image's values best; what is above it is bright.

    >>> otsu(np.array([10, 12, 11, 200, 210], np.uint8)) in range(12, 200)
    True
    """
    counts = np.bincount(grey.ravel(), minlength=256).astype(float)
    below, mass = np.cumsum(counts), np.cumsum(counts * np.arange(256))
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = mass / below - (mass[-1] - mass) / above
        between = np.nan_to_num(below * above * distance**2)
    return int(between.argmax())


def sampled(number: int, most: int = SAMPLE) -> list[int]:
    """Indices of the images to look at."""
    return sorted({int(n) for n in np.linspace(0, number - 1, min(number, most)).round()})


def of_masks(pairs: Sequence[tuple[Path, Path]]) -> Contrast:
    """How well a threshold gives the masks, for pairs of an image and its mask."""
    scores = []
    for image, mask in pairs:
        truth = read_mask(mask) > 0
        scores.append([_dice(bright, truth) for bright in _either_way(image)])
    return Contrast(_best(scores), "Dice coefficient of threshold and mask", len(pairs))


def of_boxes(pairs: Sequence[tuple[Path, Sequence[Box]]]) -> Contrast:
    """How many boxes are those of parts above a threshold, for pairs of an image and its boxes."""
    found = np.zeros((2, 3))
    for image, boxes in pairs:
        for way, bright in enumerate(_either_way(image)):
            parts = _parts(bright)
            hits = sum(bool((_overlaps(parts, box) >= _OVERLAP).any()) for box in boxes)
            found[way] += hits, len(boxes), len(parts)
    scores = 2 * found[:, 0] / np.maximum(1, found[:, 1] + found[:, 2])
    return Contrast(float(scores.max()), "F1 score of threshold and boxes", len(pairs))


def of_images(files: Sequence[Path]) -> tuple[Contrast, list[tuple[int, int]]]:
    """The height and width of what each image shows, and how many show it on a plain ground."""
    sides = []
    for file in files:
        for bright in _either_way(file):
            border = np.concatenate([bright[0], bright[-1], bright[:, 0], bright[:, -1]])
            rows, columns = (np.flatnonzero(bright.any(axis=axis)) for axis in (1, 0))
            if len(rows) and border.mean() <= 0.05 and bright.mean() < 0.5:
                sides.append((int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1))
                break
    share = len(sides) / max(1, len(files))
    return Contrast(share, "share of images with one thing on a plain ground", len(files)), sides


def _either_way(image: Path) -> Iterator[NDArray[np.bool_]]:
    grey = read_pixels(image).mean(axis=2).astype(np.uint8)
    bright = grey > otsu(grey)
    yield bright
    yield ~bright


def _best(scores: list[list[float]]) -> float:
    return float(np.mean(scores, axis=0).max()) if scores else 0.0


def _dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    if one.shape != other.shape:
        return 0.0
    return 2 * float((one & other).sum()) / max(1.0, float(one.sum() + other.sum()))


def _parts(bright: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Boxes `(parts, 4)` of connected parts, without specks."""
    from scipy.ndimage import find_objects, label

    numbers, _ = label(bright)
    sizes = np.bincount(numbers.ravel())[1:]
    corners = [
        (x.start, y.start, x.stop, y.stop)
        for (y, x), size in zip(find_objects(numbers), sizes, strict=True)
        if size >= _SPECK
    ]
    return np.array(corners, float).reshape(-1, 4)


def _overlaps(parts: NDArray[np.float64], box: Box) -> NDArray[np.float64]:
    """Intersection over union of a box with each part."""
    low = np.maximum(parts[:, :2], box[:2])
    high = np.minimum(parts[:, 2:], box[2:])
    shared = (high - low).clip(0).prod(axis=1)
    areas = (parts[:, 2:] - parts[:, :2]).prod(axis=1)
    whole = areas + (box.right - box.left) * (box.bottom - box.top) - shared
    overlaps: NDArray[np.float64] = shared / whole
    return overlaps
