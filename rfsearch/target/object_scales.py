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
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rfsearch.target._elongation import Elongation, elongation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rfsearch.target._resizing import Resize


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
    def elongation(self) -> Elongation:
        """How elongated the objects are, and which way they lie."""
        return elongation(self.heights, self.widths)

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
