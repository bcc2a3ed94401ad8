"""Makes any Optuna sampler propose parameters that fit, and only those.

The base sampler makes at most one joint proposal per trial. Where it fits it is taken, else the
nearest member of the feasible set that the study has not tried. The first trials, for which
samplers draw at random, are exact uniform draws from that set. Of a long study a base that gets
slow sees an excerpt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import copy
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    GPSampler,
    GridSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import TrialState

from rfsearch.feasible._descriptor_sampler import DescriptorSampler
from rfsearch.feasible._excerpt import excerpt
from rfsearch.feasible.choices import NotOfferedError, offered
from rfsearch.feasible.discrete_set import DiscreteSet
from rfsearch.feasible.fold import EVERYTHING
from rfsearch.feasible.path_set import PathSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from rfsearch.feasible._pool import Describe
    from rfsearch.feasible.choices import Params
    from rfsearch.feasible.fold import Fold

#: Draws until a member turns up that the study has not tried.
_TRIES = 100
#: Uniform draws at first; and trials that are spread out over the descriptors.
_DRAWN, _SPREAD = 10, 5
#: Samplers that make the first proposals as well: none of them may be replaced by a draw.
_SYSTEMATIC = (GridSampler, BruteForceSampler, DescriptorSampler)
#: Samplers whose proposals take the longer the more trials there are.
_SLOW = (TPESampler, GPSampler)
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)

Key = tuple[tuple[str, Any], ...]


class FeasibleSampler(BaseSampler):
    """Proposes parameters that fit, of any discrete space; other parameters are left to the base.

    >>> import rfsearch as rfs
    >>> from optuna.distributions import IntDistribution
    >>> distributions = {name: IntDistribution(1, 4) for name in ("stage1", "stage2", "stage3")}
    >>> def add(layers, name, depth):
    ...     return layers + depth if layers + depth <= 8 else None
    >>> fold = rfs.Fold(0, add, lambda layers: layers % 4 == 0)
    >>> sampler = rfs.FeasibleSampler(distributions, fold)
    >>> print(sampler.feasible)
    15 of 64 fit

    Args:
        distributions: Optuna's distributions by name, in the order of the decisions. The
            objective suggests all of them in every trial.
        fold: What fits, as a quantity that grows decision by decision; or a set that is known.
        base: Any Optuna sampler; by default TPE. Of more than 1,000 finished trials TPE and the
            Gaussian process see the best, the latest and a random rest. `"descriptors"` is a
            search in what `describe` says of each member
            (`rfsearch.feasible._descriptor_sampler`); then everything may fit.
        fits: What fits, as a function of all parameters, instead of a fold or beside it
            (`DiscreteSet`).
        describe: `describe(params)` gives numbers by name that can be told of any member before
            it is tried, such as the logarithm of its cost.
        expected: Name of a descriptor that says how good a member is expected to be, by whatever
            is known before: the first trial has the most of it for its cost, and the others
            learn what is beyond it. With several objectives nothing is expected.
        cost: Name of a descriptor that is the logarithm, base 2, of what a trial costs, such as
            its operations: improvement counts over the fourth root of the cost.
        described: So many members are described before the first proposal; all, if they are no
            more.
        described_each: So many more, and as many neighbours of the best, before each other one.
        seed: Of the uniform draws, and of the default base.
        n_startup_trials: So many trials, 10 by default, are uniform draws from the feasible set
            before the base takes over; with `RandomSampler` all are, with `GridSampler` and
            `BruteForceSampler` none. With `"descriptors"` they are 5, which are spread out,
            unless something is expected.

    Attributes:
        feasible: The parameters that fit, as a set.
        base: The sampler whose proposals are made to fit.

    Raises:
        ValueError: If a distribution is not discrete, nothing says what fits, a function fails,
            or the states of the fold do not merge. When the first trial is proposed, if nothing
            fits; when a trial begins, if what was enqueued for it fits nothing.
    """

    #: Whether proposals that others have made and that do not fit are errors.
    refuses_misfits = True

    def __init__(
        self,
        distributions: Mapping[str, BaseDistribution],
        fold: Fold | PathSet | None = None,
        base: BaseSampler | Literal["descriptors"] | None = None,
        *,
        fits: Callable[[Params], bool] | None = None,
        describe: Describe | None = None,
        expected: str | None = None,
        cost: str | None = None,
        described: int = 10_000,
        described_each: int = 200,
        seed: int | None = None,
        n_startup_trials: int | None = None,
    ) -> None:
        if isinstance(base, str) and base != "descriptors":
            raise ValueError(f"`base` must be a sampler or 'descriptors', but got {base!r}.")
        if describe is not None and base != "descriptors":
            raise ValueError('`describe` is for `base="descriptors"`; other samplers ignore it.')
        for what, name in (("expected", expected), ("cost", cost)):
            if name is not None and describe is None:
                raise ValueError(f"`{what}={name!r}` must come with `describe`, which gives it.")
        if fold is None and fits is None and base == "descriptors":
            fold = EVERYTHING
        self.distributions = dict(distributions)
        self.feasible = (
            fold if isinstance(fold, PathSet) else DiscreteSet(distributions, fold, fits)
        )
        usual = _SPREAD if isinstance(base, str) else _DRAWN
        self._num_startup = usual if n_startup_trials is None else n_startup_trials
        if isinstance(base, str):
            base = DescriptorSampler(
                self.feasible,
                describe,
                seed,
                self._num_startup,
                expected=expected,
                cost=cost,
                described=described,
                described_each=described_each,
            )
        self.base: BaseSampler = base if base is not None else TPESampler(seed=seed)
        self._rng = np.random.default_rng(seed)
        self._base_spaces: dict[int, dict[str, BaseDistribution]] = {}
        self._looked_at: set[int] = set()
        self._tried: set[Key] = set()

    def __str__(self) -> str:
        return f"{type(self).__name__}({self.base})"

    def stands_aside(self, trial: FrozenTrial) -> bool:
        """Whether a trial is no part of the search: nothing is drawn for it."""
        return False

    def counts_as_tried(self, trial: FrozenTrial) -> bool:
        """Whether the parameters of a trial need not be tried again; failed ones may be."""
        return trial.state != TrialState.FAIL

    # -- what Optuna calls -----------------------------------------------------------------

    def reseed_rng(self) -> None:
        """Give this worker draws of its own."""
        self._rng = np.random.default_rng()
        self.base.reseed_rng()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Delegate to the base, unless the trial stands beside the search.

        Raises:
            ValueError: If no member has the parameters that were enqueued for the trial, which
                then has failed.
        """
        if self.stands_aside(trial):
            return
        if self.refuses_misfits:
            self._check_enqueued(study, trial)
        self.base.before_trial(study, trial)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Delegate to the base, unless the trial stands beside the search."""
        if not self.stands_aside(trial):
            self.base.after_trial(study, trial, state, values)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The base's, and all parameters of the space."""
        if self.stands_aside(trial):  # It has no parameters, and nothing is drawn for it.
            return {}
        inferred = self.base.infer_relative_search_space(study, trial)
        self._base_spaces[trial.number] = inferred
        return inferred | self.distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """One joint proposal of the base, its part in the space moved to where it fits."""
        own = self.distributions
        missing = own.keys() - search_space.keys()
        if self.refuses_misfits and 0 < len(missing) < len(own):
            raise ValueError(
                f"`{min(missing)}` is decided by a sampler around this one, so that what fits "
                "cannot be told. Give it one choice in `distributions` instead."
            )
        inferred = self._base_spaces.pop(trial.number, search_space)
        if not search_space:
            return {}
        # A sampler around this one may have taken parameters out.
        asked = {name: inferred[name] for name in inferred if name in search_space}
        shown = excerpt(study, self._rng) if isinstance(self.base, _SLOW) else study
        proposal = self.base.sample_relative(shown, trial, asked)
        found = (
            self._member(study, shown, trial, proposal) if own.keys() & search_space.keys() else {}
        )
        others = {name: value for name, value in proposal.items() if name not in own}
        return others | {name: found[name] for name in own if name in search_space}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Delegate to the base what is not one of the set's parameters.

        Raises:
            ValueError: If it is one, suggested with another distribution.
        """
        if self.refuses_misfits and param_name in self.distributions:
            raise ValueError(
                f"`{param_name}` must be suggested as {self.distributions[param_name]}, but is "
                f"as {param_distribution}."
            )
        return self.base.sample_independent(study, trial, param_name, param_distribution)

    # -- how a member is found ----------------------------------------------------------

    def _member(
        self, study: Study, shown: Study, trial: FrozenTrial, proposal: Mapping[str, Any]
    ) -> Params:
        fixed = self._fixed(trial)
        tried = self._tried_before(study, trial)
        if not fixed and self._draws_uniformly(study):
            return self._draw(tried)
        # Some samplers look at what they noted before the trial.
        noted = study.get_trials(deepcopy=False)[trial.number]
        wanted = self._completed(shown, noted, proposal) | fixed

        found = self.feasible.nearest(wanted, fixed, avoid=tried)
        if found is None:  # Everything near has been tried, or nothing fits what is fixed.
            found = self.feasible.nearest(wanted, fixed)
        if found is None and fixed and self.refuses_misfits:
            raise ValueError(f"Nothing that fits was found with what was enqueued: {fixed}.")
        return found or self.feasible.nearest(wanted) or self._draw(tried)

    def _check_enqueued(self, study: Study, trial: FrozenTrial) -> None:
        given = trial.system_attrs.get("fixed_params", {})
        enqueued = {name: given[name] for name in self.distributions if name in given}
        try:
            if not enqueued or self.feasible.nearest(enqueued, enqueued):
                return
            reason = f"nothing that fits has {enqueued}."
        except NotOfferedError as error:
            reason = str(error)
        study.tell(trial.number, state=TrialState.FAIL)  # Else it would seem to run for ever.
        raise ValueError(f"Trial {trial.number} was enqueued and does not fit: {reason}")

    def _fixed(self, trial: FrozenTrial) -> Params:
        """Parameters that were enqueued for the trial and are offered."""
        choices, fixed = self.feasible.choices(), {}
        for name, value in trial.system_attrs.get("fixed_params", {}).items():
            if name in choices:
                with suppress(NotOfferedError):
                    fixed[name] = offered(name, choices[name], value)
        return fixed

    def _draws_uniformly(self, study: Study) -> bool:
        if isinstance(self.base, RandomSampler):
            return True
        if isinstance(self.base, _SYSTEMATIC):
            return False
        finished = study.get_trials(deepcopy=False, states=_FINISHED)
        return sum(not self.stands_aside(other) for other in finished) < self._num_startup

    def _draw(self, tried: Callable[[Params], bool]) -> Params:
        for _ in range(_TRIES):
            params = self.feasible.sample_params(self._rng)
            if not tried(params):
                break
        return params

    def _completed(
        self, study: Study, trial: FrozenTrial, proposal: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The proposal, with what it lacks from the base's independent sampling."""
        so_far = copy(trial)  # Some samplers look at what it has decided.
        for name, distribution in self.distributions.items():
            value = (
                proposal[name]
                if name in proposal
                else self.base.sample_independent(study, so_far, name, distribution)
            )
            so_far.params = so_far.params | {name: value}
            so_far.distributions = so_far.distributions | {name: distribution}
        return {name: so_far.params[name] for name in self.distributions}

    def _tried_before(self, study: Study, trial: FrozenTrial) -> Callable[[Params], bool]:
        """Whether a member was tried in another trial; finished trials are looked at once."""
        names = self.distributions.keys()
        running: set[Key] = set()
        for other in study.get_trials(deepcopy=False):
            if other.number in self._looked_at or other.number == trial.number:
                continue
            if not self.counts_as_tried(other):
                continue
            # What waits, or has just begun, has its parameters among what was enqueued.
            enqueued = {} if other.state.is_finished() else self._fixed(other)
            params = enqueued | other.params
            if not names <= params.keys():
                continue
            try:
                key = self._key({name: params[name] for name in names})
            except NotOfferedError:  # Enqueued, or of a study with other choices.
                continue
            if other.state.is_finished():
                self._looked_at.add(other.number)
                self._tried.add(key)
            else:
                running.add(key)

        def tried(params: Params) -> bool:
            key = self._key(params)
            return key in self._tried or key in running

        return tried

    def _key(self, params: Mapping[str, Any]) -> Key:
        """What tells a member from others: its active parameters."""
        return tuple(sorted(self.feasible.active_params(params).items()))
