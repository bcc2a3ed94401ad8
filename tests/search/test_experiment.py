from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rfsearch.basics.ranges import Range
from rfsearch.basics.validation import parse, read_toml
from rfsearch.data.device_memory import device_memory
from rfsearch.search.config import ExperimentConfig
from rfsearch.search.experiment import Experiment
from rfsearch.space.space import SearchSpace

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SPACE = """
[stem]
kernel_size = 3
stride = 1
width = 4
[[stages]]
block = "plain"
depth = [1, 2, 3]
width = 4
kernel_size = [3, 5]
"""
#: What a small experiment says above its tables, and the tables by name.
TOP = 'space = "space.toml"'
TABLES = {
    "target": "min_size = 4\nmax_size = 6",
    "data": 'source = "digits"\nobject_size = 8\ncanvas_size = 16\nnum_train = 40\nnum_valid = 10',
}
FOLDER_DATA = 'source = "folder"\npath = "images"\nimage_size = 8'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "space.toml").write_text(SPACE)
    write(tmp_path)
    return tmp_path


def write(folder: Path, top: str = TOP, **tables: str | None) -> None:
    """Write the experiment with other tables; None leaves one out."""
    wanted = [f"[{name}]\n{text}" for name, text in (TABLES | tables).items() if text is not None]
    (folder / "experiment.toml").write_text("\n".join([top, *wanted]))


def write_images(folder: Path) -> None:
    for number, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for index in range(3):
            image = np.full((8, 8), 40 * number + index, np.uint8)
            Image.fromarray(image).save(folder / name / f"{index}.png")


def refusal(path: Path) -> str:
    """The one line that says what is wrong."""
    with pytest.raises(ValueError, match=r"\S") as error:
        Experiment.load(path, "cpu")
    assert "\n" not in str(error.value)
    return str(error.value)


# -- what is loaded ---------------------------------------------------------------------------


def test_a_folder_and_its_file_are_the_same_experiment(folder: Path) -> None:
    first = Experiment.load(folder, "cpu")
    second = Experiment.load(folder / "experiment.toml", "cpu")
    assert first.folder == second.folder == folder.resolve()
    assert first.config == second.config
    assert first.identity == second.identity


def test_everything_is_loaded(folder: Path) -> None:
    loaded = Experiment.load(str(folder), "cpu")
    assert loaded.space == SearchSpace.load(folder / "space.toml")
    assert loaded.constraint.ranges() == {
        "theoretical": Range(9, math.inf),
        "training_memory": Range(0, device_memory(torch.device("cpu")), "MiB"),
        "finest_stride": Range(0, 4),
        "gridding": Range(0.9, math.inf, "of the RF"),
        "expected": Range(6, 21),
        "measured": Range(6, 21),
    }
    assert loaded.task.data.train_images.shape == (40, 1, 16, 16)
    assert loaded.task.data.valid_images.shape == (10, 1, 16, 16)
    assert loaded.task.training == loaded.config.training
    assert str(loaded.task.device) == "cpu"


def test_defaults(folder: Path) -> None:
    config = Experiment.load(folder, "cpu").config
    assert (config.training.epochs, config.training.seconds) == (5, None)
    assert (config.search.sampler, config.search.pruner, config.search.seed) == ("auto", "none", 0)
    assert (config.search.trained_trials, config.search.max_trials) == (20, 1000)
    assert (config.target.expected, config.target.measured) == (True, True)
    smallest = parse(ExperimentConfig, {"space": "toy", "data": {"source": "digits"}}, "x")
    assert smallest.question == ""
    assert smallest.data.model_dump() == {
        "source": "digits",
        "object_size": 18,
        "canvas_size": 48,
        "coverage": 1.0,
        "num_train": 5000,
        "num_valid": 2000,
        "seed": 0,
    }


def test_a_space_that_comes_with_the_package(folder: Path) -> None:
    write(folder, top='space = "toy"')
    assert Experiment.load(folder, "cpu").space == SearchSpace.load("toy")


