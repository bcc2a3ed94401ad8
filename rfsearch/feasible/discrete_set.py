"""The parameters of a discrete space that a fold accepts, or that a function says fit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from rfsearch.feasible._user_functions import ask
from rfsearch.feasible.choices import choices_of
from rfsearch.feasible.fold import EVERYTHING, Fold, fold_graph
from rfsearch.feasible.path_set import NoneFoundError, PathSet

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from rfsearch.feasible.choices import Params
    from rfsearch.feasible.layered_graph import Graph

#: Spaces of at most so many candidates are enumerated where only a function says what fits.
LISTED = 100_000


class DiscreteSet(PathSet):
    """The parameters that fit, of any space with finitely many.

    With a fold alone everything about the set is exact. A function `fits` without a fold is asked
    of all candidates if they are at most `listed`, and all is exact too. Else it is asked of
    those that are drawn or come near to a proposal, once each, and `count` is only a number that
    the members do not exceed (`is_exact` says so).

    Args:
        distributions: Optuna's distributions by name, in the order of the decisions.
        fold: What fits, as a quantity that grows decision by decision.
        fits: What fits, as a function of all parameters; instead of a fold, or beside it.
        listed: See above.

    Raises:
        ValueError: If a distribution is not discrete, nothing says what fits, a function fails,
            or the states of the fold do not merge; it names the parameter.
    """

    def __init__(
        self,
        distributions: Mapping[str, BaseDistribution],
        fold: Fold | None = None,
        fits: Callable[[Params], bool] | None = None,
        listed: int = LISTED,
    ) -> None:
        if fold is None and fits is None:
            raise ValueError("Either a fold or a function `fits` must say what fits.")
        self._choices = choices_of(distributions)
        self._predicate = fits
        self._answers: dict[tuple[Any, ...], bool] = {}
        is_listed = fold is None and self.size <= listed
        if fold is None:
            # States that remember everything never merge: this is enumeration.
            fold = Fold((), _remember, self._answer) if is_listed else EVERYTHING
        self._is_checked = fits is not None and not is_listed
        self._built = fold_graph(self._choices, fold)

    def choices(self) -> Mapping[str, tuple[Any, ...]]:
        """All parameters with their choices, in the order of the decisions."""
        return self._choices

    @property
    def size(self) -> int:
        """How many candidates there are: the product of the numbers of choices."""
        return prod(map(len, self._choices.values()))

    def nearest(
        self,
        params: Mapping[str, Any],
        fixed: Collection[str] = (),
        avoid: Callable[[Params], bool] | None = None,
    ) -> Params | None:
        """Parameters of the member with the fewest, and then the smallest, changes.

        Where a function says what fits and none of the `tries` nearest candidates does, it is the
        end of a walk from the nearest known member towards the proposal, one parameter at a time.
        The rest is as for `PathSet.nearest`.
        """
        found = super().nearest(params, fixed, avoid)
        if found is None and self._is_checked:
            return self._walk(self._known(params), fixed, avoid or _none)
        return found

    def _graph(self) -> Graph:
        return self._built

    @property
    def _needs_check(self) -> bool:
        return self._is_checked

    def _passes(self, params: Params) -> bool:
        return not self._is_checked or self._answer(tuple(params[n] for n in self._choices))

    def _answer(self, values: tuple[Any, ...]) -> bool:
        if values not in self._answers:
            assert self._predicate is not None
            params = dict(zip(self._choices, values, strict=True))
            self._answers[values] = ask(self._predicate, (params,), lambda: f"`fits` for {params}")
        return self._answers[values]

    def _walk(
        self, wanted: Params, fixed: Collection[str], avoid: Callable[[Params], bool]
    ) -> Params | None:
        if not any(self._answers.values()):
            try:
                self.sample_params(np.random.default_rng(0))
            except NoneFoundError:
                return None
        kept = {name: wanted[name] for name in fixed if name in wanted}
        known = (values for values, fits in self._answers.items() if fits)
        starts = [dict(zip(self._choices, values, strict=True)) | kept for values in known]
        here = next(
            (
                start
                for start in sorted(starts, key=lambda start: self._cost(wanted, start))
                if self.contains(start) and not avoid(start)
            ),
            None,
        )
        if here is None:
            return None
        has_moved = True
        while has_moved:
            has_moved = False
            for there in self._closer(wanted, here):
                if self.contains(there) and not avoid(there):
                    here, has_moved = there, True
                    break
        return here

    def _cost(self, wanted: Params, member: Params) -> int:
        costs = zip(self._choices, self._costs(wanted), strict=True)
        return sum(int(cost[self._choices[name].index(member[name])]) for name, cost in costs)

    def _closer(self, wanted: Params, member: Params) -> list[Params]:
        """Candidates that differ from a member in one parameter and cost less, best first."""
        options = {name: self._choices[name] for name in wanted if member[name] != wanted[name]}
        moved = (member | {name: value} for name, values in options.items() for value in values)
        known = [(self._cost(wanted, there), there) for there in moved]
        least = self._cost(wanted, member)
        return [there for cost, there in sorted(known, key=_first) if cost < least]


def _first(pair: tuple[int, Params]) -> int:
    return pair[0]


def _none(params: Params) -> bool:
    return False


def _remember(values: Any, name: str, value: Any) -> tuple[Any, ...]:
    return (*values, value)
