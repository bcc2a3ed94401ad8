"""Images with what is known of them, split for training and validation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

import torch
from torch import Tensor

from rfsearch.data.read_ahead import ReadLater, count_values
from rfsearch.target import mask_values

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Images or masks in memory, or read whenever they are needed where they are too many for it.
Pixels = Tensor | ReadLater
#: Class of the pixels of a mask that are neither learned nor counted.
IGNORED = mask_values.IGNORED


class _Sized:
    """What follows from the images alone."""

    train_images: Pixels
    valid_images: Pixels
    class_names: tuple[str, ...]

    @property
    def identity(self) -> str:
        """What tells these images, and how they are split, from others, wherever they are kept."""
        shapes = [tuple(images.shape) for images in (self.train_images, self.valid_images)]
        facts = (self.class_names, shapes, _contents(self.train_images))
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    @property
    def in_chans(self) -> int:
        """Channels of an image."""
        return self.train_images.shape[1]

    @property
    def image_size(self) -> tuple[int, ...]:
        """Height and width of an image in px; of other inputs their length along each axis."""
        return tuple(self.train_images.shape[2:])


def is_float(images: Pixels) -> TypeGuard[Tensor]:
    """Whether images are of any numbers, not of whole ones from 0 to 255."""
    return isinstance(images, Tensor) and images.is_floating_point()


def _contents(images: Pixels) -> object:
    if is_float(images):
        return hashlib.sha256(images.contiguous().numpy().tobytes()).hexdigest()
    return count_values(images).tolist()


@dataclass(frozen=True, eq=False)
class ImageData(_Sized):
    """Images with one label each; or sequences or volumes, with one or three axes.

    Attributes:
        train_images: `(images, channels, height, width)`, uint8 or float32; of sequences
            `(sequences, channels, time)`.
        train_labels: `(images,)`, int64, from 0.
        valid_images: As `train_images`.
        valid_labels: As `train_labels`.
        class_names: One name per class.
        object_sizes: Sides of the training objects' tight boxes in px, where they are known.
        valid_sizes: Side of the object of each validation image in px, where they are known.

    Raises:
        ValueError: If images and labels do not fit each other, or images are of another kind.
    """

    train_images: Pixels
    train_labels: Tensor
    valid_images: Pixels
    valid_labels: Tensor
    class_names: tuple[str, ...]
    object_sizes: NDArray[np.float64] | None = None
    valid_sizes: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        for part in ("train", "valid"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            _check_images(f"{part}_images", images)
            if labels.shape != (len(images),) or labels.dtype != torch.int64:
                raise ValueError(
                    f"`{part}_labels` must be one int64 for each of {len(images):,} images, but "
                    f"got {labels.dtype} of shape {tuple(labels.shape)}."
                )
            if len(labels) and not 0 <= labels.min() <= labels.max() < len(self.class_names):
                raise ValueError(
                    f"`{part}_labels` must be from 0 to {len(self.class_names) - 1}, one for each "
                    f"of `class_names`, but are from {labels.min()} to {labels.max()}."
                )
        trained, judged = self.train_images.shape[1:], self.valid_images.shape[1:]
        if trained != judged:
            raise ValueError(
                "`valid_images` must have the channels and sides of `train_images`, "
                f"{tuple(trained)}, but got {tuple(judged)}."
            )


def _check_images(name: str, images: Pixels) -> None:
    kinds = (torch.uint8, torch.float32)
    if not 3 <= len(images.shape) <= 5 or 0 in images.shape[1:]:
        raise ValueError(
            f"`{name}` must be (images, channels, height, width), or have one or three axes in "
            f"place of two, but got {tuple(images.shape)}."
        )
    if isinstance(images, Tensor) and images.dtype not in kinds:
        raise ValueError(f"`{name}` must be uint8 or float32, but got {images.dtype}.")
    if isinstance(images, Tensor) and not images.isfinite().all():
        raise ValueError(f"`{name}` must be finite, but some values are not.")


class Instances(NamedTuple):
    """Which pixel belongs to which object.

    Attributes:
        numbers: `(images, height, width)`, int64; 0 for none, and from 1 on an object each: no
            number stands in two images.
        sizes: Side of each object's tight box in px, in order of the numbers.
    """

    numbers: Pixels
    sizes: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SegmentationData(_Sized):
    """Images with a class for every pixel.

    Attributes:
        train_images: `(images, channels, height, width)`, uint8.
        train_masks: `(images, height, width)`, uint8: classes from 0, or `IGNORED`.
        valid_images: As `train_images`.
        valid_masks: As `train_masks`.
        class_names: One name per class.
        object_sizes: Sides of the training objects' tight boxes in px, where they are known.
        valid_instances: The objects of the validation images, where they are known.
        scale: By what images were resized before they were cut.
    """

    train_images: Pixels
    train_masks: Pixels
    valid_images: Pixels
    valid_masks: Pixels
    class_names: tuple[str, ...]
    object_sizes: NDArray[np.float64] | None = None
    valid_instances: Instances | None = None
    scale: float = 1.0


class Boxes(NamedTuple):
    """The objects of one image.

    Attributes:
        corners: Left, top, right and bottom in px, `(objects, 4)`, float32.
        labels: Their classes from 0, `(objects,)`, int64.
        ignored: Whether an object is neither learned nor counted, `(objects,)`, bool.
    """

    corners: Tensor
    labels: Tensor
    ignored: Tensor


@dataclass(frozen=True, eq=False)
class DetectionData(_Sized):
    """Images with boxes.

    Attributes:
        train_images: `(images, channels, height, width)`, uint8.
        train_boxes: The objects of each image.
        valid_images: As `train_images`.
        valid_boxes: As `train_boxes`.
        class_names: One name per class.
        object_sizes: Sides of the training objects' boxes in px.
        scale: By what images were resized before they were cut.
    """

    train_images: Pixels
    train_boxes: tuple[Boxes, ...]
    valid_images: Pixels
    valid_boxes: tuple[Boxes, ...]
    class_names: tuple[str, ...]
    object_sizes: NDArray[np.float64] | None = None
    scale: float = 1.0


TaskData = ImageData | SegmentationData | DetectionData