def test_relative_paths_start_at_the_experiment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(folder / "images")
    write(folder, data=FOLDER_DATA)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    loaded = Experiment.load(Path(os.pardir), "cpu")
    assert loaded.task.data.class_names == ("cat", "dog")
    assert loaded.task.data.image_size == (8, 8)
    assert loaded.folder == folder.resolve()


def test_absolute_paths_stay(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    images = tmp_path_factory.mktemp("far") / "images"
    write_images(images)
    write(folder, data=FOLDER_DATA.replace('"images"', f'"{images}"'))
    assert Experiment.load(folder, "cpu").task.data.class_names == ("cat", "dog")


def test_a_target_without_sizes_comes_from_the_boxes(folder: Path) -> None:
    write(folder, target=None)
    loaded = Experiment.load(folder, "cpu")
    sizes = loaded.task.data.object_sizes
    assert sizes is not None
    largest = float(np.quantile(sizes, 0.95))
    assert loaded.constraint.ranges()["theoretical"] == Range(1.5 * largest, math.inf)
    assert loaded.constraint.ranges()["expected"] == Range(largest, 3.5 * largest)


@pytest.mark.parametrize(
    ("target", "ranges"),
    [
        (
            "theoretical = [5, 50]\neffective = [4, 9]",
            {"theoretical": Range(5, 50), "expected": Range(4, 9)},
        ),
        ('theoretical = "off"\neffective = [4.5, 9]', {"expected": Range(4.5, 9)}),
        ('theoretical = [7, 9]\neffective = "off"', {"theoretical": Range(7, 9)}),
        ('theoretical = "off"\neffective = "off"', {}),
    ],
)
def test_ranges_can_be_given_or_turned_off(
    folder: Path, target: str, ranges: dict[str, Range]
) -> None:
    write(folder, target=f'{target}\nmeasured = false\nmax_training_memory_mb = "off"')
    assert Experiment.load(folder, "cpu").constraint.ranges() == ranges


def test_costs_can_be_bounded(folder: Path) -> None:
    target = "min_size = 5\nmax_size = 6\nmax_output_stride = 2\nmax_params_m = 0.5"
    write(folder, target=f"{target}\nmax_gridding = 0.25")
    loaded = Experiment.load(folder, "cpu")
    ranges = loaded.constraint.ranges()
    assert ranges["output_stride"] == Range(0, 2, "px")
    assert ranges["parameters"] == Range(0, 0.5, "M parameters")
    assert ranges["gridding"] == Range(0.75, math.inf, "of the RF")
    assert "flops" not in ranges
    budget = loaded.constraint.budget
    assert budget is not None
    assert (budget.input_size, budget.in_chans) == (loaded.task.input_size, loaded.task.in_chans)
    assert budget.num_classes == loaded.task.num_classes


def test_an_update_may_need_as_much_memory_as_the_device_has(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, training="batch_size = 9")
    budget = Experiment.load(folder, "cpu").constraint.budget
    assert budget is not None
    assert budget.max_training_memory_mb == device_memory(torch.device("cpu"))
    assert (budget.batch_size, budget.bytes_per_activation) == (5, 4)  # A batch can be halved.
    gpu = SimpleNamespace(total_memory=80 * 2**30)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: gpu)
    monkeypatch.setattr("rfsearch.training.task.check_device", lambda device: None)
    loaded = Experiment.load(folder, "cuda:1")
    budget = loaded.constraint.budget
    assert budget is not None
    assert budget.max_training_memory_mb == 80 * 2**10
    assert budget.bytes_per_activation == 2
    # Workers on different devices share a study.
    assert loaded.identity == Experiment.load(folder, "cpu").identity


