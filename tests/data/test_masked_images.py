from __future__ import annotations

import re
import warnings
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
    with pytest.warns(UserWarning, match=r"masks: 4\.17% of the pixels are .* value is 255\.$"):
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
        f"{tmp_path / 'masks' / '0.png'}: the value 2 is no class: these are 0, 1, and ignored is "
        "none. State others as `values`, one for each class, or as `ignored`."
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


# -- what values mean -------------------------------------------------------------------------

TWO = ("background", "object")


def write_values(folder: Path, values: dict[int, int]) -> Path:
    """Images and masks where 0, dim and bright have other values."""
    write_masked(folder)
    for n in range(3):
        numbers = np.array([values[one] for one in range(3)])[masked(seed=n).classes]
        Image.fromarray(numbers.astype(np.uint8)).save(folder / "masks" / f"{n}.png")
    return folder


def load_values(folder: Path, **options: Any) -> SegmentationData:
    return masked_images(
        folder / "images", folder / "masks", TWO, Tiling(image_size=32, valid_share=0.34),
        **options,
    )  # fmt: skip


#: Values of background, dim and bright squares; options; which of them are objects; what is said.
MEANINGS: dict[str, tuple[tuple[int, int, int], dict[str, Any], tuple[int, ...], str]] = {
    "from 0": ((0, 1, 1), {}, (1, 2), ""),
    "binary": ((0, 255, 255), {}, (1, 2), "the value 0 is 'background'; the value 255 is 'object"),
    "void": ((0, 255, 1), {}, (2,), r"% of the pixels are ignored, as their value is 255\."),
    "stated": ((7, 9, 9), {"values": (7, 9)}, (1, 2), "the value 7 is 'back.*; the value 9 is 'o"),
    "inverted": ((255, 0, 0), {"values": (255, 0)}, (1, 2), "the value 255 is 'background'"),
    "another void": ((0, 3, 1), {"ignored": (3,)}, (2,), "ignored, as their value is 3"),
}


@pytest.mark.parametrize("name", MEANINGS)
@pytest.mark.parametrize("in_memory", [True, False])
def test_what_values_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, in_memory: bool
) -> None:
    monkeypatch.setenv("RFSEARCH_CACHE", str(tmp_path / "cache"))
    values, options, objects, said = MEANINGS[name]
    write_values(tmp_path, dict(enumerate(values)))
    tiling = Tiling(image_size=32, valid_share=0.34, in_memory=in_memory)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = masked_images(tmp_path / "images", tmp_path / "masks", TWO, tiling, **options)
    told = [str(warning.message) for warning in caught if warning.category is UserWarning]
    assert len(told) == bool(said)
    assert all(re.search(said, one) for one in told)
    for images, masks in (
        (data.train_images, data.train_masks), (data.valid_images, data.valid_masks)
    ):  # fmt: skip
        shown, shades = masks[:], images[:][:, 0]
        for place, is_there in ((1, shades == 120), (2, shades == 240)):
            assert set(shown[is_there].tolist()) == {1 if place in objects else IGNORED}
        assert set(shown[shades < 50].tolist()) == {0}


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ((0, 0, 0), {}, "tiles for training must show two classes or more, but show 'background'"),
        ((255, 255, 255), {"ignored": (255,)}, "two classes or more, but show ignored pixels"),
        ((255, 255, 255), {}, "two classes or more, but show 'object'"),
        ((0, 255, 255), {"ignored": (255,)}, "or more, but show 'background'"),
        (
            (0, 128, 255),
            {},
            r"0\.png: the value 128 is no class: .* ignored is 2",
        ),
        ((1, 2, 2), {}, r"0\.png: the value 2 is no class: these are 0, 1"),
        ((0, 1, 1), {"values": (0,)}, "`values` must be 2 different numbers"),
        ((0, 1, 1), {"values": (1, 1)}, "`values` must be 2 different numbers"),
        ((0, 1, 1), {"values": (0, 1), "ignored": (1,)}, "and none in `ignored`, but got"),
    ],
)
def test_values_that_tell_nothing_are_refused(
    tmp_path: Path, values: tuple[int, ...], options: dict[str, Any], message: str
) -> None:
    write_values(tmp_path, dict(enumerate(values)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=message):
            load_values(tmp_path, **options)


def test_void_of_instances_is_no_object(tmp_path: Path) -> None:
    write_masked(tmp_path)
    for n in range(3):
        numbers = masked(seed=n).instances
        assert numbers is not None
        numbers[40:, :60][numbers[40:, :60] == 0] = 255
        Image.fromarray(numbers.astype(np.uint8)).save(tmp_path / "instances" / f"{n}.png")
    data = load(tmp_path)
    assert data.object_sizes is not None
    assert len(data.object_sizes) == 24
    assert max(data.object_sizes) <= 12


def test_smoothed_masks_are_refused(tmp_path: Path) -> None:
    write_values(tmp_path, {0: 0, 1: 255, 2: 255})
    with Image.open(tmp_path / "masks" / "0.png") as mask:
        smooth = mask.resize((93, 61), Image.Resampling.BILINEAR).resize((96, 64))
    smooth.save(tmp_path / "masks" / "0.png")
    with pytest.raises(ValueError, match=r"0\.png: not a mask but shades"):
        load_values(tmp_path)
