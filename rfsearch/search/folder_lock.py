"""Which processes search in an experiment's folder: one for itself, or several together."""

from __future__ import annotations

import fcntl
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: Seconds between two looks at whether a folder is free.
_POLL = 0.2


@contextmanager
def exclusive(folder: Path, wait: float = 0.0) -> Iterator[Callable[[], None]]:
    """Let one process at a time search in this folder.

    Args:
        folder: The folder.
        wait: Seconds to wait for the workers of a search that was killed, which are ending.

    Yields:
        What lets workers search in it, too (see `together`); others are still kept out.

    Raises:
        ValueError: If another process does, or the folder cannot be written.
    """
    with _locked(folder, fcntl.LOCK_EX, wait) as lock:
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        try:
            yield lambda: fcntl.flock(lock, fcntl.LOCK_SH)
        finally:
            os.ftruncate(lock, 0)


@contextmanager
def together(folder: Path) -> Iterator[None]:
    """Search in this folder together with other workers, but not with an `exclusive` search.

    Raises:
        ValueError: If another process has the folder for itself, or it cannot be written.
    """
    with _locked(folder, fcntl.LOCK_SH):
        yield


@contextmanager
def _locked(folder: Path, kind: int, wait: float = 0.0) -> Iterator[int]:
    try:
        lock = os.open(folder / "run.lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ValueError(f"{folder}: results cannot be written here ({error.strerror}).") from None
    try:
        _lock_when_free(lock, kind, folder, wait)
        yield lock
    finally:
        os.close(lock)


def _lock_when_free(lock: int, kind: int, folder: Path, wait: float) -> None:
    end, is_told = time.monotonic() + wait, False
    while True:
        try:
            return fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(lock, 20, 0).decode()
        was_killed = owner.isdecimal() and not _is_running(int(owner))
        if not was_killed or time.monotonic() >= end:
            process = "another process" if was_killed or not owner else f"process {owner}"
            raise ValueError(f"{folder}: {process} is searching here; wait or stop it.") from None
        if not is_told:
            warnings.warn(
                f"{folder}: process {owner} was killed here; waiting for its workers to end.",
                stacklevel=5,
            )
            is_told = True
        time.sleep(_POLL)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # It is somebody else's.
    return True
