from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from annotated import write
from PIL import Image, PngImagePlugin

from rfsearch.basics.images import ImageHeader, read_header, read_numbers, read_pixels

FORMATS = ("jpg", "png", "webp", "tif")


def scene() -> np.ndarray[Any, Any]:
    """An upright scene of 24 x 40 px with a bright object at its upper left."""
    values = np.full((24, 40, 3), 20, np.uint8)
    values[:8, :16] = 230
    return values


#: How to store an upright image so that EXIF's orientation turns it back.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


def save_turned(path: Path, orientation: int, values: np.ndarray[Any, Any] | None = None) -> Path:
    """Save an upright image as a camera does that was held in another way."""
    stored = STORED[orientation](scene() if values is None else values)
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    return path


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("orientation", STORED)
def test_images_are_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    file = save_turned(tmp_path / f"a.{suffix}", orientation)
    header = read_header(file)
    assert header == ImageHeader((24, 40), 3, orientation)
    assert header.stored_size == ((40, 24) if orientation >= 5 else (24, 40))
    pixels = read_pixels(file)
    assert pixels.shape == (24, 40, 3)
    assert pixels[1:7, 1:15].mean() == pytest.approx(230, abs=5)
    assert pixels[10:].mean() == pytest.approx(20, abs=5)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("orientation", STORED)
def test_masks_are_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    values = scene()[..., 0] // 200
    file = save_turned(tmp_path / f"a.{suffix}", orientation, values)
    assert read_header(file) == ImageHeader((24, 40), 1, orientation)
    assert np.array_equal(read_numbers(file), values)


def chunk(name: bytes, content: bytes) -> bytes:
    checked = name + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


@pytest.mark.parametrize("name", [b"eXIf", b"zTXt"])
def test_an_orientation_behind_the_pixels_of_a_png(tmp_path: Path, name: bytes) -> None:
    file = save_turned(tmp_path / "a.png", 6)
    with Image.open(file) as image:
        exif = image.info["exif"]
    Image.fromarray(np.ascontiguousarray(STORED[6](scene()))).save(file)
    raw = b"\nexif\n%8d\n%s\n" % (len(exif), exif.hex().encode())
    content = exif.removeprefix(b"Exif\0\0")
    if name == b"zTXt":
        content = b"Raw profile type exif\0\0" + zlib.compress(raw)
    end = file.read_bytes().rindex(b"IEND") - 4
    file.write_bytes(file.read_bytes()[:end] + chunk(name, content) + chunk(b"IEND", b""))
    assert read_header(file) == ImageHeader((24, 40), 3, 6)
    assert read_pixels(file)[:8, :16].min() == 230


def test_the_header_of_a_png_is_read_without_its_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save_turned(tmp_path / "a.png", 6)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda _: pytest.fail("decoded"))
    assert read_header(file).size == (24, 40)


@pytest.mark.parametrize("orientation", [0, 9, 99])
def test_orientations_that_are_none(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(scene()).save(tmp_path / "a.jpg", exif=exif)
    assert read_header(tmp_path / "a.jpg") == ImageHeader((24, 40), 3, 1)


def test_previews_behind_a_photograph_do_not_matter(tmp_path: Path) -> None:
    image = Image.fromarray(scene())
    image.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[image.resize((4, 2))])
    assert read_pixels(tmp_path / "a.jpg").shape == (24, 40, 3)
    assert read_header(tmp_path / "a.jpg").size == (24, 40)


# -- more than 8 bits ------------------------------------------------------------------------


def deep(highest: int) -> np.ndarray[Any, Any]:
    return np.linspace(0, highest, 64 * 3).round().astype(np.uint16).reshape(8, 8, 3)


def save_deep(path: Path, values: np.ndarray[Any, Any]) -> Path:
    """Save 16 bits, which Pillow cannot for colours."""
    if path.suffix == ".tif":
        tifffile.imwrite(path, values, photometric="rgb" if values.ndim == 3 else "minisblack")
        return path
    height, width = values.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, 16, 2 if values.ndim == 3 else 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize(("suffix", "colours"), [("png", False), ("tif", False), ("tif", True)])
@pytest.mark.parametrize("highest", [235, 1023, 4095, 65535])
def test_no_level_of_deep_images_is_lost(
    tmp_path: Path, suffix: str, colours: bool, highest: int
) -> None:
    values = deep(highest) if colours else deep(highest)[..., 0]
    file = save_deep(tmp_path / f"a.{suffix}", values)
    pixels = read_pixels(file)
    assert (*read_header(file).size, read_header(file).channels) == pixels.shape
    assert len(np.unique(pixels)) == len(np.unique(values)) == (192 if colours else 64)
    expected = 255 * (values.reshape(pixels.shape) / values.max())
    assert pixels == pytest.approx(expected, abs=0.51)


def test_colours_that_would_lose_levels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.png: .* colours of 16 bits: save it as TIFF"):
        read_pixels(save_deep(tmp_path / "a.png", deep(4095)))


# -- what is refused -------------------------------------------------------------------------


def test_size_is_height_and_width(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg")
    assert read_header(tmp_path / "a.jpg").size == (20, 30)


def test_a_file_that_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.jpg: not a readable image \(of no known format\)"):
        read_header(write(tmp_path / "a.jpg", "nonsense"))


def test_an_image_too_large_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (30, 20)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"a\.png: not a readable image \(.*decompression bomb"):
        read_header(tmp_path / "a.png")


@pytest.mark.parametrize(("suffix", "options"), [("jpg", {}), ("tif", {"compression": "jpeg"})])
def test_masks_that_jpeg_has_changed(tmp_path: Path, suffix: str, options: Any) -> None:
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(scene()[..., 0]).save(file, **options)
    with pytest.raises(ValueError, match=r"a\..* a mask must not be stored as JPEG"):
        read_numbers(file)
