"""Checked, frozen data: what architectures, search spaces and experiments are made of."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args, overload

from pydantic import BaseModel, ConfigDict, ValidationError

from rfsearch.basics.axes import AXIS_NAMES
from rfsearch.basics.files import read_text
from rfsearch.basics.limits import MAX_INPUT_SIDE


class FrozenData(BaseModel):
    """Immutable, hashable data that refuses unknown keys and wrong types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Data = TypeVar("Data", bound=FrozenData)

#: pydantic's way to say it, and ours.
_MESSAGES = {"extra_forbidden": "unknown key", "missing": "missing key"}


def parse(kind: type[Data], values: Any, source: str) -> Data:
    """Make `kind` from plain dictionaries and lists, as read from TOML or JSON.

    Raises:
        ValueError: One line with the source, the place in it, the rule and the offending value.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"{source}: {_first_problem(error, kind)}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ValueError: If there is no such file, or it is not TOML.
    """
    text = read_text(path)
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not a TOML file ({error}).") from None


@contextmanager
def placed(place: object) -> Iterator[None]:
    """Name the place, such as a file, in front of what is wrong there.

    Raises:
        ValueError: With the place, for one that does not begin with a path of its own.
    """
    try:
        yield
    except ValueError as error:
        if os.sep in str(error).partition(" ")[0]:
            raise
        raise ValueError(f"{place}: {error}") from None


def _first_problem(error: ValidationError, kind: type[BaseModel]) -> str:
    problem = error.errors(include_url=False)[0]
    place = describe_place(problem["loc"])
    reason = _MESSAGES.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    if problem["type"] in _MESSAGES:
        known = ", ".join(_keys_at(kind, problem["loc"][:-1]))
        return f"{place}: {reason}; allowed keys are {known}."
    is_told = "but got" in reason or reason.endswith(".")
    if isinstance(problem["input"], dict | list | tuple) or is_told:
        return f"{place}: {reason}" if place else reason
    return f"{place}: {reason}, but got {problem['input']!r}."


def describe_place(location: tuple[int | str, ...]) -> str:
    """A position in nested data, counting from one.

    >>> describe_place(("stages", 1, "kernel_size"))
    'stage 2, kernel_size'
    """
    words: list[str] = []
    for part in location:
        if isinstance(part, int) and words:
            words[-1] = f"{words[-1].removesuffix('s')} {part + 1}"
        elif isinstance(part, str) and not part.startswith(("function-", "tuple[", "constrained")):
            words.append(part)
    return ", ".join(words)


def _keys_at(kind: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Field names of the model that `location` leads to."""
    models = [kind]
    for part in location:
        inside = [
            found
            for model in models
            if part in model.model_fields
            for found in _models_inside(model.model_fields[str(part)].annotation)
        ]
        # In a union, pydantic gives the tag of the chosen model as a part of its own.
        tagged = [model for model in models if part in _tags(model)]
        models = inside or tagged or models
    return list(models[0].model_fields)


def _models_inside(annotation: Any) -> list[type[BaseModel]]:
    """The model classes inside an annotation such as `tuple[Stage, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_inside(argument)]


def _tags(model: type[BaseModel]) -> set[Any]:
    """Values of a model's fields that have one possible value, such as `Literal["digits"]`."""
    literals = (get_args(field.annotation) for field in model.model_fields.values())
    return {values[0] for values in literals if len(values) == 1 and isinstance(values[0], str)}


@overload
def checked_size(input_size: int | tuple[int, int]) -> tuple[int, int]: ...


@overload
def checked_size(input_size: int | tuple[int, ...], axes: int) -> tuple[int, ...]: ...


def checked_size(input_size: int | tuple[int, ...], axes: int = 2) -> tuple[int, ...]:
    """An input size as a number of px along each axis, such as `(height, width)`.

    Raises:
        ValueError: If it is neither one positive number nor one for each axis, or larger than any
            image.
    """
    size = (input_size,) * axes if isinstance(input_size, int) else tuple(input_size)
    if len(size) != axes or not all(1 <= side <= MAX_INPUT_SIDE for side in size):
        named = f" or ({', '.join(AXIS_NAMES[axes])})" if axes > 1 else ""
        raise ValueError(
            f"`input_size` must be a side{named} of 1 to {MAX_INPUT_SIDE:,} px, "
            f"but got {input_size}."
        )
    return size
