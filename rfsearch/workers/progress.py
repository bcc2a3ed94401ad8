"""A progress bar for a search: trained candidates, best value, what each gate stopped.

A worker feeds it with its trials, one by one; whoever watches several workers, with all trials of
the study.
"""

from __future__ import annotations

from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING, Self

from optuna.trial import TrialState
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rfsearch.search.promotion import goes_on
from rfsearch.search.stopping import num_trained
from rfsearch.space.trial_attributes import CONTROL, PROMOTED_FROM

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial
    from rich.console import Console


class SearchProgress:
    """Call it after each trial, inside a `with` block."""

    def __init__(self, console: Console, study: optuna.Study, trained_trials: int) -> None:
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self.task = self.bar.add_task("", total=trained_trials)
        self.refresh(study.get_trials(deepcopy=False))

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def refresh(self, trials: list[FrozenTrial]) -> None:
        """Show these trials, whoever made them."""
        finished = [trial for trial in trials if trial.state.is_finished()]
        self.best = max((t.values[0] for t in finished if _has_result(t)), default=None)
        self.stopped = Counter[str | None]()
        for trial in finished:
            self._count(trial)
        self.running = sum(trial.state == TrialState.RUNNING for trial in trials)
        self.bar.update(self.task, completed=num_trained(finished))
        self._describe()

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Take in a finished trial."""
        self._count(trial)
        if _has_result(trial):
            self.best = max(trial.values[0], self.best or trial.values[0])
        if num_trained([trial]):
            self.bar.advance(self.task)
        self._describe()

    def _count(self, trial: FrozenTrial) -> None:
        gate = trial.user_attrs.get("rejected_by")
        if gate != "control" and CONTROL in trial.user_attrs:
            return  # The gate has not stopped it.
        self.stopped[gate] += 1
        if PROMOTED_FROM in trial.user_attrs and goes_on(trial):  # That one was not the end.
            self.stopped["pruner"] -= 1

    def _describe(self) -> None:
        best = "-" if self.best is None else f"{self.best:.3f}"
        counts = [f"{gate} {n}" for gate, n in sorted(self.stopped.items(), key=str) if gate and n]
        stopped = f", stopped: {', '.join(counts)}" if counts else ""
        running = f", running: {self.running}" if self.running else ""
        self.bar.update(self.task, description=f"best {best}{stopped}{running}")


def _has_result(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.COMPLETE and "rejected_by" not in trial.user_attrs
