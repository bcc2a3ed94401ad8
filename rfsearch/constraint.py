"""Gates that a candidate must pass, and how a trial that fails one ends.

The same Optuna constraints are set in every trial, in octaves (see `Range.violation`), and a
candidate that fails a gate is pruned. A trial pruned before its network was measured gets, as its
measured constraint, the one of the expected ERF: the best estimate there is. Its latency and its
memory are unknown, so those constraints are 0 octaves, which speaks neither for nor against it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol

from rfsearch.budget import Budget
from rfsearch.target import Range, ScaleTarget, pixel_range

if TYPE_CHECKING:
    from optuna.trial import Trial

    from rfsearch.architecture import Architecture

#: Gate to the name of its Optuna constraint, from the cheapest to the dearest.
CONSTRAINT_KEYS = {
    "theoretical": "trf_octaves",
    "output_stride": "output_stride_octaves",
    "parameters": "params_octaves",
    "flops": "flops_octaves",
    "gridding": "gridding_octaves",
    "expected": "erf_expected_octaves",
    "measured": "erf_measured_octaves",
    "latency": "latency_octaves",
    "memory": "peak_memory_octaves",
}
_QUANTITIES = {
    "theoretical": "theoretical RF",
    "output_stride": "output stride",
    "parameters": "model size",
    "flops": "cost",
    "gridding": "touched share",
    "expected": "expected ERF",
    "measured": "ERF",
    "latency": "latency",
    "memory": "peak memory",
}

Bounds = tuple[float, float | None]


class Sized(Protocol):
    """A measured effective receptive field."""

    @property
    def size(self) -> float:
        """ERF size in px."""


class Timed(Protocol):
    """A measured latency and peak memory."""

    @property
    def latency_ms(self) -> float:
        """Median time of a forward pass of one image, in ms."""

    @property
    def peak_memory_mb(self) -> float:
        """Memory during that pass, in MiB."""


class Verdict(NamedTuple):
    """What one gate says of a candidate.

    Attributes:
        gate: One of `CONSTRAINT_KEYS`.
        size: The candidate's value, in px, millions of parameters, 10^9 operations, as a share,
            in ms or MiB.
        allowed: The values that pass.
    """

    gate: str
    size: float
    allowed: Range

    @property
    def octaves(self) -> float:
        """Violation in octaves; zero or below passes."""
        return self.allowed.violation(self.size)

    @property
    def passes(self) -> bool:
        """Whether the candidate may go on."""
        return self.octaves <= 0

    def __str__(self) -> str:
        unit = self.allowed.unit
        what = f"{_QUANTITIES[self.gate]} of {self.size:g} {unit}"
        if self.passes:
            return f"{what} is within {self.allowed}"
        if self.size < self.allowed.low:
            missing = self.allowed.low - self.size
            below = f"{missing:g} {unit} below the lower bound"
            return f"{what} is {below} of {self.allowed.low:g} {unit}"
        excess = self.size - self.allowed.high
        above = f"{excess:g} {unit} above the upper bound"
        return f"{what} is {above} of {self.allowed.high:g} {unit}"


@dataclass(frozen=True)
class RFConstraint:
    """Which receptive fields fit.

    Attributes:
        target: The object scales, whose default rule gives both ranges. It may be None where
            both ranges are given.
        theoretical: `(low, high)` in px for the theoretical receptive field instead of the
            default rule; a `high` of None is no upper bound. None turns the gate off.
        effective: The same for the ERF size, expected and measured.
        budget: What a candidate may cost beside that. None is no bound. With a bound on what is
            measured, `check_latency` must be called for every trial that passes `check_measured`.
        expected: Whether the expected ERF is a gate.
        measured: Whether the measured ERF is a gate. Then `check_measured` must be called for
            every trial that passes `check`.

    Raises:
        ValueError: If bounds are not ordered, or a range is neither given nor follows.
    """

    target: ScaleTarget | None = None
    theoretical: Bounds | str | None = "rule"
    effective: Bounds | str | None = "rule"
    budget: Budget | None = None
    expected: bool = True
    measured: bool = True

    def __post_init__(self) -> None:
        for name in ("theoretical", "effective"):
            bounds = getattr(self, name)
            if isinstance(bounds, list):  # As read from a file; a tuple can be hashed.
                object.__setattr__(self, name, tuple(bounds))
            self._range(name)

    def ranges(self) -> dict[str, Range]:
        """What each gate that is on lets pass, from the cheapest to the dearest."""
        return self._ranges

    @cached_property
    def _ranges(self) -> dict[str, Range]:
        effective = self._range("effective")
        found = {
            "theoretical": self._range("theoretical"),
            **(self.budget.ranges() if self.budget else {}),
            "expected": effective if self.expected else None,
            "measured": effective if self.measured else None,
            **(self.budget.measured_ranges() if self.budget else {}),
        }
        return {gate: allowed for gate, allowed in found.items() if allowed is not None}

    def _range(self, name: str) -> Range | None:
        bounds = getattr(self, name)
        if bounds is None:
            return None
        if not isinstance(bounds, str):
            return pixel_range(bounds, name)
        if bounds != "rule":
            raise ValueError(f"`{name}` must be (low, high), None or 'rule', but got {bounds!r}.")
        if self.target is None:
            raise ValueError(f"`{name}` must be given where there is no target.")
        return Range(*getattr(self.target, name))

    def verdicts(self, architecture: Architecture) -> list[Verdict]:
        """What the closed-form gates say, without any network, from the cheapest to the dearest.

        Raises:
            ValueError: If there is a budget and its images are too small for the network.
        """
        return list(self._each_verdict(architecture))

    def _each_verdict(self, architecture: Architecture) -> Iterator[Verdict]:
        ranges = self.ranges()
        if "theoretical" in ranges:
            size = architecture.receptive_field().size
            yield Verdict("theoretical", size, ranges["theoretical"])
        if self.budget is not None:
            for gate, value in self.budget.values(architecture).items():
                yield Verdict(gate, value, ranges[gate])
        if "expected" in ranges:
            yield Verdict("expected", architecture.expected_erf().size, ranges["expected"])

    def is_feasible(self, architecture: Architecture) -> bool:
        """Whether the candidate passes the closed-form gates."""
        return all(verdict.passes for verdict in self._each_verdict(architecture))

    def check(self, trial: Trial, architecture: Architecture) -> None:
        """Set the trial's constraints and attributes; prune it if the candidate does not fit.

        Raises:
            optuna.TrialPruned: If a closed-form gate fails; it says by how many px.
        """
        field, erf = architecture.receptive_field(), architecture.expected_erf()
        trial.set_user_attr("trf_size", field.size)
        trial.set_user_attr("output_stride", field.stride)
        trial.set_user_attr("erf_expected", erf.size)
        verdicts = self.verdicts(architecture)
        for verdict in verdicts:
            trial.set_constraint(CONSTRAINT_KEYS[verdict.gate], verdict.octaves)
        failed = [verdict for verdict in verdicts if not verdict.passes]
        if failed:
            if allowed := self.ranges().get("measured"):
                trial.set_constraint(CONSTRAINT_KEYS["measured"], allowed.violation(erf.size))
            self._set_unmeasured(trial)
            _reject(trial, failed[0])

    def check_measured(self, trial: Trial, erf: Sized) -> None:
        """Set the constraint of the measured ERF; prune the trial if it does not fit.

        Raises:
            optuna.TrialPruned: If the gate fails; it says by how many px.
        """
        trial.set_user_attr("erf_init", float(erf.size))
        allowed = self.ranges().get("measured")
        if allowed is None:
            return
        verdict = Verdict("measured", erf.size, allowed)
        trial.set_constraint(CONSTRAINT_KEYS["measured"], verdict.octaves)
        if not verdict.passes:
            self._set_unmeasured(trial)
            _reject(trial, verdict)

    @property
    def needs_latency(self) -> bool:
        """Whether there is a bound on the measured latency or memory."""
        return bool(self.budget and self.budget.measured_ranges())

    def check_latency(self, trial: Trial, measured: Timed) -> None:
        """Set the constraints of latency and memory; prune the trial if one does not fit.

        Raises:
            optuna.TrialPruned: If a gate fails; it says by how much.
        """
        values = {"latency": measured.latency_ms, "memory": measured.peak_memory_mb}
        trial.set_user_attr("latency_ms", measured.latency_ms)
        trial.set_user_attr("peak_memory_mb", measured.peak_memory_mb)
        verdicts = [
            Verdict(gate, values[gate], allowed)
            for gate, allowed in self.ranges().items()
            if gate in values
        ]
        for verdict in verdicts:
            trial.set_constraint(CONSTRAINT_KEYS[verdict.gate], verdict.octaves)
        for verdict in verdicts:
            if not verdict.passes:
                _reject(trial, verdict)

    def _set_unmeasured(self, trial: Trial) -> None:
        for gate in self.budget.measured_ranges() if self.budget else ():
            trial.set_constraint(CONSTRAINT_KEYS[gate], 0.0)


def _reject(trial: Trial, verdict: Verdict) -> None:
    from optuna import TrialPruned

    trial.set_user_attr("rejected_by", verdict.gate)
    trial.set_user_attr("reason", str(verdict))
    raise TrialPruned(str(verdict))
