"""Image folders through timm's loaders, as retraining to convergence needs them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field
from timm.data import create_dataset, create_loader

from rfsearch.basics.limits import BatchSize, Seed
from rfsearch.basics.validation import FrozenData
from rfsearch.data.sources import split_by_class
from rfsearch.measure.image_files import read_8_bit
from rfsearch.network.timm_entry import RESIZING

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from rfsearch.network.network_folder import InputFormat

Share = Annotated[float, Field(ge=0, le=1, strict=False)]


class LoadingConfig(FrozenData):
    """How images are read and varied.

    Attributes:
        batch_size: Images per update, an even number as mixup wants it. Tiles have by default the
            batch size of their experiment.
        valid_share: Share of each class's images for validation, where the folder is not split.
        split_seed: Of that split. With the share and seed of a search's `[data]` it is the same.
        min_scale: Smallest share of an image's area in a random crop. Cropping enlarges objects,
            which the receptive field was fitted to.
        horizontal_flip: Probability of mirroring an image; 0.5 where left and right mean nothing.
        color_jitter: Strength of random changes of brightness, contrast and saturation.
        auto_augment: One of timm's policies, such as `"rand-m9-mstd0.5"`; empty for none.
    """

    batch_size: Annotated[BatchSize, Field(multiple_of=2)] = 64
    valid_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    split_seed: Seed = 0
    min_scale: Annotated[float, Field(gt=0, le=1, strict=False)] = 0.8
    horizontal_flip: Share = 0.0
    color_jitter: Share = 0.0
    auto_augment: str = ""


@dataclass(frozen=True, eq=False)
class Loaders:
    """Normalised batches on the device.

    Attributes:
        train: Varied training images in random order, in full batches.
        valid: Validation images as they are.
        class_names: One name for each label.
    """

    train: Any
    valid: Any
    class_names: tuple[str, ...]


def folder_loaders(
    root: Path,
    form: InputFormat,
    config: LoadingConfig,
    *,
    device: torch.device,
    workers: int = 0,
) -> Loaders:
    """Loaders of a folder with one subfolder per class, split or not.

    `root/train/CLASS/*.png` with `root/val/CLASS/*.png` (or `validation`) is taken as it is split;
    of `root/CLASS/*.png` a share of each class is for validation.

    Args:
        root: The folder.
        form: What the network takes. Where its classes are those of the folder, they keep their
            order.
        config: How images are read and varied.
        device: Where batches go.
        workers: Processes that read images.

    Raises:
        ValueError: If there is no such folder, it holds no classes, the two parts have different
            ones, or there are fewer training images than one batch has.
    """
    parts = [_listing(root, form, split) for split in ("train", "validation")]
    train, valid = parts
    if train.classes != valid.classes:
        raise ValueError(f"{root}: training and validation images must have the same classes.")
    if Path(train.root) == Path(valid.root):
        labels = np.array(train.targets)
        chosen = split_by_class(labels, train.classes, config.valid_share, config.split_seed)
        _keep(train, ~chosen)
        _keep(valid, chosen)
    if len(train) < config.batch_size:
        raise ValueError(
            f"{root}: `batch_size <= training images` must hold, "
            f"but got {config.batch_size} and {len(train)}."
        )
    names = form.class_names
    if set(names) != set(train.classes):
        names = tuple(train.classes)
    for part in parts:
        part.samples = [(path, names.index(part.classes[i])) for path, i in part.samples]
    load = partial(
        create_loader,
        input_size=(form.in_chans, *form.input_size),
        batch_size=config.batch_size,
        mean=form.mean,
        std=form.std,
        num_workers=workers,
        device=device,
        pin_memory=device.type == "cuda",
        **RESIZING,
    )
    return Loaders(
        load(
            train,
            is_training=True,
            scale=(config.min_scale, 1.0),
            ratio=(0.9, 1 / 0.9),
            hflip=config.horizontal_flip,
            color_jitter=config.color_jitter,
            auto_augment=config.auto_augment or None,
        ),
        load(valid),
        names,
    )


def _listing(root: Path, form: InputFormat, split: str) -> Any:
    """A torchvision `ImageFolder` with the images of a split, or of the folder if it has none."""
    try:
        return create_dataset(
            "torch/folder",
            root=str(root),
            split=split,
            loader=partial(_load, mode="L" if form.in_chans == 1 else "RGB"),
        )
    except OSError as error:
        raise ValueError(f"{root}: not a folder of classes with images ({error}).") from None


def _load(path: str, mode: str) -> Image.Image:
    return read_8_bit(path).convert(mode)


def _keep(dataset: Any, chosen: Any) -> None:
    dataset.samples = [one for one, keep in zip(dataset.samples, chosen, strict=True) if keep]
