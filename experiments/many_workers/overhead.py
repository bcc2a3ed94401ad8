"""What a trial costs beside its funnel, in studies of 100, 1,000 and 10,000 trials.

    python overhead.py 1000 sqlite 1        # stored trials, database, workers

Each worker runs a few trials of a space with 14 parameters, whose networks are neither built nor
trained: what remains is Optuna, the sampler, the constraints and the database. Half of the stored
trials were rejected, half have results. Prints milliseconds per trial: CPU time of a worker, and
the time that passes, which on a busy machine is longer.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
import sqlalchemy
import torch
from optuna.trial import TrialState, create_trial

from rfsearch.search.experiment import Experiment
from rfsearch.search.study import StudyAddress, open_study
from rfsearch.storage.database_url import parse_url
from rfsearch.training.checkpoints import Checkpoint
from rfsearch.training.classification import ClassificationTask
from rfsearch.training.loop import TrainingResult
from rfsearch.workers.worker import Worker

EXPERIMENT = """
space = "residual"
[target]
min_size = 24
max_size = 48
[data]
source = "digits"
num_train = 32
num_valid = 16
canvas_size = 128
object_size = 40
[search]
trained_trials = 1000000
max_trials = 1000000
"""
#: Opening the study reads it as a whole, and the first trial looks at all others; both are timed
#: by themselves.
TRIALS = 8
#: Different trials in the study; larger studies hold copies of them.
BASE = 100


class KnownERF(NamedTuple):
    """An ERF that always fits."""

    size: float = 96.0
    clipped: float = 0.0


class Enough(Exception):  # noqa: N818  # no error: the end of the measurement
    """So many trials were timed."""


@dataclass(frozen=True)
class FreeTask(ClassificationTask):
    """A task whose funnel costs nothing."""

    def build(self, candidate: Any) -> Any:
        """No network worth the name."""
        return torch.nn.Linear(1, 1)

    def measure_erf(self, model: Any, level: str | None = None) -> Any:
        """No measurement."""
        return KnownERF()

    def train(
        self,
        model: torch.nn.Module,
        report: Callable[[int, float], None] | None = None,
        checkpoint: Checkpoint | None = None,
        after_batch: Callable[[], None] | None = None,
    ) -> TrainingResult:
        """Report five epochs."""
        assert report is not None
        for epoch in range(1, 6):
            report(epoch, 0.5)
        return TrainingResult(0.5, 5, 0.0)


def experiment(folder: Path) -> Experiment:
    """The experiment without its funnel."""
    loaded = Experiment.load(folder, "cpu")
    task = FreeTask(loaded.task.data, loaded.task.training, "cpu")
    return replace(loaded, task=task)


def fill(address: StudyAddress, folder: Path, number: int) -> None:
    """Store trials as a search leaves them."""
    loaded = experiment(folder)
    feasible, rng = loaded.space.feasible(loaded.constraint), np.random.default_rng(0)
    distributions = loaded.space.distributions()
    trials = []
    for index in range(number):
        architecture = feasible.sample(rng)
        params = loaded.space.to_params(architecture)
        rejected = index % 2 == 1
        attrs: dict[str, Any] = {
            "architecture": json.dumps(architecture.to_dict()),
            "params_m": 1.5,
            "flops_g": 0.5,
            "seed": 0,
            "findings": "",
            "trf_size": 200,
            "output_stride": 8,
            "erf_expected": 96.0,
            "erf_init": 96.0,
        }
        attrs |= {"rejected_by": "measured"} if rejected else {"train_seconds": 30.0}
        trials.append(
            create_trial(
                state=TrialState.PRUNED if rejected else TrialState.COMPLETE,
                value=None if rejected else float(rng.random()),
                params={name: params[name] for name in distributions},
                distributions=distributions,
                user_attrs=attrs,
                constraints={
                    "trf_octaves": -0.5,
                    "erf_expected_octaves": -0.2,
                    "erf_measured_octaves": 0.5 if rejected else -0.2,
                },
            )
        )
    with open_study(loaded, address, alone=False) as study:
        study.add_trials(trials)


def multiply(address: StudyAddress, times: int) -> None:
    """Copy the stored trials, which are numbered from 0, in the database itself."""
    engine = sqlalchemy.create_engine(parse_url(address.storage))
    tables = {
        "trials": "number, study_id, state, datetime_start, datetime_complete",
        "trial_params": "param_name, param_value, distribution_json",
        "trial_values": "objective, value, value_type",
        "trial_user_attributes": "key, value_json",
        "trial_system_attributes": "key, value_json",
    }
    with engine.begin() as connection:
        for table, columns in tables.items():
            copied = columns.replace("number", f"number + copy * {BASE}", 1)
            connection.execute(
                sqlalchemy.text(
                    f"WITH RECURSIVE copies(copy) AS (SELECT 1 UNION ALL SELECT copy + 1 "
                    f"FROM copies WHERE copy < {times - 1}) "
                    f"INSERT INTO {table} (trial_id, {columns}) "
                    f"SELECT trial_id + copy * {BASE}, {copied} FROM {table}, copies "
                    f"WHERE trial_id <= {BASE}"
                )
            )
        if engine.name == "postgresql":
            connection.execute(
                sqlalchemy.text(
                    "SELECT setval(pg_get_serial_sequence('trials', 'trial_id'), "
                    "(SELECT max(trial_id) FROM trials))"
                )
            )
    engine.dispose()


def measure(address: StudyAddress, folder: Path, results: Any) -> None:
    """One worker's process: its first trial, and the mean of the next ones."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    loaded = experiment(folder)
    opening = time.process_time()
    times: list[tuple[float, float]] = []

    def note(study: optuna.Study, trial: object) -> None:
        times.append((time.process_time(), time.monotonic()))
        if len(times) > TRIALS + 1:
            raise Enough

    with open_study(loaded, address, alone=False, wait=60) as study, suppress(Enough):
        times.append((time.process_time(), time.monotonic()))
        Worker(study, loaded, note).work()
    (start, first, *_, last) = times
    results.put(
        {
            "open_cpu": start[0] - opening,
            "first_cpu": first[0] - start[0],
            "cpu": (last[0] - first[0]) / TRIALS,
            "wall": (last[1] - first[1]) / TRIALS,
        }
    )


@contextmanager
def database(kind: str, folder: Path) -> Iterator[StudyAddress]:
    """A new database."""
    if kind == "sqlite":
        yield StudyAddress.of(folder)
        return
    from postgres import postgres

    with postgres() as server:
        yield StudyAddress(server.url, "overhead")


def run(stored: int, kind: str, workers: int) -> dict[str, float]:
    """Milliseconds per trial, averaged over the workers."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["rfsearch.workers.worker", "rfsearch.search.study"])
    with tempfile.TemporaryDirectory() as name, database(kind, Path(name)) as address:
        folder = Path(name)
        (folder / "experiment.toml").write_text(EXPERIMENT)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        fill(address, folder, BASE)
        if stored > BASE:
            multiply(address, stored // BASE)
        results = processes.Queue()
        started = [
            processes.Process(target=measure, args=(address, folder, results))
            for _ in range(workers)
        ]
        for process in started:
            process.start()
        found = [results.get(timeout=540) for _ in started]
        for process in started:
            process.join()
    return {key: round(1000 * float(np.mean([f[key] for f in found]))) for key in found[0]}


if __name__ == "__main__":
    outcome = run(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    print(*sys.argv[1:], json.dumps(outcome))
