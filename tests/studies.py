"""Studies in databases, which stay open until the test ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import optuna
from alembic.script import ScriptDirectory
from optuna.storages._rdb.storage import _VersionManager
from sqlalchemy import event
from sqlalchemy.pool import Pool

from rfsearch.search import study
from rfsearch.search.experiment import Experiment
from rfsearch.storage import storage
from rfsearch.storage.retrying_storage import RetryingStorage

_load_scripts = _VersionManager._create_alembic_script
_SCRIPTS: list[ScriptDirectory] = []


def _scripts_of_migrations(versions: _VersionManager) -> ScriptDirectory:
    """The same for any database: Optuna would run all of them each time that it opens one."""
    if not _SCRIPTS:
        _SCRIPTS.append(_load_scripts(versions))
    return _SCRIPTS[0]


_VersionManager._create_alembic_script = _scripts_of_migrations  # type: ignore[method-assign]

#: Closes what a test has opened; see the fixture `closed_databases`.
OPENED = ExitStack()


@contextmanager
def all_closed() -> Iterator[None]:
    """Checks that every connection to a database which is opened inside is closed inside."""
    still_open: set[int] = set()

    def add(connection: object, _: object) -> None:
        still_open.add(id(connection))

    def remove(connection: object, _: object) -> None:
        still_open.discard(id(connection))

    event.listen(Pool, "connect", add)
    event.listen(Pool, "close", remove)
    try:
        yield
    finally:
        event.remove(Pool, "connect", add)
        event.remove(Pool, "close", remove)
    assert not still_open, f"{len(still_open)} connections are left open"


@contextmanager
def closing_all() -> Iterator[None]:
    """Closes every connection to a database that somebody else's code opens inside."""
    opened: list[Any] = []

    def add(connection: Any, _: object) -> None:
        opened.append(connection)

    event.listen(Pool, "connect", add)
    try:
        yield
    finally:
        event.remove(Pool, "connect", add)
        for connection in opened:
            connection.close()


def open_storage(address: str, **options: Any) -> RetryingStorage:
    return OPENED.enter_context(storage.open_storage(address, **options))


def open_study(experiment: Experiment, *address: Any, **options: Any) -> optuna.Study:
    return OPENED.enter_context(study.open_study(experiment, *address, **options))


def load_study(name: str, address: str) -> optuna.Study:
    return optuna.load_study(study_name=name, storage=open_storage(address))


def stored_study(folder: Path) -> optuna.Study:
    """The study in an experiment's own database."""
    return load_study(folder.name, study.storage_url(folder))
