"""What annotated images hold, measured."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rfsearch.basics.images import is_file, read_header
from rfsearch.planning._contrast import (
    SAMPLE_OF_WHOLE,
    Contrast,
    of_boxes,
    of_images,
    of_masks,
    sampled,
)
from rfsearch.planning._found import Found
from rfsearch.target.annotations import Box, reasons

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Survey:
    """Numbers that decisions rest on.

    Attributes:
        sides: Height and width of each image in px, `(images, 2)`.
        channels: 1 if all images are grey, else 3.
        heights: Of the objects' tight boxes in px, `(objects,)`; of whole images those of what
            they show on a plain ground, which may be none.
        widths: The same.
        labels: Class of each object, or of each image where only these have one.
        per_image: Objects of each image.
        touching: Share of the objects whose boxes meet another's.
        contrast: What a threshold finds.
        skipped: Objects and images that cannot be used, by reason, in words.
        ignored: Files that are left out, by suffix.
    """

    sides: NDArray[np.int64]
    channels: int
    heights: NDArray[np.float64]
    widths: NDArray[np.float64]
    labels: tuple[str, ...]
    per_image: NDArray[np.int64]
    touching: float
    contrast: Contrast
    skipped: str
    ignored: str

    @property
    def sizes(self) -> NDArray[np.float64]:
        """Scale of each object, sqrt(width x height), in px."""
        scales: NDArray[np.float64] = np.sqrt(self.heights * self.widths)
        return scales

    @property
    def by_class(self) -> dict[str, int]:
        """How many there are of each class, the most frequent first."""
        return dict(Counter(self.labels).most_common())

    def sizes_of(self, label: str) -> NDArray[np.float64]:
        """Scales of the objects of a class, in px."""
        chosen: NDArray[np.float64] = self.sizes[np.array(self.labels) == label]
        return chosen


def survey(found: Found) -> Survey:
    """Measure data; headers of all images are read, and the pixels of a few.

    Raises:
        ValueError: If an image cannot be read, or there is no object that can be used.
    """
    there = [is_file(file) for file in found.files]
    headers = [read_header(f) for f, is_there in zip(found.files, there, strict=True) if is_there]
    sides = np.array([header.size for header in headers], np.int64).reshape(-1, 2)
    channels = max((header.channels for header in headers), default=1)
    if found.annotations is None:
        contrast, shown = of_images(
            [found.files[n] for n in sampled(len(found.files), SAMPLE_OF_WHOLE)]
        )
        boxes = np.array(shown if contrast.is_enough else [], float).reshape(-1, 2)
        one_each = np.ones(len(found.files), np.int64)
        return Survey(
            sides, channels, boxes[:, 0], boxes[:, 1], found.labels, one_each, 0.0,
            contrast, "none", found.ignored,
        )  # fmt: skip
    why = [
        reason or ("crowd" if one.is_crowd else None)
        for one, reason in zip(found.annotations.objects, reasons(found.annotations), strict=True)
    ]
    by_image: dict[int, list[Box]] = defaultdict(list)
    labels: dict[int, list[str]] = defaultdict(list)
    skipped: Counter[str] = Counter()
    for one, reason in zip(found.annotations.objects, why, strict=True):
        if reason is None and one.image is not None and not there[one.image]:
            reason = "missing_image"
        if reason is not None or one.image is None or one.box is None:
            skipped[str(reason).replace("_", " ")] += 1
            continue
        by_image[one.image].append(one.box)
        labels[one.image].append(str(one.label))
    if missing := there.count(False):
        skipped["images that are not there"] = missing
    if not by_image:
        raise ValueError(f"{found.source}: must hold an object that can be used, but holds none.")
    corners = np.array([box for boxes in by_image.values() for box in boxes], float)
    shares = [_touching(np.array(boxes, float)) for boxes in by_image.values()]
    return Survey(
        sides=sides,
        channels=channels,
        heights=corners[:, 3] - corners[:, 1],
        widths=corners[:, 2] - corners[:, 0],
        labels=tuple(label for of_image in labels.values() for label in of_image),
        per_image=np.array([len(by_image[n]) for n, ok in enumerate(there) if ok], np.int64),
        touching=sum(shares) / len(corners),
        contrast=_contrast(found, by_image),
        skipped=", ".join(f"{number} {reason}" for reason, number in skipped.items()) or "none",
        ignored=found.ignored,
    )


def _contrast(found: Found, by_image: dict[int, list[Box]]) -> Contrast:
    chosen = [list(by_image)[n] for n in sampled(len(by_image))]
    if found.kind == "segmentation" and found.annotations is not None:
        masks = [found.source / one.file for one in found.annotations.images]
        return of_masks([(found.files[n], masks[n]) for n in chosen])
    return of_boxes([(found.files[n], by_image[n]) for n in chosen])


def _touching(corners: NDArray[np.float64]) -> int:
    """How many boxes `(boxes, 4)` of an image meet another's, edge to edge included."""
    touching = 0
    for number, (left, top, right, bottom) in enumerate(corners):
        meets = (corners[:, 0] <= right) & (corners[:, 2] >= left)
        meets &= (corners[:, 1] <= bottom) & (corners[:, 3] >= top)
        meets[number] = False
        touching += bool(meets.any())
    return touching
