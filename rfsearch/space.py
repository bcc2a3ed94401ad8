"""Search spaces: which architectures may be proposed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, Self

from pydantic import Field

from rfsearch.architecture import Architecture
from rfsearch.choices import Params, StageChoices, StemChoices
from rfsearch.validation import FrozenData, parse, read_toml

if TYPE_CHECKING:
    import numpy as np
    from optuna.distributions import BaseDistribution


class Suggests(Protocol):
    """What a space needs of an `optuna.Trial`."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Choose one of `choices`."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        """Choose an integer from `low` to `high`."""


class NotOfferedError(ValueError):
    """A parameter has a value that is not one of its choices."""


class SearchSpace(FrozenData):
    """All architectures that can be made from choices for the stem and for each stage.

    >>> space = SearchSpace(
    ...     stem={"kernel_size": 3, "stride": 1, "width": 8},
    ...     stages=[{"block": "plain", "depth": [1, 2], "width": 8, "kernel_size": [3, 5]}],
    ... )
    >>> space.size
    4
    >>> [arch.receptive_field().size for arch in space]
    [5, 7, 7, 11]
    """

    stem: StemChoices
    stages: Annotated[tuple[StageChoices, ...], Field(strict=False, min_length=1, max_length=16)]

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

    # -- counting, enumerating, sampling ---------------------------------------------------

    @property
    def _parts(self) -> tuple[StemChoices | StageChoices, ...]:
        return (self.stem, *self.stages)

    @cached_property
    def size(self) -> int:
        """How many distinct architectures there are; may exceed 2^63."""
        size = 1
        for part in self._parts:
            size *= part.size
        return size

    def __getitem__(self, index: int) -> Architecture:
        """The architecture with this number, from 0 to `size - 1`."""
        if not 0 <= index < self.size:
            raise IndexError(f"`0 <= index < {self.size}` must hold, but got {index}.")
        digits = []
        for part in self._parts:
            index, digit = divmod(index, part.size)
            digits.append(digit)
        stages = zip(self.stages, digits[1:], strict=True)
        return Architecture(
            stem=self.stem.unrank(digits[0]),
            stages=tuple(choices.unrank(digit) for choices, digit in stages),
        )

    def __iter__(self) -> Iterator[Architecture]:  # type: ignore[override]  # not pydantic's fields
        """All architectures, each once, made one at a time."""
        index = 0
        while index < self.size:
            yield self[index]
            index += 1

    def __contains__(self, architecture: object) -> bool:
        """Whether the space can propose this architecture."""
        if not isinstance(architecture, Architecture):
            return False
        if len(architecture.stages) != len(self.stages):
            return False
        params = self.to_params(architecture)
        known = self.choices()
        if any(name not in known or params[name] not in known[name] for name in params):
            return False
        return self.from_params(params) == architecture

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw one architecture, each as likely as any other."""
        return self[random_below(self.size, rng)]

    # -- parameters ------------------------------------------------------------------------

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """All parameters with their choices, also those with a single one."""
        named = {f"stem_{name}": options for name, options in self.stem.values().items()}
        for number, stage in enumerate(self.stages, start=1):
            for name, options in stage.values().items():
                named[f"stage{number}_{name}"] = options
        return named

    def to_params(self, architecture: Architecture) -> Params:
        """Parameters that make an architecture; inactive ones get their first choice.

        Use `study.enqueue_trial(space.to_params(architecture))` to try a known candidate.
        """
        named = {f"stem_{k}": v for k, v in self.stem.to_params(architecture.stem).items()}
        pairs = zip(self.stages, architecture.stages, strict=True)
        for number, (choices, stage) in enumerate(pairs, start=1):
            named.update({f"stage{number}_{k}": v for k, v in choices.to_params(stage).items()})
        return named

    def from_params(self, params: Params) -> Architecture:
        """The architecture that parameters stand for; those with one choice may be left out.

        Raises:
            NotOfferedError: If a parameter is missing or is not one of its choices.
        """
        chosen: Params = {}
        for name, options in self.choices().items():
            value = params.get(name, options[0] if len(options) == 1 else None)
            if value not in options:
                allowed = ", ".join(map(str, options))
                raise NotOfferedError(f"`{name}` must be one of {allowed}, but got {value!r}.")
            chosen[name] = value
        stages = [
            choices.from_params(_with_prefix(chosen, f"stage{number}_"))
            for number, choices in enumerate(self.stages, start=1)
        ]
        stem = self.stem.from_params(_with_prefix(chosen, "stem_"))
        return Architecture(stem=stem, stages=tuple(stages))

    def suggest(self, trial: Suggests) -> Architecture:
        """Let a trial choose every parameter that has a choice, and make the architecture.

        All parameters are suggested in every trial, also those that this architecture does not
        use, since samplers model only parameters that all trials have.

        Raises:
            NotOfferedError: If the trial holds a value that is not offered, for example because
                it was enqueued.
        """
        params: Params = {}
        for name, options in self._free_choices().items():
            progression = arithmetic_progression(options)
            if progression is None:
                params[name] = _suggest_category(trial, name, options)
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

    def _free_choices(self) -> dict[str, tuple[Any, ...]]:
        return {name: options for name, options in self.choices().items() if len(options) > 1}


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


def _suggest_category(trial: Suggests, name: str, options: tuple[Any, ...]) -> Any:
    try:
        return trial.suggest_categorical(name, options)
    except ValueError as error:
        # Optuna's message for an enqueued value names the value alone.
        value, found, _ = str(error).partition(f" not in {options}")
        if not found:
            raise
        allowed = ", ".join(map(str, options))
        raise NotOfferedError(f"`{name}` must be one of {allowed}, but got {value}.") from None


def random_below(limit: int, rng: np.random.Generator) -> int:
    """Uniform integer from 0 to `limit - 1`, of any length."""
    bits = limit.bit_length()
    while True:
        value = int.from_bytes(rng.bytes((bits + 7) // 8), "little") >> (-bits % 8)
        if value < limit:
            return value


def shipped_spaces() -> dict[str, Path]:
    """The search spaces that come with the package, by name."""
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


def _with_prefix(params: Params, prefix: str) -> Params:
    return {k.removeprefix(prefix): v for k, v in params.items() if k.startswith(prefix)}
