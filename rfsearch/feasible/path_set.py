"""Sets of parameters that are the paths of a graph, without making any of them.

One graph, read in several ways: how many paths lead from the root to the end (sums and products),
one of them at random (backward sampling), which decisions still lead there (reachability), and
the cheapest path from a proposal (minima and sums). Where a graph knows only what may fit, each
path that is drawn or found is checked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from rfsearch.feasible.choices import NotOfferedError, offered
from rfsearch.feasible.paths import FORBIDDEN, Path, Paths

if TYPE_CHECKING:
    from rfsearch.feasible.choices import Params
    from rfsearch.feasible.layered_graph import Graph, Integers

#: Sets of at most so many paths are checked one by one to be counted.
_CHECKED = 1000


class NoneFoundError(ValueError):
    """No member of a set was found."""


class PathSet(ABC):
    """The parameters that fit: counted, drawn, looked up, moved to, without enumerating them.

    Attributes:
        nothing: What a message says where nothing fits.
        tries: Draws or proposals that are checked before giving up.
    """

    nothing = "No parameters fit"
    tries = 2000

    # -- what a set is made of -------------------------------------------------------------

    @abstractmethod
    def choices(self) -> Mapping[str, tuple[Any, ...]]:
        """All parameters with their choices, in the order of the decisions."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many candidates there are, whether they fit or not."""

    @abstractmethod
    def _graph(self) -> Graph:
        """The graph whose paths may fit."""

    @property
    def _needs_check(self) -> bool:
        """Whether some paths may not fit."""
        return False

    def _passes(self, params: Params) -> bool:
        """Whether the parameters of a path fit."""
        return True

    def active_params(self, params: Mapping[str, Any]) -> Params:
        """Those of a member's parameters that make a difference to it: what tells it from others.

        Args:
            params: All parameters by name; those with one choice may be left out.

        Raises:
            ValueError: If a parameter is missing, unknown, or not one of its choices.
        """
        return self._whole(params)

    # -- counting --------------------------------------------------------------------------

    def is_empty(self) -> bool:
        """Whether nothing fits, as far as what `sample_params` draws can tell."""
        if self.is_exact:
            return self.count == 0
        try:
            self.sample_params(np.random.default_rng(0))
        except NoneFoundError:
            return True
        return False

    @cached_property
    def count(self) -> int:
        """How many members there are where `is_exact`, else a number that they do not exceed."""
        if not self._needs_check or self._paths.number > _CHECKED:
            return self._paths.number
        return sum(self._fits(path) for path in self._by_cost({}))

    @property
    def is_exact(self) -> bool:
        """Whether `count` and `fraction` are exact, not upper bounds; see `allowed`."""
        return not self._needs_check or self._paths.number <= _CHECKED

    @property
    def fraction(self) -> float:
        """`count` over the number of candidates."""
        return self.count / self.size

    def estimate(self, rng: np.random.Generator, num_samples: int = 200) -> tuple[float, float]:
        """95 % interval (Wilson's) of how many members there are, from checking random paths.

        Args:
            rng: Of the draws.
            num_samples: How many paths to check.
        """
        if not self._paths.number:
            return 0.0, 0.0
        hits = sum(self._fits(self._paths.draw(rng)) for _ in range(num_samples))
        low, high = wilson_interval(hits, num_samples)
        return low * self._paths.number, high * self._paths.number

    def __str__(self) -> str:
        about = "" if self.is_exact else "at most "
        return f"{about}{self.count:,} of {self.size:,} fit"

    # -- members ---------------------------------------------------------------------------

    def contains(self, params: Mapping[str, Any]) -> bool:
        """Whether parameters fit; those with one choice may be left out.

        A value that is not offered does not fit.

        Raises:
            ValueError: If a parameter is missing or unknown.
        """
        try:
            given = self._whole(params)
        except NotOfferedError:
            return False
        return all(map(len, self._paths.consistent(given))) and self._passes(given)

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Parameters of a uniformly drawn member; inactive ones have their first choice.

        Raises:
            NoneFoundError: If there is none, or none was found among `tries` that might fit.
        """
        if self._paths.number:
            for _ in range(self.tries):
                path = self._paths.draw(rng)
                if self._fits(path):
                    return self._params(path)
        raise NoneFoundError(
            f"{self.nothing}: "
            + (
                f"none was found in {self.tries:,} that might."
                if self._paths.number
                else "the set is empty."
            )
        )

    def some(self, rng: np.random.Generator, number: int) -> list[Params]:
        """All members if at most so many may fit, else so many draws, or as many as are found.

        Args:
            rng: Of the draws.
            number: How many.
        """
        if self._paths.number <= number:
            return [self._params(path) for path in self._by_cost({}) if self._fits(path)]
        found: list[Params] = []
        with suppress(NoneFoundError):
            found.extend(self.sample_params(rng) for _ in range(number))
        return found

    def allowed(self, partial: Mapping[str, Any], name: str | None = None) -> tuple[Any, ...]:
        """Choices of a parameter with which a candidate can still become a member.

        They are exact where no path has to be checked, else some may turn out to lead nowhere.

        Args:
            partial: Parameters that are decided, by name.
            name: The parameter in question; None means the first that is not decided.

        Raises:
            ValueError: If there is no such parameter, or all are decided, or a decided one is
                unknown or not one of its choices.
        """
        choices = self.choices()
        if name is None:
            name = next((other for other in choices if other not in partial), None)
        if name is None or name not in choices:
            raise ValueError(
                f"`name` must be an undecided parameter of the space, but got {name!r}."
            )
        found: set[Any] = set()
        consistent = self._paths.consistent(self._known(partial))
        layers = self._paths.layers
        if not any(name in option for layer in layers for option in layer.options):
            # It makes no difference to any candidate.
            return choices[name] if all(map(len, consistent)) else ()
        for layer, edges in zip(layers, consistent, strict=True):
            if any(name in option for option in layer.options):
                for option in np.unique(layer.option[edges]).tolist():
                    # Where it makes no difference, any of its values will do.
                    active = layer.options[option]
                    found.update((active[name],) if name in active else choices[name])
        return tuple(value for value in choices[name] if value in found)

    def nearest(
        self,
        params: Mapping[str, Any],
        fixed: Collection[str] = (),
        avoid: Callable[[Params], bool] | None = None,
    ) -> Params | None:
        """Parameters of the member with the fewest, and then the smallest, changes.

        A change of a number is as large as the choices that it skips; a change of a category is
        as large as one choice. Parameters that make no difference keep their values.

        Args:
            params: The proposal; parameters that it lacks cost nothing.
            fixed: Names of parameters that must not change.
            avoid: A function of parameters; members for which it is true are passed over.

        Returns:
            All parameters, or None if there is no such member among the `tries` nearest that
            might fit.

        Raises:
            ValueError: If a parameter is unknown or not one of its choices.
        """
        wanted = self._known(params)
        for path in islice(self._by_cost(wanted, fixed), self.tries):
            found = self._firsts | wanted | self._active(path)
            if self._fits(path) and not (avoid is not None and avoid(found)):
                return {name: found[name] for name in self._firsts}
        return None

    # -- the graph -------------------------------------------------------------------------

    @cached_property
    def _paths(self) -> Paths:
        return Paths(self._graph(), self.size)

    @cached_property
    def _firsts(self) -> Params:
        return {name: options[0] for name, options in self.choices().items()}

    @property
    def _names(self) -> str:
        return ", ".join(self._firsts)

    def _known(self, params: Mapping[str, Any]) -> Params:
        """Parameters as the choices that their values stand for."""
        choices = self.choices()
        unknown = [name for name in params if name not in choices]
        if unknown:
            raise ValueError(f"`{unknown[0]}` must be one of the parameters: {self._names}.")
        return {name: offered(name, choices[name], value) for name, value in params.items()}

    def _whole(self, params: Mapping[str, Any]) -> Params:
        """All parameters, those with one choice included."""
        given = self._known(params)
        for name, options in self.choices().items():
            if name not in given:
                if len(options) > 1:
                    raise ValueError(f"`{name}` is missing; the parameters are {self._names}.")
                given[name] = options[0]
        return given

    def _active(self, path: Path) -> Params:
        active: Params = {}
        for layer, option in zip(self._paths.layers, path, strict=True):
            active |= layer.options[option]
        return active

    def _params(self, path: Path) -> Params:
        return self._firsts | self._active(path)

    def _fits(self, path: Path) -> bool:
        return not self._needs_check or self._passes(self._params(path))

    # -- distances -------------------------------------------------------------------------

    @cached_property
    def _ranks(self) -> dict[str, dict[Any, int]]:
        """For each parameter the places of its values: numbers by size, categories as listed."""
        return {name: ranked(options) for name, options in self.choices().items()}

    @cached_property
    def _places(self) -> list[dict[str, Integers]]:
        """For each layer and parameter the rank of each option's value; -1 where inactive."""

        def places(options: list[Params], name: str) -> Integers:
            ranks = self._ranks[name]
            # No path takes an option with a value that is not offered.
            return np.array([ranks.get(o[name], -1) if name in o else -1 for o in options])

        return [
            {
                name: places(layer.options, name)
                for name in dict.fromkeys(name for option in layer.options for name in option)
            }
            for layer in self._paths.layers
        ]

    @cached_property
    def _change(self) -> int:
        """What a change costs, beside its size: more than the sizes of all changes."""
        return 1 + sum(map(len, self.choices().values()))

    def _by_cost(self, params: Mapping[str, Any], fixed: Collection[str] = ()) -> Iterator[Path]:
        """Paths, those with the fewest and then the smallest changes first."""
        return self._paths.by_cost(self._costs(params, fixed), self._change)

    def _costs(self, params: Mapping[str, Any], fixed: Collection[str] = ()) -> list[Integers]:
        """For each layer the cost of each option: changes first, their sizes second."""
        choices = self.choices()
        costs = []
        for layer, places in zip(self._paths.layers, self._places, strict=True):
            cost = np.zeros(len(layer.options), np.int64)
            for name, ranks in places.items():
                if name in params:
                    apart = np.abs(ranks - self._ranks[name][params[name]])
                    if is_category(choices[name]):
                        apart = np.minimum(apart, 1)
                    each = self._change + apart if name not in fixed else FORBIDDEN
                    cost += np.where((ranks < 0) | (apart == 0), 0, each)
            costs.append(cost)
        return costs


def is_category(options: tuple[Any, ...]) -> bool:
    """Whether choices are no numbers."""
    return not all(isinstance(option, int | float) for option in options)


def ranked(options: tuple[Any, ...]) -> dict[Any, int]:
    """The place of each choice: numbers by size, categories as listed."""
    ordered = options if is_category(options) else sorted(options)
    return {option: rank for rank, option in enumerate(ordered)}


def wilson_interval(hits: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    z2 = 1.96**2
    middle = (hits + z2 / 2) / (total + z2)
    half = (z2 * hits * (total - hits) / total + z2**2 / 4) ** 0.5 / (total + z2)
    return max(0.0, middle - half), min(1.0, middle + half)
