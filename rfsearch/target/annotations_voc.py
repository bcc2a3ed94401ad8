"""Objects from Pascal VOC files: one XML file for each image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rfsearch.basics.files import read_xml
from rfsearch.target.annotations import (
    AnnotatedImage,
    AnnotatedObject,
    Annotations,
    box_of,
    checked,
    size_of,
)

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_EDGES = ("xmin", "ymin", "xmax", "ymax")


def read_voc(path: Path) -> Annotations:
    """Read the objects of one XML file, or of all in a folder and its subfolders.

    A box is `xmax - xmin` px wide, as in most tools that write this format today.

    Raises:
        ValueError: If there is no file, or one is no XML (it may be truncated) or not a VOC file;
            it names the file. Whatever is wrong with a single object is not an error here.
    """
    files = sorted(path.rglob("*.xml")) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"{path}: there is no XML file in this folder or its subfolders.")
    roots = [_root(file) for file in files]
    objects = tuple(
        _object(element, number)
        for number, root in enumerate(roots)
        for element in root.findall("object")
    )
    images = [_image(root, file, path) for root, file in zip(roots, files, strict=True)]
    names = sorted({one.label for one in objects if one.label})
    return checked(Annotations(path, tuple(images), objects, tuple(names)))


def _root(file: Path) -> Element:
    root = read_xml(file)
    if root.tag != "annotation":
        raise ValueError(
            f"{file}: not a VOC file: its root must be `annotation`, but is `{root.tag}`."
        )
    return root


def _image(root: Element, file: Path, source: Path) -> AnnotatedImage:
    """The image, whose name is relative to `source` or, for a single file, to its folder."""
    folder = file.parent.relative_to(source if source.is_dir() else source.parent)
    name = _text(root, "filename") or file.stem
    size = size_of(_text(root, "size/height"), _text(root, "size/width"), str(file))
    return AnnotatedImage(str(folder / name), size)


def _object(element: Element, image: int) -> AnnotatedObject:
    edges = [_text(element, f"bndbox/{name}") for name in _EDGES]
    return AnnotatedObject(image, _text(element, "name"), box_of(edges))


def _text(element: Element, place: str) -> str | None:
    """The text at a place, or None if there is none."""
    return (element.findtext(place) or "").strip() or None
