"""Writing a trained network to a folder that can be used without rfsearch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rfsearch.analysis.plots import erf_heat_map
from rfsearch.export._model_card import ERF_PICTURE, SCORES, CardFacts, model_card, one_line
from rfsearch.export.formats import export_onnx, export_program, require_onnx
from rfsearch.measure.latency import measure_latency
from rfsearch.training.checkpoints import weights_of
from rfsearch.training.task_erf import measure_on
from rfsearch.training.tasks import HEADS
from rfsearch.training.whole_network import create_whole, save_whole, searched_part

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rfsearch.network.network_folder import InputFormat
    from rfsearch.training.loop import TrainingResult
    from rfsearch.training.task import Task


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
    """

    model: nn.Module
    form: InputFormat
    images: Tensor
    origin: str
    results: dict[str, str]
    seed: int = 0


def converged_network(
    model: nn.Module, result: TrainingResult, task: Task, form: InputFormat, data: str
) -> Network:
    """A network that was trained to convergence.

    Args:
        model: The network, with its best weights.
        result: What the training gave.
        task: What it was trained for; the files are checked on its validation images.
        form: What the network takes.
        data: Name of the images.
    """
    architecture = searched_part(model, form.task).architecture
    return Network(
        create_whole(architecture, form, weights_of(model)),
        form,
        task.erf_images,
        f"Found by an architecture search and trained to convergence on {one_line(data)}.",
        {
            SCORES[task.metric]: f"{result.score:.4f}",
            "trained": f"{result.best.number} of {result.epochs} epochs (the best)",
        },
        task.training.seed,
    )


def write_network(network: Network, folder: Path, *, onnx: bool = True) -> dict[str, float]:
    """Write a network in all formats, each checked on its images, with a model card.

    The files appear in the folder once all of them are written and checked, and replace those of
    another network.

    Args:
        network: What to write.
        folder: Where to; it is made if need be.
        onnx: Whether to write `model.onnx`, which takes the extra `rfsearch[export]`.

    Returns:
        Largest difference of what it gives from what the module gives, for each file that has
        been checked.

    Raises:
        ValueError: If the folder cannot be written, or a package for ONNX is missing.
        RuntimeError: If a file does not give what the module gives.
    """
    if onnx:
        require_onnx()
    form, images, head = network.form, network.images, HEADS[network.form.task]
    model = network.model.cpu().eval()
    searched = searched_part(model, form.task)
    level = searched.architecture.levels[head.level]
    with _staged(folder) as stage:
        save_whole(model, form, stage)
        exported = head.export(model, form.input_size).eval()
        differences = {"model.pt2": export_program(exported, images, stage / "model.pt2")}
        if onnx:
            file = stage / "model.onnx"
            differences["model.onnx"] = export_onnx(exported, images, file, head.outputs)
        facts = CardFacts(
            searched.architecture,
            form,
            network.origin,
            network.results,
            sum(weights.numel() for weights in model.parameters()),
            level,
            measure_on(images, searched, level, network.seed),
            measure_latency(exported, form.input_size),
            differences,
            len(images),
        )
        figure = erf_heat_map(facts.erf, "Which pixels matter to a unit of the map")
        figure.savefig(stage / ERF_PICTURE, dpi=110)
        (stage / "README.md").write_text(model_card(facts), encoding="utf-8")
    if not onnx:  # One of other weights must not stay beside the new ones.
        (folder / "model.onnx").unlink(missing_ok=True)
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
