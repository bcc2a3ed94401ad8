"""The study of an experiment: where it is stored, whose it is, and running it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import optuna
from optuna.trial import TrialState
from sqlalchemy.engine import URL

from rfsearch.basics.validation import placed
from rfsearch.search._search_methods import make_pruner, make_sampler
from rfsearch.search.baselines import enqueue_baselines
from rfsearch.search.controls import enqueue_controls
from rfsearch.search.experiment import Experiment
from rfsearch.search.objectives import DIRECTIONS, name_objectives
from rfsearch.search.rungs import is_stopped
from rfsearch.space.constraint import RFConstraint
from rfsearch.storage.errors import DatabaseLostError
from rfsearch.storage.recovery import end_lost, first_number, unfinished_numbers, worker_name
from rfsearch.storage.retrying_storage import RetryingStorage
from rfsearch.storage.storage import open_storage
from rfsearch.training.checkpoints import Checkpoints

#: Attributes of the study: the experiment it belongs to, and how that and its trials are written.
_IDENTITY = "rfsearch_experiment"
_FORMAT_KEY = "rfsearch_format"
#: Raised when trials that are stored mean something else than they did.
_FORMAT = 1


@dataclass(frozen=True)
class StudyAddress:
    """Where a study is.

    Attributes:
        storage: Address of the database, as `rfsearch.storage.storage.open_storage` takes it.
        name: The study's name in it.
        is_shared: Whether the database may hold other studies too, and is not one experiment's.
    """

    storage: str
    name: str
    is_shared: bool = True

    @classmethod
    def of(cls, folder: Path) -> Self:
        """The database that an experiment has of its own, in its folder."""
        return cls(storage_url(folder), folder.name, is_shared=False)


def storage_url(folder: Path) -> str:
    """The experiment's own database, whatever characters the folder's name has."""
    return URL.create("sqlite", database=str(folder / "study.db")).render_as_string()


@contextmanager
def open_study(
    experiment: Experiment,
    address: StudyAddress | None = None,
    *,
    alone: bool = True,
    wait: float = 0.0,
) -> Iterator[optuna.Study]:
    """Create the experiment's study, or open it to go on with it, until the block ends.

    Args:
        experiment: The experiment.
        address: Where the study is; by default the experiment's own database.
        alone: Whether nobody else works on the study (see `exclusive`). Then trials that are
            running were left so by a killed process, and are ended to be tried again; checkpoints
            of trials that will not be are deleted; and the sampler proposes the same candidates
            for the same seed.
        wait: Seconds to wait for a database that cannot be reached yet.

    Raises:
        ValueError: If the database cannot be used, or holds the trials of another experiment.
    """
    address = address or StudyAddress.of(experiment.folder)
    with open_storage(address.storage, wait=wait) as storage:
        yield _claimed_study(storage, experiment, address, alone)


def _claimed_study(
    storage: RetryingStorage, experiment: Experiment, address: StudyAddress, alone: bool
) -> optuna.Study:
    place, remedy = f"{storage.name}, study {address.name!r}", "use another --study"
    if not address.is_shared:
        place, remedy = str(experiment.folder / "study.db"), "move it away"
        _check_no_other(storage, address.name, place)
    try:
        study = optuna.create_study(
            study_name=address.name,
            storage=storage,
            directions=[DIRECTIONS[name] for name in experiment.config.search.objectives],
            load_if_exists=True,
        )
        claim(study, experiment, place, remedy)
        _claim_objectives(study, experiment.config.search.objectives, place, remedy)
        num_past = len(study.get_trials(deepcopy=False))
        if alone:
            _end_running(study)
            checkpoints = Checkpoints(experiment.checkpoints, study.study_name)
            trials = study.get_trials(deepcopy=False)
            stopped = {first_number(trial) for trial in trials if is_stopped(trial)}
            checkpoints.keep_only(unfinished_numbers(trials) | stopped)
        enqueue_baselines(study, experiment.baselines)
        search = experiment.config.search
        enqueue_controls(
            study, experiment.space, experiment.constraint, search.controls, seed=search.seed
        )
    except DatabaseLostError as error:
        raise ValueError(str(error)) from None
    # A resumed search must not propose the same candidates once more, nor two workers at once.
    seed = search.seed + num_past
    if not alone:
        seed += zlib.crc32(worker_name().encode())
    with _earlier(experiment) as earlier:
        study.sampler = make_sampler(experiment, seed % 2**32, earlier)
    study.pruner = make_pruner(experiment)
    return study


@contextmanager
def _earlier(experiment: Experiment) -> Iterator[list[tuple[optuna.Study, RFConstraint]]]:
    """The studies that an experiment learns from, open to be read, and their constraints."""
    found = []
    with ExitStack() as stack:
        for given in experiment.config.search.earlier:
            with placed(f"{experiment.folder}: search: earlier: {given}"):
                before = Experiment.load(experiment.folder / given)
                address = StudyAddress.of(before.folder)
                storage = stack.enter_context(open_storage(address.storage, read_only=True))
                if address.name not in optuna.get_all_study_names(storage):
                    raise ValueError("no trial of it is stored; run it first.")
                study = optuna.load_study(study_name=address.name, storage=storage)
            found.append((study, before.constraint))
        yield found


def _end_running(study: optuna.Study) -> None:
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        end_lost(study, trial)


def _claim_objectives(
    study: optuna.Study, objectives: tuple[str, ...], place: str, remedy: str
) -> None:
    known = tuple(study.metric_names or ["score"] * len(study.directions))
    if len(known) == len(objectives) > 1 and not study.get_trials(deepcopy=False):
        name_objectives(study, objectives)
    elif known != objectives:
        raise ValueError(
            f"{place}: has the objectives {', '.join(known)}, but the experiment "
            f"has {', '.join(objectives)}; {remedy} to start anew."
        )


def _check_no_other(storage: RetryingStorage, name: str, place: str) -> None:
    others = [study.study_name for study in storage.get_all_studies()]
    if set(others) - {name}:
        other = next(other for other in others if other != name)
        raise ValueError(f"{place}: holds the study {other!r}, not {name!r}; move it away.")


def claim(study: optuna.Study, experiment: Experiment, place: str, remedy: str) -> None:
    """Note what the study is about, or check that it is about this experiment.

    Args:
        study: The study.
        experiment: The experiment.
        place: Where the study is, for the message.
        remedy: What to do about another experiment's study, for the message.

    Raises:
        ValueError: If its trials are those of another experiment.
    """
    identity = experiment.identity
    attributes = study.user_attrs
    known = attributes.get(_IDENTITY)
    if known is None:
        if study.get_trials(deepcopy=False):
            raise ValueError(f"{place}: holds trials that no experiment made; {remedy}.")
        study.set_user_attr(_FORMAT_KEY, _FORMAT)
        study.set_user_attr(_IDENTITY, json.dumps(identity))
        return
    written = attributes.get(_FORMAT_KEY, 0)
    if written != _FORMAT:
        raise ValueError(
            f"{place}: was written by another version of rfsearch (format {written}, but this "
            f"one has format {_FORMAT}); use that version, or {remedy}."
        )
    stored = json.loads(known)
    changed = [key for key in identity if identity[key] != stored.get(key)]
    if changed:
        raise ValueError(
            f"{place}: holds trials of another experiment, whose {' and '.join(changed)} differ; "
            f"{remedy} to start anew."
        )
