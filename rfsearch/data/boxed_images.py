"""Images with boxes, from COCO or VOC annotations, for detection.

What is wrong with a file ends in an error that names it: it cannot be read, is truncated, or is
not of its format. What is wrong with one object or one image leaves that out, and one warning
counts them: an image whose file is missing, an object on an image or of a category that the
annotations do not know, without a box, with an empty one, or with one outside its image. A box
that lies partly outside is cut at the border. Crowds are neither learned nor counted.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rfsearch.basics.files import first_alike
from rfsearch.data._pixel_reader import PixelReader
from rfsearch.data.tile_data import BoxedImage, detection_data
from rfsearch.data.tiles import Origin
from rfsearch.target.annotations import reasons
from rfsearch.target.annotations_coco import read_coco
from rfsearch.target.annotations_voc import read_voc
from rfsearch.target.image_sizes import read_headers

if TYPE_CHECKING:
    from rfsearch.data.datasets import DetectionData
    from rfsearch.data.tiles import AreaTiling, Tiling
    from rfsearch.target.annotations import AnnotatedObject, Annotations
#: Why an object is left out, in words.
_REASONS = {
    "missing_image": "object on an unknown image",
    "unknown_category": "object of an unknown category",
    "no_box": "object without a box",
    "empty_box": "empty box",
    "contradiction": "box smaller than the annotated area",
    "duplicate": "object that is annotated twice",
}


def coco_images(annotations: str | Path, images: str | Path, tiling: Tiling) -> DetectionData:
    """Images with the boxes of a COCO file.

    Args:
        annotations: The JSON file.
        images: Folder that its file names start at.
        tiling: How to cut the images into tiles and to split them.

    Raises:
        ValueError: One line that says what cannot be used, and why; see the module.
    """
    return boxed_data(read_coco(Path(annotations)), Path(images), tiling)


def voc_images(annotations: str | Path, images: str | Path, tiling: Tiling) -> DetectionData:
    """Images with the boxes of Pascal VOC files, one XML file each.

    Args:
        annotations: Folder of the XML files.
        images: Folder that their file names start at.
        tiling: How to cut the images into tiles and to split them.

    Raises:
        ValueError: One line that says what cannot be used, and why; see the module.
    """
    return boxed_data(read_voc(Path(annotations)), Path(images), tiling)


def boxed_data(
    annotations: Annotations, folder: Path, tiling: AreaTiling, one_class: str | None = None
) -> DetectionData:
    """Read annotated images and cut them into tiles.

    Args:
        annotations: The boxes.
        folder: Where the images' file names start.
        tiling: How to cut and to split.
        one_class: Name of the one class that all objects have; None for the annotated ones.

    Raises:
        ValueError: If no image can be used, or one cannot be read.
    """
    index = {name: 0 if one_class else n for n, name in enumerate(annotations.class_names)}
    skipped: Counter[str] = Counter()
    objects: list[list[AnnotatedObject]] = [[] for _ in annotations.images]
    for one, reason in zip(annotations.objects, reasons(annotations), strict=True):
        if reason:
            skipped[_REASONS[reason]] += 1
        elif one.image is not None:
            objects[one.image].append(one)
    there, missing = [], []
    headers = read_headers(annotations, folder)
    for image, of_image, header in zip(annotations.images, objects, headers, strict=True):
        file = folder / image.file
        if header is not None:
            there.append((file, of_image))
            continue
        missing.append(file)
        skipped[f"image whose file is missing, such as {missing[0]}"] += 1
        skipped["object on such an image"] += len(of_image)
    files = [file for file, _ in there]
    reader = PixelReader.of(files, tiling, masks=False)
    found = [
        replace(
            _boxed(file, of_image, index, reader, skipped),
            origin=Origin(file.relative_to(folder).as_posix(), first),
        )
        for (file, of_image), first in zip(there, first_alike(files), strict=True)
    ]
    _warn(annotations.source, skipped, annotations.notes)
    if not found:
        raise ValueError(f"{annotations.source}: none of its images is in {folder}.")
    names = (one_class,) if one_class else annotations.class_names
    return detection_data(found, names, tiling, str(annotations.source))


def _boxed(
    file: Path,
    objects: list[AnnotatedObject],
    index: dict[str, int],
    reader: PixelReader,
    skipped: Counter[str],
) -> BoxedImage:
    pixels = reader.pixels(file)
    height, width = pixels.shape[:2]
    corners = np.array([one.box for one in objects], float).reshape(-1, 4) * reader.scale
    corners = corners.clip(0, [width, height, width, height])
    inside = (corners[:, 2:] > corners[:, :2]).all(axis=1)
    skipped["box outside its image"] += int((~inside).sum())
    labels = np.array([index[str(one.label)] for one in objects], np.int64)
    ignored = np.array([one.is_crowd for one in objects], bool)
    return BoxedImage(pixels, corners[inside], labels[inside], ignored[inside])


def _warn(source: Path, skipped: Counter[str], notes: tuple[str, ...]) -> None:
    counts = [f"{number} x {what}" for what, number in skipped.items() if number]
    if counts:
        said = "; ".join([", ".join(counts), *notes])
        warnings.warn(f"{source}: skipped {said}.", stacklevel=4)
