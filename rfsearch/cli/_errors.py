"""What the command line says of mistakes: the user's in one line, bugs with their traceback."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NoReturn

import typer

from rfsearch.basics.atomic import NotWrittenError
from rfsearch.storage.errors import DatabaseLostError

#: Of typer or of click, whichever this version of typer is built on.
_UsageError: Any = typer.BadParameter.__base__
#: How torch says, in an error of no kind of its own, that there is no memory.
_NO_MEMORY = "can't allocate memory"


class _Bug(Exception):  # noqa: N818  # carries another exception past `user_mistakes`
    """Not a user's mistake, whatever its type."""


@contextmanager
def user_mistakes() -> Iterator[None]:
    """Turn what is wrong with the user's input into one line and exit code 2."""
    try:
        yield
    except _Bug as bug:
        raise bug.__cause__ or bug from None
    except (ValueError, OSError, DatabaseLostError) as error:
        refuse(_said(error))


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what no command can know into one line and code 2.

    That is an option or argument that is none, a file that cannot be written, and memory that is
    not there, wherever these come from.
    """
    try:
        yield
    except _UsageError as error:
        refuse(error.format_message())
    except NotWrittenError as error:
        refuse(str(error))
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and _NO_MEMORY not in str(error):
            raise
        refuse("The memory of this machine does not suffice for this.")


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}."
    return str(error)


def refuse(message: str) -> NoReturn:
    """Say in one line what is wrong with the user's input, or around it, and end with code 2.

    Raises:
        typer.Exit: Always.
    """
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    raise typer.Exit(2) from None


def refuse_no_values(arguments: list[str]) -> None:
    """Refuse what no option takes: empty values, which as a path are the current folder, and NUL.

    Raises:
        typer.Exit: If there is one.
    """
    for before, argument in pairwise(["", *arguments]):
        if not argument or re.fullmatch(r"--[a-z-]+=", argument):
            option = argument.rstrip("=") or before
            refuse(f"The value of {option if option.startswith('-') else 'an argument'} is empty.")
        if "\0" in argument:
            refuse(f"{argument!r} holds a NUL character.")


@contextmanager
def as_bugs() -> Iterator[None]:
    """Keep the traceback of what goes wrong inside, even inside `user_mistakes`.

    A file that cannot be written is nobody's bug.
    """
    try:
        yield
    except NotWrittenError:
        raise
    except (ValueError, OSError) as error:
        raise _Bug from error


def show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning as one line to stderr; to be `warnings.showwarning`."""
    print(f"warning: {message}", file=sys.stderr)
