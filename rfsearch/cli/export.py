"""`rfsearch export`: the network of a trial, to be used anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rfsearch.cli._errors import user_mistakes
from rfsearch.cli._studies import StorageOption, StudyOption, find_study

if TYPE_CHECKING:
    from rfsearch.export.export import Network


def export(
    folder: Annotated[Path, typer.Argument(help="An experiment's folder or TOML file.")],
    out: Annotated[Path, typer.Option(help="A new or empty folder.")],
    trial: Annotated[
        str, typer.Option(help="A trial's number, or best: the best score.")
    ] = "best",
    onnx: Annotated[bool, typer.Option(help="Also write model.onnx.")] = True,
    storage: StorageOption = None,
    study: StudyOption = None,
) -> None:
    """Write a trained network as a timm folder, torch.export and ONNX files with a model card."""
    with user_mistakes():
        number = _number(trial)
        import optuna

        from rfsearch.export.export import check_empty, write_network
        from rfsearch.export.formats import require_onnx
        from rfsearch.export.trained_network import trained_network
        from rfsearch.search.experiment import Experiment

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        check_empty(out)
        if onnx:
            require_onnx()
        experiment = Experiment.load(folder, "cpu")
        with find_study(folder, storage, study) as opened:
            network = trained_network(experiment, opened, number)
        differences = write_network(network, out, onnx=onnx)
    print_written(out, differences, network, onnx)


def print_written(out: Path, differences: dict[str, float], network: Network, onnx: bool) -> None:
    """Say what lies in the folder and what was checked.

    Raises:
        typer.Exit: With code 1, if a format was left out; a warning has said why.
    """
    from rfsearch.training.tasks import HEADS

    what = " and ".join(HEADS[network.form.task].outputs)
    for file in sorted(out.iterdir()):
        size = f"{file.stat().st_size / 1e3:,.1f} kB"
        checked = (
            f"  {what} within {differences[file.name]:.1g} of the module's on "
            f"{len(network.images)} images"
            if file.name in differences
            else ""
        )
        typer.echo(f"{file.name:<18}{size:>12}{checked}")
    typer.echo(f"How to load it stands in {out / 'README.md'}.")
    if len(differences) < 1 + onnx:
        raise typer.Exit(1)


def _number(trial: str) -> int | None:
    if trial == "best":
        return None
    if not trial.isdecimal():
        raise ValueError(f"--trial must be a trial's number or best, but got {trial!r}.")
    return int(trial)
