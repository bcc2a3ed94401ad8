"""Writing files and folders that are there as a whole or not at all.

What is written goes into a folder of its own beside its place, and moves there once it is
complete. A process that is killed before leaves that folder behind; whoever writes to the same
place next takes it away, or moves it to its place if it was complete.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: What the folders are called in which something is being written, before a random part.
_STAGE = ".writing-"
#: In such a folder: who writes there holds this file locked; what is written; what is complete.
_LOCK, _NEW, _COMPLETE = "lock", "new", "complete"
#: Seconds within which whoever has made such a folder has locked it.
_LOCKED_WITHIN = 1.0
#: Errors by which a file system refuses what it is given to write.
_REFUSALS = {
    getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EROFS", "EIO", "EFBIG", "ENAMETOOLONG")
}


class NotWrittenError(OSError):
    """The file system does not take a file or folder; one line that names it and says why.

    Attributes:
        reason: Why, in the system's words.
    """

    def __init__(self, wanted: Path, reason: str) -> None:
        super().__init__(f"{wanted}: cannot be written ({reason}).")
        self.reason = reason


@contextmanager
def atomic_file(file: Path) -> Iterator[Path]:
    """A path to write to, whose file takes the place of another once the block has ended well.

    Args:
        file: The other one; it keeps its permissions, and a link to it stays a link. What is no
            file, as a pipe, is written to as it is.

    Raises:
        NotWrittenError: If the file cannot be written. Then, and whatever else the block raises,
            the other one is as it was.
    """
    with _refusals(file):
        place = Path(os.path.realpath(file))
        if place.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        is_special = place.exists() and not place.is_file()
        mode = place.stat().st_mode if place.is_file() else None
    if is_special:
        yield place
        return
    with _stage(place.parent, file) as stage:
        new = stage / _NEW / place.name
        yield new
        with _refusals(file):
            # Some libraries let nobody but the owner read what they write.
            new.chmod((stage.stat().st_mode if mode is None else mode) & 0o666)
            _to_disk(new)
            new.replace(place)


@contextmanager
def atomic_folder(folder: Path, instead: Collection[str] = ()) -> Iterator[Path]:
    """A folder to write in, whose files move to another once the block has ended well.

    All of them do: should the process be killed meanwhile, `recover_folder` moves the rest.

    Args:
        folder: Where to; it is made if need be. Files of other names stay in it.
        instead: Names of files there that must not stay if they are not written anew.

    Raises:
        NotWrittenError: If the folder cannot be written. Then, and whatever else the block
            raises, it is as it was.
    """
    existed = os.path.exists(folder)  # noqa: PTH110  # Path.exists raises for too long a name
    with _refusals(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with _stage(folder, folder) as stage:
            new = stage / _NEW
            yield new
            with _refusals(folder):
                for name in instead:
                    if not (new / name).exists():
                        (new / name).mkdir()  # Says that the old one is to be removed.
                for file in new.iterdir():
                    if file.is_file():
                        _to_disk(file)
                new.rename(stage / _COMPLETE)
                _move(stage / _COMPLETE, folder)
    finally:
        if not existed:
            with suppress(OSError):  # Only if it is empty.
                folder.rmdir()


def recover_folder(folder: Path) -> None:
    """Clear up what processes that were killed have left in a folder, as far as possible.

    What they had completed moves to its place; the rest is removed.
    """
    for stage in folder.glob(f"{_STAGE}*"):
        with suppress(OSError):  # Another process may be doing the same.
            if time.time() - stage.stat().st_mtime < _LOCKED_WITHIN:
                continue
            lock = os.open(stage / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if (stage / _COMPLETE).is_dir():
                    _move(stage / _COMPLETE, folder)
                shutil.rmtree(stage)
            finally:
                os.close(lock)


@contextmanager
def _stage(folder: Path, wanted: Path) -> Iterator[Path]:
    """A locked folder in another one, with the folder `new` in it; removed at the end.

    Args:
        folder: The other one.
        wanted: What is to be written, for the message.
    """
    with _refusals(wanted):
        recover_folder(folder)
        stage = folder / f"{_STAGE}{secrets.token_hex(4)}"
        stage.mkdir()
        (stage / _NEW).mkdir()
        lock = os.open(stage / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield stage
    except NotWrittenError:
        raise
    except Exception as error:
        reason = _refusal(error, stage)
        if reason is None:
            raise
        raise NotWrittenError(wanted, reason) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        os.close(lock)


@contextmanager
def _refusals(wanted: Path) -> Iterator[None]:
    """Say what cannot be written, whichever step of it fails."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise NotWrittenError(wanted, reason) from error


def _refusal(error: Exception, stage: Path) -> str | None:
    """Why the file system refuses what it is given, if that is where an error comes from."""
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        return error.strerror
    full = os.strerror(errno.ENOSPC)
    if full in str(error):
        return full
    # torch and others say it in words of their own: ask the file system itself.
    try:
        with tempfile.TemporaryFile(dir=stage) as probe:
            probe.write(bytes(1 << 16))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as refused:
        return refused.strerror
    return None


def _move(complete: Path, folder: Path) -> None:
    for entry in list(complete.iterdir()):
        if entry.is_dir():
            (folder / entry.name).unlink(missing_ok=True)
            entry.rmdir()
        else:
            entry.replace(folder / entry.name)


def _to_disk(file: Path) -> None:
    """Some file systems say only then that they are full."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
