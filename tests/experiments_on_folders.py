"""A small experiment on a folder of images, whose trained networks tests can export."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from helpers import TINY_SPACE
from PIL import Image

from rfsearch.search.experiment import Experiment
from rfsearch.search.study import open_study
from rfsearch.workers.worker import Worker

HAS_ONNX = all(find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript"))
EXPERIMENT = """
space = "space.toml"
[target]
min_size = 5
max_size = 6
[data]
source = "folder"
path = "images"
image_size = 16
[training]
epochs = 2
batch_size = 16
[search]
trained_trials = 4
keep_weights = 2
sampler = "random"
feasible_only = false
seed = 2
"""


def write_images(
    root: Path, classes: tuple[str, ...] = ("bright", "dark"), count: int = 40
) -> Path:
    """`root/CLASS/*.png`: grey noise of 16 px, whose mean brightness tells the class."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 200, size=(16, 16)) + 20 * label
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{number}.png")
    return root


def write_experiment(folder: Path) -> Path:
    """An experiment that trains four candidates and keeps the weights of two."""
    folder.mkdir()
    write_images(folder / "images")
    (folder / "space.toml").write_text(TINY_SPACE)
    (folder / "experiment.toml").write_text(EXPERIMENT)
    return folder


def run_experiment(folder: Path) -> None:
    experiment = Experiment.load(folder, "cpu")
    with open_study(experiment) as study:
        Worker(study, experiment).work()
