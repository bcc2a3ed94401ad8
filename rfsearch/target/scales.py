"""Object scales from files of annotations, in any of the formats that are known."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Literal, get_args

from rfsearch.basics.files import read_bytes
from rfsearch.target._annotations_csv import read_csv
from rfsearch.target._annotations_cvat import read_cvat
from rfsearch.target._annotations_labelme import is_labelme, read_labelme
from rfsearch.target._annotations_masks import MASK_SUFFIXES, MaskReading, read_masks
from rfsearch.target._annotations_yolo import YAML_SUFFIXES, is_yolo, read_yolo
from rfsearch.target._measuring import measure_objects
from rfsearch.target._resizing import Resize, check_resize
from rfsearch.target.annotations import Annotations
from rfsearch.target.annotations_coco import read_coco
from rfsearch.target.annotations_voc import read_voc
from rfsearch.target.object_scales import ObjectScales

Format = Literal["coco", "voc", "yolo", "labelme", "cvat", "masks", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)

_READERS: dict[Format, Callable[[Path], Annotations]] = {
    "coco": read_coco,
    "voc": read_voc,
    "yolo": read_yolo,
    "labelme": read_labelme,
    "cvat": read_cvat,
    "masks": read_masks,
    "csv": read_csv,
}
#: Formats that are a file.
_OF_FILES = ("coco", "csv")
_BY_SUFFIX: dict[str, Format] = {
    ".json": "coco",
    ".xml": "voc",
    ".csv": "csv",
    **dict.fromkeys((".txt", *YAML_SUFFIXES), "yolo"),
    **dict.fromkeys(MASK_SUFFIXES, "masks"),
}
#: Up to the name of its root.
_ROOT_OF_CVAT = re.compile(rb"(?:[^<]|<[?!])*<annotations\b")
#: Folders of images, and files that are images and no masks.
_PHOTOS = frozenset({"images", "image", "imgs", "img", "Images", "JPEGImages"})
_PHOTO_SUFFIXES = (".jpg", ".jpeg", ".webp")
_KNOWN = f"it must be one of {', '.join(FORMATS)}"


def read_scales(
    path: str | Path,
    input_size: int | tuple[int, int] | None = None,
    resize: Resize | None = None,
    *,
    format: Format | Literal["auto"] = "auto",
    images: str | Path | None = None,
    semantic: bool | None = None,
    background: int | Literal["none"] | None = None,
    ignored: Collection[int] | None = None,
    classes: Sequence[str] = (),
) -> ObjectScales:
    """Read annotated objects and their sizes at a network's input resolution.

    What is wrong with the whole is an error; what is wrong with one object makes it skipped and
    counted (`rfsearch.target.object_scales` has the reasons).

    Args:
        path: A COCO file (.json), a file or a folder of VOC or CVAT (.xml), of LabelMe (.json) or
            of YOLO (.txt, or its data.yaml), a mask or a folder of masks, or a table of boxes
            (.csv).
        input_size: Of the network in px, one side or `(height, width)`.
        resize: How images are made to fit it: `"none"` (tiles or crops at native resolution),
            `"stretch"`, `"letterbox"` or `"shorter"`; see `rfsearch.target._resizing`. None is
            `"letterbox"` or, without an input size, `"none"`.
        format: Of the annotations; `"auto"` goes by the names of the files and, of XML and JSON,
            by what they hold. In a folder with XML files, these count; else LabelMe's JSON files
            do, else YOLO's texts.
        images: Folder of the images. Objects of those that are not there are skipped.
        semantic: Whether the values of masks are classes, whose connected components are the
            objects, or objects. None asks where that makes a difference.
        background: Value of the background of masks; "none" if there is none. None is 0, if that
            is plausible.
        ignored: Values of masks not to look at; None goes by `rfsearch.target.mask_values`.
        classes: Names of the classes to look at; all by default.

    Raises:
        ValueError: One line that says what cannot be read, and why: no such file, truncated, of
            another format, without a column; or that there is no object that can be used.
    """
    source, size = Path(path), _pair(input_size)
    way = check_resize(resize, size)
    folder = Path(images) if images else None
    annotations = read_annotations(
        source,
        format=format,
        images=folder,
        semantic=semantic,
        background=background,
        ignored=ignored,
    )
    found = measure_objects(annotations, size, way, folder)
    scales = found.only(classes) if classes else found
    if not len(scales):
        raise ValueError(
            f"{source}: must hold at least one object that can be used, but holds none"
            f"{' of ' + ', '.join(classes) if classes else ''} (skipped: {scales.skipped}"
            f"{''.join(f'; {note}' for note in scales.notes)})."
        )
    return scales


def read_annotations(
    source: Path,
    *,
    format: Format | Literal["auto"] = "auto",
    images: Path | None = None,
    semantic: bool | None = None,
    background: int | Literal["none"] | None = None,
    ignored: Collection[int] | None = None,
) -> Annotations:
    """Read annotated objects as they are; the arguments are those of `read_scales`.

    Raises:
        ValueError: One line that says what cannot be read, and why.
    """
    kind = _format(source, format)
    how = MaskReading(semantic, background, ignored)
    if how != MaskReading() and kind != "masks":
        name = next(name for name, value in vars(how).items() if value is not None)
        raise ValueError(f"{source}: `{name}` is for masks, but the format is {kind}.")
    if images is not None:
        _check_images(source, kind, images)
    if kind == "masks":
        return read_masks(source, how)
    if kind == "yolo":
        return read_yolo(source, images)
    return _READERS[kind](source)


def boxes_of_folder(folder: Path) -> Format | None:
    """The format of a folder with a file of boxes for each image; None if it is no such folder."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    xml = next((file for file in files if file.suffix.lower() == ".xml"), None)
    if xml is not None:
        return _format_by_name(xml)
    if any(file.suffix.lower() == ".json" and is_labelme(file) for file in files):
        return "labelme"
    return "yolo" if is_yolo(folder, files) else None


