"""The table `[data]`, and files that it needs beside the data as they are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rfsearch.basics.images import is_file
from rfsearch.planning._found import Found
from rfsearch.target.annotations import Annotations, reasons
from rfsearch.target.mask_values import read_mask

#: Most objects in a mask of 16 bits.
_MOST = 65_535


def data_table(found: Found, stage: Path) -> dict[str, Any]:
    """What the table `[data]` says of files, which are written into `stage` where it needs others.

    Args:
        found: The data.
        stage: The folder to write into; relative paths start there.
    """

    def path(file: Path) -> str:
        return Path(os.path.relpath(file.resolve(), stage.resolve())).as_posix()

    if found.kind == "classification":
        return {"source": "folder", "path": path(found.source)}
    assert found.annotations is not None
    if found.kind == "detection":
        annotations = path(found.source)
        if found.is_derived:
            annotations = "annotations.json"
            _write_coco(found, stage / annotations)
        return {"source": "coco", "annotations": annotations, "images": path(found.images)}
    table: dict[str, Any] = {"source": "masks", "images": path(found.images)}
    if found.semantic:
        names = found.annotations.class_names
        _write_masks(found, stage / "instances", numbered=True)
        table |= {"masks": path(found.source), "instances": "instances"}
        table |= {"classes": ["background", *names], "values": [0, *map(int, names)]}
    else:
        _write_masks(found, stage / "masks", numbered=False)
        table |= {"masks": "masks", "instances": path(found.source)}
        table |= {"classes": ["background", "object"]}
    return table


def to_toml(values: dict[str, Any]) -> str:
    """Plain values, tables and lists of tables as TOML.

    >>> print(to_toml({"question": "Which?", "data": {"scale": 0.5, "values": [0, 1]}}))
    question = "Which?"
    <BLANKLINE>
    [data]
    scale = 0.5
    values = [0, 1]
    """
    plain = {name: one for name, one in values.items() if not _is_nested(one)}
    lines = [f"{name} = {json.dumps(one, ensure_ascii=False)}" for name, one in plain.items()]
    for name, one in values.items():
        if isinstance(one, dict):
            lines += ["", f"[{name}]", to_toml(one)]
        elif _is_nested(one):
            lines += [line for table in one for line in ("", f"[[{name}]]", to_toml(table))]
    return "\n".join(lines).strip("\n")


def _is_nested(value: Any) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)
    )


def _write_coco(found: Found, file: Path) -> None:
    """Objects that can be used, crowds included, as a COCO file."""
    annotations: Annotations | None = found.annotations
    assert annotations is not None
    classes = {name: number for number, name in enumerate(annotations.class_names, start=1)}
    images = [
        {"id": number, "file_name": one.file}
        | ({"height": one.size[0], "width": one.size[1]} if one.size else {})
        for number, one in enumerate(annotations.images, start=1)
    ]
    usable = [
        one
        for one, reason in zip(annotations.objects, reasons(annotations), strict=True)
        if reason is None and one.box is not None and one.image is not None
    ]
    objects = [
        {
            "id": number,
            "image_id": 1 + (one.image or 0),
            "category_id": classes[str(one.label)],
            "iscrowd": int(one.is_crowd),
            "bbox": [one.box.left, one.box.top, one.box.right - one.box.left,
                     one.box.bottom - one.box.top],
        }
        for number, one in enumerate(usable, start=1)
        if one.box is not None
    ]  # fmt: skip
    categories = [{"id": number, "name": name} for name, number in classes.items()]
    content = {"images": images, "annotations": objects, "categories": categories}
    file.write_text(json.dumps(content), encoding="utf-8")


def _write_masks(found: Found, folder: Path, *, numbered: bool) -> None:
    """Masks that number the parts of classes, or that say where numbered objects are."""
    from scipy.ndimage import label

    assert found.annotations is not None
    folder.mkdir()
    for one, file in zip(found.annotations.images, found.files, strict=True):
        if not is_file(file):
            continue
        mask = read_mask(found.source / one.file)
        place = folder / f"{Path(one.file).stem}.png"
        if not numbered:
            Image.fromarray((mask > 0).astype(np.uint8)).save(place)
            continue
        numbers = np.zeros(mask.shape, np.int64)
        for name in found.annotations.class_names:
            parts, _ = label(mask == int(name), structure=np.ones((3, 3)))
            numbers[parts > 0] = parts[parts > 0] + numbers.max()
        if numbers.max() > _MOST:
            raise ValueError(
                f"{found.source / one.file}: must have {_MOST:,} connected parts at most, but has "
                f"{numbers.max():,}: its values may be shades."
            )
        Image.fromarray(numbers.astype(np.uint16)).save(place)
