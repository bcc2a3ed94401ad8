"""A search whose workers are killed every few seconds, and whose database is restarted.

    python soak.py postgresql      # 6 workers; the server is restarted twice, once without warning
    python soak.py mysql           # the same with MariaDB
    python soak.py sqlite          # 4 workers

Workers are real processes with the real funnel and real trainings, made slower by a pause in each
epoch so that most kills hit one. Prints what became of the trials.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pandas as pd
import torch
from optuna.trial import FrozenTrial, TrialState

from rfsearch.analysis.analysis import trials_dataframe
from rfsearch.network.model import SearchedNetwork
from rfsearch.search.experiment import Experiment
from rfsearch.search.stopping import num_trained
from rfsearch.search.study import StudyAddress, open_study
from rfsearch.storage.recovery import LOSSES, RETRY_OF
from rfsearch.training.checkpoints import Checkpoint
from rfsearch.training.classification import ClassificationTask
from rfsearch.training.loop import TrainingResult
from rfsearch.workers.worker import Worker

if TYPE_CHECKING:
    from mariadb import MariaServer
    from postgres import PostgresServer

HERE = Path(__file__).parent
#: Seconds.
PAUSE, HEARTBEAT, TIME_LIMIT = 0.3, 2.0, 540.0


@dataclass(frozen=True)
class SlowTask(ClassificationTask):
    """The real task, with a pause in each epoch and a note of every epoch that was trained."""

    notes: Path = Path("epochs.txt")

    def train(
        self,
        model: SearchedNetwork,
        report: Callable[[int, float], None] | None = None,
        checkpoint: Checkpoint | None = None,
        after_batch: Callable[[], None] | None = None,
    ) -> TrainingResult:
        """Train, and note which epochs were trained here and how many were known before."""
        assert report is not None
        known = set[int]()
        if checkpoint is not None and checkpoint.file.exists():
            state = torch.load(checkpoint.file, weights_only=True)
            known = {epoch for epoch, *_ in json.loads(state["progress"])["history"]}

        def slowly(epoch: int, score: float) -> None:
            if epoch not in known:
                time.sleep(PAUSE)
                with self.notes.open("a") as file:
                    file.write(f"{os.getpid()} {epoch} {len(known)}\n")
            report(epoch, score)

        return super().train(model, slowly, checkpoint, after_batch)


def work(address: StudyAddress, folder: Path) -> None:
    """One worker's process."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    loaded = Experiment.load(folder, "cpu")
    task = SlowTask(loaded.task.data, loaded.task.training, "cpu", notes=folder / "epochs.txt")
    experiment = replace(loaded, task=task)
    with open_study(experiment, address, alone=False, wait=60) as study:
        Worker(study, experiment, heartbeat=HEARTBEAT).work()


@dataclass
class Harm:
    """What was done to the search."""

    kills: int = 0
    restarts: int = 0
    failures: int = 0
    seconds: float = 0.0


