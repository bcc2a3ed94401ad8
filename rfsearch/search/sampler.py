"""Makes any Optuna sampler propose candidates that fit, and only those.

The base sampler makes at most one joint proposal per trial. Where it fits it is taken, else the
nearest feasible candidate that the study has not tried. The first trials, for which samplers draw
at random, are exact uniform draws from the feasible set. Only Optuna's public interface is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    GridSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import TrialState

from rfsearch.space.trial_attributes import reference_kind

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from rfsearch.space.constraint import RFConstraint
    from rfsearch.space.space import SearchSpace
    from rfsearch.space.stem_choices import Params

#: Draws until a candidate turns up that the study has not tried.
_TRIES = 100
#: Samplers that walk through a list of proposals: none of them may be replaced by a draw.
_SYSTEMATIC = (GridSampler, BruteForceSampler)
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)

Key = tuple[tuple[str, Any], ...]


class RFSampler(BaseSampler):
    """Proposes feasible candidates of a search space; other parameters are left to the base.

    Args:
        space: What may be proposed, by `space.suggest(trial)`.
        constraint: Which receptive fields fit.
        base: Any Optuna sampler; by default TPE.
        seed: Of the uniform draws, and of the default base.
        n_startup_trials: So many trials are uniform draws from the feasible set before the base
            takes over; with `RandomSampler` all are, with `GridSampler` and `BruteForceSampler`
            none.

    Raises:
        ValueError: When the first candidate is proposed, if none fits.
    """

    def __init__(
        self,
        space: SearchSpace,
        constraint: RFConstraint,
        base: BaseSampler | None = None,
        *,
        seed: int | None = None,
        n_startup_trials: int = 10,
    ) -> None:
        self.space = space
        self.feasible = space.feasible(constraint)
        self.base = base if base is not None else TPESampler(seed=seed)
        self._rng = np.random.default_rng(seed)
        self._num_startup = n_startup_trials
        self._base_spaces: dict[int, dict[str, BaseDistribution]] = {}
        self._tried: dict[int, Key] = {}

    def __str__(self) -> str:
        return f"RFSampler({self.base})"

    # -- what Optuna calls -----------------------------------------------------------------

    def reseed_rng(self) -> None:
        """Give this worker draws of its own."""
        self._rng = np.random.default_rng()
        self.base.reseed_rng()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Delegate to the base, unless the trial stands beside the search."""
        if reference_kind(trial) is None:
            self.base.before_trial(study, trial)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Delegate to the base, unless the trial stands beside the search."""
        if reference_kind(trial) is None:
            self.base.after_trial(study, trial, state, values)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The base's, and all parameters of the space."""
        if reference_kind(trial):  # It has no parameters, and nothing is drawn for it.
            return {}
        inferred = self.base.infer_relative_search_space(study, trial)
        self._base_spaces[trial.number] = inferred
        return inferred | self.space.distributions()

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """One joint proposal of the base, its part in the space moved to where it fits."""
        own = self.space.distributions()
        inferred = self._base_spaces.pop(trial.number, search_space)
        if not search_space:
            return {}
        # A sampler around this one may have taken parameters out.
        asked = {name: inferred[name] for name in inferred if name in search_space}
        proposal = self.base.sample_relative(study, trial, asked)
        found = self._candidate(study, trial, proposal) if own.keys() & search_space.keys() else {}
        others = {name: value for name, value in proposal.items() if name not in own}
        return others | {name: found[name] for name in own if name in search_space}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Delegate to the base: it is not one of the space's parameters."""
        return self.base.sample_independent(study, trial, param_name, param_distribution)

    # -- how a candidate is found ----------------------------------------------------------

    def _candidate(self, study: Study, trial: FrozenTrial, proposal: Mapping[str, Any]) -> Params:
        fixed = self._fixed(trial)
        tried = self._tried_before(study, trial)
        if not fixed and self._draws_uniformly(study):
            return self._draw(tried)
        wanted = self._completed(study, trial, proposal) | fixed

        def known(params: Params) -> bool:
            return self._key(params) in tried

        found = self.feasible.nearest(wanted, fixed, avoid=known)
        if found is None:  # Everything near has been tried, or nothing fits what is fixed.
            found = self.feasible.nearest(wanted, fixed) or self.feasible.nearest(wanted)
        return found if found is not None else self._draw(tried)

    def _fixed(self, trial: FrozenTrial) -> Params:
        """Parameters that were enqueued for the trial and are offered by the space."""
        choices = self.space.choices()
        enqueued = trial.system_attrs.get("fixed_params", {})
        return {n: v for n, v in enqueued.items() if n in choices and v in choices[n]}

    def _draws_uniformly(self, study: Study) -> bool:
        if isinstance(self.base, RandomSampler):
            return True
        if isinstance(self.base, _SYSTEMATIC):
            return False
        finished = study.get_trials(deepcopy=False, states=_FINISHED)
        return sum(reference_kind(other) is None for other in finished) < self._num_startup

    def _draw(self, tried: set[Key]) -> Params:
        for _ in range(_TRIES):
            params = self.feasible.sample_params(self._rng)
            if self._key(params) not in tried:
                break
        return params

    def _completed(
        self, study: Study, trial: FrozenTrial, proposal: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The proposal, with what it lacks from the base's independent sampling."""
        # Some samplers look at what they noted before the trial, or at what it has decided.
        so_far = copy(study.get_trials(deepcopy=False)[trial.number])
        for name, distribution in self.space.distributions().items():
            value = (
                proposal[name]
                if name in proposal
                else self.base.sample_independent(study, so_far, name, distribution)
            )
            so_far.params = so_far.params | {name: value}
            so_far.distributions = so_far.distributions | {name: distribution}
        return so_far.params

    def _tried_before(self, study: Study, trial: FrozenTrial) -> set[Key]:
        """Candidates of the study's other trials; a finished trial is looked at once.

        A trial that has failed counts if its candidate is to blame, not if it was interrupted.
        """
        names = self.space.distributions().keys()
        running: set[Key] = set()
        for other in study.get_trials(deepcopy=False):
            if other.number in self._tried or other.number == trial.number:
                continue
            if other.state == TrialState.FAIL and "rejected_by" not in other.user_attrs:
                continue
            # What waits, or has just begun, has its parameters among what was enqueued.
            enqueued = {} if other.state.is_finished() else self._fixed(other)
            params = enqueued | other.params
            if names <= params.keys():
                key = self._key(params)
                if other.state.is_finished():
                    self._tried[other.number] = key
                else:
                    running.add(key)
        return running.union(self._tried.values())

    def _key(self, params: Mapping[str, Any]) -> Key:
        """What tells a candidate from others: its active parameters."""
        return tuple(sorted(self.space.active_params(params).items()))
