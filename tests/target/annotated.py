"""Small files of annotations, and real ones from packages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: Left, top, width and height in px of three good objects in an image of 100 x 80 px.
BOXES = ([10, 10, 20, 5], [30, 20, 16, 16], [50, 30, 40, 40])
SIZES = [10.0, 16.0, 40.0]


def coco(*boxes: Any, **others: Any) -> dict[str, Any]:
    """A COCO file of one image with boxes of one class; keywords replace its lists."""
    annotations = [
        {"id": n, "image_id": 7, "category_id": 3, "bbox": box, "iscrowd": 0}
        for n, box in enumerate(boxes or BOXES)
    ]
    return {
        "images": [{"id": 7, "file_name": "a.png", "width": 100, "height": 80}],
        "categories": [{"id": 3, "name": "screw"}],
        "annotations": annotations,
        **others,
    }


def write_coco(folder: Path, content: Any = None) -> Path:
    path = folder / "coco.json"
    path.write_text(json.dumps(coco() if content is None else content))
    return path


def voc(*objects: str, size: str = "<size><width>100</width><height>80</height></size>") -> str:
    """A VOC file; each object is the inside of its element."""
    inside = "".join(f"<object>{one}</object>" for one in objects)
    return f"<annotation><filename>a.png</filename>{size}{inside}</annotation>"


def voc_object(left: Any, top: Any, right: Any, bottom: Any, name: str = "screw") -> str:
    edges = zip(("xmin", "ymin", "xmax", "ymax"), (left, top, right, bottom), strict=True)
    box = "".join(f"<{edge}>{value}</{edge}>" for edge, value in edges)
    return f"<name>{name}</name><bndbox>{box}</bndbox>"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
