from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from rfsearch.data.image_pixels import pixel_shape, read_numbers, read_pixels


def ramp(highest: int, dtype: type) -> np.ndarray:
    return np.linspace(0, highest, 64).round().astype(dtype).reshape(8, 8)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("highest", [235, 4095, 65535])
def test_16_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str, highest: int) -> None:
    file = tmp_path / f"deep.{suffix}"
    Image.fromarray(ramp(highest, np.uint16)).save(file)
    pixels = read_pixels(file)
    assert pixels.shape == pixel_shape(file)
    assert (pixels.shape, pixels.dtype) == ((8, 8, 1), np.uint8)
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert pixels[..., 0] == pytest.approx(np.linspace(0, 255, 64).reshape(8, 8), abs=1.1)


def test_a_deep_image_of_one_shade_is_black(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 900, np.uint16)).save(tmp_path / "flat.png")
    assert not read_pixels(tmp_path / "flat.png").any()


def test_a_tiff_that_pillow_cannot_read(tmp_path: Path) -> None:
    file = tmp_path / "floats.tif"
    values = np.stack([ramp(1000, np.uint16)] * 3, axis=2)
    tifffile.imwrite(file, values.astype(np.float32), photometric="rgb")
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(file)
    pixels = read_pixels(file)
    assert pixels.shape == pixel_shape(file) == (8, 8, 3)
    assert (pixels[..., 0] == pixels[..., 2]).all()
    assert pixels.max() == 255


@pytest.mark.parametrize(
    ("mode", "channels"), [("L", 1), ("1", 1), ("RGB", 3), ("RGBA", 3), ("P", 3), ("CMYK", 3)]
)
def test_channels_follow_the_kind_of_file(tmp_path: Path, mode: str, channels: int) -> None:
    file = tmp_path / "x.tif"
    Image.fromarray(ramp(255, np.uint8)).convert(mode).save(file)
    assert read_pixels(file).shape == pixel_shape(file) == (8, 8, channels)


def test_8_bits_stay_as_they_are(tmp_path: Path) -> None:
    Image.fromarray(ramp(100, np.uint8)).save(tmp_path / "x.png")
    assert (read_pixels(tmp_path / "x.png")[..., 0] == ramp(100, np.uint8)).all()


def test_images_and_masks_are_resized_to_the_same_size(tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    values = np.zeros((10, 21), np.uint8)
    values[:5] = 200
    Image.fromarray(values).save(file)
    for scale, size in ((0.5, (5, 10)), (2, (20, 42)), (0.01, (1, 1))):
        assert read_pixels(file, scale).shape == pixel_shape(file, scale) == (*size, 1)
        numbers = read_numbers(file, scale)
        assert numbers.shape == size
        assert set(np.unique(numbers)) <= {0, 200}
    assert (read_numbers(file, 2)[:10] == 200).all()
    assert not read_numbers(file, 2)[10:].any()


def test_the_numbers_of_a_palette_are_its_indices(tmp_path: Path) -> None:
    values = np.kron([[0, 1], [2, 255]], np.ones((2, 2))).astype(np.uint8)
    image = Image.fromarray(values).convert("P")
    image.putpalette([9] * 768)
    image.save(tmp_path / "x.png")
    assert np.array_equal(read_numbers(tmp_path / "x.png"), values)


def test_deep_numbers_are_kept(tmp_path: Path) -> None:
    values = np.kron([[0, 300], [65535, 7]], np.ones((2, 2))).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png")
    assert np.array_equal(read_numbers(tmp_path / "x.png"), values)


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    for read in (read_pixels, read_numbers, pixel_shape):
        with pytest.raises(ValueError, match=r"not a readable image \(") as error:
            read(file)
        assert str(error.value).startswith(f"{file}: ")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.tif: cannot be read \(No such file"):
        read_pixels(tmp_path / "gone.tif")


def test_a_stack_of_images_is_refused(tmp_path: Path) -> None:
    for name, shape in (("stack", (5, 8, 8, 2)), ("line", (9,))):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.zeros(shape, np.float64))
        for read in (read_pixels, pixel_shape):
            with pytest.raises(ValueError, match=r"must be an image in grey or RGB, but has the"):
                read(tmp_path / f"{name}.tif")


def test_a_coloured_mask_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"x\.png: a mask must have one channel of whole numbers"):
        read_numbers(tmp_path / "x.png")


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    values = np.ones((8, 8), np.float32)
    values[0, 0] = np.inf
    tifffile.imwrite(tmp_path / "x.tif", values)
    with pytest.raises(ValueError, match=r"x\.tif: must hold finite values, but"):
        read_pixels(tmp_path / "x.tif")
