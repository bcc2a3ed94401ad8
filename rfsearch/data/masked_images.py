"""Images with a mask each, for segmentation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rfsearch.basics.files import first_alike
from rfsearch.basics.images import read_header
from rfsearch.data._pixel_reader import PixelReader
from rfsearch.data.tile_data import MaskedImage, segmentation_data
from rfsearch.data.tiles import Origin
from rfsearch.target.image_sizes import check_size, warn_of_turned
from rfsearch.target.mask_values import IGNORED, ClassValues, ignored_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rfsearch.data.datasets import SegmentationData
    from rfsearch.data.tiles import Tiling


def masked_images(
    images: str | Path,
    masks: str | Path,
    class_names: Sequence[str],
    tiling: Tiling,
    instances: str | Path | None = None,
    values: Sequence[int] | None = None,
    ignored: Sequence[int] | None = None,
) -> SegmentationData:
    """Images of a folder with masks of the same names, whatever their suffix, in another.

    An image without a mask, or without instances where a folder of these is given, is left out,
    as is a mask without an image; one warning counts them.

    Args:
        images: Folder of the images.
        masks: Folder of the masks, whose values are the classes.
        class_names: One name for each class, the background included.
        tiling: How to cut the images into tiles and to split them.
        instances: Folder of masks whose values number the objects, 0 being none. With it the
            recall of objects by scale is known, and no object is in both parts.
        values: Of each class in the masks; by default from 0, or 0 and 255 where there are but two
            classes and these values. See `rfsearch.target.mask_values`.
        ignored: Values that are neither learned nor counted; by default 255, where it is no class.

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
    found = _values_of(reader, [of_one[1] for of_one in together])
    meaning = ClassValues.of(found, len(class_names), values, ignored)
    void = _values_of(reader, [file for of_one in together for file in of_one[2:]])
    of_objects = ignored_values(void, None) if void else frozenset[int]()
    read = [
        _masked(of_one, meaning, of_objects, reader, Origin(of_one[0].name, first))
        for of_one, first in zip(together, first_alike([one[0] for one in together]), strict=True)
    ]
    counts = np.sum([reader.counts(one.classes) for one in read], axis=0)
    _say(folders[1], class_names, meaning, counts)
    return segmentation_data(read, tuple(class_names), tiling, str(folders[1]))


def _values_of(reader: PixelReader, masks: list[Path]) -> set[int]:
    return {value for file in masks for value in reader.values(file).tolist()}


def _say(
    source: Path, class_names: Sequence[str], meaning: ClassValues, counts: NDArray[np.int64]
) -> None:
    """Warn of what is not as whoever gave the masks may believe."""
    remarks = [
        f"no pixel is of the class {name!r}"
        for name, number in zip(class_names, counts, strict=False)
        if not number
    ]
    if meaning.values != tuple(range(len(class_names))):
        of_classes = zip(meaning.values, class_names, strict=True)
        remarks = [f"the value {value} is {name!r}" for value, name in of_classes] + remarks
    if counts[IGNORED]:
        values = " and ".join(map(str, sorted(meaning.ignored)))
        share = counts[IGNORED] / counts.sum()
        remarks.append(f"{share:.2%} of the pixels are ignored, as their value is {values}")
    if remarks:
        warnings.warn(f"{source}: {'; '.join(remarks)}.", stacklevel=3)


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


def _masked(
    files: list[Path],
    meaning: ClassValues,
    ignored: frozenset[int],
    reader: PixelReader,
    origin: Origin,
) -> MaskedImage:
    pixels, classes = reader.pixels(files[0]), reader.classes(files[1], meaning)
    instances = [reader.instances(file, ignored) for file in files[2:]]
    return MaskedImage(pixels, classes, instances[0] if instances else None, origin)