def _check_images(source: Path, kind: Format, images: Path) -> None:
    if kind == "masks":
        raise ValueError(f"{source}: `images` is for boxes; masks have a size of their own.")
    if not images.is_dir():
        raise ValueError(f"{images}: there is no such folder of images.")


def _pair(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise ValueError(f"`input_size` must be at least 1 px, but got {size}.")
    return height, width


def _format(source: Path, stated: str) -> Format:
    """The format as stated, or by the names of the files."""
    if not source.exists():
        raise ValueError(f"{source}: there is no such file or folder.")
    if stated == "auto":
        return _format_by_name(source)
    known = next((one for one in FORMATS if one == stated), None)
    if known is None:
        choices = ", ".join(("auto", *FORMATS))
        raise ValueError(f"`format` must be one of {choices}, but got {stated!r}.")
    if source.is_dir() and known in _OF_FILES:
        raise ValueError(f"{source}: annotations of format {known} are a file, not a folder.")
    return known


def _format_by_name(source: Path) -> Format:
    if source.is_dir():
        return _format_of_folder(source)
    suffix = source.suffix.lower()
    if suffix not in _BY_SUFFIX:
        raise ValueError(f"{source}: the format of a {suffix} file is not known; {_KNOWN}.")
    if suffix == ".json" and is_labelme(source):
        return "labelme"
    if suffix == ".xml" and _ROOT_OF_CVAT.match(read_bytes(source)):
        return "cvat"
    return _BY_SUFFIX[suffix]


def _format_of_folder(folder: Path) -> Format:
    """One file for each image, or masks and nothing that masks are not given with."""
    if (boxes := boxes_of_folder(folder)) is not None:
        return boxes
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    suffixes = Counter(file.suffix.lower() for file in files)
    counts = ", ".join(f"{number} {suffix}" for suffix, number in suffixes.most_common())
    masks = [file for file in files if file.suffix.lower() in MASK_SUFFIXES]
    if not masks:
        what = f"a folder without .xml files and masks (it holds {counts or 'nothing'})"
        raise ValueError(f"{folder}: the format of {what} is not known; {_KNOWN}.")
    photos = [file for file in masks if _PHOTOS & {*file.relative_to(folder).parent.parts}]
    others = [file for file in files if file.suffix.lower() in (".json", ".csv", *_PHOTO_SUFFIXES)]
    if odd := [*photos, *others]:
        raise ValueError(
            f"{folder}: is not a folder of masks alone: it holds {counts}, such as "
            f"{odd[0].relative_to(folder)}. Give the annotations (a .json or .csv file, or a "
            "folder of .xml, .json or .txt files), or the folder that holds the masks."
        )
    return "masks"
