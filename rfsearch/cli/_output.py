"""Standard output and standard error that may be closed, full, or take few characters only."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.table import Table

#: Columns of text in a line that is not for a terminal.
_WIDEST = 10_000


class _OutputLostError(Exception):
    """Standard output takes no more; no `OSError`, which would be taken for one of a file."""


class _Output(io.FileIO):
    """What is written to after it has failed once is thrown away."""

    def __init__(self, descriptor: int, *, must_be_written: bool) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._must_be_written = must_be_written
        self._is_lost = False

    def write(self, data: Any, /) -> int:
        """Write some of the data, and say how much."""
        if not self._is_lost:
            try:
                return super().write(data)
            except OSError as error:
                self._is_lost = True
                if self._must_be_written:
                    raise _OutputLostError from error
        return len(memoryview(data))


@contextmanager
def guarded_output() -> Iterator[None]:
    """Run a program inside whose output may be lost.

    Characters that the encoding of standard output lacks come out as question marks. What
    standard error does not take is lost.

    Raises:
        SystemExit: If standard output cannot be written. Where its reader has gone, as `head` does
            once it has seen enough, silently and with code 141, as a program that SIGPIPE ends.
            Else with one line and code 2; where that says that the terminal has gone, with 129.
    """
    before = sys.stdout, sys.stderr
    # UTF-8 lacks only the bytes of file names that are no text; these are written as escapes.
    whole = sys.stdout is not None and "utf" in (sys.stdout.encoding or "").lower()
    errors = "backslashreplace" if whole else "replace"
    sys.stdout = _guarded(sys.stdout, must_be_written=True, errors=errors)
    sys.stderr = _guarded(sys.stderr, must_be_written=False)
    try:
        try:
            yield
        except SystemExit as ending:
            if ending.code in (None, 0):
                sys.stdout.flush()
            raise
        sys.stdout.flush()
    except _OutputLostError as lost:
        error = lost.__cause__
        if isinstance(error, OSError) and error.errno != errno.EPIPE:
            print(f"error: standard output cannot be written ({error.strerror}).", file=sys.stderr)
            raise SystemExit(128 + signal.SIGHUP if error.errno == errno.EIO else 2) from None
        raise SystemExit(128 + signal.SIGPIPE) from None
    finally:
        sys.stdout, sys.stderr = before


def print_table(*tables: Table) -> None:
    """Print tables, each with an empty line below.

    In a pipe or a file nothing is folded or cut, however wide that makes the lines.
    """
    from rich.console import Console

    console = Console()
    for table in tables:
        if not console.is_terminal:
            widest = console.measure(table, options=console.options.update(max_width=_WIDEST))
            console.width = max(console.width, widest.maximum)
        console.print(table, "")


def _guarded(stream: TextIO | None, *, must_be_written: bool, errors: str | None = None) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        # Closed from the beginning. Its number must not become that of another file.
        return stream or Path(os.devnull).open("w")
    stream.flush()
    raw = _Output(stream.fileno(), must_be_written=must_be_written)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=errors or stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def say_what_is_waited_for(number: signal.Signals, what: str) -> None:
    """Answer the first signal to stop."""
    again = " (Ctrl-C again to stop at once)" if number == signal.SIGINT else ""
    print(f"{number.name}: waiting {what}{again}.", file=sys.stderr, flush=True)