def soak(
    address: StudyAddress,
    folder: Path,
    *,
    workers: int,
    kill_every: float,
    restarts: Iterator[Callable[[], None]],
    seed: int = 0,
) -> Harm:
    """Search while workers are killed at random and replaced, until all end by themselves.

    Args:
        address: Of the study.
        folder: The experiment's.
        workers: How many at a time.
        kill_every: Seconds between two kills, on average; where the machine is so busy that fewer
            epochs than workers pass in that time, until so many have passed.
        restarts: What to do to the database, one after the other, spread over the search.
        seed: Of which worker is killed when.

    Raises:
        TimeoutError: If the search has not ended within the time limit.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(
        ["rfsearch.workers.worker", "rfsearch.search.study", "rfsearch.analysis.analysis"]
    )
    rng, harm, start = random.Random(seed), Harm(), time.monotonic()
    total = Experiment.load(folder, "cpu").config.search.trained_trials

    def begin() -> Any:
        process = processes.Process(target=work, args=(address, folder))
        process.start()
        return process

    alive = [begin() for _ in range(workers)]
    next_kill, next_epochs = start, workers
    next_restart = 4 * total / 3
    while alive:
        time.sleep(0.2)
        now = time.monotonic()
        if now - start > TIME_LIMIT:
            for process in alive:
                process.kill()
            raise TimeoutError(f"{len(alive)} workers still run after {TIME_LIMIT:g} s")
        epochs = _epochs(folder)
        if now > next_kill and epochs >= next_epochs:
            rng.choice(alive).kill()
            harm.kills += 1
            next_kill = now + kill_every * rng.uniform(0.5, 1.5)
            next_epochs = epochs + workers
        if epochs >= next_restart:
            next_restart += 4 * total / 3
            if (restart := next(restarts, None)) is not None:
                restart()
                harm.restarts += 1
        for process in [p for p in alive if p.exitcode is not None]:
            alive.remove(process)
            if process.exitcode == -signal.SIGKILL:
                alive.append(begin())
            elif process.exitcode:
                harm.failures += 1
    harm.seconds = time.monotonic() - start
    return harm


def _epochs(folder: Path) -> int:
    """How many epochs were trained, without asking the database."""
    notes = folder / "epochs.txt"
    return notes.read_text().count("\n") if notes.exists() else 0


def findings(trials: list[FrozenTrial], frame: pd.DataFrame, folder: Path) -> dict[str, Any]:
    """What became of the trials."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    first = Counter(trial.user_attrs.get(RETRY_OF, trial.number) for trial in complete)
    trained = [t for t in complete if "duplicate_of" not in t.user_attrs]
    alike = Counter(trial.user_attrs["architecture"] for trial in trained)
    results = frame[frame["state"] == "COMPLETE"]
    columns = ["value", "trf_size", "erf_expected", "erf_init", "erf_trained", "train_seconds"]
    epochs = [line.split() for line in (folder / "epochs.txt").read_text().splitlines()]
    return {
        "trials": len(trials),
        "states": dict(Counter(trial.state.name for trial in trials)),
        "trained": num_trained(trials),
        "numbers_are_gapless": [t.number for t in trials] == list(range(len(trials))),
        "results_stored_twice": sum(count > 1 for count in first.values()),
        "candidates_trained_twice": sum(count > 1 for count in alike.values()),
        "retries": sum(RETRY_OF in trial.user_attrs for trial in trials),
        "most_losses": max(trial.user_attrs.get(LOSSES, 0) for trial in trials),
        "epochs_trained": len(epochs),
        "trainings_resumed": sum(int(epoch) == int(known) + 1 > 1 for _, epoch, known in epochs),
        "cells_missing": int(results[columns[:-1]].isna().sum().sum()),
        "rows": len(frame),
        "checkpoints_left": len(list(folder.glob("checkpoints/*/trial-*"))),
    }


def server_of(kind: str) -> AbstractContextManager[MariaServer | PostgresServer]:
    """A new server; only the one that is meant needs its packages."""
    if kind == "mysql":
        from mariadb import mariadb

        return mariadb()
    from postgres import postgres

    return postgres()


@contextmanager
def database(
    kind: str, folder: Path
) -> Iterator[tuple[StudyAddress, Iterator[Callable[[], None]]]]:
    """A new database, and what may be done to it."""
    if kind == "sqlite":
        yield StudyAddress.of(folder), iter(())
        return
    with server_of(kind) as server:

        def restart(mode: str) -> None:
            server.stop(mode)
            time.sleep(8)
            server.start()

        harms = iter((lambda: restart("immediate"), lambda: restart("fast")))
        yield StudyAddress(server.url, "soak"), harms


def run(kind: str, folder: Path, *, workers: int, kill_every: float) -> dict[str, Any]:
    """Soak a new study of this folder's experiment in `folder`."""
    for name in ("experiment.toml", "space.toml"):
        shutil.copy(HERE / name, folder / name)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with database(kind, folder) as (address, restarts):
        experiment = Experiment.load(folder, "cpu")
        with open_study(experiment, address, alone=False):
            pass  # It is made.
        harm = soak(address, folder, workers=workers, kill_every=kill_every, restarts=restarts)
        with open_study(experiment, address, alone=False) as study:
            found = findings(study.trials, trials_dataframe(study), folder)
    return vars(harm) | found


if __name__ == "__main__":
    kind = sys.argv[1]
    with tempfile.TemporaryDirectory() as name:
        outcome = run(kind, Path(name), workers=4 if kind == "sqlite" else 6, kill_every=4.0)
    print(json.dumps(outcome, indent=2))
