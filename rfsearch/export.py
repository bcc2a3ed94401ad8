"""Exporting the network of a trained trial to a folder that can be used without rfsearch."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from rfsearch.architecture import Architecture
from rfsearch.device_images import Normalizer
from rfsearch.export_formats import export_onnx, export_program, require_onnx
from rfsearch.latency import measure_latency
from rfsearch.model_card import ERF_PICTURE, CardFacts, model_card, one_line
from rfsearch.network_folder import InputFormat, create_network, save_network
from rfsearch.plots import erf_heat_map
from rfsearch.study import claim, storage_url
from rfsearch.task_erf import measure_on
from rfsearch.tasks import ClassificationTask
from rfsearch.weights import WeightStore

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial
    from torch import Tensor

    from rfsearch.experiment import Experiment
    from rfsearch.model import SearchedNetwork
    from rfsearch.retraining import RetrainingResult
    from rfsearch.retraining_data import Loaders

#: Images that the files of a retrained network are checked on.
_NUM_IMAGES = 8


@dataclass(frozen=True)
class Network:
    """A trained network with what is needed to write it down.

    Attributes:
        model: The network, made by `create_network`, on the CPU.
        form: What it takes.
        images: Normalised validation images `(images, channels, height, width)`, to check the
            files and to measure the ERF on.
        origin: Where the weights come from, in a sentence.
        results: What training gave, by name.
        seed: Of the random signs of the ERF.
    """

    model: SearchedNetwork
    form: InputFormat
    images: Tensor
    origin: str
    results: dict[str, str]
    seed: int = 0


def trained_network(experiment: Experiment, number: int | None = None) -> Network:
    """The network of a trial of an experiment's study.

    Args:
        experiment: An experiment that has run.
        number: The trial. None takes the best one.

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


def retrained_network(
    result: RetrainingResult,
    architecture: Architecture,
    form: InputFormat,
    loaders: Loaders,
    data: str,
) -> Network:
    """The network with the best weights of a retraining.

    Args:
        result: What the retraining gave.
        architecture: What was trained.
        form: What it takes.
        loaders: The images; the first ones for validation are what files are checked on.
        data: Name of the images.
    """
    images, _ = next(iter(loaders.valid))
    return Network(
        create_network(architecture, form, result.weights),
        form,
        images[:_NUM_IMAGES].cpu(),
        f"Found by an architecture search and trained to convergence on {one_line(data)}.",
        {
            "validation accuracy": f"{result.best.ema_accuracy:.4f}",
            "trained": f"{result.best.epoch} of {result.history[-1].epoch} epochs (the best)",
        },
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
    if len(study.directions) > 1:
        raise ValueError(
            f"{experiment.folder}: no trial is the best of several objectives; give its number."
        )
    minimize = study.direction == StudyDirection.MINIMIZE
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


def write_network(network: Network, folder: Path, *, onnx: bool = True) -> dict[str, float]:
    """Write a network in all formats, each checked on its images, with a model card.

    The files appear in the folder once all of them are written and checked; files of the same
    names are replaced.

    Args:
        network: What to write.
        folder: Where to; it is made if need be.
        onnx: Whether to write `model.onnx`, which takes the extra `rfsearch[export]`.

    Returns:
        Largest difference of scores from the module's, for each file that has been checked.

    Raises:
        ValueError: If the folder cannot be written, or a package for ONNX is missing.
        RuntimeError: If the scores of a file are not those of the module.
    """
    if onnx:
        require_onnx()
    model = network.model.cpu().eval()
    with _staged(folder) as stage:
        save_network(model, network.form, stage)
        differences = {
            "model.pt2": export_program(model, network.images, stage / "model.pt2"),
        }
        if onnx:
            differences["model.onnx"] = export_onnx(model, network.images, stage / "model.onnx")
        facts = CardFacts(
            model,
            network.form,
            network.origin,
            network.results,
            measure_on(network.images, model, model.architecture.levels[-1], network.seed),
            measure_latency(model, network.form.input_size),
            differences,
            len(network.images),
        )
        figure = erf_heat_map(facts.erf, "Which pixels matter to a unit of the last map")
        figure.savefig(stage / ERF_PICTURE, dpi=110)
        (stage / "README.md").write_text(model_card(facts), encoding="utf-8")
    return differences


def check_empty(folder: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        ValueError: If it does, or is no folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: must be a new or an empty folder, but is not empty.")


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """A folder inside of another, whose files move there if nothing goes wrong."""
    existed = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stage = tempfile.TemporaryDirectory(dir=folder, prefix=".writing-")
    except OSError as error:
        raise ValueError(f"{folder}: cannot be written ({error.strerror}).") from None
    done = False
    try:
        with stage as name:
            yield Path(name)
            for file in Path(name).iterdir():
                file.replace(folder / file.name)
            done = True
    finally:
        if not done and not existed:
            folder.rmdir()
