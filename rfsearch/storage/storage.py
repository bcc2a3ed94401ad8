"""Opening the database of a study: SQLite, PostgreSQL, MySQL, or Optuna's gRPC proxy of one."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from typing import Any

import optuna
from optuna.storages import GrpcStorageProxy, RDBStorage, get_storage
from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, NoSuchModuleError

from rfsearch.storage._sqlite import lock_for_update, one_at_a_time, reading, writing
from rfsearch.storage.database_url import GRPC, parse_url, shown, without_password
from rfsearch.storage.retrying_storage import (
    PATIENCE,
    RetryingStorage,
    is_the_database,
    passes_by,
    says,
)

#: Seconds in which other processes may be making the same tables.
_TABLES = 10.0
_LONGEST_PAUSE = 5.0


def open_storage(
    address: str, *, patience: float = PATIENCE, wait: float = 0.0, read_only: bool = False
) -> RetryingStorage:
    """Connect to a database and make Optuna's tables in it if there are none.

    Whoever opens it closes it: `with open_storage(...) as storage`.

    Args:
        address: As `--storage` takes it.
        patience: Seconds that the database may be away later.
        wait: Seconds to wait for a database that cannot be reached now.
        read_only: Whether it is only read: no tables are made, and a SQLite file may lie where
            nothing can be written.

    Raises:
        ValueError: If it cannot be reached or used; one line without password.
    """
    url = parse_url(address)
    mask = functools.partial(without_password, url=url)
    try:
        inner = _connect_when_ready(url, mask, wait, read_only)
    except ImportError as error:
        driver = error.name or url.drivername
        extra = f"rfsearch[{url.get_backend_name()}]"
        raise ValueError(
            f"{shown(url)}: the package {driver!r} is missing; pip install '{extra}'."
        ) from None
    except NoSuchModuleError:
        raise ValueError(f"{shown(url)}: {url.drivername!r} is no kind of database.") from None
    except Exception as error:
        if not (is_the_database(error) or isinstance(error, RuntimeError | OSError)):
            raise
        reason = mask(says(error)).rstrip(".")
        raise ValueError(f"{shown(url)}: not a usable Optuna database ({reason}).") from None
    close = inner.close
    storage = inner if isinstance(inner, GrpcStorageProxy) else get_storage(inner)
    return RetryingStorage(storage, shown(url), mask, patience, close)  # type: ignore[abstract]  # filled in


def _connect_when_ready(
    url: URL, mask: Callable[[str], str], wait: float, read_only: bool
) -> _Database | GrpcStorageProxy:
    start, pause = time.monotonic(), 0.2
    while True:
        try:
            return _connect(url, read_only=read_only)
        except Exception as error:
            busy = _is_being_made(error)
            if time.monotonic() - start >= (_TABLES if busy else wait):
                raise
            if not busy and not passes_by(error) and not isinstance(error, ConnectionError):
                raise
            if pause > 1:
                warnings.warn(f"{shown(url)}: {mask(says(error))}. Waiting for it.", stacklevel=3)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _is_being_made(error: Exception) -> bool:
    text = str(error).lower()
    signs = ("already exists", "duplicate", "unique constraint", "database is locked")
    return isinstance(error, DBAPIError) and any(sign in text for sign in signs)


class _Database(RDBStorage):
    """Optuna's storage in a database, whose connections can be closed."""

    def __init__(self, url: URL, *, read_only: bool) -> None:
        # Optuna takes braces for fields to fill in.
        text = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
        is_sqlite = url.get_backend_name() == "sqlite"
        with ExitStack() as if_it_fails:
            options = _server_options(url)
            if is_sqlite:
                access = reading(url) if read_only else writing()
                options = access.options
                if_it_fails.callback(access.end)
            if_it_fails.callback(self._dispose)
            with one_at_a_time(url) if is_sqlite and not read_only else nullcontext():
                super().__init__(text, engine_kwargs=options, skip_table_creation=read_only)
            self._end = if_it_fails.pop_all()
        if is_sqlite:
            event.listen(self.engine, "before_execute", lock_for_update)

    def _dispose(self) -> None:
        if hasattr(self, "engine"):
            self.engine.dispose()

    def close(self) -> None:
        """Close all connections."""
        self.remove_session()
        self._end.close()


def _connect(url: URL, *, read_only: bool) -> _Database | GrpcStorageProxy:
    if url.drivername == GRPC:
        return _connect_to_proxy(url)
    return _Database(url, read_only=read_only)


def _server_options(url: URL) -> dict[str, Any]:
    """A worker needs one connection for its trial and one for its heartbeat."""
    kind = url.get_backend_name()
    options: dict[str, Any] = {"pool_pre_ping": True, "pool_size": 2, "max_overflow": 2}
    if kind == "postgresql":
        # A server that has vanished without a word is noticed after a minute.
        alive = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
        options["connect_args"] = {"connect_timeout": 10, **alive}
    if kind == "mysql":
        options |= {"connect_args": {"connect_timeout": 10}, "pool_recycle": 3600}
    return options


def _connect_to_proxy(url: URL) -> GrpcStorageProxy:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        proxy = GrpcStorageProxy(host=url.host or "localhost", port=url.port or 13000)
    try:
        proxy.wait_server_ready(timeout=10)
    except BaseException:
        proxy.close()
        raise
    return proxy
