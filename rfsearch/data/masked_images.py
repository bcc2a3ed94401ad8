"""Images with a mask each, for segmentation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rfsearch.basics.images import read_header
from rfsearch.data._pixel_reader import PixelReader
from rfsearch.data.tile_data import MaskedImage, segmentation_data
from rfsearch.target.image_sizes import check_size, warn_of_turned

if TYPE_CHECKING:
    from rfsearch.data.datasets import SegmentationData
    from rfsearch.data.tiles import Tiling


def masked_images(
    images: str | Path,
    masks: str | Path,
    class_names: Sequence[str],
    tiling: Tiling,
    instances: str | Path | None = None,
) -> SegmentationData:
    """Images of a folder with masks of the same names, whatever their suffix, in another.

    An image without a mask, or without instances where a folder of these is given, is left out,
    as is a mask without an image; one warning counts them.

    Args:
        images: Folder of the images.
        masks: Folder of the masks, whose values are classes from 0, or 255 for pixels that are
            neither learned nor counted.
        class_names: One name for each class, the background included.
        tiling: How to cut the images into tiles and to split them.
        instances: Folder of masks whose values number the objects, 0 being none. With it the
            recall of objects by scale is known, and no object is in both parts.

    Raises:
        ValueError: One line that names the folder or file that cannot be used, and says why.
    """
    folders = [Path(folder) for folder in (images, masks, instances) if folder is not None]
    files = [_by_name(folder) for folder in folders]
    complete = sorted(set.intersection(*(set(found) for found in files)))
    incomplete = len(set.union(*(set(found) for found in files))) - len(complete)
    if not complete:
        names = ", ".join(map(str, folders))
        raise ValueError(f"{names}: no name of a file is in all of these folders.")
    if incomplete:
        warnings.warn(
            f"{folders[0]}: skipped {incomplete} x image, mask or instances without the others.",
            stacklevel=2,
        )
    together = [[by_name[name] for by_name in files] for name in complete]
    _check_sizes(folders[0], together)
    reader = PixelReader.of([of_one[0] for of_one in together], tiling, masks=True)
    found = [_masked(of_one, len(class_names), reader) for of_one in together]
    return segmentation_data(found, tuple(class_names), tiling, str(folders[0]))


def _by_name(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder.")
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if not file.is_file():
            continue
        if (other := found.setdefault(file.stem, file)) != file:
            raise ValueError(
                f"{folder}: must hold one file of a name, but has {other.name} and {file.name}."
            )
    return found


def _check_sizes(source: Path, together: list[list[Path]]) -> None:
    uncertain = []
    for image, *masks in together:
        header = read_header(image)
        for mask in masks:
            check_size(mask, image, read_header(mask).size, header)
        if header.orientation != 1 and header.size == header.stored_size:
            uncertain.append(image)
    warn_of_turned(source, uncertain)


def _masked(files: list[Path], num_classes: int, reader: PixelReader) -> MaskedImage:
    pixels, classes = reader.pixels(files[0]), reader.classes(files[1], num_classes)
    instances = [reader.instances(file) for file in files[2:]]
    return MaskedImage(pixels, classes, instances[0] if instances else None)
