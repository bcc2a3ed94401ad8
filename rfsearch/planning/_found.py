"""What was found: data of one kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from rfsearch.target.annotations import Annotations

Kind = Literal["classification", "detection", "segmentation"]
KINDS: tuple[Kind, ...] = get_args(Kind)
IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "JPEGImages")


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
        is_derived: Whether an experiment needs its annotations written anew, as a COCO file.
        valid: Patterns of the names of images that validate; empty if nothing says so.
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
    is_derived: bool = False
    valid: tuple[str, ...] = ()


def is_image(file: Path) -> bool:
    """Whether a file's name is that of an image that is not hidden."""
    return file.suffix.lower() in IMAGE_SUFFIXES and file.is_file() and file.name[0] != "."


def counted(files: Iterable[Path]) -> str:
    """How many files there are of each suffix, in words."""
    counts = Counter(file.suffix.lower() or "without suffix" for file in files)
    return ", ".join(f"{number} {suffix}" for suffix, number in counts.most_common()) or "none"
