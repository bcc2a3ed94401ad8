"""Trials whose worker has died: noticed by their silence, and tried again by another worker.

A worker signs its running trial with a heartbeat, from a thread of its own, so that however long
an epoch takes, the trial is alive. Every worker watches the heartbeats of all. A trial is lost
when a watcher has seen it unchanged for the grace time without a break in watching: no clocks of
different machines are compared, and a database that was away for an hour kills nobody.

Optuna's own heartbeat does less: it looks only when a trial begins, ends with the first error of
the database, misses trials that never had a heartbeat, does not work through the gRPC proxy, and
its retry carries over the constraints of the dead run, which the new one could not overwrite.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from rfsearch.space.trial_attributes import PROMOTED_FROM, reference_kind
from rfsearch.storage.errors import DatabaseLostError

if TYPE_CHECKING:
    import optuna

#: Seconds between two heartbeats.
HEARTBEAT = 60.0
#: A trial is lost after so many heartbeats that did not come.
MISSED = 5
#: How often a candidate whose trial was lost is tried again.
MAX_RETRIES = 3

#: Attributes of trials: the worker's sign of life; the trial that was begun first; how many of the
#: candidate's trials were lost; at how many rungs of successive halving they were compared.
SIGN = "heartbeat"
RETRY_OF = "retry_of"
LOSSES = "losses"
RUNGS = "rungs"


def _ignore(trial: FrozenTrial) -> None:
    pass


def worker_name() -> str:
    """This process, among all that work on a study."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Watch:
    """Tells which running trials are lost.

    Args:
        grace: Seconds of silence after which a trial is lost.
        clock: Gives seconds; never set back.
    """

    def __init__(self, grace: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.grace = grace
        self._clock = clock
        self._last_look = -float("inf")
        self._seen: dict[int, tuple[object, float]] = {}

    def lost(self, running: Iterable[FrozenTrial]) -> list[FrozenTrial]:
        """Look at the running trials, and say which of them are lost.

        Must be called several times within the grace time: after a longer break, watching begins
        anew.
        """
        now = self._clock()
        before = self._seen if now - self._last_look <= self.grace / 2 else {}
        self._last_look, self._seen = now, {}
        silent = []
        for trial in running:
            sign = trial.user_attrs.get(SIGN)
            known, since = before.get(trial.number, (None, now))
            since = since if known == sign else now
            self._seen[trial.number] = (sign, since)
            if now - since > self.grace:
                silent.append(trial)
        return silent


class Heartbeat:
    """A thread that signs the worker's running trial and takes care of those that are lost.

    Args:
        study: Whose trials to watch.
        interval: Seconds between two heartbeats.
        on_given_up: Called with a lost trial whose candidate is not tried again.
    """

    def __init__(
        self,
        study: optuna.Study,
        interval: float = HEARTBEAT,
        on_given_up: Callable[[FrozenTrial], None] = _ignore,
    ) -> None:
        self.study = study
        self.interval = interval
        self._on_given_up = on_given_up
        self._watch = Watch(MISSED * interval)
        self._mine: optuna.Trial | None = None
        self._beats = 0
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        # It may be waiting for a database that is away, and must not keep the process.
        self._thread.join(timeout=1.0)

    def begin(self, trial: optuna.Trial) -> None:
        """Sign this trial from now on."""
        self._sign(trial)
        with self._lock:
            self._mine = trial

    def end(self) -> None:
        """Sign no trial any more."""
        with self._lock:
            self._mine = None

    def _run(self) -> None:
        while not self._over.wait(self.interval):
            try:
                self._beat()
            except DatabaseLostError as error:  # The trial may be long, and the database back.
                warnings.warn(str(error), stacklevel=1)

    def _beat(self) -> None:
        with self._lock:
            mine = self._mine
        if mine is not None:
            self._sign(mine)
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for trial in self._watch.lost(
            t for t in running if mine is None or t.number != mine.number
        ):
            end_lost(self.study, trial, self._on_given_up)

    def _sign(self, trial: optuna.Trial) -> None:
        self._beats += 1
        # It may just have ended; or others took it for lost, as the worker will see by itself.
        with suppress(UpdateFinishedTrialError):
            trial.set_user_attr(SIGN, f"{worker_name()} {self._beats}")


def end_lost(
    study: optuna.Study, trial: FrozenTrial, on_given_up: Callable[[FrozenTrial], None] = _ignore
) -> None:
    """End a trial whose worker has died and put its candidate back.

    A worker that dies between the two leaves a failed trial that is not tried again.

    Args:
        study: The study.
        trial: A running trial. Another worker may have ended it by now; then nothing happens.
        on_given_up: Called if the candidate is not tried again.
    """
    try:
        study.tell(trial.number, state=TrialState.FAIL)
    except (ValueError, UpdateFinishedTrialError):
        return
    if not put_back(study, trial, lost=True):
        on_given_up(trial)


def put_back(study: optuna.Study, trial: FrozenTrial, *, lost: bool) -> bool:
    """Let the candidate of a failed trial be tried again, by whichever worker is next.

    The new trial knows the parameters and which trial was the first, where checkpoints lie, and
    at which rungs the pruner has compared the candidate already. It sets its own constraints.

    Args:
        study: The study.
        trial: The failed trial.
        lost: Whether its worker died, which may be the candidate's fault; tried again only
            `MAX_RETRIES` times.

    Returns:
        Whether it will be tried again.
    """
    params = trial.system_attrs.get("fixed_params", {}) | trial.params
    losses = trial.user_attrs.get(LOSSES, 0) + lost
    kind = reference_kind(trial)  # Such a trial has no parameters, but says what it is about.
    if not (params or kind) or losses > MAX_RETRIES:
        return False
    name = kind or PROMOTED_FROM
    kept = {name: trial.user_attrs[name]} if name in trial.user_attrs else {}
    if rungs := num_rungs(trial):
        kept[RUNGS] = rungs
    study.enqueue_trial(params, user_attrs={RETRY_OF: first_number(trial), LOSSES: losses} | kept)
    return True


def completed_rung(rung: int) -> str:
    """Under which name Optuna's successive halving notes a trial's value at a rung, from 0."""
    return f"completed_rung_{rung}"


def num_rungs(trial: FrozenTrial) -> int:
    """At how many rungs this trial and those that it goes on from were compared with others."""
    rungs = int(trial.user_attrs.get(RUNGS, 0))
    while completed_rung(rungs) in trial.system_attrs:
        rungs += 1
    return rungs


def unfinished_numbers(trials: Iterable[FrozenTrial]) -> set[int]:
    """Numbers of the trials whose checkpoints may be needed: they run, or will be tried again."""
    return {first_number(trial) for trial in trials if not trial.state.is_finished()}


def first_number(trial: FrozenTrial | optuna.Trial) -> int:
    """Number of the trial that was the first with this trial's candidate, without interruption."""
    return int(trial.user_attrs.get(RETRY_OF, trial.number))
