"""Sizes of annotated objects at a network's input resolution.

An object that cannot be used is skipped and counted, under the first of these reasons that holds:

| reason | meaning |
|---|---|
| `crowd` | it stands for a group of objects (COCO's `iscrowd`) |
| `missing_image` | its image is not in the annotations, or its file is needed and not there |
| `unknown_category` | it has no class, or one that is not in the annotations |
| `no_box` | it has no box of four finite numbers |
| `empty_box` | its box's width or height is not above zero |
| `contradiction` | its annotated area is larger than its box |
| `duplicate` | the same box of the same class is annotated twice |
| `outside` | its box lies outside its image |

A box that lies partly outside its image is clipped to it, and counted as well. Image files are
opened only if a folder of them is given, or their size is needed and not annotated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rfsearch.target._resizing import resize_factors
from rfsearch.target.annotations import reasons
from rfsearch.target.image_sizes import read_headers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rfsearch.target._resizing import Resize
    from rfsearch.target.annotations import AnnotatedObject, Annotations, Box

#: Where an edge is a sum of floats, it may leave its image by so many px.
_NOISE = 1e-6


class Skipped(NamedTuple):
    """How many objects were left out, by reason; see the module."""

    crowd: int = 0
    missing_image: int = 0
    unknown_category: int = 0
    no_box: int = 0
    empty_box: int = 0
    outside: int = 0
    contradiction: int = 0
    duplicate: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)

    def __str__(self) -> str:
        counts = [f"{n} {reason.replace('_', ' ')}" for reason, n in self._asdict().items() if n]
        return ", ".join(counts) or "none"


class ScaleSummary(NamedTuple):
    """The scales of one class, or of all objects, in px.

    Attributes:
        name: Of the class, or None for all objects.
        num_objects: How many there are.
        smallest: Scale of the smallest object.
        quantiles: Scales at the quantiles that were asked for.
        largest: Scale of the largest object.
    """

    name: str | None
    num_objects: int
    smallest: float
    quantiles: tuple[float, ...]
    largest: float


@dataclass(frozen=True, eq=False)
class ObjectScales:
    """Objects as a network sees them.

    Attributes:
        heights: Of the tight boxes, in px at network resolution: `(objects,)`.
        widths: The same.
        labels: Index of each object's class: `(objects,)`.
        class_names: All classes, those without objects included.
        num_images: All images, those without objects included.
        skipped: What was left out, and why.
        num_clipped: Number of objects that lay partly outside their images.
        input_size: `(height, width)` of the network's input in px, if it is known.
        resize: How images were made to fit it.
        are_masks: Whether the annotations are masks of every pixel.
        notes: What was taken for granted when they were read, in words.
    """

    heights: NDArray[np.float64]
    widths: NDArray[np.float64]
    labels: NDArray[np.intp]
    class_names: tuple[str, ...]
    num_images: int
    skipped: Skipped
    num_clipped: int
    input_size: tuple[int, int] | None
    resize: Resize
    are_masks: bool
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for array in (self.heights, self.widths, self.labels):
            array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sizes(self) -> NDArray[np.float64]:
        """Scale of each object, sqrt(width x height), in px."""
        with np.errstate(over="ignore"):  # Infinite sizes are refused where a target is made.
            scales: NDArray[np.float64] = np.sqrt(self.heights * self.widths)
        return scales

    @property
    def num_larger_than_input(self) -> int:
        """Number of objects that are wider or higher than the input, which shows a part only."""
        if self.input_size is None:
            return 0
        height, width = self.input_size
        return int(((self.heights > height) | (self.widths > width)).sum())

    def only(self, class_names: Sequence[str]) -> ObjectScales:
        """The objects of these classes.

        Raises:
            ValueError: If there is no such class.
        """
        for name in class_names:
            if name not in self.class_names:
                known = ", ".join(self.class_names)
                raise ValueError(f"There is no class {name!r}; the classes are {known}.")
        # Of the classes themselves the order stays as it was.
        kept = [n for n, name in enumerate(self.class_names) if name in class_names]
        chosen = np.isin(self.labels, kept)
        return replace(
            self,
            heights=self.heights[chosen],
            widths=self.widths[chosen],
            labels=np.searchsorted(kept, self.labels[chosen]),
            class_names=tuple(self.class_names[n] for n in kept),
        )

    def summaries(self, quantiles: Sequence[float]) -> list[ScaleSummary]:
        """Of all objects, and then of each class that has any, the most frequent first."""
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        order = [n for n in np.argsort(-counts, kind="stable") if counts[n]]
        every = self.sizes
        classes = [(self.class_names[n], every[self.labels == n]) for n in order]
        return [
            ScaleSummary(
                name,
                len(sizes),
                float(sizes.min()),
                tuple(float(size) for size in np.quantile(sizes, quantiles)),
                float(sizes.max()),
            )
            for name, sizes in [(None, every), *classes]
            if len(sizes)
        ]


def measure_objects(
    annotations: Annotations,
    input_size: tuple[int, int] | None,
    resize: Resize,
    images: Path | None = None,
) -> ObjectScales:
    """Leave out what cannot be used, clip the others to their images, and resize them.

    Args:
        annotations: As read from a file.
        input_size: `(height, width)` of the network's input in px.
        resize: How images are made to fit it.
        images: Folder of the images. Then each must be there, and its size is checked.

    Raises:
        ValueError: If an image cannot be read or its size is not the annotated one.
    """
    sizes = _sizes(annotations, images, are_needed=resize != "none")
    is_missing = [size is None and (images is not None or resize != "none") for size in sizes]
    checked = [
        _check(one, reason, sizes, is_missing)
        for one, reason in zip(annotations.objects, reasons(annotations), strict=True)
    ]
    kept = [one for one in checked if isinstance(one, _Kept)]
    heights, widths = _resized(kept, sizes, input_size, resize)
    index = {name: number for number, name in enumerate(annotations.class_names)}
    return ObjectScales(
        heights=heights,
        widths=widths,
        labels=np.array([index[one.label] for one in kept], dtype=np.intp),
        class_names=annotations.class_names,
        num_images=len(annotations.images),
        skipped=Skipped(**Counter(one for one in checked if isinstance(one, str))),
        num_clipped=sum(one.is_clipped for one in kept),
        input_size=input_size,
        resize=resize,
        are_masks=annotations.are_masks,
        notes=annotations.notes + _missing(annotations, is_missing, images),
    )


def _missing(
    annotations: Annotations, is_missing: Sequence[bool], folder: Path | None
) -> tuple[str, ...]:
    """What was looked for and not found, in words."""
    if not any(is_missing):
        return ()
    source = annotations.source
    beside = folder or (source if source.is_dir() else source.parent)
    first = beside / annotations.images[is_missing.index(True)].file
    return (f"{sum(is_missing)} files of images are missing, the first is {first}",)


class _Kept(NamedTuple):
    """An object that can be used, clipped to its image, in px of that."""

    image: int
    label: str
    box: Box
    is_clipped: bool


def _check(
    one: AnnotatedObject,
    reason: str | None,
    sizes: Sequence[tuple[int, int] | None],
    is_missing: Sequence[bool],
) -> _Kept | str:
    """What is kept of an object, or the reason why it cannot be used."""
    if one.is_crowd:
        return "crowd"
    if one.image is None or is_missing[one.image]:
        return "missing_image"
    if reason is not None:
        return reason
    assert one.label is not None, "there is a reason to skip it"
    assert one.box is not None, "there is a reason to skip it"
    size = sizes[one.image]
    box = one.box.clip(size) if size else one.box
    if box.is_empty:
        return "outside"
    is_clipped = max(abs(edge - was) for edge, was in zip(box, one.box, strict=True)) > _NOISE
    return _Kept(one.image, one.label, box, is_clipped)


def _sizes(
    annotations: Annotations, folder: Path | None, are_needed: bool
) -> list[tuple[int, int] | None]:
    """Sizes of the images in px as annotated, or from their files; None if there is none."""
    stated = [image.size for image in annotations.images]
    if annotations.are_masks or (folder is None and (all(stated) or not are_needed)):
        return stated
    source = annotations.source
    beside = source if source.is_dir() else source.parent
    headers = read_headers(annotations, folder or beside, unsized_only=folder is None)
    found = [header and header.size for header in headers]
    return found if folder else [a or b for a, b in zip(stated, found, strict=True)]


def _resized(
    kept: Sequence[_Kept],
    sizes: Sequence[tuple[int, int] | None],
    input_size: tuple[int, int] | None,
    resize: Resize,
) -> NDArray[np.float64]:
    """Heights and widths of boxes in px at network resolution: `(2, boxes)`."""
    of_images = np.array([sizes[one.image] or (1, 1) for one in kept], float).reshape(-1, 2)
    boxes = np.array([one.box for one in kept], float).reshape(-1, 4)
    sides = boxes[:, [3, 2]] - boxes[:, [1, 0]]
    resized: NDArray[np.float64] = sides * resize_factors(of_images, input_size, resize)
    return resized.T
