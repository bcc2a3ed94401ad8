"""The set of candidates that fit, without making any of them.

One graph (`rfsearch.space._feasible_graph`), read in several ways: how many paths lead from the
root to the end (sums and products), one of them at random (backward sampling), which decisions
still lead there (reachability), and the cheapest path from a proposal (minima and sums).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from rfsearch.basics.notebook import bars, table
from rfsearch.space._feasible_graph import build_graph
from rfsearch.space._limits import limits_of
from rfsearch.space._paths import FORBIDDEN, Path, Paths
from rfsearch.space.candidates import Candidates

if TYPE_CHECKING:
    from rfsearch.network.architecture import Architecture
    from rfsearch.space._layered_graph import Integers
    from rfsearch.space.constraint import RFConstraint
    from rfsearch.space.stem_choices import Params

#: Sets of at most so many paths are checked one by one to be counted.
_CHECKED = 1000
#: Draws or proposals that are checked before giving up; the same where necks upsample, whose check
#: takes some ten times as long.
_TRIES, _FEWER_TRIES = 2000, 500


class NoneFoundError(ValueError):
    """No candidate of a set was found."""


@dataclass(frozen=True, eq=False)
class FeasibleSet:
    """The candidates of a space that pass a constraint's closed-form gates.

    The theoretical receptive field and the output stride are exact in the graph. The expected ERF
    and costs are binned with outward rounding, gridding and bounds on costs that hardly any
    candidate exceeds are left out, necks that upsample have outward bounds, and every candidate
    that is returned is checked exactly.

    Attributes:
        candidates: What may be proposed.
        constraint: Which receptive fields fit.
    """

    candidates: Candidates
    constraint: RFConstraint

    def is_empty(self) -> bool:
        """Whether no candidate fits, as far as those that `sample` draws can tell."""
        if self.is_exact:
            return self.count == 0
        try:
            self.sample_params(np.random.default_rng(0))
        except NoneFoundError:
            return True
        return False

    # -- counting --------------------------------------------------------------------------

    @cached_property
    def count(self) -> int:
        """How many candidates fit where `is_exact`, else a number that they do not exceed."""
        if not self._needs_check or self._paths.number > _CHECKED:
            return self._paths.number
        return sum(self._fits(path) for path in self._paths.by_cost(self._costs({})))

    @property
    def is_exact(self) -> bool:
        """Whether `count`, `fraction`, `allowed` and `histogram` are exact, not upper bounds.

        They are without an expected-ERF gate, without bounds on costs and on gridding and without
        necks that upsample; `count` and `fraction` are also where few candidates are left.
        """
        return not self._needs_check or self._paths.number <= _CHECKED

    @property
    def fraction(self) -> float:
        """`count` over the number of candidates in the space."""
        return self.count / self.candidates.size

    def histogram(self) -> dict[int, int]:
        """How many candidates there are at each theoretical receptive field in px, in order.

        It is that of the last output map; for a U-Net and for merged maps that of the last stage.
        """
        graph = build_graph(self.candidates, self.constraint, keep_sizes=True)
        return Paths(graph, self.candidates.size).by_size()

    def estimate(self, rng: np.random.Generator, num_samples: int = 200) -> tuple[float, float]:
        """95 % interval (Wilson's) of how many candidates fit, from checking random paths.

        Args:
            rng: Of the draws.
            num_samples: How many paths to check.
        """
        if not self._paths.number:
            return 0.0, 0.0
        hits = sum(self._fits(self._paths.draw(rng)) for _ in range(num_samples))
        low, high = wilson_interval(hits, num_samples)
        return low * self._paths.number, high * self._paths.number

    # -- members ---------------------------------------------------------------------------

    def contains(self, architecture: Architecture) -> bool:
        """Whether the space can propose the candidate and it passes the closed-form gates."""
        return architecture in self.candidates and self.constraint.is_feasible(architecture)

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw one candidate, each as likely as any other.

        Raises:
            ValueError: If no candidate fits, or none was found among 2,000 that might (500 where
                necks upsample).
        """
        return self.candidates.from_params(self.sample_params(rng))

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Parameters of a uniformly drawn candidate; inactive ones have their first choice."""
        if self._paths.number:
            for _ in range(self._tries):
                path = self._paths.draw(rng)
                if self._fits(path):
                    return self._params(path)
        raise NoneFoundError(
            "No candidate of the space passes all gates: "
            + (
                f"none was found in {self._tries:,} that might."
                if self._paths.number
                else "the set is empty."
            )
        )

    def allowed(self, partial: Mapping[str, Any], name: str | None = None) -> tuple[Any, ...]:
        """Choices of a parameter with which a candidate can still succeed.

        Args:
            partial: Parameters that are decided, by name.
            name: The parameter in question; None means the first that is not decided.

        Raises:
            ValueError: If there is no such parameter, or all are decided.
        """
        choices = self.candidates.choices()
        if name is None:
            name = next((other for other in choices if other not in partial), None)
        if name is None or name not in choices:
            raise ValueError(
                f"`name` must be an undecided parameter of the space, but got {name!r}."
            )
        found: set[Any] = set()
        consistent = self._paths.consistent(partial)
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
        """Parameters of the candidate with the fewest, and then the smallest, changes.

        A change of a number is as large as the choices that it skips; a change of a category is
        as large as one choice. Parameters that make no difference keep their values.

        Args:
            params: The proposal; parameters that it lacks cost nothing.
            fixed: Names of parameters that must not change.
            avoid: A function of parameters; candidates for which it is true are passed over.

        Returns:
            All parameters, or None if there is no such candidate among the 2,000 nearest (500
            where necks upsample).
        """
        for path in islice(self._paths.by_cost(self._costs(params, fixed)), self._tries):
            found = self._firsts | dict(params) | self._active(path)
            if self._fits(path) and not (avoid is not None and avoid(found)):
                return {name: found[name] for name in self._firsts}
        return None

    def _repr_html_(self) -> str:
        """Numbers and a histogram for notebooks."""
        about = "" if self.is_exact else "at most "
        rows: dict[str, object] = {
            "fit": f"{about}{self.count:,} of {self.candidates.size:,}",
            "share": f"{about}{self.fraction:.3g}",
        }
        rows |= {f"{gate} gate": str(r) for gate, r in self.constraint.ranges().items()}
        label = "candidates at each theoretical receptive field (px), half an octave a bar"
        return table(rows) + bars(self.histogram(), label)

    # -- the graph -------------------------------------------------------------------------

    @cached_property
    def _paths(self) -> Paths:
        return Paths(build_graph(self.candidates, self.constraint), self.candidates.size)

    @cached_property
    def _needs_check(self) -> bool:
        limits = limits_of(self.constraint)
        if limits.need_erf or limits.need_cost or "gridding" in self.constraint.ranges():
            return True
        # A budget's images have to be a multiple of the last stride.
        asks = bool(self.constraint.ranges()) or self.constraint.budget is not None
        return asks and self.candidates.upsamples

    @property
    def _tries(self) -> int:
        return _FEWER_TRIES if self.candidates.upsamples else _TRIES

    @cached_property
    def _firsts(self) -> Params:
        return {name: options[0] for name, options in self.candidates.choices().items()}

    def _active(self, path: Path) -> Params:
        active: Params = {}
        for layer, option in zip(self._paths.layers, path, strict=True):
            active |= layer.options[option]
        return active

    def _params(self, path: Path) -> Params:
        return self._firsts | self._active(path)

    def _fits(self, path: Path) -> bool:
        if not self._needs_check:
            return True
        architecture = self.candidates.from_params(self._params(path))
        return self.constraint.is_feasible(architecture)

    def _costs(self, params: Mapping[str, Any], fixed: Collection[str] = ()) -> list[Integers]:
        """For each layer the cost of each option: changes first, their sizes second."""
        choices = self.candidates.choices()
        change = 1 + sum(len(options) for options in choices.values())

        def cost(name: str, value: Any) -> int:
            wanted = params.get(name, value)
            if wanted == value:
                return 0
            if name in fixed:
                return FORBIDDEN
            return change + _distance(choices[name], wanted, value)

        return [
            np.array(
                [sum(cost(n, v) for n, v in option.items()) for option in layer.options], np.int64
            )
            for layer in self._paths.layers
        ]


def _distance(options: tuple[Any, ...], wanted: Any, value: Any) -> int:
    """Choices skipped between two numbers; 1 between categories."""
    if wanted not in options or any(isinstance(option, str) for option in options):
        return 1
    ranks = sorted(options)
    return abs(ranks.index(wanted) - ranks.index(value))


def wilson_interval(hits: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    z2 = 1.96**2
    middle = (hits + z2 / 2) / (total + z2)
    half = (z2 * hits * (total - hits) / total + z2**2 / 4) ** 0.5 / (total + z2)
    return max(0.0, middle - half), min(1.0, middle + half)
