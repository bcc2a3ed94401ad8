"""`rfsearch worker`: one of many that share a study."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rfsearch.cli._errors import as_bugs, user_mistakes
from rfsearch.cli._studies import (
    DeviceOption,
    ExperimentArgument,
    GraceOption,
    HeartbeatOption,
    StorageOption,
    StudyOption,
    TrialsPerGpuOption,
    study_address,
    until_trials_are_handed_back,
)

if TYPE_CHECKING:
    from rfsearch.workers.worker import Worker


def worker(
    experiment: ExperimentArgument,
    storage: StorageOption = None,
    study: StudyOption = None,
    device: DeviceOption = None,
    trials_per_gpu: TrialsPerGpuOption = None,
    heartbeat: HeartbeatOption = 60.0,
    grace: GraceOption = 20.0,
    checkpoints: Annotated[
        Path | None,
        typer.Option(help="Folder for checkpoints, on a file system that all workers share."),
    ] = None,
    lifeline: Annotated[
        bool, typer.Option("--lifeline", hidden=True, help="End when standard input does.")
    ] = False,
) -> None:
    """Take part in a search; any number may, on any machine, and come and go."""
    from rfsearch.workers.interrupts import Interrupts, end_with_standard_input

    if lifeline:  # Before anything that takes long.
        end_with_standard_input(grace)
    with user_mistakes(), ExitStack() as until_the_end:
        import optuna

        from rfsearch.measure.device import check_device
        from rfsearch.search.experiment import Experiment
        from rfsearch.search.folder_lock import together
        from rfsearch.search.study import open_study
        from rfsearch.storage.retrying_storage import PATIENCE
        from rfsearch.workers.devices import free_device, workers_for
        from rfsearch.workers.worker import Worker

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        check_device(device)
        if trials_per_gpu is not None:
            if device is not None:
                raise ValueError("--trials-per-gpu takes a free GPU; give it or --device.")
            workers_for(trials_per_gpu)
        device = device or until_the_end.enter_context(free_device(places=trials_per_gpu))
        loaded = Experiment.load(experiment, device)
        address = study_address(loaded, storage, study)
        if not address.is_shared:
            until_the_end.enter_context(together(loaded.folder))
        opened = until_the_end.enter_context(
            open_study(loaded, address, alone=False, wait=PATIENCE)
        )
        interrupts = Interrupts(grace, until_trials_are_handed_back)
        with as_bugs():
            code = _work(
                Worker(
                    opened,
                    loaded,
                    heartbeat=heartbeat,
                    checkpoints=checkpoints,
                    interrupts=interrupts,
                )
            )
    raise typer.Exit(code)


def _work(worker: Worker) -> int:
    """The exit code: that of the signal which has ended the work, or 0."""
    try:
        worker.work()
    except KeyboardInterrupt:
        typer.echo("Stopped; the trial was handed back.", err=True)
        return 128 + (worker.interrupts.requested or 2)
    return 0
