from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from rfsearch.search.experiment import Experiment
from rfsearch.search.stopping import Step, has_a_place, next_step, num_trained


def experiment(trained: int = 3, most: int = 100) -> Experiment:
    search = SimpleNamespace(trained_trials=trained, max_trials=most, feasible_only=False)
    return cast("Experiment", SimpleNamespace(config=SimpleNamespace(search=search)))


def trial(state: str, **attrs: Any) -> FrozenTrial:
    value = 0.5 if state == "COMPLETE" else None
    return create_trial(state=TrialState[state], value=value, user_attrs=attrs)


def numbered(*trials: FrozenTrial) -> list[FrozenTrial]:
    for number, made in enumerate(trials):
        made.number = number
    return list(trials)


def complete() -> FrozenTrial:
    return trial("COMPLETE", train_seconds=1.0)


@pytest.mark.parametrize(
    ("made", "counts"),
    [
        (trial("COMPLETE", train_seconds=1.0), True),
        (trial("PRUNED", train_seconds=1.0, rejected_by="pruner"), True),
        (trial("FAIL", train_seconds=1.0, rejected_by="training"), True),
        (trial("FAIL", train_seconds=1.0), False),
        (trial("RUNNING", train_seconds=1.0), False),
        (trial("PRUNED", rejected_by="expected"), False),
        (trial("COMPLETE", duplicate_of=1), False),
    ],
)
def test_what_counts_as_trained(made: FrozenTrial, counts: bool) -> None:
    assert num_trained([made]) == counts


def test_a_running_trial_may_use_up_the_budget() -> None:
    assert next_step([complete(), trial("RUNNING")], experiment()) == Step.BEGIN
    assert next_step([complete(), complete(), trial("RUNNING")], experiment()) == Step.WAIT
    assert next_step([complete(), complete(), trial("FAIL")], experiment()) == Step.BEGIN
    assert next_step([complete()] * 3, experiment()) == Step.END


def test_the_last_worker_waits_until_nothing_runs() -> None:
    assert next_step([*[complete()] * 3, trial("RUNNING")], experiment()) == Step.WAIT


def test_what_waits_is_neither_running_nor_over() -> None:
    waiting = trial("WAITING")
    assert next_step([complete(), complete(), waiting], experiment()) == Step.BEGIN
    assert next_step([waiting] * 9, experiment(most=9)) == Step.BEGIN


def test_the_largest_number_of_trials() -> None:
    rejected = trial("PRUNED", rejected_by="expected")
    assert next_step([rejected] * 3, experiment(most=4)) == Step.BEGIN
    assert next_step([rejected] * 4, experiment(most=4)) == Step.END


def test_of_two_that_began_at_once_the_first_has_the_last_place() -> None:
    trials = numbered(complete(), complete(), trial("RUNNING"), trial("RUNNING"))
    assert has_a_place(2, trials, experiment())
    assert not has_a_place(3, trials, experiment())
    assert has_a_place(3, trials, experiment(trained=4))
