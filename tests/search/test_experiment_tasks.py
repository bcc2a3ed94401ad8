"""Studies on all three tasks, from files to the table."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from helpers import rfsearch
from squares import write_boxed, write_masked
from studies import open_study, stored_study

from rfsearch.analysis.analysis import trials_dataframe
from rfsearch.search.experiment import Experiment
from rfsearch.training.classification import ClassificationTask
from rfsearch.training.detection import DetectionTask
from rfsearch.training.segmentation import SegmentationTask
from rfsearch.workers.worker import Worker

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SPACE = """
[stem]
kernel_size = 3
stride = 2
width = 8
[[stages]]
block = "plain"
depth = [1, 2]
width = 8
kernel_size = [3, 5]
"""
DATA = {
    "classification": """
        source = "digits"
        object_size = 8
        canvas_size = 16
        num_train = 40
        num_valid = 20
    """,
    "segmentation": """
        source = "masks"
        images = "images"
        masks = "masks"
        instances = "instances"
        classes = ["background", "dim", "bright"]
        image_size = 32
    """,
    "detection": """
        source = "coco"
        annotations = "boxes.json"
        images = "."
        image_size = 32
    """,
}
TASKS = {
    "classification": (ClassificationTask, "accuracy"),
    "segmentation": (SegmentationTask, "miou"),
    "detection": (DetectionTask, "ap"),
}


def write_experiment(folder: Path, kind: str, trained_trials: int = 2) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "segmentation":
        write_masked(folder)
    if kind == "detection":
        write_boxed(folder)
    (folder / "space.toml").write_text(SPACE)
    (folder / "experiment.toml").write_text(
        f"""
        space = "space.toml"
        [target]
        theoretical = [5, 40]
        effective = [3, 40]
        [data]
        {DATA[kind]}
        [training]
        epochs = 1
        batch_size = 8
        [search]
        trained_trials = {trained_trials}
        sampler = "random"
        """
    )
    return folder


def run(folder: Path) -> pd.DataFrame:
    experiment = Experiment.load(folder, "cpu")
    study = open_study(experiment)
    Worker(study, experiment).work()
    return trials_dataframe(study)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An experiment of each kind with two trained candidates."""
    root = tmp_path_factory.mktemp("experiments")
    found = {kind: write_experiment(root / kind, kind) for kind in TASKS}
    for folder in found.values():
        run(folder)
    return found


@pytest.fixture(scope="module")
def frames(folders: dict[str, Path]) -> dict[str, pd.DataFrame]:
    return {kind: trials_dataframe(stored_study(folder)) for kind, folder in folders.items()}


def test_the_source_says_what_the_task_is(folders: dict[str, Path]) -> None:
    for kind, folder in folders.items():
        task = Experiment.load(folder, "cpu").task
        assert isinstance(task, TASKS[kind][0])
        assert task.metric == TASKS[kind][1]


def test_frames_of_all_tasks_have_the_same_columns(frames: dict[str, pd.DataFrame]) -> None:
    first, *others = frames.values()
    for other in others:
        assert dict(other.dtypes) == dict(first.dtypes)
        assert list(other.columns) == list(first.columns)
    together = pd.concat(frames.values(), keys=frames)
    assert list(together.columns) == list(first.columns)


@pytest.mark.parametrize("kind", TASKS)
def test_every_trained_trial_has_its_numbers(kind: str, frames: dict[str, pd.DataFrame]) -> None:
    frame = frames[kind]
    trained = frame[frame["duplicate_of"].isna()]
    assert len(trained) == 2
    assert (frame["metric"] == TASKS[kind][1]).all()
    assert trained["value"].between(0, 1).all()
    known = ["erf_init", "erf_trained", "erf_expected", "trf_size", "params_m", "score_small"]
    assert trained[known].notna().all(axis=None)
    assert trained[["score_medium", "score_large"]].isna().all(axis=None)
    assert trained["ap50"].notna().all() == (kind == "detection")
    if kind == "classification":
        # All digits are small.
        assert trained["score_small"].tolist() == pytest.approx(trained["value"].tolist())


@pytest.mark.parametrize("kind", TASKS)
def test_a_search_goes_on_where_it_stopped(
    kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(folders[kind], tmp_path / kind)
    text = (folder / "experiment.toml").read_text()
    (folder / "experiment.toml").write_text(
        text.replace("trained_trials = 2", "trained_trials = 3")
    )
    before = run(folders[kind])
    after = run(folder)
    lasting = before.columns.drop("pareto")  # A later trial may be better.
    assert after.iloc[: len(before)][lasting].equals(before[lasting])
    assert after["train_seconds"].notna().sum() == 3


def test_the_command_line_says_what_the_score_is(folders: dict[str, Path]) -> None:
    for kind, heading in (("segmentation", "mIoU"), ("detection", "AP")):
        result = rfsearch("run", folders[kind], "--device", "cpu")
        assert result.exit_code == 0, result.stderr
        assert heading in result.stdout.split()
        assert (folders[kind] / "score_vs_erf.png").is_file()


@pytest.mark.parametrize(
    ("kind", "old", "new", "message"),
    [
        ("segmentation", "masks = ", "mask = ", "data, masks, masks: missing key"),
        ("segmentation", '["background", "dim", "bright"]', '["a"]', "data, masks, classes: "),
        ("segmentation", '"images"', '"pictures"', "pictures: there is no such folder"),
        ("detection", "image_size = 32", "image_size = 4", "data, coco, image_size: .*got 4"),
        (
            "detection",
            "image_size = 32",
            "image_size = 32\ntile = 3",
            "data, coco, tile: unknown key",
        ),
        ("detection", "boxes.json", "box.json", r"box\.json: cannot be read"),
        (
            "detection",
            "image_size = 32",
            'image_size = 49\nsplit = "areas"',
            "there is no room for a tile of 49x49 px for validation",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_the_file(
    kind: str, old: str, new: str, message: str, tmp_path: Path
) -> None:
    folder = write_experiment(tmp_path / kind, kind)
    text = (folder / "experiment.toml").read_text()
    assert old in text
    (folder / "experiment.toml").write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=message) as error:
        Experiment.load(folder, "cpu")
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


# -- the experiments of this project ----------------------------------------------------------


@pytest.mark.usefixtures("installed_images")
@pytest.mark.parametrize(
    ("name", "metric", "at_least"),
    [
        ("segment_nuclei", "miou", 0.7),
        pytest.param("detect_trees", "ap", 0.02, marks=pytest.mark.slow),
    ],
)
def test_the_cpu_sizes_run(name: str, metric: str, at_least: float, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    for file in ("experiment.toml", "space.toml"):
        shutil.copy(EXPERIMENTS / name / file, folder)
    text = (folder / "experiment.toml").read_text()
    assert "trained_trials = 3" in text  # Of which one shows whether it runs and learns.
    (folder / "experiment.toml").write_text(
        text.replace("trained_trials = 3", "trained_trials = 1")
    )
    result = rfsearch("run", folder, "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    frame = pd.read_csv(folder / "trials.csv")
    trained = frame[frame["train_seconds"].notna()]
    assert len(trained) == 1
    assert set(frame["metric"]) == {metric}
    # Far more than a network gives that has learned nothing: 0.39 of the pixels' classes, or 0.
    assert trained["value"].max() > at_least
    assert set(frame["state"]) == {"COMPLETE"}
