"""An Optuna storage that waits while its database is away.

A database that is restarted, fails over or is locked comes back; a trial's result must not be lost
because it was away for a minute. So every call is tried again, with longer and longer pauses,
until the patience is at an end. A trial whose end was stored although the answer was lost is not
ended twice.
"""

from __future__ import annotations

import functools
import random
import threading
import time
import warnings
from abc import update_abstractmethods
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self, TypeVar

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    OperationalError,
    PendingRollbackError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from rfsearch.storage.errors import DatabaseLostError

#: Seconds that a database may be away.
PATIENCE = 600.0
#: Longest pause between two tries, in seconds.
_LONGEST_PAUSE = 5.0
_PASSING = (OperationalError, InterfaceError, PendingRollbackError, PoolTimeoutError)
#: What waiting does not mend, as SQLite, PostgreSQL and MySQL say it.
_LASTING = (
    "authentication failed",
    "access denied",
    "does not exist",
    "no such table",
    "unknown database",
    "disk is full",
    "no space left",
    "disk i/o error",
    "readonly database",
    "read-only",
    "read only",
    "unable to open database file",
    "not a database",
    "could not translate host name",
    "name or service not known",
    "invalid port",
)
#: Of the gRPC proxy: it cannot be reached, or its database cannot.
_AWAY = ("UNAVAILABLE", "UNKNOWN")

Result = TypeVar("Result")


def passes_by(error: BaseException) -> bool:
    """Whether a database's error may be gone when the call is made again."""
    error = _root(error)
    code = getattr(error, "code", None)
    if callable(code):  # gRPC's; a SQLAlchemy error has a string.
        return getattr(code(), "name", "") in _AWAY
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if not isinstance(error, _PASSING):
        return False
    text = str(error).lower()
    return not any(lasting in text for lasting in _LASTING)


def says(error: BaseException) -> str:
    """What the database says, without the statement and its values."""
    error = _root(error)
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig
    details = getattr(error, "details", None)
    text = details() if callable(details) else str(error)
    return next(iter((text or type(error).__name__).splitlines()), type(error).__name__)


def is_the_database(error: BaseException) -> bool:
    """Whether an error came from the database and not from how it was asked."""
    return isinstance(_root(error), SQLAlchemyError) or callable(getattr(error, "details", None))


def _root(error: BaseException) -> BaseException:
    """Optuna hides what SQLAlchemy raised behind an error of its own."""
    wrapped = isinstance(error, StorageInternalError) and error.__cause__ is not None
    return error.__cause__ if wrapped and error.__cause__ else error


def _delegating(kind: type[RetryingStorage]) -> type[RetryingStorage]:
    """Make every public method of a storage, but those written out, a call that is tried again."""

    def retrying(name: str) -> Callable[..., Any]:
        def call(self: RetryingStorage, *args: Any, **kwargs: Any) -> Any:
            return self.retry(lambda: getattr(self.inner, name)(*args, **kwargs))

        return functools.wraps(getattr(BaseStorage, name), updated=())(call)

    for name, value in vars(BaseStorage).items():
        if callable(value) and not name.startswith("_") and name not in vars(kind):
            setattr(kind, name, retrying(name))
    return update_abstractmethods(kind)


def _nothing_to_close() -> None:
    pass


@_delegating
class RetryingStorage(BaseStorage):
    """A storage around another one.

    Args:
        inner: The storage that does the work.
        name: What to call the database in messages.
        mask: Takes what must not be shown out of a database's message.
        patience: Seconds that the database may be away.
        close: Closes the connections of the storage that does the work.
    """

    def __init__(
        self,
        inner: BaseStorage,
        name: str,
        mask: Callable[[str], str] = str,
        patience: float = PATIENCE,
        close: Callable[[], None] = _nothing_to_close,
    ) -> None:
        self.inner = inner
        self.name = name
        self.close = close
        self.patience = patience
        self._mask = mask
        self._given_up = threading.local()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Change the trial's state, once, however often it has to be tried."""
        tries = 0

        def change() -> bool:
            nonlocal tries
            tries += 1
            try:
                return self.inner.set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if tries == 1 or self.inner.get_trial(trial_id).state != state:
                    raise
                return True  # An earlier try went through, but its answer was lost.

        return self.retry(change)

    def retry(self, call: Callable[[], Result]) -> Result:
        """Call until the database answers.

        Raises:
            DatabaseLostError: If it does not within the patience, or waiting would not help.
        """
        # Once it was in vain, what this thread still has to clear up tries once.
        patience = 0.0 if hasattr(self._given_up, "since") else self.patience
        start, pause = time.monotonic(), 0.1
        while True:
            try:
                result = call()
            except Exception as error:
                if not is_the_database(error):
                    raise
                waited = time.monotonic() - start
                if not passes_by(error) or waited + pause > patience:
                    self._given_up.since = start
                    raise DatabaseLostError(self._message(error)) from error
                if 1 < pause < _LONGEST_PAUSE:
                    warnings.warn(f"{self._message(error)} Trying again.", stacklevel=2)
                # A broken session would refuse the next try.
                with suppress(SQLAlchemyError):
                    self.inner.remove_session()
            else:
                vars(self._given_up).clear()
                return result
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _message(self, error: BaseException) -> str:
        reason = self._mask(says(error)).rstrip(".")
        return f"{self.name}: the database cannot be used ({reason})."
