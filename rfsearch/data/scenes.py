"""Scenes in which object scale matters: one whole object among fragments of others.

One intact object, resized to a known size, is pasted at a random place of a canvas that is
littered with square fragments cut from other objects of the same set at the same scale. The label
is the class of the intact object. Local texture alone is unreliable evidence, so a network has to
see more than a fragment to know which piece is the object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from rfsearch.basics.limits import check_memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Grey value above which a pixel belongs to an object, of 255.
_SILHOUETTE = 12


@dataclass(frozen=True, eq=False)
class Scenes:
    """Images of one whole object each.

    Attributes:
        images: Grey values, `(scenes, canvas_size, canvas_size)`.
        labels: Class of the whole object, `(scenes,)`.
        boxes: Its tight box as x, y, width, height in px, `(scenes, 4)`.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    boxes: NDArray[np.int64]

    @property
    def object_sizes(self) -> NDArray[np.float64]:
        """Side of each tight box, sqrt(width x height), in px."""
        sizes: NDArray[np.float64] = np.sqrt(self.boxes[:, 2] * self.boxes[:, 3])
        return sizes


def make_scenes(
    objects: NDArray[np.uint8],
    labels: NDArray[np.int64],
    num_scenes: int,
    *,
    object_size: int = 18,
    canvas_size: int = 48,
    fragment_share: float = 0.4,
    coverage: float = 1.0,
    seed: int = 0,
) -> Scenes:
    """Paste whole objects among fragments of others.

    Args:
        objects: Objects on black, `(objects, height, width)`.
        labels: Their classes, `(objects,)`.
        num_scenes: How many scenes to make.
        object_size: Side in px to which the objects' images are resized, margins included.
        canvas_size: Side of a scene in px.
        fragment_share: Side of a fragment over `object_size`.
        coverage: Area of all fragments, which may overlap, over the area of the canvas.
        seed: The same seed gives the same scenes.

    Raises:
        ValueError: If the object does not fit the canvas, or there is nothing to paste.
    """
    if not 4 <= object_size <= canvas_size:
        raise ValueError(
            "`4 <= object_size <= canvas_size` must hold, "
            f"but got {object_size=} and {canvas_size=}."
        )
    if not len(objects) or len(objects) != len(labels):
        raise ValueError(
            "`objects` and `labels` must be equally many and not empty, "
            f"but got {len(objects)} and {len(labels)}."
        )
    if not 0 < fragment_share <= 1 or coverage < 0:
        raise ValueError(
            "`0 < fragment_share <= 1` and `coverage >= 0` must hold, "
            f"but got {fragment_share=} and {coverage=}."
        )
    _check_memory(len(objects), num_scenes, object_size, canvas_size, fragment_share, coverage)
    rng = np.random.default_rng(seed)
    pieces = _resize(objects, object_size)
    fragment = max(3, round(fragment_share * object_size))
    images = _litter(pieces, num_scenes, canvas_size, fragment, coverage, rng)
    chosen = rng.integers(len(pieces), size=num_scenes)
    corners = rng.integers(canvas_size - object_size + 1, size=(num_scenes, 2))
    boxes = np.empty((num_scenes, 4), np.int64)
    for image, box, piece, (top, left) in zip(images, boxes, pieces[chosen], corners, strict=True):
        rows, columns = np.nonzero(piece > _SILHOUETTE)
        image[top + rows, left + columns] = piece[rows, columns]
        box[:2] = left + columns.min(), top + rows.min()
        box[2:] = np.ptp(columns) + 1, np.ptp(rows) + 1
    return Scenes(images=images, labels=labels[chosen].astype(np.int64), boxes=boxes)


def _check_memory(
    num_objects: int,
    num_scenes: int,
    object_size: int,
    canvas_size: int,
    fragment_share: float,
    coverage: float,
) -> None:
    """Refuse scenes too many or too large to be held."""
    fragments = coverage * (canvas_size / max(3.0, fragment_share * object_size)) ** 2
    # Places of the fragments are five numbers of 8 bytes; objects are resized as floats.
    num_bytes = num_scenes * (canvas_size**2 + 40 * fragments) + 9 * num_objects * object_size**2
    check_memory(num_bytes, f"{num_scenes:,} scenes with {object_size=} and {canvas_size=}")


def _litter(
    pieces: NDArray[np.uint8],
    num_scenes: int,
    canvas_size: int,
    fragment: int,
    coverage: float,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Canvases full of fragments, later ones over earlier ones."""
    images = np.zeros((num_scenes, canvas_size, canvas_size), np.uint8)
    shape = (num_scenes, round(coverage * canvas_size**2 / fragment**2))
    sources = rng.integers(len(pieces), size=shape)
    cuts = rng.integers(pieces.shape[1] - fragment + 1, size=(*shape, 2))
    places = rng.integers(canvas_size - fragment + 1, size=(*shape, 2))
    for scene, image in enumerate(images):
        for source, (a, b), (y, x) in zip(sources[scene], cuts[scene], places[scene], strict=True):
            piece = pieces[source, a : a + fragment, b : b + fragment]
            image[y : y + fragment, x : x + fragment] = piece
    return images


def _resize(objects: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Objects at a new size, without aliasing; those that vanish are refused."""
    images = torch.from_numpy(objects[:, None]).float()
    resized = F.interpolate(images, (size, size), mode="bilinear", antialias=True)[:, 0]
    pieces: NDArray[np.uint8] = resized.round().clamp(0, 255).to(torch.uint8).numpy()
    empty = np.flatnonzero((pieces <= _SILHOUETTE).all(axis=(1, 2)))
    if len(empty):
        raise ValueError(f"`objects` must not be empty images, but number {empty[0]} is black.")
    return pieces
