from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from squares import masked, write_masked

from rfsearch.data.datasets import IGNORED, SegmentationData
from rfsearch.data.masked_images import masked_images
from rfsearch.data.tiles import Tiling

TILING = Tiling(image_size=32, valid_share=0.34)
NAMES = ("background", "dim", "bright")


def load(folder: Path, instances: bool = True, **options: Any) -> SegmentationData:
    return masked_images(
        folder / "images",
        folder / "masks",
        options.get("names", NAMES),
        options.get("tiling", TILING),
        folder / "instances" if instances else None,
    )


def refusal(folder: Path, **options: Any) -> str:
    """The one line that says what is wrong."""
    with pytest.raises(ValueError, match=r"\S") as error:
        load(folder, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_images_masks_and_instances_belong_together(tmp_path: Path) -> None:
    data = load(write_masked(tmp_path))
    assert data.class_names == NAMES
    assert (data.in_chans, data.image_size) == (1, (32, 32))
    assert (len(data.train_images), len(data.valid_images)) == (2 * 3 * 5, 2 * 3)
    for images, masks in (
        (data.train_images, data.train_masks),
        (data.valid_images, data.valid_masks),
    ):
        assert torch.equal(masks == 0, images[:, 0] < 50)
        assert torch.equal(masks == 2, images[:, 0] == 240)
    assert data.object_sizes is not None
    assert len(data.object_sizes) == 24
    assert data.valid_instances is not None


def test_instances_are_optional(tmp_path: Path) -> None:
    data = load(write_masked(tmp_path), instances=False)
    assert data.object_sizes is None
    assert data.valid_instances is None


def test_suffixes_may_differ_and_255_is_ignored(tmp_path: Path) -> None:
    write_masked(tmp_path)
    mask = masked(seed=0).classes
    mask[:8] = 255
    (tmp_path / "masks" / "0.png").unlink()
    Image.fromarray(mask).save(tmp_path / "masks" / "0.tif")
    data = load(tmp_path)
    ignored = (torch.cat([data.train_masks, data.valid_masks]) == IGNORED).any()
    assert bool(ignored)


def test_masks_are_resized_with_their_images(tmp_path: Path) -> None:
    half = load(write_masked(tmp_path), tiling=Tiling(image_size=16, valid_share=0.34, scale=0.5))
    whole = load(tmp_path)
    assert half.object_sizes == pytest.approx(np.asarray(whole.object_sizes) / 2, abs=1)
    assert len(half.train_images) == len(whole.train_images)


def test_files_without_a_partner_are_left_out_and_counted(tmp_path: Path) -> None:
    write_masked(tmp_path, number=5)
    (tmp_path / "images" / "4.png").unlink()
    (tmp_path / "masks" / "3.png").unlink()
    with pytest.warns(UserWarning, match="skipped") as caught:
        data = load(tmp_path)
    assert [str(warning.message) for warning in caught] == [
        f"{tmp_path / 'images'}: skipped 2 x image, mask or instances without the others."
    ]
    assert len(data.train_images) + len(data.valid_images) == 2 * 3 * 5 + 2 * 3


def test_a_class_without_a_name_is_refused(tmp_path: Path) -> None:
    line = refusal(write_masked(tmp_path), names=NAMES[:2])
    assert line == (
        f"{tmp_path / 'masks' / '0.png'}: classes must be below 2, or 255 to be ignored, but "
        "there is 2."
    )


@pytest.mark.parametrize("folder", ["masks", "instances"])
def test_a_mask_of_another_size_is_refused(tmp_path: Path, folder: str) -> None:
    file = write_masked(tmp_path) / folder / "1.png"
    Image.new("L", (90, 64)).save(file)
    assert refusal(tmp_path) == (
        f"{file}: {tmp_path / 'images' / '1.png'} must be 64x90 px as annotated, but is 64x96 px "
        "(height x width)."
    )


@pytest.mark.parametrize("folder", ["images", "masks", "instances"])
def test_what_cannot_be_read_is_named(tmp_path: Path, folder: str) -> None:
    file = write_masked(tmp_path) / folder / "1.png"
    file.write_bytes(b"nothing")
    assert refusal(tmp_path).startswith(f"{file}: not a readable image (")


def test_missing_folders_are_named(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path / 'images'}: there is no such folder."


def test_folders_without_common_names_are_named(tmp_path: Path) -> None:
    write_masked(tmp_path, number=1)
    (tmp_path / "masks" / "0.png").rename(tmp_path / "masks" / "a.png")
    line = refusal(tmp_path, instances=False)
    assert line.endswith(f"{tmp_path / 'masks'}: no name of a file is in all of these folders.")
