"""`rfsearch export`: the network of a trial, to be used anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rfsearch.cli_errors import user_mistakes


def export(
    study: Annotated[Path, typer.Argument(help="The folder of an experiment that has run.")],
    out: Annotated[Path, typer.Option(help="A new or empty folder.")],
    trial: Annotated[
        str, typer.Option(help="A trial's number, or best: the best score.")
    ] = "best",
    onnx: Annotated[bool, typer.Option(help="Also write model.onnx.")] = True,
) -> None:
    """Write a trained network as a timm folder, torch.export and ONNX files with a model card."""
    with user_mistakes():
        number = _number(trial)
        import optuna

        from rfsearch.experiment import Experiment
        from rfsearch.export import check_empty, write_network
        from rfsearch.export_formats import require_onnx
        from rfsearch.trained_network import trained_network

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        check_empty(out)
        if onnx:
            require_onnx()
        network = trained_network(Experiment.load(study, "cpu"), number)
        differences = write_network(network, out, onnx=onnx)
    print_written(out, differences, len(network.images))


def print_written(out: Path, differences: dict[str, float], num_images: int) -> None:
    """Say what lies in the folder and what was checked."""
    for file in sorted(out.iterdir()):
        size = f"{file.stat().st_size / 1e3:,.1f} kB"
        checked = (
            f"  scores within {differences[file.name]:.1g} of the module's on {num_images} images"
            if file.name in differences
            else ""
        )
        typer.echo(f"{file.name:<18}{size:>12}{checked}")
    typer.echo(f"How to load it stands in {out / 'README.md'}.")


def _number(trial: str) -> int | None:
    if trial == "best":
        return None
    if not trial.isdecimal():
        raise ValueError(f"--trial must be a trial's number or best, but got {trial!r}.")
    return int(trial)
