"""Objects from LabelMe's JSON files: one for each image."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

from rfsearch.basics.files import read_bytes, read_json
from rfsearch.target.annotations import (
    AnnotatedImage,
    AnnotatedObject,
    Annotations,
    Box,
    box_around,
    checked,
    size_of,
)


def is_labelme(file: Path) -> bool:
    """Whether a JSON file has LabelMe's list of shapes, and not COCO's of annotations.

    It is not parsed: a large COCO file would be read twice.
    """
    content = read_bytes(file)
    shapes, annotations = (
        re.search(rb'"%s"\s*:\s*\[' % name, content) for name in (b"shapes", b"annotations")
    )
    return shapes is not None and annotations is None


def read_labelme(path: Path) -> Annotations:
    """Read the shapes of one file, or of all in a folder and its subfolders.

    Shapes of one image with the same label and `group_id` are one object. Points are counted, and
    no objects. An image that is embedded is not looked at.

    Raises:
        ValueError: If there is no file, or one is no JSON (it may be truncated) or not LabelMe's;
            it names the file. Whatever is wrong with a single shape is not an error here.
    """
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    ours = [file for file in files if not path.is_dir() or is_labelme(file)]
    images: list[AnnotatedImage] = []
    objects: list[AnnotatedObject] = []
    points = 0
    for number, file in enumerate(ours):
        content = _content(file)
        folder = file.parent.relative_to(path if path.is_dir() else path.parent)
        images.append(_image(content, folder, file))
        shapes = [one if isinstance(one, dict) else {} for one in content["shapes"]]
        extended = [one for one in shapes if one.get("shape_type") not in ("point", "points")]
        points += len(shapes) - len(extended)
        objects += _objects(extended, number)
    notes = Counter({"point shapes, which have no extent": points})
    notes["JSON files without shapes"] = len(files) - len(ours)
    return checked(
        Annotations(
            source=path,
            images=tuple(images),
            objects=tuple(objects),
            class_names=tuple(sorted({one.label for one in objects if one.label})),
            notes=tuple(f"ignored: {number} {what}" for what, number in notes.items() if number),
        )
    )


def _content(file: Path) -> dict[str, Any]:
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise ValueError(f"{file}: not a LabelMe file: it has no list `shapes`.")
    return content


def _image(content: dict[str, Any], folder: Path, file: Path) -> AnnotatedImage:
    """The image, whose path is relative to its file and may be written as on Windows."""
    stated = content.get("imagePath")
    name = stated.replace("\\", "/") if isinstance(stated, str) and stated else file.stem
    size = size_of(content.get("imageHeight"), content.get("imageWidth"), str(file))
    return AnnotatedImage(str(PurePosixPath(folder.as_posix()) / name), size)


def _objects(shapes: list[dict[str, Any]], image: int) -> list[AnnotatedObject]:
    """One of each shape, or of those that were grouped."""
    found: dict[Any, AnnotatedObject] = {}
    for number, shape in enumerate(shapes):
        label = shape.get("label")
        name = label if isinstance(label, str) and label else None
        one = AnnotatedObject(image, name, _box(shape))
        group = shape.get("group_id")
        key = number if group is None or one.box is None else (name, str(group))
        if (other := found.get(key)) is not None and one.box and other.box:
            corners = (other.box[:2], other.box[2:], one.box[:2], one.box[2:])
            one = one._replace(box=box_around(corners))
        found[key] = one
    return list(found.values())


def _box(shape: dict[str, Any]) -> Box | None:
    """The box around a shape, or None if its points are none."""
    points = shape.get("points")
    if not isinstance(points, list) or not all(isinstance(one, list) for one in points):
        return None
    if shape.get("shape_type") != "circle":
        return box_around(points)
    if len(points) != 2 or box_around(points) is None:
        return None
    # Its centre, and a point on its edge.
    (x, y), edge = (tuple(map(float, point)) for point in points)
    radius = math.dist((x, y), edge)
    return box_around([(x - radius, y - radius), (x + radius, y + radius)])
