"""What goes wrong in the processes that read images, in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

#: What torch calls these processes in all that it says of them.
_PROCESS = "DataLoader worker"


class LoadingError(OSError):
    """Images could not be read, since a file is broken or a process that reads them has ended."""


@contextmanager
def loading_errors() -> Iterator[None]:
    """Say in one line what torch says of the processes of its DataLoader.

    It encloses all that is done while they run: torch notices the end of one at any time, not
    only where the next batch is taken.

    Raises:
        LoadingError: If a process that reads images has ended or could not read one.
    """
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        message = str(error)
        if _PROCESS not in message:
            raise
        raise LoadingError(_in_short(message)) from None


def _in_short(message: str) -> str:
    lines = message.strip().splitlines()
    if lines[0].startswith("Caught"):  # And the traceback follows, which ends with the error.
        return lines[-1].partition(": ")[2] or lines[-1]
    return f"A process that reads images has ended ({lines[0].rstrip('.')})."
