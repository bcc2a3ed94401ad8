from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator

import optuna
import pytest
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState
from sqlalchemy.exc import IntegrityError, OperationalError

from rfsearch.storage.errors import DatabaseLostError
from rfsearch.storage.retrying_storage import RetryingStorage, passes_by


def away(message: str = "connection refused", *, hidden: bool = False) -> Exception:
    """What SQLAlchemy raises, or what Optuna makes of it."""
    error = OperationalError("INSERT hunter2", {"key": "hunter2"}, Exception(message))
    if not hidden:
        return error
    outer = StorageInternalError("An exception is raised during the commit.")
    outer.__cause__ = error
    return outer


class Clock:
    """Time that passes only while somebody sleeps."""

    now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "sleep", clock.sleep)
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    return clock


class Failing(InMemoryStorage):
    """Fails at calls to one method, before or after it has done its work."""

    def __init__(self, name: str, errors: list[Exception], *, after: bool = False) -> None:
        super().__init__()
        self.left = iter(errors)
        method = getattr(self, name)

        def call(*args: object, **kwargs: object) -> object:
            error = next(self.left, None)
            if error is not None and not after:
                raise error
            result = method(*args, **kwargs)
            if error is not None:
                raise error
            return result

        setattr(self, name, call)


def patient(inner: BaseStorage, patience: float = 60.0) -> RetryingStorage:
    mask: Callable[[str], str] = lambda text: text.replace("hunter2", "***")  # noqa: E731
    return RetryingStorage(inner, "the database", mask, patience)


@pytest.fixture
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def test_a_study_runs_on_it_as_on_any_storage() -> None:
    study = optuna.create_study(storage=patient(InMemoryStorage()))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 3
    assert study.best_trial.number in range(3)


@pytest.mark.parametrize("hidden", [False, True])
def test_a_call_is_made_again_until_the_database_is_back(clock: Clock, hidden: bool) -> None:
    storage = patient(Failing("create_new_trial", [away(hidden=hidden)] * 3))
    study = optuna.create_study(storage=storage)
    assert study.ask().number == 0
    assert 0.3 < clock.now < 1.5
    assert len(study.trials) == 1


@pytest.mark.usefixtures("quiet")
def test_it_gives_up_when_its_patience_is_at_an_end(clock: Clock) -> None:
    storage = patient(Failing("create_new_trial", [away()] * 999), patience=60)
    study = optuna.create_study(storage=storage)
    line = r"^the database: the database cannot be used \(connection refused\)\.$"
    with pytest.raises(DatabaseLostError, match=line):
        study.ask()
    assert 50 < clock.now < 62
    before = clock.now
    with pytest.raises(DatabaseLostError):
        storage.create_new_trial(0)  # What is to be cleared up is tried once.
    assert clock.now == before


@pytest.mark.usefixtures("quiet")
def test_after_a_call_that_went_through_it_is_patient_again(clock: Clock) -> None:
    inner = Failing("create_new_trial", [away()] * 99)
    storage = patient(inner, patience=1)
    study = optuna.create_study(storage=storage)
    with pytest.raises(DatabaseLostError):
        study.ask()
    inner.left = iter([None, away()])  # type: ignore[list-item]  # None: goes through
    assert study.ask().number == 0
    assert study.ask().number == 1


def test_a_long_wait_is_told_of_without_password() -> None:
    storage = patient(Failing("create_new_trial", [away("no answer to hunter2")] * 6))
    study = optuna.create_study(storage=storage)
    with pytest.warns(UserWarning, match=r"cannot be used \(no answer to \*\*\*\)\. Trying again"):
        study.ask()


@pytest.mark.parametrize(
    "message",
    [
        "database or disk is full",
        'could not extend file "base/5": No space left on device',
        "attempt to write a readonly database",
        "disk I/O error",
        'FATAL: password authentication failed for user "me"',
        'FATAL: database "x" does not exist',
        "(1045, \"Access denied for user 'me'@'localhost'\")",
    ],
)
def test_what_waiting_does_not_mend_is_said_at_once(clock: Clock, message: str) -> None:
    storage = patient(Failing("create_new_trial", [away(message)]))
    study = optuna.create_study(storage=storage)
    with pytest.raises(DatabaseLostError) as error:
        study.ask()
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert "INSERT" not in str(error.value)
    assert clock.now == 0


@pytest.mark.parametrize(
    "message",
    [
        "database is locked",
        "terminating connection due to administrator command",
        "FATAL: the database system is starting up",
        "deadlock detected",
        "(2013, 'Lost connection to MySQL server during query')",
    ],
)
def test_what_passes_by(message: str) -> None:
    assert passes_by(away(message))
    assert passes_by(away(message, hidden=True))


def test_mistakes_of_the_caller_are_not_hidden(clock: Clock) -> None:
    storage = patient(InMemoryStorage())
    with pytest.raises(KeyError):
        storage.get_trial(7)
    assert not passes_by(IntegrityError("INSERT", {}, Exception("duplicate key")))
    assert clock.now == 0


def test_a_result_whose_acknowledgement_was_lost_is_stored_once() -> None:
    inner = Failing("set_trial_state_values", [away()], after=True)
    study = optuna.create_study(storage=patient(inner))
    study.tell(study.ask(), 0.5)
    assert [trial.value for trial in study.trials] == [0.5]


def test_a_trial_that_others_have_ended_is_not_taken_for_ones_own() -> None:
    inner = Failing("set_trial_state_values", [])
    study = optuna.create_study(storage=patient(inner))
    trial = study.ask()
    study.tell(trial.number, state=TrialState.FAIL)
    inner.left = iter([away()])
    with pytest.raises(UpdateFinishedTrialError):
        patient(inner).set_trial_state_values(0, TrialState.COMPLETE, [1.0])
    assert study.trials[0].state == TrialState.FAIL
