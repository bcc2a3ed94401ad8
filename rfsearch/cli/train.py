"""`rfsearch train`: train an exported network to convergence."""

from __future__ import annotations

import csv
import math
import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rfsearch.basics.atomic import atomic_file
from rfsearch.cli._errors import user_mistakes
from rfsearch.cli._models import DEVICE_HELP, chosen_device
from rfsearch.cli._output import print_table, say_what_is_waited_for
from rfsearch.cli.export import print_written

if TYPE_CHECKING:
    from rich.table import Table
    from torch import nn

    from rfsearch.data.datasets import TaskData
    from rfsearch.network.network_folder import InputFormat
    from rfsearch.training.checkpoints import Checkpoint, Epoch
    from rfsearch.training.config import TrainingConfig
    from rfsearch.training.loop import TrainingResult
    from rfsearch.training.task import Task

_CHECKPOINT = "checkpoint"


def train(
    network: Annotated[Path, typer.Argument(help="A folder that `rfsearch export` wrote.")],
    data: Annotated[
        Path,
        typer.Option(
            help="Images: an experiment, whose [data] says which; or for a classifier "
            "FOLDER/CLASS/*.png, split into train and val or not."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Where to write the result; by default NETWORK itself.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the images. [default: 100]")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file with any of TrainingConfig's settings.")
    ] = None,
    valid_share: Annotated[
        float, typer.Option(help="Share of each class for validation, if FOLDER is not split.")
    ] = 0.2,
    split_seed: Annotated[int, typer.Option(min=0, help="Of that split.")] = 0,
    from_scratch: Annotated[bool, typer.Option(help="Begin with random weights.")] = False,
    workers: Annotated[
        int | None, typer.Option(help="Processes that read images too many for the memory.")
    ] = None,
    device: Annotated[str | None, typer.Option(help=DEVICE_HELP)] = None,
    onnx: Annotated[bool, typer.Option(help="Also write model.onnx.")] = True,
) -> None:
    """Train an exported network to convergence; run again to go on where it stopped."""
    folder = out or network
    with user_mistakes():
        from rfsearch.data.device_images import Normalizer
        from rfsearch.export.export import retrained_network, write_network
        from rfsearch.export.formats import require_onnx
        from rfsearch.training.checkpoints import Checkpoint, digest_of
        from rfsearch.training.tasks import task_for
        from rfsearch.training.whole_network import load_whole, network_to_train, searched_part

        if onnx:
            require_onnx()
        place = chosen_device(device)
        exported, form = load_whole(network)
        settings = _settings(config, {"epochs": epochs, "loader_workers": workers}, form.task)
        images, form, batch_size = _images(data, form, valid_share, split_seed)
        if "batch_size" not in settings.model_fields_set:
            settings = settings.model_copy(update={"batch_size": batch_size})
        searched_part(exported, form.task).architecture.check_input_size(form.input_size)
        _check_target(folder, network)
        statistics = Normalizer.from_shares(form.mean, form.std)
        task = task_for(images, settings, place, statistics=statistics)
        model = network_to_train(
            exported, form, images.class_names, settings.seed, from_scratch=from_scratch
        )
        identity = {
            "settings": settings.model_dump_json(exclude={"loader_workers"}),
            "images": images.identity,
            "first weights": digest_of(model),
        }
        checkpoint = Checkpoint(folder / _CHECKPOINT, identity)
        result = _train(model, task, checkpoint)
        trained = retrained_network(
            model,
            result,
            task,
            replace(form, class_names=images.class_names),
            data.resolve().name,
        )
        differences = write_network(trained, folder, onnx=onnx)
        _write_history(result, task.metric, folder / "training.csv")
        checkpoint.remove()
    print_table(_table(result, task.metric))
    print_written(folder, differences, trained, onnx)


def _settings(file: Path | None, options: dict[str, Any], task: str) -> TrainingConfig:
    from rfsearch.basics.validation import parse, read_toml
    from rfsearch.training.config import TrainingConfig, to_convergence

    given = read_toml(file) if file is not None else {}
    given |= {name: value for name, value in options.items() if value is not None}
    source = str(file) if file is not None else "options"
    return parse(TrainingConfig, to_convergence(task, given), source)


