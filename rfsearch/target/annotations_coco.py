"""Objects from a COCO file: boxes are read, polygons and run lengths are not needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rfsearch.basics.files import read_json
from rfsearch.target.annotations import (
    AnnotatedImage,
    AnnotatedObject,
    Annotations,
    Box,
    box_of,
    size_of,
)

_LISTS = ("images", "annotations", "categories")


def read_coco(path: Path) -> Annotations:
    """Read `bbox`, `category_id`, `image_id` and `iscrowd` of each annotation.

    Raises:
        ValueError: If the file cannot be read, is no JSON (it may be truncated) or not a COCO
            file of annotations. Whatever is wrong with a single object is not an error here.
    """
    content = _content(path)
    images = {_id(entry, path, "images"): entry for entry in content["images"]}
    names = {
        _id(entry, path, "categories"): str(entry.get("name", entry["id"]))
        for entry in content["categories"]
    }
    index = {identity: number for number, identity in enumerate(images)}
    return Annotations(
        source=path,
        images=tuple(_image(entry) for entry in images.values()),
        objects=tuple(_object(entry, index, names) for entry in content["annotations"]),
        class_names=tuple(dict.fromkeys(names.values())),
    )


def _content(path: Path) -> dict[str, list[Any]]:
    content = read_json(path)
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise ValueError(f"{path}: not a COCO file: it must hold an object, but holds a {kind}.")
    for name in _LISTS:
        if not isinstance(content.get(name), list):
            found = ", ".join(list(content)[:6]) or "nothing"
            raise ValueError(f"{path}: not a COCO file: it has no list `{name}`, but {found}.")
    return content


def _id(entry: Any, path: Path, place: str) -> int | str:
    identity = entry.get("id") if isinstance(entry, dict) else None
    if not isinstance(identity, int | str):
        raise ValueError(
            f"{path}: not a COCO file: `{place}` must hold objects with an `id`, but it holds "
            f"{json.dumps(entry)[:60]}."
        )
    return identity


def _image(entry: dict[str, Any]) -> AnnotatedImage:
    size = size_of(entry.get("height"), entry.get("width"))
    return AnnotatedImage(str(entry.get("file_name", "")), size)


def _object(
    entry: Any, images: dict[int | str, int], names: dict[int | str, str]
) -> AnnotatedObject:
    values = entry if isinstance(entry, dict) else {}
    image, category = values.get("image_id"), values.get("category_id")
    return AnnotatedObject(
        image=images.get(image) if isinstance(image, int | str) else None,
        label=names.get(category) if isinstance(category, int | str) else None,
        box=_box(values.get("bbox")),
        is_crowd=bool(values.get("iscrowd")),
    )


def _box(bbox: Any) -> Box | None:
    """A COCO box is left, top, width and height."""
    box = box_of(bbox) if isinstance(bbox, list) else None
    if box is None:
        return None
    left, top, width, height = box
    return box_of((left, top, left + width, top + height))
