"""How this program uses SQLite: writing ahead, taking turns, and reading where it cannot write."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy.engine import URL, Connection

#: Seconds that a writer waits for its turn.
_TURN = 60
#: Of the files beside a database: what is not in it yet, and where to find that.
_AHEAD, _INDEX = "-wal", "-shm"


class WritingAhead(sqlite3.Connection):
    """Writes ahead: workers read while one of them writes, and no write waits for the disk.

    A killed process loses nothing. A power cut may lose the last second, but damages nothing.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        try:
            self.execute("PRAGMA journal_mode=WAL")
            self.execute("PRAGMA synchronous=NORMAL")
        except sqlite3.Error:  # No database, or in no place to write.
            self.close()
            raise


@dataclass(frozen=True)
class Access:
    """How to open a database.

    Attributes:
        options: For SQLAlchemy's engine.
        end: To be called when it is closed.
    """

    options: dict[str, Any]
    end: Callable[[], None]


def writing() -> Access:
    """Open it to write."""
    return Access({"connect_args": {"timeout": _TURN, "factory": WritingAhead}}, lambda: None)


def reading(url: URL) -> Access:
    """Open it to read, also where nothing can be written: neither the file nor one beside it."""
    file = Path(url.database or "")
    if os.access(file, os.W_OK) and os.access(file.parent, os.W_OK):
        return writing()  # Then no file stays beside it.
    ahead, index = (file.with_name(f"{file.name}{end}") for end in (_AHEAD, _INDEX))
    if index.exists():  # Another process may be writing, and says there what is new.
        return _opened(file, "mode=ro")
    if not ahead.exists() or ahead.stat().st_size == 0:
        return _opened(file, "immutable=1")
    # The last trials are not in the database yet, and it takes an index to read them.
    folder = tempfile.TemporaryDirectory()
    copy = Path(folder.name) / file.name
    for source in (file, ahead):
        shutil.copyfile(source, copy.with_name(source.name))
    return Access(_opened(copy, "mode=rw").options, folder.cleanup)


def _opened(file: Path, how: str) -> Access:
    def connect() -> sqlite3.Connection:
        return sqlite3.connect(
            f"file:{quote(str(file.resolve()))}?{how}",
            uri=True,
            timeout=_TURN,
            check_same_thread=False,
        )

    return Access({"creator": connect}, lambda: None)


@contextmanager
def one_at_a_time(url: URL) -> Iterator[None]:
    """Keep processes that make the same tables at once apart: one makes them, the others wait.

    SQLite locks single transactions, of which that takes several. The folder is locked: a file
    would stay, and who closes the database's own file gives up SQLite's locks on it.
    """
    in_a_file = url.database not in (None, "", ":memory:")
    folder = -1
    if in_a_file:
        with suppress(OSError):  # There is no such folder, as SQLite says in its own words.
            folder = os.open(Path(str(url.database)).parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # Some network file systems lock no folders.
            if folder >= 0:
                fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        if folder >= 0:
            os.close(folder)


def lock_for_update(connection: Connection, statement: Any, *_: Any) -> None:
    """Lock the database where others lock rows.

    SQLAlchemy leaves `FOR UPDATE` out for SQLite, which knows no such thing. Then two workers can
    both read that a trial waits, or has no end yet, before either writes: both would run it, or
    both put it back.
    """
    locks = getattr(statement, "_for_update_arg", None) is not None
    if locks and not connection.connection.in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
