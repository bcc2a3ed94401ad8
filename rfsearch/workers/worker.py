"""One worker: takes trials of a study, one after the other, until the search is over.

Any number of workers share a study through its database; nothing else connects them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from rfsearch.search.objective import Objective
from rfsearch.search.objectives import Values
from rfsearch.search.promotion import Promotions, is_second
from rfsearch.search.references import is_repeated
from rfsearch.search.rungs import is_stopped
from rfsearch.search.stopping import Step, has_a_place, next_step
from rfsearch.search.weights import WeightStore
from rfsearch.storage.errors import DatabaseLostError
from rfsearch.storage.recovery import (
    HEARTBEAT,
    RETRY_OF,
    Heartbeat,
    first_number,
    put_back,
    unfinished_numbers,
)
from rfsearch.training.checkpoints import Checkpoints
from rfsearch.workers.interrupts import Interrupts

if TYPE_CHECKING:
    from pathlib import Path

    from rfsearch.search.experiment import Experiment

OnTrial = Callable[[optuna.Study, FrozenTrial], None]

#: Seconds between two looks at what the others do, while there is nothing to begin.
_POLL = 1.0


def _ignore(study: optuna.Study, trial: FrozenTrial) -> None:
    pass


@dataclass(frozen=True)
class Worker:
    """Trains candidates of an experiment for a study.

    Attributes:
        study: From `rfsearch.search.study.open_study`.
        experiment: The experiment.
        on_trial: Called after each trial.
        heartbeat: Seconds between two signs of life; after five that did not come, others take the
            trial for lost.
        checkpoints: Folder for the state of trainings; by default in the experiment's folder.
        interrupts: Tell the worker to stop.
    """

    study: optuna.Study
    experiment: Experiment
    on_trial: OnTrial = _ignore
    heartbeat: float = HEARTBEAT
    checkpoints: Path | None = None
    interrupts: Interrupts = field(default_factory=Interrupts)

    def work(self) -> None:
        """Run trials until the budget is used up, or all that fits was tried.

        Returns when no trial of the study runs any more, those of other workers included.

        Raises:
            KeyboardInterrupt: If interrupted. The running trial is handed back: it has failed,
                and its candidate waits to be trained on from its last epoch.
            DatabaseLostError: If the study's database has failed for good.
        """
        heartbeat = Heartbeat(self.study, self.heartbeat, self._remove_checkpoint)
        promotions = Promotions(self.study, self.experiment, self._checkpoints)
        with self.interrupts, heartbeat:
            while True:
                self.interrupts.raise_if_requested()
                promotions.enqueue_next()
                step = next_step(self._trials(), self.experiment)
                if step == Step.END:  # What has ended meanwhile may have made others promising.
                    promotions.enqueue_next()
                    step = next_step(self._trials(), self.experiment)
                match step:
                    case Step.BEGIN:
                        self._run_trial(heartbeat)
                    case Step.WAIT:
                        # Not all at the same time.
                        time.sleep(_POLL * random.uniform(0.5, 1.5))
                    case Step.END:
                        self._end_what_waits()
                        self._checkpoints.keep_only(unfinished_numbers(self._trials()))
                        return

    def _run_trial(self, heartbeat: Heartbeat) -> None:
        trial = self.study.ask()
        trials = self._trials()
        if is_second(trial.number, trials) or is_repeated(trial.number, trials):
            self.study.tell(trial, state=TrialState.FAIL)
            return
        if not has_a_place(trial.number, trials, self.experiment):
            self._step_back(trial)
            return
        heartbeat.begin(trial)
        try:
            state, values = self._evaluate(trial)
        except UpdateFinishedTrialError:
            return  # Others took it for lost, and its candidate is in other hands now.
        except KeyboardInterrupt:
            self._hand_back(trial)
            raise
        except DatabaseLostError:
            raise
        except BaseException:
            self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
            raise
        finally:
            heartbeat.end()
        ended = self.study.tell(trial, values, state, skip_if_finished=True)
        if not is_stopped(ended):  # Else it may yet be promoted.
            self._remove_checkpoint(ended)
        self.on_trial(self.study, ended)

    def _evaluate(self, trial: optuna.Trial) -> tuple[TrialState, Values | None]:
        experiment = self.experiment
        search = experiment.config.search
        objective = Objective(
            experiment.space,
            experiment.constraint,
            experiment.task,
            after_batch=self.interrupts.raise_if_requested,
            weights=WeightStore(experiment.folder / "weights", search.keep_weights),
            measure_latency=search.measure_latency,
            checkpoints=self._checkpoints,
            folder=experiment.folder,
            objectives=search.objectives,
        )
        try:
            values = objective(trial)
        except optuna.TrialPruned:
            return TrialState.PRUNED, None
        if np.isnan(values).any():  # It has none.
            return TrialState.FAIL, None
        return TrialState.COMPLETE, values

    def _hand_back(self, trial: optuna.Trial) -> None:
        self.interrupts.give_time()
        ended = self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        if ended.state == TrialState.FAIL:
            put_back(self.study, ended, lost=False)

    def _step_back(self, trial: optuna.Trial) -> None:
        """Another worker's trial is the last of the budget."""
        ended = self.study.tell(trial, state=TrialState.FAIL)
        if "fixed_params" in ended.system_attrs:
            put_back(self.study, ended, lost=False)

    def _end_what_waits(self) -> None:
        """Retries that came too late for the budget."""
        while any(
            trial.state == TrialState.WAITING and RETRY_OF in trial.user_attrs
            for trial in self._trials()
        ):
            self.study.tell(self.study.ask(), state=TrialState.FAIL)

    def _remove_checkpoint(self, trial: FrozenTrial) -> None:
        self._checkpoints.of(first_number(trial)).remove()

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    @property
    def _checkpoints(self) -> Checkpoints:
        folder = self.checkpoints or self.experiment.checkpoints
        return Checkpoints(folder, self.study.study_name)
