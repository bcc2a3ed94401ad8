"""How many trials an hour does one GPU finish when several share it?

For each N, `rfsearch run --trials-per-gpu N` searches in a fresh folder; all train the
same candidates, queued beforehand. The time is that from the first trial's start to the last
one's end, without the start of the processes. `--device cpu` runs N workers on the CPU instead.
Prints a table.

Run: python experiments/training_speed/trials_per_hour.py [--numbers 1 2 4 8] [--trials 32]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from optuna.trial import TrialState

import rfsearch as rfs
from rfsearch.search.experiment import Experiment
from rfsearch.search.study import open_study

SPACE = Path(__file__).with_name("space.toml")
EXPERIMENT = """
space = "space.toml"
[target]
min_size = 10
max_size = 14
[data]
source = "digits"
object_size = 18
canvas_size = 48
num_train = {images}
num_valid = 1000
[training]
epochs = {epochs}
[search]
trained_trials = {trials}
pruner = "none"
"""


@contextmanager
def prepared(folder: Path, given: argparse.Namespace) -> Iterator[optuna.Study]:
    """A new study whose first trials are the same whatever the folder."""
    (folder / "space.toml").write_bytes(SPACE.read_bytes())
    (folder / "experiment.toml").write_text(EXPERIMENT.format(**vars(given)))
    experiment = Experiment.load(folder, "cpu")
    feasible, rng = experiment.space.feasible(experiment.constraint), np.random.default_rng(0)
    chosen: dict[rfs.Architecture, None] = {}
    while len(chosen) < given.trials:
        chosen[feasible.sample(rng)] = None
    with open_study(experiment) as study:
        for arch in chosen:
            study.enqueue_trial(experiment.space.to_params(arch))
        yield study


def measure(number: int, given: argparse.Namespace) -> dict[str, float]:
    """Trials an hour when so many are trained at a time."""
    place = ["--device", "cpu", "--workers"] if given.device == "cpu" else ["--trials-per-gpu"]
    with tempfile.TemporaryDirectory() as folder, prepared(Path(folder), given) as study:
        command = [sys.executable, "-m", "rfsearch.cli.main", "run", folder, *place, str(number)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        trials = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    starts = [trial.datetime_start for trial in trials if trial.datetime_start]
    ends = [trial.datetime_complete for trial in trials if trial.datetime_complete]
    hours = (max(ends) - min(starts)).total_seconds() / 3600
    return {"N": number, "trained": len(trials), "trials/hour": len(trials) / hours}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--numbers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=4)
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    frame = pd.DataFrame([measure(number, given) for number in given.numbers])
    frame["to the first"] = frame["trials/hour"] / frame["trials/hour"].iloc[0]
    print(frame.round(2).to_string(index=False))


if __name__ == "__main__":
    main()
