"""Training on what the pruner had stopped, when it has turned out to be among the best.

A stopped trial has ended and stays so. Another one of the same candidate goes on from its
checkpoint, as if the worker had died: no epoch is trained twice, and the curve is that of one
training. As it trains no further candidate, it takes no place in `trained_trials`, and is one of
`max_trials`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna.trial import FrozenTrial, TrialState

from rfsearch.search.rungs import RungsOfCandidates
from rfsearch.search.stopping import has_trials_left
from rfsearch.space.trial_attributes import PROMOTED_FROM
from rfsearch.storage.recovery import LOSSES, RETRY_OF, RUNGS, first_number, num_rungs

if TYPE_CHECKING:
    import optuna

    from rfsearch.search.experiment import Experiment
    from rfsearch.search.rungs import Standing
    from rfsearch.training.checkpoints import Checkpoints


@dataclass(frozen=True)
class Promotions:
    """Lets stopped trials be gone on with, and keeps the checkpoints that this takes.

    Attributes:
        study: With a pruner that has rungs, or any other; then there is nothing to do.
        experiment: What limits the trials and the checkpoints.
        checkpoints: Those of the study that this worker can reach.
    """

    study: optuna.Study
    experiment: Experiment
    checkpoints: Checkpoints

    def enqueue_next(self) -> None:
        """Put the next stopped trial that may pass its rung by now in the queue, if there is one.

        Only one whose checkpoint is there. Checkpoints that are not needed are deleted: of trials
        that will be stopped even if all candidates to come were worse, and beyond the number that
        the experiment sets, of those that are furthest from passing.
        """
        if not isinstance(self.study.pruner, RungsOfCandidates):
            return
        present = self.checkpoints.numbers()
        standings = [s for s in self.study.pruner.stopped(self.study) if _place(s) in present]
        hopeful = self._hopeful(standings)
        for standing in standings:
            if standing not in hopeful:
                self.checkpoints.of(_place(standing)).remove()
        promotable = [standing for standing in hopeful if not standing.missing]
        trials = self.study.get_trials(deepcopy=False)
        if promotable and has_trials_left(trials, self.experiment):
            promote(self.study, promotable[0].trial)

    def _hopeful(self, standings: list[Standing]) -> list[Standing]:
        """Those that may yet pass, as many as are kept, in the same order."""
        search = self.experiment.config.search
        possible = [s for s in standings if s.compared + s.missing <= search.trained_trials]
        nearest = sorted(possible, key=lambda s: s.missing)[: search.keep_checkpoints]
        return [standing for standing in standings if standing in nearest]


def _place(standing: Standing) -> int:
    return first_number(standing.trial)


def promote(study: optuna.Study, trial: FrozenTrial) -> None:
    """Let the candidate of a stopped trial be trained on from there.

    If two workers do so in the same moment, `is_second` tells the trial that must step back.
    """
    attributes = {
        PROMOTED_FROM: trial.number,
        RETRY_OF: first_number(trial),
        LOSSES: trial.user_attrs.get(LOSSES, 0),
        RUNGS: num_rungs(trial),
    }
    study.enqueue_trial(trial.params, user_attrs=attributes)


def is_second(number: int, trials: list[FrozenTrial]) -> bool:
    """Whether an earlier trial goes on from the same stopped trial as the one with this number."""
    source = trials[number].user_attrs.get(PROMOTED_FROM)
    return source is not None and any(
        trial.user_attrs.get(PROMOTED_FROM) == source and goes_on(trial)
        for trial in trials[:number]
    )


def goes_on(trial: FrozenTrial) -> bool:
    """Whether a promoted trial has not just been given up for another one to go on."""
    return trial.state != TrialState.FAIL or "rejected_by" in trial.user_attrs
