"""Objects from YOLO's text files: one for each image, with a line for each object.

As people have them: in `labels` folders beside `images` folders (`labels/train` and
`images/train`, or `train/labels` and `train/images`), or beside their images. A line is the number
of a class and shares of the image's width and height: a box (its centre, width and height), maybe
with a confidence; the corners of a polygon; or a box and keypoints, where `data.yaml` says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rfsearch.basics.files import read_text
from rfsearch.basics.images import read_header
from rfsearch.target._annotations_masks import MASK_SUFFIXES
from rfsearch.target.annotations import (
    AnnotatedImage,
    AnnotatedObject,
    Annotations,
    Box,
    box_around,
    checked,
)

IMAGE_SUFFIXES = (*MASK_SUFFIXES, ".jpg", ".jpeg", ".webp")
YAML_SUFFIXES = (".yaml", ".yml")
_LABELS, _IMAGES = "labels", "images"
#: Texts beside labels: names of classes, lists of images, and what is there to be read.
_NAMES = ("classes.txt", "obj.names", "predefined_classes.txt")
_OTHERS = (*_NAMES, "train.txt", "val.txt", "valid.txt", "test.txt", "notes.txt", "readme.txt")
#: A share is never above it, so what is larger is in px.
_MAX_SHARE = 2.0


@dataclass(frozen=True)
class _DataSet:
    """What is known of all files.

    Attributes:
        root: The folder of labels and images.
        names: Of the classes by their number; empty if they are not stated.
        keypoints: How many numbers follow each box.
    """

    root: Path
    names: dict[int, str]
    keypoints: int = 0


def is_yolo(folder: Path, files: Iterable[Path]) -> bool:
    """Whether files in a folder are YOLO's: in a folder of labels, or beside an image each."""
    suffixes: dict[Path, set[str]] = {}
    for file in files:
        suffixes.setdefault(file.with_suffix(""), set()).add(file.suffix.lower())
    images = {*IMAGE_SUFFIXES}
    return any(
        suffixes[file] & images
        or _LABELS in (*folder.parts[-2:], *file.relative_to(folder).parts[:-1])
        for file in (file for file, found in suffixes.items() if ".txt" in found)
    )


def read_yolo(path: Path, images: Path | None = None) -> Annotations:
    """Read all label files of a data set.

    Args:
        path: Its folder, the folder of its labels, its `data.yaml`, or one file of labels.
        images: The folder of its images, where it is not beside the labels. Their sizes are
            needed, as boxes are shares of them: objects of those that are missing are skipped.

    Raises:
        ValueError: If there is no label, or a file is none; it names the file and the line.
    """
    data = _described(path)
    files = _label_files(data.root if path.suffix.lower() in YAML_SUFFIXES else path)
    if not files:
        raise ValueError(f"{data.root}: there is no label in it (`{_LABELS}/*.txt`).")
    folder = images or data.root
    beside = path if images and path.is_dir() else data.root
    places = {_place(file, beside): file for file in files}
    used = {place[:-1] for place in places}
    found = {
        _place(file, folder): file
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in IMAGE_SUFFIXES
    }
    shown = [*places, *(place for place in found if place[:-1] in used and place not in places)]
    headers = {place: read_header(found[place]) for place in shown if place in found}
    objects: list[AnnotatedObject] = []
    annotated: list[AnnotatedImage] = []
    for place in shown:
        size = headers[place].size if place in headers else None
        file = found[place].relative_to(folder) if place in found else Path(*place)
        if place in places:
            number = len(annotated) if size else None
            objects += _objects(places[place], number, size, data)
        annotated.append(AnnotatedImage(str(file), size))
    missing = sum(place not in found for place in places)
    labels = {one.label for one in objects if one.label}
    return checked(
        Annotations(
            source=path,
            images=tuple(annotated),
            objects=tuple(objects),
            class_names=tuple(data.names.values()) or tuple(sorted(labels, key=int)),
            notes=(f"{missing} files of labels have no image in {folder}",) if missing else (),
        )
    )


