"""`rfsearch run`: search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from rfsearch.cli_device import DEVICE_HELP, check_device
from rfsearch.cli_errors import as_bugs, user_mistakes

if TYPE_CHECKING:
    import optuna

    from rfsearch.experiment import Experiment


def run(
    experiment: Annotated[Path, typer.Argument(help="An experiment's folder or TOML file.")],
    device: Annotated[str | None, typer.Option(help=DEVICE_HELP)] = None,
) -> None:
    """Search; run again to go on where it stopped."""
    with user_mistakes():
        import optuna

        from rfsearch.experiment import Experiment
        from rfsearch.study import exclusive, open_study

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        check_device(device)
        loaded = Experiment.load(experiment, device)
    with user_mistakes(), exclusive(loaded.folder):
        study = open_study(loaded)
        with as_bugs():
            interrupted = _search(study, loaded)
            _print_results(study, loaded)
    if interrupted:
        typer.echo("Interrupted; finished trials are kept. Run again to go on.", err=True)
        raise typer.Exit(130)


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
