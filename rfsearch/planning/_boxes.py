"""Boxes as people keep them: in one file or several, with images beside them or in other folders.

Images that are split already, by folders or by files named `train` and `val`, stay split. What is
for tests is left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from rfsearch.basics.images import is_file
from rfsearch.planning._found import IMAGE_FOLDERS, Found, counted, is_image
from rfsearch.target.annotations import Annotations
from rfsearch.target.scales import read_annotations

#: A part in a name: `instances_val2017.json`, `valid/` and `train.csv`, but not `trained`.
_PART = re.compile(r"(?:^|[^a-z])(train|val|valid|validation|test)(?:ing)?\d*(?:[^a-z]|$)", re.I)
_VALID = ("val", "valid", "validation")


def part_of(name: str) -> str:
    """Whether a name says that something is for training, for validation or for tests.

    >>> part_of("instances_val2017.json"), part_of("train"), part_of("trees.csv")
    ('valid', 'train', '')
    """
    found = [one.lower() for one in _PART.findall(name)]
    return "valid" if found and found[-1] in _VALID else found[-1] if found else ""


def boxes(source: Path, root: Path, images: Path | None) -> Found:
    """What a file or folder of boxes says.

    Args:
        source: The annotations.
        root: Where images are looked for.
        images: The folder of images, if it is known.

    Raises:
        ValueError: If it cannot be read, or none of the images is there.
    """
    read = read_annotations(source, images=images)
    is_derived = source.suffix.lower() != ".json"
    folders = [images] if images else _near(root)
    tried = [_with_other_suffixes(read, one) if is_derived else read for one in folders]
    there = [
        sum(is_file(folder / one.file) for one in annotations.images)
        for folder, annotations in zip(folders, tried, strict=True)
    ]
    part = part_of(source.name)
    # Images of different parts may have the same names.
    like = [part == part_of(folder.name) for folder in folders]
    best = max(range(len(folders)), key=lambda n: (there[n], like[n]))
    if not there[best]:
        first = read.images[0].file if read.images else "none"
        raise ValueError(
            f"{source}: none of its {len(read.images)} images is in "
            f"{', '.join(map(str, folders))}; the first is {first!r}. Give --images."
        )
    folder, annotations = folders[best], tried[best]
    names = [one.file for one in annotations.images]
    parts = [part_of(str(PurePosixPath(name).parent)) for name in names]
    ignored = "none"
    if is_derived and {"train", "valid"} <= set(parts) and "test" in parts:
        annotations = only(annotations, [part != "test" for part in parts])
        ignored = f"{parts.count('test')} images for tests"
    files = tuple(folder / one.file for one in annotations.images)
    left = [one for one in folder.rglob("*") if is_image(one) and one not in {*files, source}]
    if ignored == "none":
        ignored = counted(left)
    found = Found("detection", source, folder, files, annotations, ignored=ignored)
    return replace(found, is_derived=is_derived, valid=_patterns(annotations))


def joined(train: Found, valid: Found, root: Path) -> Found:
    """Two parts as one, whose images are named from a folder that both are in."""
    one, other = (_renamed(part, root) for part in (train, valid))
    shift = len(one.images)
    moved = [
        thing._replace(image=None if thing.image is None else thing.image + shift)
        for thing in other.objects
    ]
    names = tuple(dict.fromkeys((*one.class_names, *other.class_names)))
    together = replace(
        one,
        source=root,
        images=(*one.images, *other.images),
        objects=(*one.objects, *moved),
        class_names=names,
        notes=tuple(dict.fromkeys((*one.notes, *other.notes))),
    )
    folders = {PurePosixPath(image.file).parent for image in one.images}
    of_valid = sorted({PurePosixPath(image.file).parent for image in other.images})
    patterns = [f"{folder}/*" for folder in of_valid]
    if folders & set(of_valid):  # In one folder together.
        patterns = [image.file for image in other.images]
    return replace(
        train,
        source=root,
        images=root,
        files=(*train.files, *valid.files),
        annotations=together,
        ignored="none",
        is_derived=True,
        valid=tuple(patterns),
    )


def only(annotations: Annotations, kept: Sequence[bool]) -> Annotations:
    """Some of the images, with their objects."""
    number = {old: new for new, old in enumerate(n for n, keep in enumerate(kept) if keep)}
    return replace(
        annotations,
        images=tuple(annotations.images[old] for old in number),
        objects=tuple(
            one._replace(image=None if one.image is None else number[one.image])
            for one in annotations.objects
            if one.image is None or one.image in number
        ),
    )


def _near(root: Path) -> list[Path]:
    """Folders that images may lie in, the likely ones first."""
    known = [root, *(root / name for name in IMAGE_FOLDERS)]
    above = [root.parent, *(root.parent / name for name in IMAGE_FOLDERS)]
    inside = [one for folder in known if folder.is_dir() for one in sorted(folder.iterdir())]
    return [one for one in dict.fromkeys([*known, *inside, *above]) if one.is_dir()]


def _with_other_suffixes(annotations: Annotations, folder: Path) -> Annotations:
    """Images that are not there, but one with another suffix is, which then counts."""
    by_stem: dict[Path, dict[str, Path]] = {}
    images = []
    for one in annotations.images:
        near = folder / one.file
        if not is_file(near) and near.parent.is_dir():
            if near.parent not in by_stem:
                listed = sorted(filter(is_image, near.parent.iterdir()))
                by_stem[near.parent] = {file.stem: file for file in listed}
            if other := by_stem[near.parent].get(near.stem):
                one = one._replace(file=other.relative_to(folder).as_posix())
        images.append(one)
    changed = sum(a != b for a, b in zip(images, annotations.images, strict=True))
    notes = (f"the suffix of {changed} image files, which is another",) if changed else ()
    return replace(annotations, images=tuple(images), notes=(*annotations.notes, *notes))


def _patterns(annotations: Annotations) -> tuple[str, ...]:
    """Of names of images that validate, where folders say so."""
    folders = {str(PurePosixPath(one.file).parent) for one in annotations.images}
    if "train" not in {part_of(folder) for folder in folders}:
        return ()
    return tuple(sorted(f"{folder}/*" for folder in folders if part_of(folder) == "valid"))


def _renamed(part: Found, root: Path) -> Annotations:
    assert part.annotations is not None
    place = part.images.resolve().relative_to(root.resolve())
    images = tuple(
        one._replace(file=(place / one.file).as_posix()) for one in part.annotations.images
    )
    return replace(part.annotations, images=images)
