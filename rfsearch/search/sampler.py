"""The sampler of candidates whose receptive field fits, and spaces of a user's own modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from rfsearch.feasible.choices import choices_of
from rfsearch.feasible.discrete_set import DiscreteSet
from rfsearch.feasible.sampler import FeasibleSampler
from rfsearch.space.trial_attributes import reference_kind

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial
    from torch import nn

    from rfsearch.feasible.choices import Params
    from rfsearch.space.constraint import RFConstraint
    from rfsearch.space.space import SearchSpace

#: Modules that are traced before giving up, in tens of milliseconds each.
_TRIES = 200


class ModuleSpace:
    """All modules that a function builds from choices.

    What fits is known from tracing one module for each combination of parameters in question, so
    nothing is enumerated: a feasible set's `count` is a number that its members do not exceed.

    Args:
        build: `build(**params)` gives a module.
        choices: For each parameter a list of values, or one of Optuna's distributions with
            finitely many values.
        input_size: Side or `(height, width)` in px of the images at which modules are traced.

    Raises:
        ValueError: If there are no choices, or those of a parameter are not discrete.
    """

    def __init__(
        self,
        build: Callable[..., nn.Module],
        choices: Mapping[str, Sequence[Any] | BaseDistribution],
        input_size: int | tuple[int, int],
    ) -> None:
        self.build = build
        self.input_size = input_size
        self._distributions = {
            name: given
            if isinstance(given, BaseDistribution)
            else CategoricalDistribution(tuple(given))
            for name, given in choices.items()
        }
        self._choices = choices_of(self._distributions)
        self._sets: dict[RFConstraint, DiscreteSet] = {}

    @property
    def size(self) -> int:
        """How many combinations of choices there are."""
        return prod(map(len, self._choices.values()))

    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's distributions of the parameters that `suggest` suggests."""
        return dict(self._distributions)

    def suggest(self, trial: Trial) -> nn.Module:
        """Let a trial choose every parameter, and build the module."""
        return self.build(
            **{name: _suggest(trial, name, given) for name, given in self._distributions.items()}
        )

    def feasible(self, constraint: RFConstraint) -> DiscreteSet:
        """The parameters whose modules pass a constraint's closed-form gates, as a set.

        A module is built and traced once for each constraint.
        """
        if constraint not in self._sets:

            def fits(params: Params) -> bool:
                return constraint.is_feasible(self.build(**params), input_size=self.input_size)

            self._sets[constraint] = DiscreteSet(self._distributions, fits=fits, listed=0)
            self._sets[constraint].tries = _TRIES
        return self._sets[constraint]


def _suggest(trial: Trial, name: str, given: BaseDistribution) -> Any:
    if isinstance(given, CategoricalDistribution):
        return trial.suggest_categorical(name, given.choices)
    if isinstance(given, IntDistribution):
        return trial.suggest_int(name, given.low, given.high, step=given.step, log=given.log)
    assert isinstance(given, FloatDistribution)
    return trial.suggest_float(name, given.low, given.high, step=given.step)


class RFSampler(FeasibleSampler):
    """Proposes feasible candidates of a search space; other parameters are left to the base.

    A misfit that was enqueued is used as it is, and `constraint.check` prunes its trial.

    Args:
        space: What may be proposed, by `space.suggest(trial)`: architectures, or modules of a
            user's own.
        constraint: Which receptive fields fit.
        base: Any Optuna sampler; by default TPE.
        seed: Of the uniform draws, and of the default base.
        n_startup_trials: So many trials are uniform draws from the feasible set before the base
            takes over; with `RandomSampler` all are, with `GridSampler` and `BruteForceSampler`
            none.

    Raises:
        ValueError: When the first candidate is proposed, if none fits.
    """

    refuses_misfits = False

    def __init__(
        self,
        space: SearchSpace | ModuleSpace,
        constraint: RFConstraint,
        base: BaseSampler | None = None,
        *,
        seed: int | None = None,
        n_startup_trials: int = 10,
    ) -> None:
        feasible = space.feasible(constraint)
        super().__init__(
            space.distributions(), feasible, base, seed=seed, n_startup_trials=n_startup_trials
        )
        self.space = space

    def stands_aside(self, trial: FrozenTrial) -> bool:
        """Whether a trial is a baseline or a control."""
        return reference_kind(trial) is not None

    def counts_as_tried(self, trial: FrozenTrial) -> bool:
        """A failed trial counts if its candidate is to blame, not if it was interrupted."""
        return super().counts_as_tried(trial) or "rejected_by" in trial.user_attrs
