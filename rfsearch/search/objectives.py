"""What a search may optimise: the score, and beside it what a candidate costs or misses."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import optuna

    from rfsearch.basics.ranges import Range
    from rfsearch.space.constraint import RFConstraint

#: A trial's values: of one objective, or of several.
Values = float | tuple[float, ...]
ObjectiveName = Literal[
    "score", "latency_ms", "peak_memory_mb", "params_m", "flops_g", "erf_misfit"
]
#: The objectives and their directions. All but the score are attributes of the trial.
DIRECTIONS: dict[str, Literal["maximize", "minimize"]] = {
    "score": "maximize",
    "latency_ms": "minimize",
    "peak_memory_mb": "minimize",
    "params_m": "minimize",
    "flops_g": "minimize",
    "erf_misfit": "minimize",
}
#: Objectives for which a candidate is timed.
MEASURED = ("latency_ms", "peak_memory_mb")


def check_objectives(names: Sequence[str], constraint: RFConstraint | None = None) -> None:
    """Check a search's objectives.

    Args:
        names: The objectives.
        constraint: What fits, if that is to be checked too.

    Raises:
        ValueError: If the first is not the score, one is unknown or there twice, or the misfit
            of the ERF is one and the constraint has no range of ERFs with two bounds.
    """
    shown = ", ".join(map(repr, names)) or "none"
    if not names or names[0] != "score":
        raise ValueError(f"`objectives` must begin with 'score', but got {shown}.")
    if unknown := [name for name in names if name not in DIRECTIONS]:
        raise ValueError(
            f"`objectives` must be among {', '.join(DIRECTIONS)}, but got {unknown[0]!r}."
        )
    if len(set(names)) < len(names):
        raise ValueError(f"`objectives` must differ, but got {shown}.")
    every = constraint.ranges_by_axis().values() if constraint is not None else ()
    if "erf_misfit" in names and any(_wanted(ranges) is None for ranges in every):
        raise ValueError(
            "`objectives`: 'erf_misfit' needs one of the gates 'expected' and 'measured', and a "
            "range of ERF sizes that is bounded on both sides."
        )


def name_objectives(study: optuna.Study, names: Sequence[str]) -> None:
    """Note in a study what its values are, where Optuna's figures look for it too."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(list(names))


def erf_misfit(size: float, ranges: dict[str, Range]) -> float:
    """Distance of an ERF size from the middle of the range that fits, in octaves.

    The middle is the geometric mean of the bounds. Inside the range the distance is not zero: all
    that is trained has passed the gates, so zero would tell nothing of most candidates.

    Args:
        size: In px.
        ranges: By gate, one of `expected` and `measured` among them, with two bounds.

    >>> from rfsearch.basics.ranges import Range
    >>> erf_misfit(64, {"expected": Range(16, 64)})
    1.0
    """
    allowed = _wanted(ranges)
    if allowed is None:
        raise ValueError(f"`ranges` must hold a bounded range of ERF sizes, but got {ranges}.")
    return abs(math.log2(size) - (math.log2(allowed.low) + math.log2(allowed.high)) / 2)


def _wanted(ranges: dict[str, Range]) -> Range | None:
    allowed = ranges.get("expected") or ranges.get("measured")
    return allowed if allowed and allowed.low > 0 and allowed.high < math.inf else None
