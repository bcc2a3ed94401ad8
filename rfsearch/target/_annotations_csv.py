"""Objects from a table of boxes in a CSV file."""

from __future__ import annotations

import csv
from io import StringIO
from itertools import zip_longest
from pathlib import Path

from rfsearch.basics.files import read_text
from rfsearch.target.annotations import (
    AnnotatedImage,
    AnnotatedObject,
    Annotations,
    box_of,
    checked,
    size_of,
)

_EDGES = ("xmin", "ymin", "xmax", "ymax")
#: What it is, and the names that a column of it may have.
_IMAGE = ("image_path", "filename", "image")
_LABEL = ("label", "class", "name")
_WIDTH = ("image_width", "width")
_HEIGHT = ("image_height", "height")
#: Class of all objects where there is no column for it.
_ONLY_CLASS = "object"


def read_csv(path: Path) -> Annotations:
    """Read one object from each row.

    The columns are `xmin`, `ymin`, `xmax`, `ymax` and `image_path` (or `filename`, `image`), and
    if there are any, `label` (or `class`, `name`) and the size of the *image* in px, `width` and
    `height` (or `image_width`, `image_height`). Others are left alone.

    Raises:
        ValueError: If the file cannot be read, is no CSV or lacks a column. Whatever is wrong with
            a single row is not an error here.
    """
    rows, columns = _table(path)
    image, label = _find(columns, _IMAGE), _find(columns, _LABEL)
    missing = [*([] if image else [_IMAGE[0]]), *(name for name in _EDGES if name not in columns)]
    if image is None or missing:
        raise ValueError(
            f"{path}: must have the columns {', '.join((_IMAGE[0], *_EDGES))}, but lacks "
            f"{', '.join(missing)}; it has {', '.join(columns) or 'none'}."
        )
    height, width = _find(columns, _HEIGHT), _find(columns, _WIDTH)
    images: dict[str, AnnotatedImage] = {}
    for number, row in enumerate(rows, start=1):
        if not row[image]:
            continue
        place = f"{path}: image {row[image]}"
        size = size_of(row[height], row[width], place) if height and width else None
        known = images.get(row[image], AnnotatedImage(row[image], None)).size
        if size and (size != (known or size) or _is_of_box(size, row)):
            raise ValueError(
                f"{path}: {height} and {width} must be those of the image {row[image]}, but "
                f"object {number} has {size[0]} and {size[1]} px"
                f"{', unlike others on it' if size != (known or size) else ''}: name the columns "
                "otherwise if they are of the box."
            )
        images[row[image]] = AnnotatedImage(row[image], known or size)
    index = {file: number for number, file in enumerate(images)}
    objects = tuple(
        AnnotatedObject(
            image=index.get(row[image]),
            label=row[label] or None if label else _ONLY_CLASS,
            box=box_of(row[name] for name in _EDGES),
        )
        for row in rows
    )
    return checked(
        Annotations(
            source=path,
            images=tuple(images.values()),
            objects=objects,
            class_names=tuple(sorted({one.label for one in objects if one.label})),
        )
    )


def _is_of_box(size: tuple[int, int] | None, row: dict[str, str]) -> bool:
    """Whether an image's size is that of a box which does not begin in its corner."""
    box = box_of(row[name] for name in _EDGES)
    if box is None or size is None or box.left <= 0 or box.top <= 0:
        return False
    return size == (int(box.bottom - box.top), int(box.right - box.left))


def _table(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    """The rows, where cells that are missing are empty, and the names of their columns."""
    lines = csv.reader(StringIO(read_text(path), newline=""), strict=True)
    try:
        columns = [name.strip() for name in next(lines, [])]
        rows = [
            dict(zip_longest(columns, line[: len(columns)], fillvalue=""))
            for line in lines
            if line
        ]
    except csv.Error as error:
        raise ValueError(f"{path}: not a CSV file ({error} in line {lines.line_num}).") from None
    return [{name: cell.strip() for name, cell in row.items()} for row in rows], columns


def _find(columns: list[str], names: tuple[str, ...]) -> str | None:
    """The first of some names that is a column."""
    return next((name for name in names if name in columns), None)
