"""Running an experiment as an Optuna study that can be stopped and resumed."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from rfsearch.baselines import run_baselines
from rfsearch.experiment import Experiment
from rfsearch.interrupts import Interrupts
from rfsearch.objective import Objective
from rfsearch.sampler import RFSampler
from rfsearch.trial_attributes import BASELINE
from rfsearch.weights import WeightStore

_SAMPLERS: dict[str, Callable[[int, int], BaseSampler]] = {
    "tpe": lambda seed, startup: TPESampler(seed=seed, n_startup_trials=startup),
    "random": lambda seed, _: RandomSampler(seed=seed),
    "nsgaii": lambda seed, startup: NSGAIISampler(seed=seed, population_size=max(2, startup)),
    "gp": lambda seed, startup: GPSampler(seed=seed, n_startup_trials=startup),
}
_PRUNERS: dict[str, Callable[[], BasePruner]] = {
    "none": NopPruner,
    "median": lambda: MedianPruner(n_startup_trials=5, n_warmup_steps=1),
    "hyperband": HyperbandPruner,
    "successive_halving": SuccessiveHalvingPruner,
}
#: Attribute of the study that holds the experiment it belongs to.
_IDENTITY = "rfsearch_experiment"

#: What may stop a candidate that has passed the closed-form gates.
_AFTER_THE_GATES = (None, "measured", "latency", "memory", "pruner", "training")

OnTrial = Callable[[optuna.Study, FrozenTrial], None]


def storage_url(folder: Path) -> str:
    """The experiment's own database."""
    return f"sqlite:///{folder / 'study.db'}"


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Let one process at a time search in this folder.

    Raises:
        ValueError: If another process does, or the folder cannot be written.
    """
    try:
        lock = (folder / "run.lock").open("a+")
    except OSError as error:
        raise ValueError(f"{folder}: results cannot be written here ({error.strerror}).") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise ValueError(
                f"{folder}: process {lock.read().strip()} is searching here; wait or stop it."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def open_study(experiment: Experiment) -> optuna.Study:
    """Create the experiment's study, or open it to go on with it.

    Call it under `exclusive`: trials that a killed process left running are marked as failed.

    Raises:
        ValueError: If the database cannot be used, or holds the trials of another experiment.
    """
    path = experiment.folder / "study.db"
    name = experiment.folder.name
    try:
        storage = optuna.storages.RDBStorage(
            storage_url(experiment.folder), engine_kwargs={"connect_args": {"timeout": 60}}
        )
        others = [n for n in optuna.get_all_study_names(storage) if n != name]
        if others:
            raise ValueError(f"{path}: holds the study {others[0]!r}, not {name!r}; move it away.")
        study = optuna.create_study(
            study_name=name, storage=storage, direction="maximize", load_if_exists=True
        )
    except (SQLAlchemyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: not a usable Optuna database ({reason}).") from None
    claim(study, experiment, path)
    past = study.get_trials(deepcopy=False)
    for trial in past:
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
    # A resumed search must not propose the same candidates once more.
    study.sampler = _sampler(experiment, seed=experiment.config.search.seed + len(past))
    study.pruner = _PRUNERS[experiment.config.search.pruner]()
    return study


def _sampler(experiment: Experiment, seed: int) -> BaseSampler:
    search = experiment.config.search
    try:
        base = _SAMPLERS[search.sampler](seed, search.startup_trials)
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"search, sampler: {search.sampler!r} cannot be used: {reason}") from None
    if not search.feasible_only:
        return base
    return RFSampler(
        experiment.space,
        experiment.constraint,
        base,
        seed=seed,
        n_startup_trials=search.startup_trials,
    )


def run_study(study: optuna.Study, experiment: Experiment, on_trial: OnTrial) -> None:
    """Search until the budget of trained candidates, or of trials, or all that fits is used up.

    Args:
        study: From `open_study`.
        experiment: The experiment.
        on_trial: Called after each trial.

    Raises:
        KeyboardInterrupt: If interrupted; finished trials are stored, the current one has failed.
            The first Ctrl-C takes effect after the running epoch, a second one at once.
    """
    with Interrupts() as interrupts:

        def stop_when_finished(study: optuna.Study, _: FrozenTrial) -> None:
            if interrupts.requested or is_finished(study, experiment):
                study.stop()

        objective = Objective(
            experiment.space,
            experiment.constraint,
            experiment.task,
            weights=WeightStore(
                experiment.folder / "weights", experiment.config.search.keep_weights
            ),
            measure_latency=experiment.config.search.measure_latency,
            after_epoch=interrupts.raise_if_requested,
        )
        run_baselines(
            study,
            experiment.task,
            experiment.config.baselines,
            after_epoch=interrupts.raise_if_requested,
        )
        if is_finished(study, experiment):
            return
        study.optimize(objective, callbacks=[on_trial, stop_when_finished])
        interrupts.raise_if_requested()


def is_finished(study: optuna.Study, experiment: Experiment) -> bool:
    """Whether the budget is used up, or no candidate that fits is left to be tried."""
    trials = [t for t in study.get_trials(deepcopy=False) if BASELINE not in t.user_attrs]
    search = experiment.config.search
    used_up = num_trained(trials) >= search.trained_trials or len(trials) >= search.max_trials
    return used_up or (search.feasible_only and _is_exhausted(experiment, trials))


def _is_exhausted(experiment: Experiment, trials: list[FrozenTrial]) -> bool:
    """Whether every candidate that passes the closed-form gates has had its trial."""
    feasible = experiment.space.feasible(experiment.constraint)
    if not feasible.is_exact or feasible.count > len(trials):
        return False
    tried = {
        trial.user_attrs.get("architecture")
        for trial in trials
        if trial.state.is_finished() and trial.user_attrs.get("rejected_by") in _AFTER_THE_GATES
        if trial.state != TrialState.FAIL or "rejected_by" in trial.user_attrs
    }
    return len(tried - {None}) >= feasible.count


def num_trained(trials: list[FrozenTrial]) -> int:
    """How many candidates were trained: to the end, until a pruner stopped them, or in vain.

    A training that was interrupted from outside does not count.
    """
    return sum(
        "train_seconds" in trial.user_attrs
        and BASELINE not in trial.user_attrs
        and (trial.state != TrialState.FAIL or "rejected_by" in trial.user_attrs)
        for trial in trials
    )


def claim(study: optuna.Study, experiment: Experiment, path: Path) -> None:
    """Note what the study is about, or check that it is about this experiment.

    Raises:
        ValueError: If its trials are those of another experiment; `path` is its database.
    """
    identity = experiment.identity
    known = study.user_attrs.get(_IDENTITY)
    if known is None:
        if study.get_trials(deepcopy=False):
            raise ValueError(f"{path}: holds trials that no experiment made; move it away.")
        study.set_user_attr(_IDENTITY, json.dumps(identity))
        return
    stored = json.loads(known)
    changed = [key for key in identity if identity[key] != stored.get(key)]
    if changed:
        raise ValueError(
            f"{path}: holds trials of another experiment, whose {' and '.join(changed)} differ; "
            "move it away to start anew."
        )
