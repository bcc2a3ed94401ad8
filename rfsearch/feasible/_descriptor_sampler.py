"""Searches in what is known of members before any is tried, instead of in their choices alone.

A surrogate (`rfsearch.feasible._surrogate`) learns scores from descriptors, such as what a network
sees and costs, and the member of most expected improvement is proposed, for what it costs. Several
objectives become one by random weights for each proposal (Knowles, "ParEGO", IEEE Transactions on
Evolutionary Computation 10, 2006). What other workers are trying is taken to turn out as expected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from rfsearch.feasible._pool import Describe, Pool
from rfsearch.feasible._scores import as_one
from rfsearch.feasible._user_functions import UserFunctionError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from rfsearch.feasible._surrogate import Surrogate
    from rfsearch.feasible.choices import Params
    from rfsearch.feasible.path_set import PathSet

    Array = NDArray[np.float64]

#: Best members whose neighbours are looked at.
_BEST = 3
#: Of members by what is expected of them, the share among which workers choose while nothing has
#: come of the first, and how many these are at least.
_PROMISING = 0.1, 5
#: Improvement counts over this power of the cost.
_COST_POWER = 0.25


class DescriptorSampler(BaseSampler):
    """The base `"descriptors"` of `FeasibleSampler`.

    Args:
        feasible: What may be proposed.
        describe: Gives numbers, each with a name, of all parameters of a member. None leaves the
            choices alone to learn from.
        seed: Of what is random.
        n_startup_trials: So many trials are spread out over the descriptors at first, if nothing
            is expected.
        expected: A descriptor that says how good a member is expected to be, for one objective:
            the first trial has the most of it for its cost, and the others learn what is beyond.
        cost: A descriptor that is the logarithm, base 2, of what a trial costs.
        described: So many members are described before the first proposal; all, if they are no
            more.
        described_each: So many more, and as many neighbours of the best, before each other one.
    """

    def __init__(
        self,
        feasible: PathSet,
        describe: Describe | None,
        seed: int | None = None,
        n_startup_trials: int = 5,
        *,
        expected: str | None = None,
        cost: str | None = None,
        described: int = 10_000,
        described_each: int = 200,
    ) -> None:
        self._feasible = feasible
        self._expected = expected
        self._cost = cost
        self._rng = np.random.default_rng(seed)
        self._others = RandomSampler(seed=seed)
        self._num_startup = n_startup_trials
        self._described = described
        self._described_each = described_each
        self._pool = Pool(feasible, describe)
        self._surrogate: Surrogate | None = None
        self._numbers: dict[int, int | None] = {}
        self._knows_all = False

    def __str__(self) -> str:
        return "descriptors"

    def reseed_rng(self) -> None:
        """Give this worker draws of its own."""
        self._rng = np.random.default_rng()
        self._others.reseed_rng()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """None of its own: those of the set are always proposed."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> Params:
        """A member that has not been tried, as long as one is known."""
        from rfsearch.feasible._surrogate import Surrogate, spread_out  # Takes a second to load.

        tried, values, pending = self._outcomes(study, trial)
        best = [tried[place] for place in np.argsort(-as_one(values, None))[:_BEST]]
        self._look_around(best)
        untried = np.setdiff1d(np.arange(len(self._pool)), [*tried, *pending])
        if not len(untried):
            return self._feasible.sample_params(self._rng)
        expected = self._expected if len(study.directions) == 1 else None
        rows, num_descriptors = self._pool.rows(expected)
        worth = self._worth_of_improvement()
        chosen = [*tried, *pending]
        num_startup = 1 if rows[:, 0].any() else self._num_startup
        if len(chosen) < num_startup or not len(tried):
            first = self._promising(untried, rows[:, 0], worth, among_others=bool(chosen))
            number = spread_out(rows, chosen, first, self._rng)
        else:
            surrogate = self._surrogate
            if surrogate is None or surrogate.descriptors != num_descriptors:
                surrogate = Surrogate(num_descriptors, rows.shape[1] - num_descriptors)
            self._surrogate = surrogate
            scores = as_one(values, self._rng)
            surrogate.fit(rows[tried], scores, rows[pending], self._rng)
            number = untried[(surrogate.improvement(rows[untried]) * worth[untried]).argmax()]
        return dict(self._pool.members[number])

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """At random: what is no parameter of the set."""
        return self._others.sample_independent(study, trial, param_name, param_distribution)

    # -- what is known ------------------------------------------------------------------

    def _promising(
        self, untried: Array, expected: Array, worth: Array, among_others: bool
    ) -> Array:
        """Members among which one of the first trials is chosen, for what they cost."""
        if not expected.any():
            return untried
        share, fewest = _PROMISING
        number = max(fewest, round(share * len(untried))) if among_others else 1
        at_random = self._rng.permutation(untried)
        promise = (expected[at_random] - expected.min()) * worth[at_random]
        return at_random[np.argsort(-promise.round(9), kind="stable")[:number]]

    def _worth_of_improvement(self) -> Array:
        """What an improvement by each member is worth, for what it costs."""
        if self._cost is None:
            return np.ones(len(self._pool))
        cost = self._pool.descriptor(self._cost)
        return np.asarray(2.0 ** (-_COST_POWER * (cost - cost.min())))

    def _look_around(self, best: Iterable[int]) -> None:
        """Describe more members: any, and neighbours of the best."""
        if self._knows_all:
            return
        is_first = not len(self._pool)
        more = self._described if is_first else self._described_each
        found = self._feasible.some(self._rng, more)
        self._knows_all = (
            is_first and self._feasible.is_exact and len(found) == self._feasible.count
        )
        if not self._knows_all:
            near = [there for number in best for there in self._pool.neighbours(number)]
            chosen = self._rng.permutation(len(near))[:more]
            found += [near[place] for place in chosen if self._feasible.contains(near[place])]
        for params in found:
            self._pool.add(params)

    def _outcomes(self, study: Study, trial: FrozenTrial) -> tuple[list[int], Array, list[int]]:
        """Numbers of tried members, what came of them, and those that are being tried.

        Of values higher is better, `(tried, objectives)`. A trial that was pruned counts as the
        worst of them.
        """
        signs = [1.0 if way == StudyDirection.MAXIMIZE else -1.0 for way in study.directions]
        tried: list[int] = []
        rows: list[list[float]] = []
        pending: list[int] = []
        for other in study.get_trials(deepcopy=False):
            if other.number == trial.number or other.state in (
                TrialState.FAIL,
                TrialState.WAITING,
            ):
                continue
            number = self._number(other)
            if number is None:
                continue
            if not other.state.is_finished():
                pending.append(number)
                continue
            tried.append(number)
            known = other.values if other.state == TrialState.COMPLETE else None
            rows.append([np.nan] * len(signs) if known is None else list(known))
        values = np.array(rows).reshape(len(tried), len(signs)) * signs
        return (*_without_gaps(tried, values), pending)

    def _number(self, trial: FrozenTrial) -> int | None:
        """The number of a trial's member; None of one that has none."""
        if trial.number in self._numbers:
            return self._numbers[trial.number]
        names = self._feasible.choices()
        params = {name: trial.params[name] for name in names if name in trial.params}
        try:
            number = self._pool.add(params) if self._feasible.contains(params) else None
        except UserFunctionError:
            raise
        except ValueError:  # Parameters are missing, or those of another space.
            number = None
        if trial.state.is_finished():
            self._numbers[trial.number] = number
        return number


def _without_gaps(tried: list[int], values: Array) -> tuple[list[int], Array]:
    """The same with the worst known value where there is none, and the extremes where infinite."""
    if not np.isfinite(values).any(axis=0).all():
        return [], values[:0]
    finite = np.where(np.isfinite(values), values, np.nan)
    lowest, highest = np.nanmin(finite, axis=0), np.nanmax(finite, axis=0)
    return tried, np.where(np.isnan(values), lowest, values).clip(lowest, highest)
