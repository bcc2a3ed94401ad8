"""The candidates of a search space that fit, without making any of them.

The graph of `rfsearch.space._feasible_graph` knows which may fit. What cannot be carried in it
exactly is checked of every candidate that is drawn or found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rfsearch.basics.axes import AXIS_NAMES, on_axis
from rfsearch.basics.notebook import bars, table
from rfsearch.feasible.path_set import PathSet
from rfsearch.feasible.paths import Path, Paths
from rfsearch.network.architecture import Architecture
from rfsearch.space._candidates import Candidates
from rfsearch.space._feasible_graph import build_graph
from rfsearch.space._limits import Limits, has_several_maps, limits_of
from rfsearch.space._path_fields import PathFields

if TYPE_CHECKING:
    import numpy as np

    from rfsearch.feasible.choices import Params
    from rfsearch.feasible.layered_graph import Graph
    from rfsearch.space.constraint import RFConstraint

#: Draws or proposals that are checked before giving up where necks upsample, whose check takes
#: some ten times as long.
_FEWER_TRIES = 500


@dataclass(frozen=True, eq=False)
class FeasibleSet(PathSet):
    """The candidates of a space that pass a constraint's closed-form gates.

    The theoretical receptive field and the output stride are exact in the graph. The expected ERF
    and costs are binned with outward rounding, gridding and bounds on costs that hardly any
    candidate exceeds are left out, necks that upsample have outward bounds, and every candidate
    that is returned is checked exactly. So counts are exact without an expected-ERF gate, without
    bounds on costs and on gridding and without necks that upsample, and where few candidates are
    left.

    Attributes:
        candidates: What may be proposed.
        constraint: Which receptive fields fit.
    """

    candidates: Candidates
    constraint: RFConstraint

    nothing = "No candidate of the space passes all gates"

    @property
    def tries(self) -> int:  # type: ignore[override]  # fixed by the candidates
        """Draws or proposals that are checked before giving up."""
        return _FEWER_TRIES if self.candidates.upsamples else PathSet.tries

    def choices(self) -> Mapping[str, tuple[Any, ...]]:
        """All parameters with their choices, in the order of the decisions."""
        return self.candidates.choices()

    @property
    def size(self) -> int:
        """How many candidates the space has."""
        return self.candidates.size

    def active_params(self, params: Mapping[str, Any]) -> Params:
        """Those of a candidate's parameters that make a difference to it."""
        return self.candidates.active_params(params)

    def contains(self, candidate: Architecture | Mapping[str, Any]) -> bool:
        """Whether the space can propose a candidate and it passes the closed-form gates.

        Args:
            candidate: An architecture, or all parameters of one.
        """
        if isinstance(candidate, Mapping):
            return super().contains(candidate)
        return candidate in self.candidates and self.constraint.is_feasible(candidate)

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw one candidate, each as likely as any other.

        Raises:
            ValueError: If no candidate fits, or none was found among 2,000 that might (500 where
                necks upsample).
        """
        return self.candidates.from_params(self.sample_params(rng))

    def histogram(self, axis: str | None = None) -> dict[int, int]:
        """How many candidates there are at each theoretical receptive field in px, in order.

        It is that of the last output map; for a U-Net and for merged maps that of the last stage.
        It is exact where no candidate has to be checked, else numbers that they do not exceed.

        Args:
            axis: Name of the axis along which it is. `None` means whichever: no choice of the
                space may tell axes apart.

        Raises:
            ValueError: If there is no such axis, or none is named and axes differ.
        """
        apart = self.candidates.alike
        names = AXIS_NAMES[self.candidates.axes]
        if axis is None and len(apart) > 1:
            raise ValueError(
                f"`axis` must be one of {', '.join(names)} where choices of the space differ "
                "between them."
            )
        number = on_axis({name: n for n, name in enumerate(names)}, axis) if axis else 0
        graph = build_graph(self.candidates, self.constraint, number if len(apart) > 1 else 0)
        return Paths(graph, self.candidates.size).by_end()

    def _repr_html_(self) -> str:
        """Numbers and a histogram for notebooks."""
        about = "" if self.is_exact else "at most "
        rows: dict[str, object] = {
            "fit": f"{about}{self.count:,} of {self.candidates.size:,}",
            "share": f"{about}{self.fraction:.3g}",
        }
        rows |= {f"{gate} gate": text for gate, text in self.constraint.described().items()}
        label = "candidates at each theoretical receptive field (px), half an octave a bar"
        if len(self.candidates.alike) == 1:
            return table(rows) + bars(self.histogram(), label)
        drawn = (
            bars(self.histogram(n), f"{n}: {label}") for n in AXIS_NAMES[self.candidates.axes]
        )
        return table(rows) + "".join(drawn)

    # -- the graph -------------------------------------------------------------------------

    def _graph(self) -> Graph:
        return build_graph(self.candidates, self.constraint)

    @cached_property
    def _needs_check(self) -> bool:
        limits = self._limits
        if limits.need_erf or limits.need_cost or limits.touched or self._asks_of_finest:
            return True
        # A budget's images have to be a multiple of the last stride.
        asks = bool(self.constraint.gates) or self.constraint.budget is not None
        return asks and self.candidates.upsamples

    @property
    def _asks_of_finest(self) -> bool:
        """Whether a stride is asked for that the graph does not know."""
        ranges = [self.constraint.ranges(axis) for axis in AXIS_NAMES[self.candidates.axes]]
        highs = {each["finest_stride"].high for each in ranges if "finest_stride" in each}
        return len(highs) > 1 or (bool(highs) and has_several_maps(self.candidates))

    @cached_property
    def _limits(self) -> Limits:
        return limits_of(self.constraint, self.candidates)

    @cached_property
    def _fields(self) -> PathFields | None:
        """What tells of a path's expected ERF and gaps; None where it cannot, or nobody asks."""
        asks = self._limits.need_erf or self._limits.touched > 0
        return PathFields(self.candidates) if asks and not self.candidates.upsamples else None

    @cached_property
    def _rest(self) -> RFConstraint | None:
        """What is asked beside fields, ERFs and gaps; None if nothing is."""
        rest = replace(self.constraint, expected=False, max_gridding=None)
        return rest if self._limits.need_cost or self._asks_of_finest else None

    def _fits(self, path: Path) -> bool:
        """Whether a path fits; what is cheapest to know comes first."""
        if self._fields is None:
            return super()._fits(path)
        if self._limits.touched and 1 - self._fields.gridding(path) < self._limits.touched:
            return False
        sizes = self._fields.erf_sizes(path) if self._limits.need_erf else ()
        if sizes is None:
            return super()._fits(path)
        is_free = self.constraint.global_context and self._fields.sees_everything(path)
        within = zip(sizes, self._limits.erf, strict=False)
        if not all((is_free or low <= size) and size <= high for size, (low, high) in within):
            return False
        return self._rest is None or self._rest.is_feasible(self._candidate(path))

    def _candidate(self, path: Path) -> Architecture:
        return self.candidates.from_params(self._params(path))

    def _passes(self, params: Params) -> bool:
        return self.constraint.is_feasible(self.candidates.from_params(params))
