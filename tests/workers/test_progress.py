from __future__ import annotations

import io
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from rich.console import Console

from rfsearch.workers.progress import SearchProgress


def complete(value: float) -> FrozenTrial:
    return create_trial(value=value, user_attrs={"train_seconds": 1.0})


def stopped(gate: str, **attributes: Any) -> FrozenTrial:
    attrs = {"rejected_by": gate} | attributes
    return create_trial(state=TrialState.PRUNED, user_attrs=attrs)


def failed() -> FrozenTrial:
    attrs = {"rejected_by": "space", "reason": "?"}
    return create_trial(state=TrialState.FAIL, user_attrs=attrs)


def progress(*past: FrozenTrial, trained_trials: int = 5) -> SearchProgress:
    study = optuna.create_study(direction="maximize")
    study.add_trials(past)
    return SearchProgress(Console(file=io.StringIO()), study, trained_trials)


def feed(shown: SearchProgress, *trials: FrozenTrial) -> None:
    for trial in trials:
        shown(optuna.create_study(), trial)


def description(shown: SearchProgress) -> str:
    return shown.bar.tasks[0].description


def test_a_new_search_has_nothing_to_show() -> None:
    shown = progress()
    assert description(shown) == "best -"
    assert (shown.bar.tasks[0].completed, shown.bar.tasks[0].total) == (0, 5)


def test_it_counts_what_each_gate_stopped() -> None:
    shown = progress()
    feed(shown, stopped("theoretical"), stopped("expected"), stopped("theoretical"), failed())
    assert description(shown) == "best -, stopped: expected 1, space 1, theoretical 2"
    assert shown.bar.tasks[0].completed == 0


def test_it_shows_the_best_value_and_counts_trained_candidates() -> None:
    shown = progress()
    feed(shown, complete(0.25), complete(0.75), complete(0.5))
    assert description(shown) == "best 0.750"
    assert shown.bar.tasks[0].completed == 3


def test_a_candidate_that_a_pruner_stopped_was_trained() -> None:
    shown = progress()
    feed(shown, stopped("pruner", train_seconds=1.0))
    assert description(shown) == "best -, stopped: pruner 1"
    assert shown.bar.tasks[0].completed == 1


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_zero_is_a_value_like_others(value: float) -> None:
    shown = progress()
    feed(shown, complete(0.0), complete(value))
    assert description(shown) == f"best {value:.3f}"


def test_a_resumed_search_goes_on_from_the_stored_trials() -> None:
    shown = progress(complete(0.5), stopped("measured"), complete(0.25))
    assert description(shown) == "best 0.500, stopped: measured 1"
    assert shown.bar.tasks[0].completed == 2
    feed(shown, complete(0.375), stopped("measured"))
    assert description(shown) == "best 0.500, stopped: measured 2"
    assert shown.bar.tasks[0].completed == 3


def test_the_last_state_is_shown_on_the_console() -> None:
    text = io.StringIO()
    study = optuna.create_study(direction="maximize")
    with SearchProgress(Console(file=text), study, 2) as shown:
        feed(shown, complete(0.5), stopped("expected"), complete(0.75))
    assert "best 0.750, stopped: expected 1" in text.getvalue().splitlines()[-1]
    assert "2/2" in text.getvalue().splitlines()[-1]


def test_the_bar_ends_with_an_error_too() -> None:
    study = optuna.create_study(direction="maximize")
    shown = SearchProgress(Console(file=io.StringIO()), study, 2)
    with pytest.raises(RuntimeError, match=r"^boom$"), shown:
        raise RuntimeError("boom")
    assert not shown.bar.live.is_started


def test_whoever_watches_several_workers_shows_all_their_trials() -> None:
    shown = progress(complete(0.5))
    running = create_trial(state=TrialState.RUNNING)
    waiting = create_trial(state=TrialState.WAITING)
    shown.refresh([complete(0.25), stopped("expected"), complete(0.75), running, waiting])
    assert description(shown) == "best 0.750, stopped: expected 1, running: 1"
    assert shown.bar.tasks[0].completed == 2
    shown.refresh([complete(0.25)])
    assert description(shown) == "best 0.250"
    assert shown.bar.tasks[0].completed == 1


def test_a_trial_that_was_handed_back_was_not_trained() -> None:
    shown = progress()
    attrs = {"train_seconds": 1.0}
    feed(shown, create_trial(state=TrialState.FAIL, user_attrs=attrs))
    assert shown.bar.tasks[0].completed == 0
