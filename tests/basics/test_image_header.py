from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from annotated import write
from PIL import Image

from rfsearch.basics.image_header import image_size

if TYPE_CHECKING:
    from pathlib import Path


def test_size_is_height_and_width(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg")
    assert image_size(tmp_path / "a.jpg") == (20, 30)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert image_size(tmp_path / "a.jpg") is None
    assert image_size(tmp_path) is None
    assert image_size(tmp_path / ("a" * 5000)) is None


def test_a_file_that_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.jpg: not a readable image"):
        image_size(write(tmp_path / "a.jpg", "nonsense"))


def test_an_image_too_large_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (30, 20)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"a\.png: not a readable image \(.*decompression bomb"):
        image_size(tmp_path / "a.png")