def _images(
    data: Path, form: InputFormat, valid_share: float, split_seed: int
) -> tuple[TaskData, InputFormat, int]:
    """What to train on, what the network takes there, and the usual size of a batch."""
    from rfsearch.data.sources import image_folder
    from rfsearch.network.network_folder import CLASSIFICATION
    from rfsearch.search.experiment import Experiment
    from rfsearch.training.config import TrainingConfig

    is_experiment = data.is_file() or (data / "experiment.toml").exists()
    if form.task == CLASSIFICATION and not is_experiment:
        images = image_folder(
            data,
            image_size=form.input_size,
            valid_share=valid_share,
            seed=split_seed,
            channels=1 if form.in_chans == 1 else 3,
        )
        return images, form, TrainingConfig().batch_size
    task = Experiment.load(data, "cpu").task
    if task.name != form.task:
        raise ValueError(
            f"{data}: must have images for {form.task}, but has some for {task.name}."
        )
    if task.in_chans != form.in_chans:
        raise ValueError(
            f"{data}: the images must have {form.in_chans} channels, which the network takes, but "
            f"have {task.in_chans}."
        )
    height, width = task.input_size
    scale = getattr(task.data, "scale", 1.0)
    form = replace(form, input_size=(height, width), scale=scale)
    return task.data, form, task.training.batch_size


def _check_target(folder: Path, network: Path) -> None:
    from rfsearch.basics.atomic import recover_folder
    from rfsearch.export.export import check_empty

    recover_folder(folder)
    goes_on = (folder / _CHECKPOINT).exists() or folder.resolve() == network.resolve()
    if not goes_on:
        check_empty(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass  # It can be written.
    except OSError as error:
        raise ValueError(f"{folder}: cannot be written ({error.strerror}).") from None


def _train(model: nn.Module, task: Task, checkpoint: Checkpoint) -> TrainingResult:
    import torch

    from rfsearch.data.loading_errors import LoadingError
    from rfsearch.training.loop import train as train_network
    from rfsearch.workers.interrupts import Interrupts

    most = task.training.max_epochs(task.num_images)
    total = "" if most is None else f"/{most}"

    def report(one: Epoch) -> None:
        text = f"epoch {one.number}{total}: loss {one.loss:.3f}, {task.metric} {one.score:.4f}"
        typer.echo(text, err=True)

    interrupts = Interrupts(say=_until_the_batch_ends)
    try:
        with interrupts:
            return train_network(
                model,
                task,
                report=report,
                checkpoint=checkpoint,
                after_batch=interrupts.raise_if_requested,
            )
    except KeyboardInterrupt:
        typer.echo("Interrupted; run again to go on after the last whole epoch.", err=True)
        raise typer.Exit(128 + (interrupts.requested or signal.SIGINT)) from None
    except torch.OutOfMemoryError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{reason} Give a smaller `batch_size` in --config.") from None
    except FloatingPointError as error:
        raise ValueError(f"{error} A lower learning_rate may help.") from None
    except LoadingError as error:
        raise ValueError(f"{error} Run again to go on after the last whole epoch.") from None


def _until_the_batch_ends(number: signal.Signals) -> None:
    say_what_is_waited_for(number, "for the running batch to end")


def _write_history(result: TrainingResult, metric: str, file: Path) -> None:
    with atomic_file(file) as new, new.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(["epoch", "loss", metric])
        writer.writerows(result.history)


def _table(result: TrainingResult, metric: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in ("", "epoch", "loss", metric):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    rows = {"best": result.best, "last": result.history[-1]}
    if result.history[0].number == 0:  # Judged where the best weights are kept.
        rows = {"start": result.history[0]} | rows
    for name, one in rows.items():
        loss = "-" if math.isnan(one.loss) else f"{one.loss:.3f}"
        table.add_row(name, str(one.number), loss, f"{one.score:.4f}")
    return table
