"""No number in a file exhausts the machine: each is bounded, in one clear line."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import TINY_SPACE, refusal, rfsearch
from PIL import Image
from studies import open_study

from rfsearch.basics import limits
from rfsearch.basics.limits import check_combinations, check_memory
from rfsearch.basics.validation import parse
from rfsearch.data.image_pixels import read_numbers, read_pixels
from rfsearch.data.scenes import make_scenes
from rfsearch.data.sources import image_folder
from rfsearch.data.tile_data import BoxedImage, MaskedImage, detection_data, segmentation_data
from rfsearch.data.tiles import AreaTiling
from rfsearch.search.experiment import Experiment
from rfsearch.space.space import SearchSpace

EXPERIMENT: dict[str, dict[str, Any]] = {
    "target": {"min_size": 6, "max_size": 8},
    "data": {"source": '"digits"', "object_size": 12, "canvas_size": 16, "num_train": 8},
    "training": {"epochs": 1},
    "search": {"trained_trials": 1},
}


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a memory of a megabyte."""
    sizes = {"SC_PHYS_PAGES": 256, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(limits.os, "sysconf", sizes.__getitem__)


def write(folder: Path, table: str = "search", **values: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "space.toml").write_text(TINY_SPACE)
    text = 'space = "space.toml"\n'
    for name, entries in EXPERIMENT.items():
        lines = entries | (values if name == table else {})
        text += f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())
    (folder / "experiment.toml").write_text(text)
    return folder


# -- single numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", [10**9, 10**30])
@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("data", "object_size"),
        ("data", "canvas_size"),
        ("data", "num_train"),
        ("data", "num_valid"),
        ("data", "seed"),
        ("training", "epochs"),
        ("training", "seconds"),
        ("training", "batch_size"),
        ("training", "max_shift"),
        ("training", "seed"),
        ("search", "trained_trials"),
        ("search", "max_trials"),
        ("search", "startup_trials"),
        ("search", "keep_weights"),
        ("search", "seed"),
    ],
)
def test_a_number_in_an_experiment_is_bounded(
    tmp_path: Path, table: str, key: str, value: int
) -> None:
    value += 2**32 * (key == "seed")
    folder = write(tmp_path / "huge", table, **{key: value})
    with pytest.raises(ValueError, match=rf"{key}: .*(less than|valid integer)") as error:
        Experiment.load(folder, "cpu")
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in folder.iterdir()) == ["experiment.toml", "space.toml"]


def test_a_time_without_end_is_refused(tmp_path: Path) -> None:
    for value in ("inf", "nan"):
        with pytest.raises(ValueError, match=f"training, seconds: .*but got {value}"):
            Experiment.load(write(tmp_path / "huge", "training", seconds=value), "cpu")


def test_the_command_says_it_in_one_line(tmp_path: Path) -> None:
    folder = write(tmp_path / "huge", "data", canvas_size=100_000)
    out = tmp_path / "out"
    for command in (("run",), ("worker",), ("export", "--no-onnx", "--out", out)):
        line = refusal(rfsearch(*command, folder))
        assert "canvas_size: Input should be less than or equal to 8192, but got 100000." in line


def test_the_largest_seed_can_be_drawn_from(tmp_path: Path) -> None:
    experiment = Experiment.load(write(tmp_path / "tiny", seed=2**32 - 1), "cpu")
    study = open_study(experiment)
    study.tell(study.ask(), state=None, values=0.0)
    assert open_study(experiment, alone=False).ask().number == 1


# -- products ---------------------------------------------------------------------------------


def test_memory_is_said_in_gigabytes(small_machine: None) -> None:
    check_memory(2**20, "pixels")
    with pytest.raises(
        ValueError, match=r"^pixels must fit into the memory of this machine, 0\.0 GB, but need 5"
    ):
        check_memory(5e9, "pixels")


def test_the_memory_is_that_of_this_machine() -> None:
    check_memory(1e6, "pixels")
    with pytest.raises(ValueError, match="but need 1,000,000,000,000"):
        check_memory(1e21, "pixels")


def test_images_that_exceed_the_memory_are_refused_before_they_are_made(tmp_path: Path) -> None:
    there_is = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    number = there_is // 4096**2 + 1
    folder = write(tmp_path / "huge", "data", canvas_size=4096, num_train=number)
    line = refusal(rfsearch("run", folder, "--device", "cpu"))
    assert f"{number:,} scenes with object_size=12 and canvas_size=4096 must fit into" in line


