"""Calls of functions that users give, so that what goes wrong in them names the place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


class UserFunctionError(ValueError):
    """A function that a user gave has failed, or has given something else than it must."""


def call(function: Callable[..., Any], arguments: tuple[Any, ...], what: Callable[[], str]) -> Any:
    """What a function gives.

    Args:
        function: It.
        arguments: Its arguments.
        what: Gives its name and the place, for the message.

    Raises:
        UserFunctionError: If it fails.
    """
    try:
        return function(*arguments)
    except UserFunctionError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        raise UserFunctionError(f"{what()} has failed with {reason}.") from error


def ask(function: Callable[..., Any], arguments: tuple[Any, ...], what: Callable[[], str]) -> bool:
    """The answer to a question; a function without a `return` gives none.

    Raises:
        UserFunctionError: If it fails, or gives neither True nor False.
    """
    answer = call(function, arguments, what)
    if not isinstance(answer, bool | np.bool_):
        raise UserFunctionError(f"{what()} must give True or False, but gave {answer!r}.")
    return bool(answer)


def check_hashable(value: Any, what: Callable[[], str]) -> None:
    """Refuse what cannot be hashed.

    Raises:
        UserFunctionError: If it cannot.
    """
    try:
        hash(value)
    except TypeError:
        raise UserFunctionError(
            f"{what()} must be hashable, such as a number or a tuple, but is {value!r}."
        ) from None
