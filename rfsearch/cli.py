"""The command line."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    import optuna

    from rfsearch.constraint import RFConstraint
    from rfsearch.experiment import Experiment
    from rfsearch.space import SearchSpace
    from rfsearch.target import ScaleTarget

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


def main() -> None:
    """Entry point of the `rfsearch` command."""
    warnings.showwarning = _show_warning
    app()


@app.callback()
def _about() -> None:
    """Search network architectures whose receptive field fits the objects they must see."""


@app.command()
def run(
    experiment: Annotated[Path, typer.Argument(help="An experiment's folder or TOML file.")],
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, ...: by default CUDA where there is a device.")
    ] = None,
) -> None:
    """Search; run again to go on where it stopped."""
    with _user_mistakes():
        import optuna

        from rfsearch.experiment import Experiment
        from rfsearch.study import exclusive, open_study

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        _check_device(device)
        loaded = Experiment.load(experiment, device)
    with _user_mistakes(), exclusive(loaded.folder):
        study = open_study(loaded)
        with _as_bugs():
            interrupted = _search(study, loaded)
            _print_results(study, loaded)
    if interrupted:
        typer.echo("Interrupted; finished trials are kept. Run again to go on.", err=True)
        raise typer.Exit(130)


@app.command()
def space(
    file: Annotated[str, typer.Argument(help="A space's TOML file, or a shipped space's name.")],
    target: Annotated[
        str | None, typer.Option(help="Smallest and largest object in px, as 24:96.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the sample that the expected ERF needs.")] = 0,
) -> None:
    """Show a search space: its size, the receptive fields it reaches, how much of it fits."""
    with _user_mistakes():
        from rfsearch.constraint import RFConstraint
        from rfsearch.remedies import require_feasible
        from rfsearch.space import SearchSpace

        loaded = SearchSpace.load(file)
        constraint = RFConstraint(_parse_target(target)) if target else None
        _print_space(file, loaded)
        if constraint:
            require_feasible(loaded, constraint)
    if constraint:
        _print_feasible(loaded, constraint, seed)


def _print_space(name: str, loaded: SearchSpace) -> None:
    from rfsearch.charts import size_chart
    from rfsearch.constraint import RFConstraint

    sizes = loaded.feasible(RFConstraint(theoretical=None, effective=None)).histogram()
    typer.echo(f"space           {name}")
    typer.echo(f"architectures   {loaded.size:,}")
    typer.echo(f"parameters      {len(loaded.distributions())}")
    typer.echo(f"theoretical RF  {min(sizes)} to {max(sizes)} px")
    Console().print(size_chart(sizes))


def _print_feasible(loaded: SearchSpace, constraint: RFConstraint, seed: int) -> None:
    import numpy as np

    for gate, allowed in constraint.ranges().items():
        if gate != "measured":
            typer.echo(f"{gate + ' range':<18}{allowed}")
    by_trf = replace(constraint, expected=False, measured=False)
    within = loaded.feasible(by_trf)
    typer.echo(f"{'within TRF range':<18}{within.count:,} ({within.fraction:.3g} of all, exact)")
    feasible = loaded.feasible(constraint)
    if feasible.is_exact:
        typer.echo(f"{'feasible':<18}{feasible.count:,} ({feasible.fraction:.3g} of all, exact)")
        return
    low, high = feasible.estimate(np.random.default_rng(seed))
    typer.echo(
        f"{'feasible':<18}{low:.2g} to {high:.2g} "
        f"({low / loaded.size:.2g} to {high / loaded.size:.2g} of all, 95 % interval)"
    )


def _search(study: optuna.Study, experiment: Experiment) -> bool:
    """Search with a progress bar; True if interrupted."""
    from rfsearch.progress import SearchProgress
    from rfsearch.study import run_study

    console = Console(stderr=True)
    with SearchProgress(console, study, experiment.config.search.trained_trials) as progress:
        try:
            run_study(study, experiment, progress)
        except KeyboardInterrupt:
            return True
    return False


def _print_results(study: optuna.Study, experiment: Experiment) -> None:
    from rfsearch.analysis import trials_dataframe
    from rfsearch.report import gate_summary, trained_table, write_report

    frame = trials_dataframe(study)
    files = write_report(study, experiment)
    Console().print(trained_table(frame))
    for line in (
        gate_summary(frame),
        *(f"{gate} gate: {allowed}" for gate, allowed in experiment.constraint.ranges().items()),
        f"table   {files.trials}",
        f"figure  {files.figure}",
    ):
        typer.echo(line)


def _parse_target(text: str) -> ScaleTarget:
    from rfsearch.target import ScaleTarget

    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        raise ValueError(f"--target must be MIN:MAX in px, as 24:96, but got {text!r}.") from None
    return ScaleTarget(low, high)


def _check_device(device: str | None) -> None:
    import torch

    if device is None:
        return
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {device} cannot be used here ({reason}).") from None


class _Bug(Exception):  # noqa: N818  # carries another exception past `_user_mistakes`
    """Not a user's mistake, whatever its type."""


@contextmanager
def _user_mistakes() -> Iterator[None]:
    """Turn what is wrong with the user's input into one line and exit code 2."""
    try:
        yield
    except _Bug as bug:
        raise bug.__cause__ or bug from None
    except (ValueError, OSError) as error:
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from None


@contextmanager
def _as_bugs() -> Iterator[None]:
    """Keep the traceback of what goes wrong inside, even inside `_user_mistakes`."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise _Bug from error


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    main()