def test_the_memory_of_an_update_can_be_bounded(folder: Path) -> None:
    target = "min_size = 5\nmax_size = 6\nmax_training_memory_mb = 50"
    write(folder, target=target, training="batch_size = 1000")
    loaded = Experiment.load(folder, "cpu")
    assert loaded.constraint.ranges()["training_memory"] == Range(0, 50, "MiB")
    budget, images = loaded.constraint.budget, loaded.task.data.train_images
    assert budget is not None
    assert budget.batch_size == loaded.task.batch_size == len(images)
    arch = loaded.space[0]
    assert budget.values(arch) == {"training_memory": loaded.task.budget.training_memory(arch)}


def test_a_folder_without_boxes_needs_no_sizes_if_ranges_are_given(folder: Path) -> None:
    write_images(folder / "images")
    write(folder, data=FOLDER_DATA, target="theoretical = [5, 50]\neffective = [4, 9]")
    assert Experiment.load(folder, "cpu").constraint.target is None


def test_the_identity_is_json_and_leaves_out_question_and_search(folder: Path) -> None:
    first = Experiment.load(folder, "cpu").identity
    assert json.loads(json.dumps(first)) == first
    write(folder, top='question = "Why?"\nspace = "space.toml"', search="trained_trials = 7")
    assert Experiment.load(folder, "cpu").identity == first
    for training in ("seed = 1", "steps = 9"):
        write(folder, training=training)
        assert Experiment.load(folder, "cpu").identity != first


# -- what is wrong with a file ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            {"serach": "seed = 1"},
            "serach: unknown key; allowed keys are question, space, baselines",
        ),
        ({"search": "trials = 1"}, "search, trials: unknown key; allowed keys are trained_trials"),
        ({"training": "epoch = 1"}, "training, epoch: unknown key; allowed keys are epochs"),
        ({"training": 'epochs = "5"'}, "training, epochs: .*integer, but got '5'"),
        ({"training": "epochs = 0"}, "training, epochs: .*greater than or equal to 1, but got 0"),
        ({"training": "seconds = -1"}, "training, seconds: .*greater than 0, but got -1"),
        ({"training": "batch_size = 1"}, "training, batch_size: .* but got 1"),
        (
            {"search": 'sampler = "tp"'},
            "search, sampler: .*'auto', 'descriptors', 'gp', 'tpe', 'nsgaii'.*'tp'",
        ),
        ({"search": 'pruner = "best"'}, "search, pruner: .*'none'.*but got 'best'"),
        ({"target": "min_size = 4"}, "target: `min_size` and `max_size` must be given together"),
        ({"target": "min_size = 0\nmax_size = 5"}, "target, min_size: .*greater than 0"),
        ({"target": 'expected = "yes"'}, "target, expected: .*boolean, but got 'yes'"),
        ({"target": "theoretical = [-1, 5]"}, "target, theoretical 1: .*but got -1"),
        ({"target": "theoretical = [5]"}, "target, theoretical 2: missing key"),
        ({"data": None}, "data: missing key"),
        ({"data": "object_size = 8"}, "data: .*'source'"),
        ({"data": 'source = "video"'}, "data: .*'video'.*'digits', 'folder'"),
        ({"data": 'source = "digits"\nobject_size = 0'}, "data, digits, object_size: .*got 0"),
        (
            {"data": 'source = "digits"\nsize = 8'},
            "data, digits, size: unknown key; .*canvas_size",
        ),
        ({"data": 'source = "folder"\nimage_size = 8'}, "data, folder, path: missing key"),
        ({"top": 'question = "Why?"'}, "space: missing key"),
        ({"top": "space = 3"}, "space, as a name: .*valid string, but got 3"),
    ],
)
def test_a_bad_value_is_named_with_file_and_key(
    folder: Path, tables: dict[str, Any], message: str
) -> None:
    write(folder, **tables)
    file = re.escape(str(folder / "experiment.toml"))
    with pytest.raises(ValueError, match=f"^{file}: {message}") as error:
        Experiment.load(folder, "cpu")
    assert "\n" not in str(error.value)


