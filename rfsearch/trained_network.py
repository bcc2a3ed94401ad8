"""The network of a trial: which trial, and whether it has one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from rfsearch.architecture import Architecture
from rfsearch.device_images import Normalizer
from rfsearch.export import Network
from rfsearch.model_card import one_line
from rfsearch.network_folder import InputFormat, create_network
from rfsearch.study import claim, storage_url
from rfsearch.tasks import ClassificationTask
from rfsearch.weights import WeightStore

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from rfsearch.experiment import Experiment


def trained_network(experiment: Experiment, number: int | None = None) -> Network:
    """The network of a trial of an experiment's study.

    Args:
        experiment: An experiment that has run.
        number: The trial. None takes the one with the best score, also of several objectives.

    Raises:
        ValueError: If there is no such study or trial, or its candidate has not been trained to
            the end, or its weights were not kept, or it does not classify images.
    """
    task = experiment.task
    if not isinstance(task, ClassificationTask):
        raise ValueError(
            f"{experiment.folder}: only networks that classify can be exported, but this "
            f"experiment's score is {task.metric}."
        )
    study = _open(experiment)
    trial = _best(study, experiment) if number is None else _numbered(study, number)
    trials = study.get_trials(deepcopy=False)
    holder = trials[trial.user_attrs.get("duplicate_of", trial.number)]
    store = WeightStore(experiment.folder / "weights", experiment.config.search.keep_weights)
    architecture = Architecture.from_dict(json.loads(trial.user_attrs["architecture"]))
    normalize = Normalizer.of(task.data.train_images)
    mean, std = ((one.flatten() / 255).tolist() for one in (normalize.mean, normalize.std))
    form = InputFormat(task.input_size, tuple(mean), tuple(std), task.data.class_names)
    return Network(
        create_network(architecture, form, store.load(holder)),
        form,
        normalize(task.data.valid_images[: task.num_erf_images]),
        f"Trial {trial.number} of the study {one_line(study.study_name)}, trained briefly by an "
        "architecture search.",
        {"validation accuracy": f"{trial.values[0]:.4f}"},
        task.training.seed,
    )


def _open(experiment: Experiment) -> optuna.Study:
    """The study, to read; an experiment that has not run has none."""
    path = experiment.folder / "study.db"
    if not path.is_file():
        raise ValueError(f"{path}: there is no study; search first with `rfsearch run`.")
    try:
        study = optuna.load_study(
            study_name=experiment.folder.name, storage=storage_url(experiment.folder)
        )
    except KeyError:
        raise ValueError(f"{path}: holds no study {experiment.folder.name!r}.") from None
    except (SQLAlchemyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: not a usable Optuna database ({reason}).") from None
    claim(study, experiment, str(path), "move it away")
    return study


def _best(study: optuna.Study, experiment: Experiment) -> FrozenTrial:
    trained = [trial for trial in study.get_trials(deepcopy=False) if _is_trained(trial)]
    if not trained:
        raise ValueError(f"{experiment.folder}: no candidate has been trained to the end.")
    minimize = study.directions[0] == StudyDirection.MINIMIZE
    return (min if minimize else max)(trained, key=lambda trial: trial.values[0])


def _numbered(study: optuna.Study, number: int) -> FrozenTrial:
    trials = study.get_trials(deepcopy=False)
    if not 0 <= number < len(trials):
        raise ValueError(
            f"`0 <= trial < {len(trials)}` must hold, the trials of the study, but got {number}."
        )
    trial = trials[number]
    if not _is_trained(trial):
        state, reason = trial.state.name.lower(), trial.user_attrs.get("reason")
        raise ValueError(
            f"Trial {number} was not trained to the end: it is {state}"
            f"{f', {reason}' if reason else ''}."
        )
    return trial


def _is_trained(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.COMPLETE and "rejected_by" not in trial.user_attrs