def test_large_objects_are_refused_before_they_are_made(small_machine: None) -> None:
    objects = np.full((50, 4, 4), 255, np.uint8)
    labels = np.arange(50)
    with pytest.raises(ValueError, match="1 scenes with object_size=90 and canvas_size=90"):
        make_scenes(objects, labels, 1, object_size=90, canvas_size=90)
    assert len(make_scenes(objects, labels, 1, object_size=8, canvas_size=90).images) == 1


@pytest.mark.filterwarnings("ignore:Copies of images are in both parts")
def test_a_folder_that_exceeds_the_memory_is_refused(small_machine: None, tmp_path: Path) -> None:
    for name, number in product("ab", range(2)):
        (tmp_path / name).mkdir(exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / name / f"{number}.png")
    with pytest.raises(ValueError, match="4 images with image_size=600 must fit into"):
        image_folder(tmp_path, image_size=600, in_memory=True)
    assert len(image_folder(tmp_path, image_size=8).train_images) == 2


def test_images_are_not_enlarged_beyond_the_memory(small_machine: None, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.new("L", (100, 100)).save(file)
    for read in (read_pixels, read_numbers):
        assert read(file, 2.0).shape[:2] == (200, 200)
        with pytest.raises(ValueError, match=r"a\.png: 1600x1600 px after resizing must fit into"):
            read(file, 16.0)


def test_tiles_that_exceed_the_memory_are_refused(small_machine: None) -> None:
    pixels = np.zeros((200, 200, 3), np.uint8)
    corners = np.array([[8.0, 8, 20, 20], [180, 180, 190, 190]])
    boxed = BoxedImage(pixels, corners, np.zeros(2, np.int64), np.zeros(2, bool))
    masked = MaskedImage(pixels, np.zeros((200, 200), np.uint8))
    # Too many tiles, and tiles too large.
    for side in (8, 400):
        tiling = AreaTiling(image_size=side)
        message = f"many: tiles of {side}x{side} px from 1 images must fit into the memory"
        with pytest.raises(ValueError, match=message):
            detection_data([boxed], ("a",), tiling, "many")
        with pytest.raises(ValueError, match=message):
            segmentation_data([masked], ("a", "b"), tiling, "many")


# -- search spaces ----------------------------------------------------------------------------


def space(**changes: Any) -> SearchSpace:
    stage: dict[str, Any] = {"block": "plain", "depth": 1, "width": 4, "stride": 1}
    stem: dict[str, Any] = {"kernel_size": 3, "stride": 1, "width": 4}
    number, neck = changes.pop("stages", 1), changes.pop("neck", None)
    stem |= changes.pop("stem", {})
    values = {"stem": stem, "stages": [stage | changes] * number, "neck": neck}
    return parse(SearchSpace, values, "space.toml")


MANY = list(range(1, 8193))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 10**9}, "stage 1, width 1: .*less than or equal to 8192"),
        ({"kernel_size": 1001}, "stage 1, kernel_size 1: .*less than or equal to 101"),
        ({"stride": 64}, "stage 1, stride 1: .*less than or equal to 8"),
        ({"dilation": 10**6}, "stage 1, dilation 1: must be an integer from 1 to 64"),
        ({"stages": 17}, "stages: .*at most 16"),
        ({"stem": {"width": MANY, "stride": [1, 2, 3, 4], "kind": ["conv", "deep", "quad"],
                   "kernel_size": [3, 5, 7]}}, "stem: the choices may have 100,000 comb"),
        ({"width": MANY, "stride": list(range(1, 9)), "downsample": ["conv", "max_pool"]},
         "stage 1: how the stage begins may have 100,000 combinations at most, but got 131,072"),
        ({"depth": list(range(1, 65)), "kernel_size": list(range(1, 102, 2)),
          "dilation": list(range(1, 65))}, "stage 1: its blocks may have 100,000 combinations"),
        ({"neck": {"kind": "aspp", "width": MANY, "rates": [[n] for n in range(1, 65)]}},
         "neck: 'aspp' may have 100,000 combinations at most, but got 524,288"),
        ({"stages": 8, "stride": 8}, "largest of all numbers must be at most 1,000,000 px, but"),
    ],
)  # fmt: skip
def test_a_space_is_bounded(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^space\.toml: .*{message}") as error:
        space(**changes)
    assert "\n" not in str(error.value)


def test_combinations_are_counted() -> None:
    check_combinations("these", range(100), range(1000))
    with pytest.raises(ValueError, match=r"these may have 100,000 combinations at most, but"):
        check_combinations("these", range(100), range(1000), range(2))
