"""Search spaces of modules that a function of the user's own builds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from rfsearch.feasible.choices import Params, choices_of, offered
from rfsearch.feasible.discrete_set import DiscreteSet
from rfsearch.space.space import suggest_category

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.distributions import BaseDistribution

    from rfsearch.models.resolve import Built
    from rfsearch.space.candidate import Given
    from rfsearch.space.constraint import RFConstraint

#: Modules that are traced before giving up, in tens of milliseconds each.
_TRIES = 200


class ModuleSpace:
    """All modules that a function builds from choices.

    What fits is known from tracing one module for each combination of parameters in question. A
    feasible set of up to 1,000 combinations is counted by tracing all of them; of a larger one
    `count` is a number that its members do not exceed.

    Args:
        build: `build(**params)` gives a module, or the name of a model in timm.
        choices: For each parameter a list of values, or one of Optuna's distributions with
            finitely many values.
        input_size: Side or sides in px of the images at which modules are traced.

    Raises:
        ValueError: If there are no choices, or those of a parameter are not discrete.
    """

    def __init__(
        self,
        build: Callable[..., Built],
        choices: Mapping[str, Sequence[Any] | BaseDistribution],
        input_size: int | tuple[int, ...],
    ) -> None:
        self.build = build
        self.input_size = input_size
        self._distributions = {name: _distribution(name, one) for name, one in choices.items()}
        self._choices = choices_of(self._distributions)
        self._sets: dict[RFConstraint, DiscreteSet] = {}

    @property
    def size(self) -> int:
        """How many combinations of choices there are."""
        return prod(map(len, self._choices.values()))

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """The values of each parameter, in order."""
        return dict(self._choices)

    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's distributions of the parameters that `suggest` suggests."""
        return dict(self._distributions)

    def suggest(self, trial: Trial) -> Built:
        """Let a trial choose every parameter, and build the module.

        Raises:
            NotOfferedError: If the trial holds a value that is not offered, for example because
                it was enqueued.
        """
        params = {
            name: offered(name, self._choices[name], _suggest(trial, name, given))
            for name, given in self._distributions.items()
        }
        return self.build(**params)

    def candidate(self, params: Params) -> Given | None:
        """What the gates judge of some parameters; None of those that give no network."""
        return self.build(**params)

    def feasible(self, constraint: RFConstraint) -> DiscreteSet:
        """The parameters whose modules pass a constraint's closed-form gates, as a set.

        A module is built and traced once for each constraint.
        """
        if constraint not in self._sets:

            def fits(params: Params) -> bool:
                candidate = self.candidate(params)
                return candidate is not None and constraint.is_feasible(candidate, self.input_size)

            self._sets[constraint] = DiscreteSet(self._distributions, fits=fits, listed=0)
            self._sets[constraint].tries = _TRIES
        return self._sets[constraint]


def _distribution(name: str, given: Sequence[Any] | BaseDistribution) -> BaseDistribution:
    from optuna.distributions import BaseDistribution, CategoricalDistribution

    if isinstance(given, BaseDistribution):
        return given
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise ValueError(
            f"`choices` of {name!r} must be a list of values or one of Optuna's distributions, "
            f"but got {given!r}."
        )
    return CategoricalDistribution(tuple(given))


def _suggest(trial: Trial, name: str, given: BaseDistribution) -> Any:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(given, CategoricalDistribution):
        return suggest_category(trial, name, given.choices)
    if isinstance(given, IntDistribution):
        return trial.suggest_int(name, given.low, given.high, step=given.step, log=given.log)
    assert isinstance(given, FloatDistribution)
    return trial.suggest_float(name, given.low, given.high, step=given.step)
