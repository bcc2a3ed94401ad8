"""What a folder or file of data is: classes in subfolders, boxes, or images with masks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from rfsearch.basics.files import read_text
from rfsearch.basics.images import is_file
from rfsearch.target.annotations import Annotations
from rfsearch.target.mask_values import distinct_values, read_mask
from rfsearch.target.scales import boxes_of_folder, read_annotations

Kind = Literal["classification", "detection", "segmentation"]
KINDS: tuple[Kind, ...] = get_args(Kind)
IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_MASKS = (
    "masks",
    "mask",
    "labels",
    "annotations",
    "gt",
    "SegmentationClass",
    "SegmentationObject",
)
_IMAGES = ("images", "image", "imgs", "img", "JPEGImages")
_PARTS = ("train", "val", "valid", "validation", "test")


@dataclass(frozen=True)
class Found:
    """Data of one kind.

    Attributes:
        kind: What can be learned of it.
        source: The annotations, the folder of masks, or the folder of classes.
        images: The folder that names of images start at.
        files: The images, in the order of the annotations.
        annotations: The objects; None where only classes of images are known.
        semantic: Whether the values of masks are classes.
        labels: Of each image, its class; empty where objects have classes.
        ignored: Files that were left out, by suffix.
        name: What to call the data.
    """

    kind: Kind
    source: Path
    images: Path
    files: tuple[Path, ...]
    annotations: Annotations | None = None
    semantic: bool = False
    labels: tuple[str, ...] = ()
    ignored: str = "none"
    name: str = ""


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
        held = (
            _counted(file for file in data.rglob("*") if file.is_file()) if data.is_dir() else ""
        )
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
        return [("detection", f"boxes of {data.name}", partial(_boxes, data, data.parent, images))]
    found: list[_Way] = [
        ("detection", f"boxes of {file.relative_to(data)}", partial(_boxes, file, data, images))
        for file in sorted((*data.glob("*"), *data.glob("annotations/*")))
        if _is_table(file)
    ]
    shown = images or next((data / name for name in _IMAGES if (data / name).is_dir()), None)
    if shown is not None:
        found += [
            ("segmentation", f"masks of {name}", partial(_masks, data / name, shown, semantic))
            for name in _MASKS
            if data / name != shown and _holds(data / name, IMAGE_SUFFIXES)
        ]
    if not found and boxes_of_folder(data) is not None:
        found.append(
            ("detection", "a file of boxes for each image", partial(_boxes, data, data, images))
        )
    if not found and len(_classes(data)) > 1:
        found.append(("classification", "a folder for each class", partial(_folders, data)))
    return found


def _is_table(file: Path) -> bool:
    """Whether a file has the boxes of many images."""
    if file.suffix.lower() == ".csv":
        return True
    if file.suffix.lower() != ".json" or not file.is_file():
        return False
    try:
        content = json.loads(read_text(file))
    except (ValueError, RecursionError):
        return True  # Its reader says what is wrong.
    return isinstance(content, dict) and "annotations" in content


def _boxes(source: Path, root: Path, images: Path | None) -> Found:
    annotations = read_annotations(source, images=images)
    near = [root, *(root / name for name in _IMAGES), root.parent]
    near += [root.parent / name for name in _IMAGES]
    folders = [images] if images else near
    there = [sum(is_file(folder / one.file) for one in annotations.images) for folder in folders]
    if not max(there):
        first = annotations.images[0].file if annotations.images else "none"
        raise ValueError(
            f"{source}: none of its {len(annotations.images)} images is in "
            f"{', '.join(map(str, dict.fromkeys(folders)))}; the first is {first!r}. "
            "Give --images."
        )
    folder = folders[there.index(max(there))]
    files = tuple(folder / one.file for one in annotations.images)
    used = {*files, source}
    left = [file for file in folder.rglob("*") if _is_image(file) and file not in used]
    return Found("detection", source, folder, files, annotations, ignored=_counted(left))


def _masks(source: Path, images: Path, semantic: bool | None) -> Found:
    by_name = {file.stem: file for file in sorted(images.iterdir()) if _is_image(file)}
    masks = [file for file in sorted(source.iterdir()) if _is_image(file)]
    missing = [file for file in masks if file.stem not in by_name]
    if len(missing) == len(masks):
        raise ValueError(f"{source}: none of its masks has the name of an image in {images}.")
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
        ignored=_counted([*missing, *unused]),
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
        ignored=_counted(left),
    )


def _classes(root: Path) -> list[str]:
    """Names of subfolders with images, of the folder itself or of its parts."""
    parts = [root / name for name in _PARTS[:-1] if (root / name).is_dir()]
    folders = [one for part in (parts or [root]) for one in part.iterdir() if one.is_dir()]
    return sorted(
        {one.name for one in folders if one.name[0] != "." and _holds(one, IMAGE_SUFFIXES)}
    )


def _images_of(root: Path, name: str) -> list[Path]:
    parts = [root / part for part in _PARTS[:-1] if (root / part).is_dir()] or [root]
    return sorted(file for part in parts for file in (part / name).rglob("*") if _is_image(file))


def _holds(folder: Path, suffixes: tuple[str, ...]) -> bool:
    return folder.is_dir() and any(file.suffix.lower() in suffixes for file in folder.rglob("*"))


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and file.is_file() and file.name[0] != "."


def _counted(files: Iterator[Path] | list[Path]) -> str:
    counts = Counter(file.suffix.lower() or "without suffix" for file in files)
    return ", ".join(f"{number} {suffix}" for suffix, number in counts.most_common()) or "none"
