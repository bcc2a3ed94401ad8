"""The network of a trial: which trial, and whether it has one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from optuna.study import StudyDirection
from optuna.trial import TrialState

from rfsearch.data.datasets import ImageData
from rfsearch.export._model_card import SCORES, one_line
from rfsearch.export.export import Network
from rfsearch.network.architecture import Architecture
from rfsearch.network.network_folder import InputFormat
from rfsearch.retrofit.pretrained import PretrainedSpace
from rfsearch.search.study import claim
from rfsearch.search.weights import WeightStore
from rfsearch.training.whole_network import create_whole

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from rfsearch.search.experiment import Experiment
    from rfsearch.training.task import Task


def trained_network(
    experiment: Experiment, study: optuna.Study, number: int | None = None
) -> Network:
    """The network of a trial of an experiment's study.

    Args:
        experiment: An experiment that has run, with the weights in its folder.
        study: The experiment's, wherever it is stored.
        number: The trial. None takes the one with the best score, also of several objectives.

    Raises:
        ValueError: If the study is another experiment's, or there is no such trial, or its
            candidate has not been trained to the end, or its weights were not kept.
    """
    task = experiment.task
    claim(study, experiment, f"study {one_line(study.study_name)}", "give the experiment's own")
    trial = _best(study, experiment) if number is None else _numbered(study, number)
    trials = study.get_trials(deepcopy=False)
    holder = trials[trial.user_attrs.get("duplicate_of", trial.number)]
    store = WeightStore(experiment.folder / "weights", experiment.config.search.keep_weights)
    weights = store.load(holder)
    if isinstance(experiment.space, PretrainedSpace):
        given = experiment.space.build(**trial.params)
        model = task.build(given).cpu().eval()
        model.load_state_dict(weights)
        changes = experiment.space.changes(trial.params)
    else:
        architecture = Architecture.from_dict(json.loads(trial.user_attrs["architecture"]))
        model, changes = create_whole(architecture, _form(task), weights), None
    return Network(
        model,
        _form(task),
        task.erf_images,
        f"Trial {trial.number} of the study {one_line(study.study_name)}, trained briefly by an "
        "architecture search.",
        {SCORES[task.metric]: f"{trial.values[0]:.4f}"},
        task.training.seed,
        changes,
    )


def _form(task: Task) -> InputFormat:
    mean, std = (
        (one.flatten() / 255).tolist() for one in (task.normalize.mean, task.normalize.std)
    )
    scale = 1.0 if isinstance(task.data, ImageData) else task.data.scale
    classes = task.data.class_names
    height, width = task.input_size  # Files hold images.
    return InputFormat((height, width), tuple(mean), tuple(std), classes, task.name, scale)


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
