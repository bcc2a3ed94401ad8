"""Members of a feasible set as rows of numbers, described once each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from rfsearch.feasible._user_functions import UserFunctionError, call
from rfsearch.feasible.path_set import PathSet, is_category, ranked

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rfsearch.feasible.choices import Params

    Array = NDArray[np.float64]

#: Describes a member by numbers, each with a name.
Describe = Callable[["Params"], Mapping[str, float]]
Key = tuple[tuple[str, Any], ...]


class Pool:
    """Members that a sampler knows, numbered.

    Args:
        feasible: What may be a member.
        describe: Gives the descriptors of a member, the same for all of them.
    """

    def __init__(self, feasible: PathSet, describe: Describe | None) -> None:
        self._feasible = feasible
        self._describe = describe
        self._ranks = {name: ranked(given) for name, given in feasible.choices().items()}
        self._numbers: dict[Key, int] = {}
        self._names: tuple[str, ...] | None = None
        self.members: list[Params] = []
        self._descriptors: list[list[float]] = []
        self._choices: list[list[float]] = []

    def __len__(self) -> int:
        return len(self.members)

    def add(self, params: Params) -> int:
        """The number of a member, which may be new."""
        key = self._key(params)
        if key not in self._numbers:
            self._descriptors.append(self._described(params))
            self._choices.append(self._coded(dict(key)))
            self._numbers[key] = len(self.members)
            self.members.append(dict(params))
        return self._numbers[key]

    def rows(self, expected: str | None) -> tuple[Array, int]:
        """All members, `(members, columns)`, and how many of the columns are descriptors.

        Descriptors have mean 0 and variance 1 over the members; what all members have alike is
        left out. A choice spans 1. Before both comes the descriptor that is named, or 0.
        """
        descriptors = np.array(self._descriptors).reshape(len(self), -1)
        deviation = descriptors.std(axis=0)
        tells = deviation > 1e-9 * np.maximum(1.0, np.abs(descriptors).max(axis=0, initial=0.0))
        scaled = (descriptors - descriptors.mean(axis=0)) / np.where(tells, deviation, np.inf)
        first = np.zeros(len(self)) if expected is None else scaled[:, self._place(expected)]
        choices = np.array(self._choices).reshape(len(self), -1)
        return np.column_stack([first, scaled[:, tells], choices]), int(tells.sum())

    def descriptor(self, name: str) -> Array:
        """One descriptor of all members as it was given, `(members,)`."""
        place = self._place(name)
        return np.array([row[place] for row in self._descriptors])

    def neighbours(self, number: int) -> list[Params]:
        """Parameters that differ from a member's in one choice, and are not known yet."""
        here, choices = self.members[number], self._feasible.choices()
        moved = (here | {name: value} for name in here for value in choices[name])
        return [there for there in moved if self._key(there) not in self._numbers]

    def _place(self, name: str) -> int:
        if self._names is None or name not in self._names:
            raise UserFunctionError(
                f"`describe` must give {name!r}, as `expected` or `cost` asks for, but gives "
                f"{', '.join(self._names or ()) or 'nothing'}."
            )
        return self._names.index(name)

    def _key(self, params: Params) -> Key:
        return tuple(sorted(self._feasible.active_params(params).items()))

    def _described(self, params: Params) -> list[float]:
        if self._describe is None:
            return []

        def what() -> str:
            return f"`describe` for {params}"

        given = call(self._describe, (params,), what)
        if not isinstance(given, Mapping):
            raise UserFunctionError(f"{what()} must give a dictionary, but gave {given!r}.")
        if self._names is None:
            self._names = tuple(given)
        if given.keys() != set(self._names):
            raise UserFunctionError(
                f"{what()} must give {', '.join(map(str, self._names))} as for other parameters, "
                f"but gave {', '.join(map(str, given)) or 'nothing'}."
            )
        for name, value in given.items():
            if not isinstance(value, Real | np.bool_) or not math.isfinite(value):
                raise UserFunctionError(
                    f"{what()} must give finite numbers, but gave {value!r} for {name!r}."
                )
        return [float(given[name]) for name in self._names]

    def _coded(self, active: Params) -> list[float]:
        """Numbers by their places, categories apart; what makes no difference lies between."""
        coded: list[float] = []
        for name, options in self._feasible.choices().items():
            count = len(options)
            if count == 1:
                continue
            if is_category(options):
                found = [math.sqrt(0.5) * (active.get(name) == option) for option in options]
                coded += found if name in active else [math.sqrt(0.5) / count] * count
            else:
                place = self._ranks[name][active[name]] / (count - 1) if name in active else 0.5
                coded.append(place)
        return coded
