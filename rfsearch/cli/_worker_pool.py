"""`rfsearch run --workers` and `--on ray`: several processes with one progress display."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from rfsearch.cli._studies import STORAGE_VARIABLE

if TYPE_CHECKING:
    import optuna

    from rfsearch.search.experiment import Experiment
    from rfsearch.search.study import StudyAddress
    from rfsearch.workers.interrupts import Interrupts
    from rfsearch.workers.progress import SearchProgress
    from rfsearch.workers.ray_workers import RayJob

#: Seconds between two looks at the workers and the study.
_POLL = 0.5


def search_together(
    study: optuna.Study,
    experiment: Experiment,
    address: StudyAddress,
    interrupts: Interrupts,
    command: Sequence[str],
    number: int,
) -> bool:
    """Let workers search, and show how far they are.

    Args:
        study: The study that they work on.
        experiment: The experiment.
        address: Where the study is.
        interrupts: Of this process; passed on to the workers.
        command: What starts a worker.
        number: How many workers.

    Returns:
        Whether it was interrupted.
    """
    from rfsearch.workers.local_workers import LocalWorkers
    from rfsearch.workers.progress import SearchProgress

    place: dict[str, str] = {}
    if address.is_shared:
        # In the environment, since others can read command lines.
        place, command = {STORAGE_VARIABLE: address.storage}, [*command, "--study", address.name]
    workers = LocalWorkers(
        command, number, experiment.folder / "workers.log", place, interrupts.grace
    )
    total = experiment.config.search.trained_trials
    with interrupts, SearchProgress(Console(stderr=True), study, total) as progress, workers:
        told = False
        try:
            while workers.are_running(_show(study, progress)):
                if interrupts.requested and not told:
                    workers.tell(interrupts.requested)
                    told = True
                time.sleep(_POLL)
        except KeyboardInterrupt:
            return True
        _show(study, progress)
    return bool(interrupts.requested)


def search_on_ray(
    study: optuna.Study,
    experiment: Experiment,
    interrupts: Interrupts,
    job: RayJob,
    number: int,
    gpus: float | None,
) -> bool:
    """Let workers on a Ray cluster search, and show how far they are.

    Args:
        study: The study that they work on.
        experiment: The experiment.
        interrupts: Of this process; passed on to the workers.
        job: What the workers need to know.
        number: How many workers.
        gpus: Share of a GPU for each.

    Returns:
        Whether it was interrupted.
    """
    from rfsearch.search.stopping import is_finished
    from rfsearch.workers.progress import SearchProgress
    from rfsearch.workers.ray_workers import connect_to_ray, gpu_share, work_on_ray

    connect_to_ray()
    share = gpu_share(gpus)
    total = experiment.config.search.trained_trials
    with interrupts, SearchProgress(Console(stderr=True), study, total) as progress:

        def look() -> bool:
            interrupts.raise_if_requested()
            _show(study, progress)
            return not is_finished(study.get_trials(deepcopy=False), experiment)

        try:
            work_on_ray(job, number, share, look)
        except KeyboardInterrupt:
            return True
        _show(study, progress)
    return False


def _show(study: optuna.Study, progress: SearchProgress) -> int:
    """Show the study's trials; how many are finished."""
    trials = study.get_trials(deepcopy=False)
    progress.refresh(trials)
    return sum(trial.state.is_finished() for trial in trials)
