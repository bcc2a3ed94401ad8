"""Objects from CVAT's XML files, "CVAT for images 1.1"."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rfsearch.basics.files import read_xml
from rfsearch.target.annotations import (
    AnnotatedImage,
    AnnotatedObject,
    Annotations,
    Box,
    box_around,
    checked,
    size_of,
)

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

#: What has an extent. Points, cuboids, skeletons and tags are counted, and no objects.
_SHAPES = ("box", "polygon", "polyline", "ellipse", "mask")


def read_cvat(path: Path) -> Annotations:
    """Read the boxes, polygons, polylines, ellipses and masks of one file, or of all in a folder.

    What is rotated is as large as the box around it. Tags of whole images are left alone.

    Raises:
        ValueError: If there is no file, or one is no XML (it may be truncated) or not of CVAT's
            images; it names the file. Whatever is wrong with a single object is not an error here.
    """
    files = sorted(path.rglob("*.xml")) if path.is_dir() else [path]
    images: list[AnnotatedImage] = []
    objects: list[AnnotatedObject] = []
    names: dict[str, None] = {}
    others: Counter[str] = Counter()
    for file in files:
        root = _root(file)
        stated = [(one.text or "").strip() for one in root.iterfind("meta//labels/label/name")]
        folder = file.parent.relative_to(path if path.is_dir() else path.parent)
        for image in root.iterfind("image"):
            number = len(images)
            images.append(_image(image, folder, file))
            others.update(one.tag for one in image if one.tag not in (*_SHAPES, "tag"))
            objects += (one for one in _objects(image, number, stated))
        names.update(dict.fromkeys(stated))
    found = sorted({one.label for one in objects if one.label})
    ignored = ", ".join(f"{number} {kind}" for kind, number in sorted(others.items()))
    return checked(
        Annotations(
            source=path,
            images=tuple(images),
            objects=tuple(objects),
            class_names=tuple(names) or tuple(found),
            notes=(f"ignored, as they have no extent: {ignored}",) if ignored else (),
        )
    )


def _root(file: Path) -> Element:
    root = read_xml(file)
    if root.tag != "annotations":
        raise ValueError(
            f"{file}: not a CVAT file: its root must be `annotations`, but is `{root.tag}`."
        )
    if root.find("image") is None:
        kind = "of a video (`track`)" if root.find("track") is not None else "without an `image`"
        raise ValueError(
            f'{file}: is {kind}: export it as "CVAT for images 1.1", which says what is on which '
            "image."
        )
    return root


def _image(element: Element, folder: Path, file: Path) -> AnnotatedImage:
    name = element.get("name") or element.get("id") or ""
    place = f"{file}: image {name}"
    size = size_of(element.get("height"), element.get("width"), place)
    return AnnotatedImage(str(folder / name), size)


def _objects(image: Element, number: int, names: list[str]) -> Iterator[AnnotatedObject]:
    for element in image:
        if element.tag in _SHAPES:
            label = element.get("label")
            yield AnnotatedObject(
                number, label if not names or label in names else None, _box(element)
            )


def _box(element: Element) -> Box | None:
    """The box around a shape, or None if its numbers are none."""
    try:
        if element.tag in ("polygon", "polyline"):
            points = (element.get("points") or "").split(";")
            return box_around([point.split(",") for point in points])
        if element.tag == "mask":
            left, top, width, height = _numbers(element, "left", "top", "width", "height")
            return box_around([(left, top), (left + width, top + height)])
        angle = math.radians(_numbers(element, "rotation")[0] if element.get("rotation") else 0)
        if element.tag == "ellipse":
            x, y, a, b = _numbers(element, "cx", "cy", "rx", "ry")
            across = math.hypot(a * math.cos(angle), b * math.sin(angle))
            down = math.hypot(a * math.sin(angle), b * math.cos(angle))
        else:
            left, top, right, bottom = _numbers(element, "xtl", "ytl", "xbr", "ybr")
            if not angle:
                return box_around([(left, top), (right, bottom)])
            x, y = (left + right) / 2, (top + bottom) / 2
            a, b = (right - left) / 2, (bottom - top) / 2
            across = abs(a * math.cos(angle)) + abs(b * math.sin(angle))
            down = abs(a * math.sin(angle)) + abs(b * math.cos(angle))
        return box_around([(x - across, y - down), (x + across, y + down)])
    except (TypeError, ValueError):
        return None


def _numbers(element: Element, *names: str) -> list[float]:
    """Attributes of an element.

    Raises:
        ValueError: If one is no number or not there.
    """
    return [float(element.get(name) or "none") for name in names]
