"""Writing a trained network to a folder that can be used without rfsearch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rfsearch.analysis.plots import erf_heat_map
from rfsearch.basics.atomic import (
    NotWrittenError,
    atomic_file,
    atomic_folder,
    recover_folder,
)
from rfsearch.export._model_card import ERF_PICTURE, SCORES, CardFacts, model_card, one_line
from rfsearch.export.formats import export_onnx, export_program, require_onnx
from rfsearch.measure.latency import measure_latency
from rfsearch.retrofit.pretrained import save_retrofit
from rfsearch.training.checkpoints import weights_of
from rfsearch.training.task_erf import measure_on
from rfsearch.training.tasks import HEADS
from rfsearch.training.whole_network import create_whole, save_whole, searched_part

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rfsearch.measure.erf import MeasuredERF
    from rfsearch.network.model import SearchedNetwork
    from rfsearch.network.network_folder import InputFormat
    from rfsearch.retrofit.changes import Changes
    from rfsearch.training.loop import TrainingResult
    from rfsearch.training.task import Task

#: What a folder has only if it can be made. One of other weights must not stay beside new ones.
_OPTIONAL = ("model.pt2", "model.onnx", ERF_PICTURE)
#: Outputs that are square roots, by task: a box's score is that of a product of two.
_ROOTS = {"detection": ("scores",)}


@dataclass(frozen=True)
class Network:
    """A trained network with what is needed to write it down.

    Attributes:
        model: The network, made by `rfsearch.training.whole_network.create_whole`, on the CPU.
        form: What it takes.
        images: Normalised validation images `(images, channels, height, width)`, to check the
            files and to measure the ERF on.
        origin: Where the weights come from, in a sentence.
        results: What training gave, by name.
        seed: Of the random signs of the ERF.
        changes: Of a network that was trained before, by layer; None of an architecture.
    """

    model: nn.Module
    form: InputFormat
    images: Tensor
    origin: str
    results: dict[str, str]
    seed: int = 0
    changes: Changes | None = None


def retrained_network(
    model: nn.Module, result: TrainingResult, task: Task, form: InputFormat, data: str
) -> Network:
    """A network that was exported, and trained again.

    Args:
        model: The network, with the weights that the training has kept.
        result: What the training gave.
        task: What it was trained for; the files are checked on its validation images.
        form: What the network takes.
        data: Name of the images.
    """
    architecture = searched_part(model, form.task).architecture
    kept, of_all = result.history[-1], f"of {result.epochs} epochs"
    if task.training.keep_best:
        kept, of_all = result.best, f"{of_all} (the best)"
    what = f"trained on {one_line(data)}"
    if kept.number == 0:
        what += ", which gave nothing better than the weights it began with, which these are"
    origin = f"Found by an architecture search and {what}: epoch {kept.number} "
    return Network(
        create_whole(architecture, form, weights_of(model)),
        form,
        task.erf_images,
        f"{origin}{of_all}.",
        {
            SCORES[task.metric]: f"{result.score:.4f}",
            "trained": f"{kept.number} {of_all}",
        },
        task.training.seed,
    )


def write_network(network: Network, folder: Path, *, onnx: bool = True) -> dict[str, float]:
    """Write a network in all formats, each checked on its images, with a model card.

    The files appear in the folder once all of them are written and checked, and replace those of
    another network. A format that cannot be written, or does not give what the module gives, is
    left out with a warning that says by how much; so is the picture of an ERF that cannot be
    measured.

    Args:
        network: What to write.
        folder: Where to; it is made if need be.
        onnx: Whether to write `model.onnx`, which takes the extra `rfsearch[export]`.

    Returns:
        Largest difference of what it gives from what the module gives, for each file that was
        written and checked.

    Raises:
        ValueError: If a package for ONNX is missing.
        rfsearch.basics.atomic.NotWrittenError: If the folder cannot be written.
    """
    if onnx:
        require_onnx()
    form, images, head = network.form, network.images, HEADS[network.form.task]
    model = network.model.cpu().eval()
    if network.changes is not None:
        with atomic_folder(folder, instead=_OPTIONAL) as stage:
            save_retrofit(model, network.changes, network.origin, stage)
            exported = head.export(model, form.input_size).eval()
            return _write_formats(exported, network, stage, onnx=onnx)
    searched = searched_part(model, form.task)
    level = searched.architecture.levels[head.level]
    with atomic_folder(folder, instead=_OPTIONAL) as stage:
        save_whole(model, form, stage)
        exported = head.export(model, form.input_size).eval()
        differences = _write_formats(exported, network, stage, onnx=onnx)
        facts = CardFacts(
            searched.architecture,
            form,
            network.origin,
            network.results,
            sum(weights.numel() for weights in model.parameters()),
            level,
            _measured_erf(network, searched, level),
            measure_latency(exported, form.input_size),
            differences,
            len(images),
        )
        if facts.erf is not None:
            figure = erf_heat_map(facts.erf, "Which pixels matter to a unit of the map")
            figure.savefig(stage / ERF_PICTURE, dpi=110)
        (stage / "README.md").write_text(model_card(facts), encoding="utf-8")
    return differences


def _write_formats(
    exported: nn.Module, network: Network, folder: Path, *, onnx: bool
) -> dict[str, float]:
    """Write the formats that can be, and warn of the others."""
    writers: dict[str, Callable[..., float]] = {"model.pt2": export_program}
    if onnx:
        writers["model.onnx"] = export_onnx
    task = network.form.task
    outputs, roots = HEADS[task].outputs, _ROOTS.get(task, ())
    differences = {}
    for name, write in writers.items():
        try:
            with atomic_file(folder / name) as new:
                differences[name] = write(exported, network.images, new, outputs, roots)
        except Exception as error:  # Whatever it is: the weights are there, and matter more.
            lines = str(error).strip().splitlines()
            reason = error.reason if isinstance(error, NotWrittenError) else next(iter(lines), "")
            warnings.warn(f"{name} is left out: {reason or type(error).__name__}", stacklevel=3)
    return differences


def _measured_erf(network: Network, searched: SearchedNetwork, level: str) -> MeasuredERF | None:
    try:
        return measure_on(network.images, searched, level, network.seed)
    except ValueError as error:  # No gradient reaches the input of a network that has collapsed.
        warnings.warn(f"{ERF_PICTURE} is left out: {error}", stacklevel=3)
        return None


def check_empty(folder: Path) -> None:
    """Refuse a folder that holds something, but for what an earlier attempt has left unfinished.

    Raises:
        ValueError: If it does, or is no folder.
    """
    recover_folder(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: must be a new or an empty folder, but is not empty.")
