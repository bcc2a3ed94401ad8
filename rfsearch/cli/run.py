"""`rfsearch run`: search."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from rfsearch.cli._errors import as_bugs, user_mistakes
from rfsearch.cli._output import print_table
from rfsearch.cli._studies import (
    DeviceOption,
    ExperimentArgument,
    GraceOption,
    HeartbeatOption,
    StorageOption,
    StudyOption,
    TrialsPerGpuOption,
    not_nan,
    study_address,
    until_trials_are_handed_back,
)

if TYPE_CHECKING:
    import optuna

    from rfsearch.search.experiment import Experiment
    from rfsearch.workers.interrupts import Interrupts


class Place(StrEnum):
    """Where workers run."""

    LOCAL = "local"
    RAY = "ray"


def run(
    experiment: ExperimentArgument,
    device: DeviceOption = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="How many processes search.  [default: 1]")
    ] = None,
    trials_per_gpu: TrialsPerGpuOption = None,
    on: Annotated[
        Place, typer.Option(help="Where: this machine, or a Ray cluster.")
    ] = Place.LOCAL,
    gpus: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            callback=not_nan,
            help="On Ray: each worker's share of a GPU. By default 1.",
        ),
    ] = None,
    storage: StorageOption = None,
    study: StudyOption = None,
    heartbeat: HeartbeatOption = 60.0,
    grace: GraceOption = 20.0,
) -> None:
    """Search; run again to go on where it stopped."""
    with user_mistakes():
        import optuna

        from rfsearch.measure.device import check_device
        from rfsearch.search.experiment import Experiment
        from rfsearch.search.folder_lock import exclusive
        from rfsearch.search.study import open_study
        from rfsearch.workers.devices import workers_for
        from rfsearch.workers.interrupts import AFTER_GRACE, Interrupts

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        check_device(device)
        if trials_per_gpu is not None:
            if workers is not None or device is not None or on != Place.LOCAL:
                raise ValueError(
                    "--trials-per-gpu says where and how many; it goes with none of --workers, "
                    "--device and --on ray, where --gpus is each worker's share."
                )
            workers = workers_for(trials_per_gpu)
        loaded = Experiment.load(experiment, device)
        address = study_address(loaded, storage, study)
        if on == Place.RAY and not address.is_shared:
            raise ValueError("--on ray needs --storage: a database that all nodes reach.")
    with user_mistakes(), ExitStack() as until_the_end:
        share_folder = None
        if not address.is_shared:
            locked = exclusive(loaded.folder, wait=grace + 2 * AFTER_GRACE)
            share_folder = until_the_end.enter_context(locked)
        opened = until_the_end.enter_context(
            open_study(loaded, address, alone=not address.is_shared)
        )
        # Workers have a grace time of their own, and need some to hand back their trials after it.
        number = workers or 1
        is_here = on == Place.LOCAL and number == 1 and trials_per_gpu is None
        waits = grace if is_here else grace + AFTER_GRACE
        interrupts = Interrupts(waits, until_trials_are_handed_back)
        if on == Place.RAY:
            from rfsearch.cli._worker_pool import search_on_ray
            from rfsearch.workers.ray_workers import RayJob

            job = RayJob(Path(experiment).resolve(), address, heartbeat, grace)
            interrupted = search_on_ray(opened, loaded, interrupts, job, number, gpus)
        elif is_here:
            with as_bugs():
                interrupted = _search(opened, loaded, heartbeat, interrupts)
        else:
            from rfsearch.cli._worker_pool import search_together

            if share_folder is not None:
                share_folder()
            options = ["--lifeline", "--heartbeat", str(heartbeat), "--grace", str(grace)]
            options += ["--device", device] if device else []
            if trials_per_gpu is not None:
                options += ["--trials-per-gpu", str(trials_per_gpu)]
            command = [sys.executable, "-m", "rfsearch.cli.main", "worker", experiment, *options]
            interrupted = search_together(opened, loaded, address, interrupts, command, number)
        with as_bugs():
            _print_results(opened, loaded)
    if interrupted:
        typer.echo("Interrupted; finished trials are kept. Run again to go on.", err=True)
        raise typer.Exit(128 + (interrupts.requested or signal.SIGINT))


def _search(
    study: optuna.Study, experiment: Experiment, heartbeat: float, interrupts: Interrupts
) -> bool:
    """Search with a progress bar; True if interrupted."""
    from rfsearch.workers.progress import SearchProgress
    from rfsearch.workers.worker import Worker

    console = Console(stderr=True)
    with SearchProgress(console, study, experiment.config.search.trained_trials) as progress:
        try:
            Worker(study, experiment, progress, heartbeat, interrupts=interrupts).work()
        except KeyboardInterrupt:
            return True
    return False


def _print_results(study: optuna.Study, experiment: Experiment) -> None:
    from rfsearch.analysis.analysis import trials_dataframe
    from rfsearch.analysis.front import front_table
    from rfsearch.report.terminal import control_lines, gate_summary, trained_table, write_report

    # First of all: whoever reads what is printed may have gone.
    files = write_report(study, experiment)
    frame = trials_dataframe(study)
    objectives = experiment.config.search.objectives
    front = [front_table(frame, objectives)] if len(objectives) > 1 else []
    print_table(trained_table(frame), *front)
    typer.echo(gate_summary(frame))
    for sentence in control_lines(study, frame):
        typer.echo(sentence)
    for gate, allowed in experiment.constraint.described().items():
        typer.echo(f"{gate} gate: {allowed}")
    typer.echo(f"table   {files.trials}")
    typer.echo(f"figure  {files.figure}")
    if files.front is not None:
        typer.echo(f"front   {files.front}")
