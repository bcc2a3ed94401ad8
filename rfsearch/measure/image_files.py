"""Images from files: one at a size, or a folder full of them without labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from rfsearch.basics.images import read_header, read_pixels

if TYPE_CHECKING:
    from torch import Tensor


def read_8_bit(path: str | Path) -> Image.Image:
    """An upright image in grey or RGB with 8 bits; see `rfsearch.basics.images`.

    Raises:
        ValueError: If the file is not a readable image; it names the file.
    """
    pixels = read_pixels(Path(path))
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def is_grey(path: str | Path) -> bool:
    """Whether an image is read as grey; looks at its header only.

    Raises:
        ValueError: If the file is not an image; it names the file.
    """
    return read_header(Path(path)).channels == 1


def read_image(path: str | Path, size: tuple[int, int]) -> Image.Image:
    """An image in grey or RGB, resized to cover `(height, width)` px and cropped in the middle.

    Raises:
        ValueError: If the file is not a readable image; it names the file.
    """
    from torchvision.transforms.functional import center_crop, resize

    loaded = read_8_bit(path)
    cropped: Image.Image = center_crop(resize(loaded, _covering(loaded, size)), list(size))
    return cropped


def read_folder(root: str | Path, size: tuple[int, int], channels: int, limit: int) -> Tensor:
    """Images of a folder, or of its subfolders by class: `(images, channels, height, width)`.

    Where there are more than `limit`, they are taken evenly from the list in order of paths, so
    that every class has its share.

    Args:
        root: The folder.
        size: `(height, width)` of the images in px.
        channels: 1 for grey or 3 for RGB.
        limit: Largest number of images.

    Returns:
        Values from 0 to 1.

    Raises:
        ValueError: If there is no such folder, it holds no image, a file is not a readable image,
            or there are no images of so many channels; it names the folder or file.
    """
    if channels not in (1, 3):
        raise ValueError(f"{root}: images have 1 or 3 channels, but the model takes {channels}.")
    paths = _image_paths(Path(root))
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(limit, len(paths))).round().astype(int))
    mode = "L" if channels == 1 else "RGB"
    arrays = [np.array(read_image(paths[i], size).convert(mode)) for i in chosen]
    images = torch.from_numpy(np.stack(arrays).reshape(len(arrays), *size, channels))
    return images.permute(0, 3, 1, 2).float() / 255


def _image_paths(root: Path) -> list[Path]:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    if not root.is_dir():
        raise ValueError(f"{root}: there is no such folder of images.")
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS)
    if not paths:
        raise ValueError(f"{root}: there is no image in this folder or its subfolders.")
    return paths


def _covering(image: Image.Image, size: tuple[int, int]) -> list[int]:
    """Height and width of the smallest image of the same shape that covers `size`."""
    height, width = size
    if height * image.width >= width * image.height:
        return [height, max(width, height * image.width // image.height)]
    return [max(height, width * image.height // image.width), width]
