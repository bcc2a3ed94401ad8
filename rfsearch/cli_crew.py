"""`rfsearch run --workers`: several processes with one progress display."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from rfsearch.cli_search import STORAGE_VARIABLE

if TYPE_CHECKING:
    import optuna

    from rfsearch.experiment import Experiment
    from rfsearch.interrupts import Interrupts
    from rfsearch.progress import SearchProgress
    from rfsearch.study import StudyAddress

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
    from rfsearch.local_workers import LocalWorkers
    from rfsearch.progress import SearchProgress

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


def _show(study: optuna.Study, progress: SearchProgress) -> int:
    """Show the study's trials; how many are finished."""
    trials = study.get_trials(deepcopy=False)
    progress.refresh(trials)
    return sum(trial.state.is_finished() for trial in trials)