def test_allowed_keys_are_those_of_the_chosen_source(folder: Path) -> None:
    write(folder, data=FOLDER_DATA + "\nsize = 8")
    line = refusal(folder)
    assert "data, folder, size: unknown key" in line
    assert "allowed keys are source, path, image_size, valid_share, seed, in_memory." in line


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path) == (
        f"{tmp_path / 'experiment.toml'}: cannot be read (No such file or directory)."
    )


def test_a_file_that_is_not_toml_is_named(folder: Path) -> None:
    (folder / "experiment.toml").write_text("space = [")
    assert refusal(folder).startswith(f"{folder / 'experiment.toml'}: not a TOML file (")


def test_a_missing_space_file_is_named(folder: Path) -> None:
    (folder / "space.toml").unlink()
    assert refusal(folder).startswith(f"{folder / 'space.toml'}: cannot be read (No such file")


def test_a_space_that_does_not_come_with_the_package_is_named(folder: Path) -> None:
    write(folder, top='space = "resdual"')
    line = refusal(folder)
    assert "'resdual'" in line
    assert "residual" in line


def test_a_bad_value_in_the_space_is_named_with_file_and_key(folder: Path) -> None:
    (folder / "space.toml").write_text(SPACE.replace("[3, 5]", "[3, 4]"))
    line = refusal(folder)
    assert "space.toml: stage 1, kernel_size" in line
    assert "must be odd" in line


def test_missing_images_are_named(folder: Path) -> None:
    write(folder, data=FOLDER_DATA)
    assert refusal(folder).startswith(f"{folder / 'images'}: not a folder of classes")


def test_a_folder_without_boxes_needs_sizes(folder: Path) -> None:
    write_images(folder / "images")
    write(folder, data=FOLDER_DATA, target=None)
    assert "target: `min_size` and `max_size` must be given" in refusal(folder)


def test_objects_larger_than_the_canvas_are_refused(folder: Path) -> None:
    write(folder, data='source = "digits"\nobject_size = 20\ncanvas_size = 16')
    assert "object_size=20 and canvas_size=16" in refusal(folder)


def test_a_target_larger_than_the_images_is_said(folder: Path) -> None:
    (folder / "space.toml").write_text(SPACE.replace("[3, 5]", "[21]"))
    write(folder, target="min_size = 9\nmax_size = 18")
    with pytest.warns(UserWarning, match="objects of up to 18 px are larger than the images of"):
        Experiment.load(folder, "cpu")


@pytest.mark.parametrize("target", ["min_size = 6\nmax_size = 4", "effective = [9, 4]"])
def test_bounds_in_the_wrong_order_are_refused(folder: Path, target: str) -> None:
    write(folder, target=target)
    assert "must hold" in refusal(folder)


def test_a_target_out_of_reach_is_refused_with_what_the_space_reaches(folder: Path) -> None:
    write(folder, target="min_size = 100\nmax_size = 200")
    line = refusal(folder)
    assert "theoretical at least 300 px" in line
    assert "theoretical receptive fields reach from 5 to 15 px" in line


# -- the experiments of this project ----------------------------------------------------------


@pytest.mark.parametrize(
    "file",
    sorted(EXPERIMENTS.rglob("experiment.toml")),
    ids=lambda file: file.parent.relative_to(EXPERIMENTS).as_posix(),
)
def test_experiments_of_this_project_load(
    file: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    values = read_toml(file)
    if values["data"]["source"] in ("nuclei", "trees", "buildings"):
        request.getfixturevalue("installed_images")
    if values["data"]["source"] == "digits":
        # Fewer scenes than the file says are enough to load everything.
        values["data"] |= {"num_train": 20, "num_valid": 10}
    monkeypatch.setattr("rfsearch.search.experiment.read_toml", lambda _: values)
    loaded = Experiment.load(file, "cpu")
    assert loaded.config.question.endswith("?")
    assert loaded.folder == file.parent
    assert loaded.space.size > 1
    assert loaded.constraint.ranges()
