"""Search spaces: which architectures may be proposed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from rfsearch.basics.notebook import table
from rfsearch.basics.validation import parse, read_toml
from rfsearch.feasible.choices import NotOfferedError
from rfsearch.network.architecture import Architecture
from rfsearch.space._candidates import Candidates
from rfsearch.space.feasible import FeasibleSet
from rfsearch.space.trial_attributes import enqueued

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from rfsearch.feasible.choices import Params
    from rfsearch.space.constraint import RFConstraint


#: The file beside the shipped spaces that lists baselines.
BASELINES = "baselines"


class Suggests(Protocol):
    """What a space needs of an `optuna.Trial`."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Choose one of `choices`."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        """Choose an integer from `low` to `high`."""


#: Names of its parameters; others may be enqueued for the rest of an objective.
_OF_A_SPACE = re.compile(r"(stem|stage\d+|neck)_")


class SearchSpace(Candidates):
    """All architectures that can be made from choices for the stem, each stage and the neck.

    >>> space = SearchSpace(
    ...     stem={"kernel_size": 3, "stride": 1, "width": 8},
    ...     stages=[{"block": "plain", "depth": [1, 2], "width": 8, "kernel_size": [3, 5]}],
    ... )
    >>> space.size
    4
    >>> [arch.receptive_field().size for arch in space]
    [5, 7, 7, 11]
    """

    @classmethod
    def load(cls, source: str | Path) -> Self:
        """Read a space from a TOML file, or one of the shipped spaces by its name.

        Raises:
            ValueError: One line with the file, the key and what is allowed.
        """
        path = Path(source)
        if path.suffix != ".toml":
            path = _shipped(str(source))
        return parse(cls, read_toml(path), path.name)

    def feasible(self, constraint: RFConstraint) -> FeasibleSet:
        """The candidates that pass a constraint's closed-form gates, as a set."""
        return _feasible(self, constraint)

    def suggest(self, trial: Suggests) -> Architecture:
        """Let a trial choose every parameter that has a choice, and make the architecture.

        All parameters are suggested in every trial, also those that this architecture does not
        use, since samplers model only parameters that all trials have.

        Raises:
            NotOfferedError: If the trial holds a value that is not offered, for example because
                it was enqueued; or one was enqueued for a stem, stage or neck that has no such
                parameter, or no choice of it.
        """
        self._check_enqueued(enqueued(trial))
        params: Params = {}
        for name, options in self._free_choices().items():
            progression = arithmetic_progression(options)
            if progression is None:
                params[name] = suggest_category(trial, name, options)
            else:
                low, high, step = progression
                params[name] = trial.suggest_int(name, low, high, step=step)
        return self.from_params(params)

    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's distributions of the parameters that `suggest` suggests."""
        from optuna.distributions import CategoricalDistribution, IntDistribution

        named: dict[str, BaseDistribution] = {}
        for name, options in self._free_choices().items():
            progression = arithmetic_progression(options)
            if progression is None:
                named[name] = CategoricalDistribution(options)
            else:
                named[name] = IntDistribution(progression[0], progression[1], step=progression[2])
        return named

    def _check_enqueued(self, params: Params) -> None:
        """Refuse what Optuna would not use: some other candidate would run in its place."""
        choices = self.choices()
        for name, value in params.items():
            options = choices.get(name, ())
            if not options and _OF_A_SPACE.match(name):
                raise not_a_parameter(name, choices)
            if len(options) == 1 and value != options[0]:
                raise NotOfferedError(
                    f"`{name}` must be {options[0]}, which is all that is offered, "
                    f"but got {value}."
                )

    def _repr_html_(self) -> str:
        """The choices for notebooks."""
        free, everything = self._free_choices(), self.choices()
        rows = {name: ", ".join(map(str, options)) for name, options in free.items()}
        fixed = [f"{n} = {v[0]}" for n, v in everything.items() if n not in free]
        if fixed:
            rows["always"] = ", ".join(fixed)
        return table(rows, f"{self.size:,} architectures, {len(free)} parameters")

    def _free_choices(self) -> dict[str, tuple[Any, ...]]:
        return {name: options for name, options in self.choices().items() if len(options) > 1}


@lru_cache(maxsize=16)
def _feasible(space: SearchSpace, constraint: RFConstraint) -> FeasibleSet:
    """Equal questions share one set, so that its graph is built once."""
    return FeasibleSet(space, constraint)


def not_a_parameter(name: str, choices: Iterable[str]) -> NotOfferedError:
    """What to say of a parameter that was enqueued and is none of the space's."""
    return NotOfferedError(
        f"The space has no parameter `{name}`, which was enqueued; it has {', '.join(choices)}."
    )


def arithmetic_progression(options: tuple[Any, ...]) -> tuple[int, int, int] | None:
    """Low, high and step of evenly spaced increasing integers, else None.

    >>> arithmetic_progression((3, 5, 7))
    (3, 7, 2)
    >>> arithmetic_progression((1, 2, 4)) is None
    True
    """
    if not all(type(option) is int for option in options) or len(options) < 2:
        return None
    step = options[1] - options[0]
    even = range(options[0], options[0] + step * len(options), step) if step > 0 else ()
    return (options[0], options[-1], step) if tuple(even) == options else None


def suggest_category(trial: Suggests, name: str, options: tuple[Any, ...]) -> Any:
    """Let a trial choose one of some values.

    Raises:
        NotOfferedError: If another was enqueued.
    """
    try:
        return trial.suggest_categorical(name, options)
    except ValueError as error:
        # Optuna's message for an enqueued value names the value alone.
        value, found, _ = str(error).partition(f" not in {options}")
        if not found:
            raise
        allowed = ", ".join(map(str, options))
        raise NotOfferedError(f"`{name}` must be one of {allowed}, but got {value}.") from None


def shipped_spaces() -> dict[str, Path]:
    """The search spaces that come with the package, by name."""
    return {name: path for name, path in shipped_files().items() if name != BASELINES}


def shipped_files() -> dict[str, Path]:
    """The search spaces and the list of baselines that come with the package, by name."""
    installed = Path(str(files("rfsearch"))) / "search_spaces"
    folder = installed if installed.is_dir() else installed.parent.parent / "search_spaces"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def _shipped(name: str) -> Path:
    spaces = shipped_spaces()
    if name not in spaces:
        raise ValueError(
            f"A search space must be a .toml file or one of {', '.join(spaces)}, but got {name!r}."
        )
    return spaces[name]
