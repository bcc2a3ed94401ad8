from __future__ import annotations

import threading
import time
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from rfsearch.storage.recovery import (
    LOSSES,
    MAX_RETRIES,
    RETRY_OF,
    SIGN,
    Heartbeat,
    Watch,
    end_lost,
    first_number,
    put_back,
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def running(number: int, sign: str | None) -> FrozenTrial:
    attrs = {} if sign is None else {SIGN: sign}
    trial = create_trial(state=TrialState.RUNNING, user_attrs=attrs)
    trial.number = number
    return trial


def look(watch: Watch, clock: Clock, seconds: float, *trials: FrozenTrial) -> list[int]:
    clock.now += seconds
    return [trial.number for trial in watch.lost(trials)]


# -- who is lost ------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", ["a 1", None])
def test_a_trial_is_lost_after_the_grace_time_of_silence(sign: str | None) -> None:
    clock = Clock()
    watch = Watch(grace=10, clock=clock)
    seen = [look(watch, clock, 4, running(3, sign)) for _ in range(5)]
    assert seen == [[], [], [], [3], [3]]


def test_a_trial_that_gives_signs_is_never_lost() -> None:
    clock = Clock()
    watch = Watch(grace=10, clock=clock)
    for beat in range(20):
        assert look(watch, clock, 4, running(3, f"a {beat // 2}")) == []


def test_a_sign_starts_the_grace_time_anew() -> None:
    clock = Clock()
    watch = Watch(grace=10, clock=clock)
    signs = ["a 1", "a 1", "a 1", "a 2", "a 2", "a 2", "a 2"]
    seen = [look(watch, clock, 4, running(3, sign)) for sign in signs]
    assert seen == [[], [], [], [], [], [], [3]]


def test_nobody_is_lost_because_the_watcher_was_away() -> None:
    # The database, and with it everybody's signs, was away for an hour.
    clock = Clock()
    watch = Watch(grace=10, clock=clock)
    assert look(watch, clock, 4, running(3, "a 1")) == []
    assert look(watch, clock, 3600, running(3, "a 1")) == []
    assert look(watch, clock, 4, running(3, "a 2")) == []
    assert look(watch, clock, 4, running(3, "a 2")) == []


def test_each_trial_has_a_grace_time_of_its_own() -> None:
    clock = Clock()
    watch = Watch(grace=10, clock=clock)
    for beat in range(3):
        look(watch, clock, 4, running(1, "a 1"), running(2, f"b {beat}"))
    assert look(watch, clock, 4, running(1, "a 1"), running(2, "b 9")) == [1]


# -- what becomes of it -----------------------------------------------------------------------


def begun(study: optuna.Study) -> optuna.Trial:
    trial = study.ask()
    trial.suggest_int("depth", 1, 9)
    trial.set_constraint("erf", 0.9)
    trial.set_user_attr("erf_init", 7.0)
    return trial


def frozen(study: optuna.Study, number: int) -> FrozenTrial:
    return study.get_trials(deepcopy=False)[number]


def test_a_lost_trial_has_failed_and_its_candidate_waits() -> None:
    study = optuna.create_study()
    trial = begun(study)
    end_lost(study, frozen(study, trial.number))
    lost, waiting = study.trials
    assert (lost.state, waiting.state) == (TrialState.FAIL, TrialState.WAITING)
    again = study.ask()
    assert again.suggest_int("depth", 1, 9) == lost.params["depth"]
    assert again.user_attrs == {RETRY_OF: 0, LOSSES: 1}
    assert first_number(again) == 0


def test_a_retry_sets_constraints_of_its_own() -> None:
    study = optuna.create_study()
    end_lost(study, frozen(study, begun(study).number))
    again = study.ask()
    again.set_constraint("erf", -0.1)  # Optuna's own retry would keep the 0.9.
    assert again.constraints == {"erf": -0.1}


def test_a_candidate_is_tried_again_a_bounded_number_of_times() -> None:
    study = optuna.create_study()
    begun(study)
    given_up: list[int] = []
    for number in range(MAX_RETRIES + 1):
        end_lost(study, frozen(study, number), lambda trial: given_up.append(trial.number))
        if number < MAX_RETRIES:
            begun(study)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * (MAX_RETRIES + 1)
    assert given_up == [MAX_RETRIES]
    assert {first_number(trial) for trial in study.trials} == {0}


def test_being_handed_back_is_no_loss() -> None:
    study = optuna.create_study()
    for number in range(3 * MAX_RETRIES):
        study.tell(begun(study), state=TrialState.FAIL)
        assert put_back(study, frozen(study, number), lost=False)
    assert study.trials[-1].user_attrs == {RETRY_OF: 0, LOSSES: 0}


def test_a_retry_that_is_lost_before_it_began_keeps_its_candidate() -> None:
    study = optuna.create_study()
    study.enqueue_trial({"depth": 7})
    study.ask()
    end_lost(study, frozen(study, 0))
    assert study.ask().suggest_int("depth", 1, 9) == 7


def test_a_trial_without_a_candidate_is_not_tried_again() -> None:
    study = optuna.create_study()
    study.ask()
    end_lost(study, frozen(study, 0))
    assert [trial.state for trial in study.trials] == [TrialState.FAIL]


def test_two_workers_that_notice_the_same_loss_put_the_candidate_back_once() -> None:
    study = optuna.create_study()
    seen = frozen(study, begun(study).number)
    end_lost(study, seen)
    end_lost(study, seen)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "WAITING"]


def test_a_trial_that_ended_after_all_keeps_its_result() -> None:
    study = optuna.create_study()
    trial = begun(study)
    seen = frozen(study, trial.number)
    study.tell(trial, 0.5)
    end_lost(study, seen)
    assert [(t.state, t.value) for t in study.trials] == [(TrialState.COMPLETE, 0.5)]


# -- the thread -------------------------------------------------------------------------------


def wait_until(condition: Any) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_trial_is_signed_while_its_worker_is_busy() -> None:
    study = optuna.create_study()
    with Heartbeat(study, 0.01) as heartbeat:
        trial = study.ask()
        heartbeat.begin(trial)
        first = study.trials[0].user_attrs[SIGN]
        wait_until(lambda: study.trials[0].user_attrs[SIGN] != first)
        heartbeat.end()
        study.tell(trial, 1.0)
    assert study.trials[0].state == TrialState.COMPLETE


def test_a_silent_trial_of_another_worker_is_ended_while_this_one_is_busy() -> None:
    study = optuna.create_study()
    begun(study)  # Its worker is dead.
    with Heartbeat(study, 0.02) as heartbeat:
        heartbeat.begin(study.ask())
        wait_until(lambda: study.trials[0].state == TrialState.FAIL)
        assert study.trials[1].state == TrialState.RUNNING
        wait_until(lambda: len(study.trials) == 3)
    assert study.trials[2].state == TrialState.WAITING


def test_the_thread_ends_with_the_block() -> None:
    with Heartbeat(optuna.create_study(), 0.01):
        assert "heartbeat" in {thread.name for thread in threading.enumerate()}
    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}
