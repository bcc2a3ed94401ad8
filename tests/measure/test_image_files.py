from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rfsearch.measure.image_files import read_folder, read_image


def save(path: Path, value: int, size: tuple[int, int] = (8, 8)) -> None:
    """A grey image of one value; `size` is height and width."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(path)


def test_flat_folder(tmp_path: Path) -> None:
    for value in (10, 20, 30):
        save(tmp_path / f"{value}.png", value)
    (tmp_path / "notes.txt").write_text("no image")
    images = read_folder(tmp_path, (4, 6), channels=3, limit=10)
    assert images.shape == (3, 3, 4, 6)
    np.testing.assert_allclose(images[:, 0, 0, 0] * 255, [10, 20, 30], rtol=1e-6)


def test_class_folders_share_the_limit(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / "cat" / f"{number}.png", 0)
        save(tmp_path / "dog" / f"{number}.png", 255)
    images = read_folder(tmp_path, (8, 8), channels=1, limit=4)
    assert images.shape == (4, 1, 8, 8)
    assert images[:, 0, 0, 0].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("size", [(8, 8), (4, 12), (12, 4), (5, 7)])
def test_image_covers_the_size(tmp_path: Path, size: tuple[int, int]) -> None:
    # White with a black border row: a resized image that did not cover would be padded black.
    save(tmp_path / "a.png", 255, (9, 16))
    image = np.asarray(read_image(tmp_path / "a.png", size))
    assert image.shape == size
    assert image.min() == 255


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none: there is no such folder of images\.$"):
        read_folder(tmp_path / "none", (8, 8), 3, 4)


def test_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    with pytest.raises(ValueError, match="there is no image in this folder or its subfolders"):
        read_folder(tmp_path, (8, 8), 3, 4)


def test_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"broken\.png: not a readable image"):
        read_folder(tmp_path, (8, 8), 3, 4)


def test_channels_that_no_image_has(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 5)
    with pytest.raises(ValueError, match="images have 1 or 3 channels, but the model takes 5"):
        read_folder(tmp_path, (8, 8), 5, 4)


def test_a_bomb_of_an_image_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "huge.png"
    Image.new("L", (64, 64)).save(file)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"huge\.png: not a readable image \(Image size \(4096"):
        read_image(file, (8, 8))