def _place(file: Path, root: Path) -> tuple[str, ...]:
    """Where a label and its image both are, but for the folders of labels and of images."""
    parts = file.relative_to(root).with_suffix("").parts
    return (*(one for one in parts[:-1] if one not in (_LABELS, _IMAGES)), parts[-1])


def _label_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.rglob("*.txt"))
    ours = [file for file in files if _LABELS in file.relative_to(path).parts[:-1]] or files
    return [file for file in ours if file.name.lower() not in _OTHERS]


# -- what is stated of the whole -----------------------------------------------------------


def _described(path: Path) -> _DataSet:
    if path.suffix.lower() in YAML_SUFFIXES and not path.is_dir():
        content = _yaml(path)
        stated = content.get("path")
        root = path.parent / stated if isinstance(stated, str) else path.parent
        return _stated(content, root if root.is_dir() else path.parent, path)
    folder = path if path.is_dir() else path.parent
    up = next((n for n, one in enumerate((folder, folder.parent), 1) if one.name == _LABELS), 0)
    root = (folder, *folder.parents)[up]
    for place in (folder, *folder.parents)[: up + 2 if up else 1]:
        for file in sorted(place.iterdir()):
            if file.suffix.lower() in YAML_SUFFIXES and "names" in (content := _yaml(file)):
                return _stated(content, root, file)
        for name in _NAMES:
            if (place / name).is_file():
                lines = read_text(place / name).splitlines()
                named = (line.strip() for line in lines if line.strip())
                return _DataSet(root, dict(enumerate(named)))
    return _DataSet(root, {})


def _yaml(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(read_text(file))
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{file}: not a YAML file ({error}).") from None
    return content if isinstance(content, dict) else {}


def _stated(content: dict[str, Any], root: Path, file: Path) -> _DataSet:
    names, shape = content.get("names"), content.get("kpt_shape")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not all(isinstance(number, int) for number in names):
        raise ValueError(f"{file}: `names` must be a list, or names by their number.")
    keypoints = math.prod(shape) if isinstance(shape, list) else 0
    return _DataSet(root, {number: str(name) for number, name in names.items()}, keypoints)


# -- what is in a file ---------------------------------------------------------------------


def _objects(
    file: Path, image: int | None, size: tuple[int, int] | None, data: _DataSet
) -> list[AnnotatedObject]:
    lines = enumerate(read_text(file).splitlines(), start=1)
    return [
        _object(line.split(), image, size, data, f"{file}, line {number}")
        for number, line in lines
        if line.strip()
    ]


def _object(
    words: list[str], image: int | None, size: tuple[int, int] | None, data: _DataSet, place: str
) -> AnnotatedObject:
    try:
        number, *shares = map(float, words)
    except ValueError:
        raise ValueError(f"{place}: must be numbers, but is {' '.join(words)!r:.60}.") from None
    if not number.is_integer() or number < 0:
        raise ValueError(f"{place}: must begin with the number of a class, but is {words[0]}.")
    name = data.names.get(int(number)) if data.names else str(int(number))
    points = _points(shares, data.keypoints)
    if points is None:
        raise ValueError(
            f"{place}: must be a class with 4 shares (a box), 5 (with a confidence) or an even "
            f"number from 6 on (a polygon), but has {len(shares)}."
        )
    if any(abs(share) > _MAX_SHARE for point in points for share in point):
        raise ValueError(f"{place}: must be shares of the image's sides, but is in px.")
    return AnnotatedObject(image, name, _in_px(box_around(points), size))


def _points(shares: list[float], keypoints: int) -> list[tuple[float, float]] | None:
    """Corners of what is around an object, or None where as many numbers mean nothing."""
    if len(shares) in (4, 5) or (keypoints and len(shares) == 4 + keypoints):
        x, y, width, height = shares[:4]
        return [(x - width / 2, y - height / 2), (x + width / 2, y + height / 2)]
    if len(shares) < 6 or len(shares) % 2:
        return None
    return list(zip(shares[::2], shares[1::2], strict=True))


def _in_px(box: Box | None, size: tuple[int, int] | None) -> Box | None:
    if box is None or size is None:
        return None
    height, width = size
    return Box(box.left * width, box.top * height, box.right * width, box.bottom * height)
