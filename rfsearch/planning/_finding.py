"""What a folder or file of data is: classes in subfolders, boxes, or images with masks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from rfsearch.basics.files import read_text
from rfsearch.planning._boxes import boxes, joined, part_of
from rfsearch.planning._found import (
    IMAGE_FOLDERS,
    IMAGE_SUFFIXES,
    KINDS,
    Found,
    Kind,
    counted,
    is_image,
)
from rfsearch.target.mask_values import distinct_values, read_mask
from rfsearch.target.scales import boxes_of_folder, read_annotations

_MASKS = (
    "masks",
    "mask",
    "labels",
    "annotations",
    "gt",
    "SegmentationClass",
    "SegmentationObject",
)
#: Names of folders of masks that say what values are: classes or objects.
_SEMANTIC = {"SegmentationClass": True, "SegmentationObject": False}
_PARTS = ("train", "val", "valid", "validation", "test")


def find_data(
    data: Path, kind: str | None = None, images: Path | None = None, semantic: bool | None = None
) -> Found:
    """Look at a folder, or a file of annotations.

    Args:
        data: The folder or file.
        kind: What to learn, where it could be several.
        images: Folder of the images, where it is not beside the annotations.
        semantic: Whether the values of masks are classes, where that cannot be told.

    Raises:
        ValueError: One line that says what is missing, or between what to choose.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"--task must be one of {', '.join(KINDS)}, but got {kind!r}.")
    if not data.exists():
        raise ValueError(f"{data}: there is no such file or folder.")
    ways = [way for way in _ways(data, images, semantic) if kind in (None, way[0])]
    if not ways:
        held = counted(file for file in data.rglob("*") if file.is_file()) if data.is_dir() else ""
        raise ValueError(
            f"{data}: must hold images in a subfolder for each class, boxes (COCO, VOC, YOLO, "
            f"LabelMe, CVAT, CSV), or folders `images` and `masks`"
            f"{f', for --task {kind}' if kind else ''}, but holds {held or 'none of these'}."
        )
    if len(ways) > 1:
        raise ValueError(
            f"{data}: could be read in {len(ways)} ways: "
            f"{'; '.join(text for _, text, _ in ways)}. Choose "
            "with --task, or give the annotations of one of them."
        )
    return replace(ways[0][2](), name=data.resolve().name)


_Way = tuple[Kind, str, Callable[[], Found]]


def _ways(data: Path, images: Path | None, semantic: bool | None) -> list[_Way]:
    if not data.is_dir():
        return [("detection", f"boxes of {data.name}", partial(boxes, data, data.parent, images))]
    found = _tables(data, images)
    shown = images or next((data / name for name in IMAGE_FOLDERS if (data / name).is_dir()), None)
    if shown is not None:
        folders = [data / name for name in _MASKS]
        # Of VOC's two kinds of masks, classes are what a network is to learn.
        if _holds(data / "SegmentationClass"):
            folders.remove(data / "SegmentationObject")
        found += [
            ("segmentation", f"masks of {folder.name}", partial(_masks, folder, shown, semantic))
            for folder in folders
            if folder != shown and _holds(folder)
        ]
    if all(kind != "detection" for kind, *_ in found) and boxes_of_folder(data) is not None:
        found.append(
            ("detection", "a file of boxes for each image", partial(boxes, data, data, images))
        )
    if not found and len(_classes(data)) > 1:
        found.append(("classification", "a folder for each class", partial(_folders, data)))
    return found or _tables(data, images, "")  # The reader of a table says what it lacks.


def _tables(data: Path, images: Path | None, column: str = "xmin") -> list[_Way]:
    """Files with the boxes of many images; two of them where one is to validate the other."""
    places = [data, data / "annotations", *(data / name for name in _PARTS)]
    files = [one for place in places for one in sorted(place.glob("*")) if _is_table(one, column)]
    names = {file: file.relative_to(data).as_posix() for file in files}
    by_part = {part_of(name): file for file, name in names.items()}
    parts = [part_of(name) for name in names.values()]
    if parts.count("train") == parts.count("valid") == 1 and "" not in parts:

        def both() -> Found:
            of_parts = [by_part["train"], by_part["valid"]]
            one, other = (boxes(file, _root_of(file), images) for file in of_parts)
            return joined(one, other, images or data)

        train, valid = names[by_part["train"]], names[by_part["valid"]]
        return [("detection", f"boxes of {train}, validated with {valid}", both)]
    return [
        (
            "detection",
            f"boxes of {name}",
            partial(boxes, file, _root_of(file), images),
        )
        for file, name in names.items()
    ]


def _root_of(file: Path) -> Path:
    """Where the images of a file of boxes are looked for."""
    return file.parent.parent if file.parent.name == "annotations" else file.parent


def _is_table(file: Path, column: str) -> bool:
    """Whether a file has the boxes of many images; a CSV file, in a column of that name."""
    if file.suffix.lower() == ".csv" and file.is_file():
        with file.open(encoding="utf-8", errors="replace") as opened:
            return column in opened.readline()
    if file.suffix.lower() != ".json" or not file.is_file():
        return False
    try:
        content = json.loads(read_text(file))
    except (ValueError, RecursionError):
        return True  # Its reader says what is wrong.
    return isinstance(content, dict) and "annotations" in content


def _masks(source: Path, images: Path, semantic: bool | None) -> Found:
    by_name = {file.stem: file for file in sorted(images.iterdir()) if is_image(file)}
    masks = [file for file in sorted(source.iterdir()) if is_image(file)]
    missing = [file for file in masks if file.stem not in by_name]
    if len(missing) == len(masks):
        raise ValueError(f"{source}: none of its masks has the name of an image in {images}.")
    if semantic is None:
        semantic = _SEMANTIC.get(source.name)
    if semantic is None:
        values = {int(value) for file in masks for value in distinct_values(read_mask(file))}
        semantic = True if len(values - {0}) <= 1 else None
    annotations = read_annotations(source, format="masks", semantic=semantic)
    files = tuple(
        by_name.get(Path(one.file).stem, images / one.file) for one in annotations.images
    )
    unused = [file for stem, file in by_name.items() if stem not in {one.stem for one in masks}]
    return Found(
        "segmentation",
        source,
        images,
        files,
        annotations,
        semantic=bool(semantic),
        ignored=counted([*missing, *unused]),
    )


def _folders(root: Path) -> Found:
    files = [(file, name) for name in _classes(root) for file in _images_of(root, name)]
    used = {file for file, _ in files}
    left = [file for file in root.rglob("*") if file.is_file() and file not in used]
    return Found(
        "classification",
        root,
        root,
        tuple(file for file, _ in files),
        labels=tuple(name for _, name in files),
        ignored=counted(left),
    )


def _classes(root: Path) -> list[str]:
    """Names of subfolders with images, of the folder itself or of its parts."""
    parts = [root / name for name in _PARTS[:-1] if (root / name).is_dir()]
    folders = [one for part in (parts or [root]) for one in part.iterdir() if one.is_dir()]
    return sorted({one.name for one in folders if one.name[0] != "." and _holds(one)})


def _images_of(root: Path, name: str) -> list[Path]:
    parts = [root / part for part in _PARTS[:-1] if (root / part).is_dir()] or [root]
    return sorted(file for part in parts for file in (part / name).rglob("*") if is_image(file))


def _holds(folder: Path) -> bool:
    """Whether there is an image in a folder or its subfolders."""
    return folder.is_dir() and any(
        file.suffix.lower() in IMAGE_SUFFIXES for file in folder.rglob("*")
    )
