"""Objects from a COCO file: boxes are read, polygons and run lengths are not needed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from rfsearch.basics.files import read_json
from rfsearch.target.annotations import (
    AnnotatedImage,
    AnnotatedObject,
    Annotations,
    Box,
    box_of,
    checked,
    size_of,
)

_LISTS = ("images", "annotations", "categories")


def read_coco(path: Path) -> Annotations:
    """Read `bbox`, `category_id`, `image_id`, `iscrowd` and `area` of each annotation.

    Raises:
        ValueError: If the file cannot be read, is no JSON (it may be truncated) or not a COCO
            file of annotations, or contradicts itself as a whole. Whatever is wrong with a single
            object is not an error here.
    """
    content = _content(path)
    images = _by_id(content["images"], path, "images")
    names = {
        identity: str(entry.get("name", entry["id"]))
        for identity, entry in _by_id(content["categories"], path, "categories").items()
    }
    index = {identity: number for number, identity in enumerate(images)}
    objects = [_object(entry, index, names) for entry in content["annotations"]]
    return checked(
        Annotations(
            source=path,
            images=tuple(_image(entry, path) for entry in images.values()),
            objects=tuple(objects),
            class_names=tuple(dict.fromkeys(names.values())),
            notes=_unknown(content["annotations"], objects),
        )
    )


def _by_id(entries: list[Any], path: Path, place: str) -> dict[str, dict[str, Any]]:
    """Entries by their ids, of which the same number may be a text in one place."""
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        identity = _identity(entry.get("id")) if isinstance(entry, dict) else None
        if identity is None:
            raise ValueError(
                f"{path}: not a COCO file: `{place}` must hold objects with an `id`, but it holds "
                f"{json.dumps(entry)[:60]}."
            )
        if (other := found.setdefault(identity, entry)) != entry:
            raise ValueError(
                f"{path}: `{place}` must have an `id` of their own each, but {identity} is of "
                f"{json.dumps(other)[:80]} and of {json.dumps(entry)[:80]}."
            )
    return found


def _identity(value: Any) -> str | None:
    """An id as a text: 7, "7" and 7.0 are the same."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int | str) else None


def _unknown(entries: list[Any], objects: list[AnnotatedObject]) -> tuple[str, ...]:
    """What was looked for and not found, of the first object each."""
    notes = []
    for place, missing in (
        ("image_id", [one.image is None for one in objects]),
        ("category_id", [one.label is None for one in objects]),
    ):
        if any(missing):
            number = missing.index(True)
            entry = entries[number]
            value = entry.get(place) if isinstance(entry, dict) else None
            notes.append(f"the {place} of annotation {number + 1}, {json.dumps(value)}, is none")
    return tuple(notes)


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


def _image(entry: dict[str, Any], path: Path) -> AnnotatedImage:
    name = str(entry.get("file_name", ""))
    place = f"{path}: image {name or entry.get('id')}"
    return AnnotatedImage(name, size_of(entry.get("height"), entry.get("width"), place))


def _object(entry: Any, images: dict[str, int], names: dict[str, str]) -> AnnotatedObject:
    values = entry if isinstance(entry, dict) else {}
    area = values.get("area")
    return AnnotatedObject(
        image=images.get(_identity(values.get("image_id")) or ""),
        label=names.get(_identity(values.get("category_id")) or ""),
        box=_box(values.get("bbox")),
        is_crowd=bool(values.get("iscrowd")),
        area=area if isinstance(area, int | float) and 0 < area < math.inf else None,
    )


def _box(bbox: Any) -> Box | None:
    """A COCO box is left, top, width and height."""
    box = box_of(bbox) if isinstance(bbox, list) else None
    if box is None:
        return None
    left, top, width, height = box
    return box_of((left, top, left + width, top + height))
