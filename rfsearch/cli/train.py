"""`rfsearch train`: train an exported network to convergence."""

from __future__ import annotations

import csv
import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rfsearch.cli._device import DEVICE_HELP, chosen_device
from rfsearch.cli._errors import user_mistakes
from rfsearch.cli.export import print_written

if TYPE_CHECKING:
    import torch
    from rich.table import Table
    from torch import nn

    from rfsearch.network.network_folder import InputFormat
    from rfsearch.training.retraining import RetrainingResult
    from rfsearch.training.retraining_course import Course
    from rfsearch.training.retraining_run import EpochResult, RetrainingConfig

_CHECKPOINT = "checkpoint.pt"


def train(
    network: Annotated[Path, typer.Argument(help="A folder that `rfsearch export` wrote.")],
    data: Annotated[
        Path,
        typer.Option(
            help="Images: FOLDER/CLASS/*.png, or split into train and val. For a network that "
            "segments or detects an experiment, whose [data] says which."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Where to write the result; by default NETWORK itself.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the images. [default: 100]")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file with any of RetrainingConfig's settings.")
    ] = None,
    from_scratch: Annotated[bool, typer.Option(help="Begin with random weights.")] = False,
    workers: Annotated[int, typer.Option(help="Processes that read images.")] = 2,
    device: Annotated[str | None, typer.Option(help=DEVICE_HELP)] = None,
    onnx: Annotated[bool, typer.Option(help="Also write model.onnx.")] = True,
) -> None:
    """Train an exported network to convergence; run again to go on where it stopped."""
    folder = out or network
    with user_mistakes():
        import torch

        from rfsearch.export.export import retrained_network, write_network
        from rfsearch.export.formats import require_onnx
        from rfsearch.training.retraining import starting_network
        from rfsearch.training.whole_network import load_whole, searched_part

        if onnx:
            require_onnx()
        settings = _settings(config, epochs)
        place = torch.device(chosen_device(device))
        exported, form = load_whole(network)
        course, form = _course(data, form, settings, device=place, workers=workers)
        architecture = searched_part(exported, form.task).architecture
        architecture.check_input_size(form.input_size)
        _check_target(folder, network)
        model, form = starting_network(
            exported,
            architecture,
            form,
            course.class_names,
            settings.seed,
            from_scratch=from_scratch,
        )
        result = _retrain(model, course, settings, folder / _CHECKPOINT, place)
        trained = retrained_network(result, architecture, form, course, data.resolve().name)
        differences = write_network(trained, folder, onnx=onnx)
        _write_history(result, course.metric, folder / "training.csv")
        (folder / _CHECKPOINT).unlink()
    from rich.console import Console

    Console().print(_table(result, course.metric), "")
    print_written(folder, differences, trained)


def _settings(file: Path | None, epochs: int | None) -> RetrainingConfig:
    from rfsearch.basics.validation import parse, read_toml
    from rfsearch.training.retraining_run import RetrainingConfig

    values = read_toml(file) if file is not None else {}
    if epochs is not None:
        values["epochs"] = epochs
    return parse(RetrainingConfig, values, str(file) if file is not None else "--epochs")


def _course(
    data: Path,
    form: InputFormat,
    settings: RetrainingConfig,
    *,
    device: torch.device,
    workers: int,
) -> tuple[Course, InputFormat]:
    """What to train on, and what the network takes there."""
    from rfsearch.network.network_folder import CLASSIFICATION

    if form.task == CLASSIFICATION:
        from rfsearch.training.retraining_classifier import ClassifierCourse
        from rfsearch.training.retraining_data import folder_loaders

        loaders = folder_loaders(data, form, settings.loading, device=device, workers=workers)
        return ClassifierCourse(loaders, settings, device), form
    from rfsearch.data.datasets import ImageData
    from rfsearch.search.experiment import Experiment
    from rfsearch.training.retraining_tiles import TileCourse

    experiment = Experiment.load(data, "cpu")
    task = experiment.task
    if task.name != form.task or isinstance(task.data, ImageData):
        raise ValueError(
            f"{data}: must have images for {form.task}, but has some for {task.name}."
        )
    course = TileCourse(
        task.data,
        form,
        settings,
        device=device,
        batch_size=task.batch_size,
        identity=json.dumps(experiment.identity["data"], sort_keys=True),
        workers=workers,
    )
    return course, replace(form, input_size=task.input_size, scale=task.data.scale)


def _check_target(folder: Path, network: Path) -> None:
    from rfsearch.export.export import check_empty

    goes_on = (folder / _CHECKPOINT).exists() or folder.resolve() == network.resolve()
    if not goes_on:
        check_empty(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass  # It can be written.
    except OSError as error:
        raise ValueError(f"{folder}: cannot be written ({error.strerror}).") from None


def _retrain(
    model: nn.Module,
    course: Course,
    settings: RetrainingConfig,
    checkpoint: Path,
    device: torch.device,
) -> RetrainingResult:
    import torch

    from rfsearch.data.loading_errors import LoadingError, loading_errors
    from rfsearch.training.retraining import retrain

    def report(one: EpochResult) -> None:
        typer.echo(
            f"epoch {one.epoch}/{settings.epochs}: loss {one.loss:.3f}, {course.metric} "
            f"{one.score:.4f}, with averaged weights {one.ema_score:.4f}",
            err=True,
        )

    try:
        with loading_errors():
            return retrain(model, course, settings, checkpoint, device=device, report=report)
    except KeyboardInterrupt:
        typer.echo("Interrupted; run again to go on after the last whole epoch.", err=True)
        raise typer.Exit(130) from None
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"The batches do not fit into the memory ({str(error).splitlines()[0]}): give a "
            "smaller `batch_size` below [loading] in --config."
        ) from None
    except FloatingPointError as error:
        raise ValueError(f"{error} A lower learning_rate may help.") from None
    except LoadingError as error:
        raise ValueError(f"{error} Run again to go on after the last whole epoch.") from None


def _write_history(result: RetrainingResult, metric: str, file: Path) -> None:
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(["epoch", "loss", metric, f"ema_{metric}"])
        writer.writerows(result.history)


def _table(result: RetrainingResult, metric: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in ("", "epoch", "loss", metric, "averaged weights"):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    rows = {"start": result.history[0], "best": result.best, "last": result.history[-1]}
    for name, one in rows.items():
        loss = "-" if math.isnan(one.loss) else f"{one.loss:.3f}"
        table.add_row(name, str(one.epoch), loss, f"{one.score:.4f}", f"{one.ema_score:.4f}")
    return table
