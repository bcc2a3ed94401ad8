"""Where an experiment's images come from, as a file says it; this also says what is learned.

| `source` | images | task |
|---|---|---|
| `digits` | scenes of handwritten digits | classification |
| `folder` | one subfolder per class | classification |
| `masks` | a folder of images, and one of masks | segmentation |
| `nuclei` | inside the package stardist | segmentation |
| `coco`, `voc` | a folder of images, and annotated boxes | detection |
| `trees`, `buildings` | inside the packages deepforest and solaris | detection |
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from rfsearch.basics.limits import Amount, ImageSide, Seed
from rfsearch.basics.validation import FrozenData
from rfsearch.data import package_images
from rfsearch.data.boxed_images import coco_images, voc_images
from rfsearch.data.datasets import DetectionData, ImageData, SegmentationData
from rfsearch.data.masked_images import masked_images
from rfsearch.data.sources import digit_scenes, image_folder
from rfsearch.data.tiles import AreaTiling, Tiling


class DigitsConfig(FrozenData):
    """Scenes of a whole digit among fragments; see `rfsearch.data.sources.digit_scenes`."""

    source: Literal["digits"]
    object_size: ImageSide = 18
    canvas_size: ImageSide = 48
    coverage: Annotated[float, Field(ge=0, strict=False, allow_inf_nan=False)] = 1.0
    num_train: Annotated[Amount, Field(ge=2)] = 5000
    num_valid: Amount = 2000
    seed: Seed = 0

    def load(self, folder: Path) -> ImageData:
        """Make the scenes; `folder` does not matter."""
        return digit_scenes(**self.model_dump(exclude={"source"}))


class FolderConfig(FrozenData):
    """A folder with one subfolder of images per class; see `rfsearch.image_folder`."""

    source: Literal["folder"]
    path: str
    image_size: ImageSide
    valid_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    seed: Seed = 0
    in_memory: bool | None = None

    def load(self, folder: Path) -> ImageData:
        """Read the images; a relative path starts at the experiment's folder."""
        options = self.model_dump(exclude={"source", "path"})
        return image_folder(folder / self.path, **options)


class MasksConfig(Tiling):
    """Images and masks of the same names; see `rfsearch.data.masked_images`."""

    source: Literal["masks"]
    images: str
    masks: str
    instances: str | None = None
    classes: Annotated[tuple[str, ...], Field(strict=False, min_length=2, max_length=255)]
    values: Annotated[tuple[int, ...], Field(strict=False)] | None = None
    ignored: Annotated[tuple[int, ...], Field(strict=False)] | None = None

    def load(self, folder: Path) -> SegmentationData:
        """Read the images; relative paths start at the experiment's folder."""
        instances = folder / self.instances if self.instances else None
        return masked_images(
            folder / self.images,
            folder / self.masks,
            self.classes,
            self,
            instances,
            self.values,
            self.ignored,
        )


class CocoConfig(Tiling):
    """Images and a COCO file; see `rfsearch.data.boxed_images.coco_images`."""

    source: Literal["coco"]
    annotations: str
    images: str

    def load(self, folder: Path) -> DetectionData:
        """Read the images; relative paths start at the experiment's folder."""
        return coco_images(folder / self.annotations, folder / self.images, self)


class VocConfig(Tiling):
    """Images and VOC files; see `rfsearch.data.boxed_images.voc_images`."""

    source: Literal["voc"]
    annotations: str
    images: str

    def load(self, folder: Path) -> DetectionData:
        """Read the images; relative paths start at the experiment's folder."""
        return voc_images(folder / self.annotations, folder / self.images, self)


class NucleiConfig(AreaTiling):
    """The nuclei inside stardist; see `rfsearch.data.package_images.nuclei`."""

    source: Literal["nuclei"]

    def load(self, folder: Path) -> SegmentationData:
        """Read the image; `folder` does not matter."""
        return package_images.nuclei(self)


class TreesConfig(AreaTiling):
    """The trees inside deepforest; see `rfsearch.data.package_images.trees`."""

    source: Literal["trees"]
    num_images: Annotated[int, Field(ge=1, le=len(package_images.TREE_IMAGES))] = len(
        package_images.TREE_IMAGES
    )

    def load(self, folder: Path) -> DetectionData:
        """Read the images; `folder` does not matter."""
        return package_images.trees(self, self.num_images)


class BuildingsConfig(AreaTiling):
    """The buildings inside solaris; see `rfsearch.data.package_images.buildings`."""

    source: Literal["buildings"]

    def load(self, folder: Path) -> DetectionData:
        """Read the image; `folder` does not matter."""
        return package_images.buildings(self)


DataConfig = Annotated[
    DigitsConfig
    | FolderConfig
    | MasksConfig
    | CocoConfig
    | VocConfig
    | NucleiConfig
    | TreesConfig
    | BuildingsConfig,
    Field(discriminator="source"),
]
