"""Gates that a candidate must pass.

Of a candidate with several output maps each serves a part of the target and is held to what
follows from that (`rfsearch.space._level_ranges`); a gate's verdict is that of the worst.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from rfsearch.basics.ranges import Range, pixel_range
from rfsearch.basics.validation import checked_size
from rfsearch.network.architecture import Architecture
from rfsearch.space._level_ranges import FIELD_GATES, LevelRanges, level_ranges
from rfsearch.space.budget import Budget
from rfsearch.space.candidate import as_candidate, descriptors
from rfsearch.space.trial_attributes import GLOBAL_MAPS
from rfsearch.space.trial_gates import (
    check_candidate,
    check_erf,
    check_speed,
    expected_size,
    log_costs,
    plain,
)
from rfsearch.space.verdict import Verdict
from rfsearch.target.target import MAX_GRIDDING, MIN_UNITS_PER_OBJECT, ScaleTarget

if TYPE_CHECKING:
    from optuna.trial import Trial

    from rfsearch.space.candidate import Candidate, Given
    from rfsearch.space.trial_gates import Sized, Timed

Bounds = tuple[float, float | None]
#: Side or `(height, width)` of images in px.
Size = int | tuple[int, ...] | None
#: Side in px of images for which costs are compared where none is given.
_USUAL_SIDE = 256


@dataclass(frozen=True)
class RFConstraint:
    """Which receptive fields fit.

    Attributes:
        target: The object scales, from which the default rule follows (`rfsearch.target.target`);
            along each axis, where it has heights and widths. It may be None where both ranges are
            given.
        theoretical: `(low, high)` in px for the theoretical receptive field instead of the
            default rule; a `high` of None is no upper bound. None turns the gate off.
        effective: The same for the ERF size, expected and measured.
        max_gridding: Largest share of the pixels inside the theoretical receptive field, along an
            axis, that no path touches, in [0, 1). None turns the gate off; so does the default
            rule where both ranges are given, or off.
        min_units: Fewest units of the finest output map across the smallest object. None turns the
            gate off, as for `max_gridding`; so does a missing target.
        max_skipped: Largest share of the units of a map inside the network, along an axis, that
            nothing behind it reads, in [0, 1) (`rfsearch.field.skipping`). None is no gate.
        global_context: Whether the fields of a map that sees the whole image through a part before
            it, as attention or squeeze-and-excite, may be smaller than the ranges say
            (`sees_everything` of an architecture or a trace). Upper bounds hold all the same.
        budget: What a candidate may cost beside that. None is no bound. With a bound on what is
            measured, `check_latency` must be called for every trial that passes `check_measured`.
        expected: Whether the expected ERF is a gate.
        measured: Whether the measured ERF is a gate. Then `check_measured` must be called for
            every trial that passes `check`.

    Raises:
        ValueError: If bounds are not ordered, a range is neither given nor follows, `max_gridding`
            or `max_skipped` is not a share below 1, or `min_units` is not positive.
    """

    target: ScaleTarget | None = None
    theoretical: Bounds | str | None = "rule"
    effective: Bounds | str | None = "rule"
    max_gridding: float | str | None = "rule"
    min_units: float | str | None = "rule"
    max_skipped: float | None = None
    global_context: bool = False
    budget: Budget | None = None
    expected: bool = True
    measured: bool = True

    def __post_init__(self) -> None:
        for name in ("theoretical", "effective"):
            bounds = getattr(self, name)
            if isinstance(bounds, list):  # As read from a file; a tuple can be hashed.
                object.__setattr__(self, name, tuple(bounds))
            if not self._target_axes:
                self._range(name)
        self._touched()
        self._read()
        self._finest_stride()
        for axis in self._target_axes:
            self._along(axis)

    def ranges(self, axis: str | None = None) -> dict[str, Range]:
        """What each gate that is on lets pass, from the cheapest to the dearest.

        Args:
            axis: Name of the axis along which fields are judged. `None` means any: the target must
                not have a range for each.

        Raises:
            ValueError: If it has, and `axis` is none of its axes.
        """
        if not self._target_axes:
            return self._ranges
        assert self.target is not None
        if axis is None:
            raise ValueError(
                f"`axis` must be one of {', '.join(self._target_axes)} where the target has a "
                f"range for each: {self.target.in_words}."
            )
        return self._along(axis)._ranges

    @property
    def _target_axes(self) -> tuple[str, ...]:
        """The axes that the target asks something of their own for."""
        return self.target.axes if self.target is not None else ()

    def _along(self, axis: str) -> RFConstraint:
        """What is asked along one axis."""
        assert self.target is not None
        if axis not in self._target_axes:
            raise ValueError(
                f"The target has height and width apart ({self.target.in_words}), but the "
                f"networks have the axis {axis!r}."
            )
        return replace(self, target=self.target.along(axis))

    def ranges_by_axis(self) -> dict[str | None, dict[str, Range]]:
        """The same for each axis that the target has a range for; for `None` if it has none."""
        return {axis: self.ranges(axis) for axis in self._target_axes or (None,)}

    @property
    def gates(self) -> tuple[str, ...]:
        """The gates that are on, from the cheapest to the dearest."""
        return tuple(self.ranges(next(iter(self._target_axes), None)))

    def described(self) -> dict[str, str]:
        """What each gate that is on lets pass, in words."""
        every = self.ranges_by_axis()
        described = {}
        for gate in self.gates:
            texts = {axis: str(ranges[gate]) for axis, ranges in every.items()}
            alike = len(set(texts.values())) == 1
            each = ", ".join(f"{axis} {text}" for axis, text in texts.items())
            described[gate] = next(iter(texts.values())) if alike else each
        return described

    @cached_property
    def _ranges(self) -> dict[str, Range]:
        effective = self._range("effective")
        found = {
            "theoretical": self._range("theoretical"),
            **(self.budget.ranges() if self.budget else {}),
            "finest_stride": self._finest_stride(),
            "gridding": self._touched(),
            "skipped": self._read(),
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

    def _touched(self) -> Range | None:
        """The share that is touched, whose octaves are finite where nothing may be missing."""
        share = self.max_gridding
        if share == "rule":
            share = MAX_GRIDDING if "rule" in (self.theoretical, self.effective) else None
        if share is None:
            return None
        if isinstance(share, str) or not 0 <= share < 1:
            raise ValueError(
                "`max_gridding` must be None, 'rule', or a share in [0, 1), but got "
                f"{self.max_gridding!r}."
            )
        return Range(1 - share, math.inf, "of the RF")

    def _read(self) -> Range | None:
        """The share of a map's units that is read."""
        share: Any = self.max_skipped
        if share is None:
            return None
        if isinstance(share, str) or not 0 <= share < 1:
            raise ValueError(
                f"`max_skipped` must be None or a share in [0, 1), but got {share!r}."
            )
        return Range(1 - share, math.inf, "of the units")

    def _finest_stride(self) -> Range | None:
        """Strides that leave enough units across the smallest object of a target of one range."""
        units = self.min_units
        if units == "rule":
            units = MIN_UNITS_PER_OBJECT if "rule" in (self.theoretical, self.effective) else None
        if units is None or self.target is None:
            return None
        if isinstance(units, str) or not 0 < units < math.inf:
            raise ValueError(
                "`min_units` must be None, 'rule', or a number above 0, but got "
                f"{self.min_units!r}."
            )
        return Range(0, self.target.shortest / units)

    # -- levels ----------------------------------------------------------------------------

    def level_ranges(
        self,
        strides: Mapping[str, int],
        axis: str | None = None,
        seeing_everything: Collection[int] = (),
    ) -> LevelRanges:
        """What is asked of each output map of a candidate.

        Args:
            strides: Stride of each map in px, by level, the finest first.
            axis: Name of the axis along which, as for `ranges`.
            seeing_everything: Numbers of the maps that are held to no lower bound, as
                `global_maps` has them.
        """
        ranges = self.ranges(axis).items()
        fields = {gate: allowed for gate, allowed in ranges if gate in FIELD_GATES}
        bounds = dict.fromkeys(FIELD_GATES, self.effective) | {"theoretical": self.theoretical}
        ruled = [gate for gate in fields if bounds[gate] == "rule"]
        target = self.target if axis is None or self.target is None else self.target.along(axis)
        if self._target_axes and len(strides) > 1 and ruled:
            target = self.target  # It cannot be split, and says so.
        return level_ranges(fields, ruled, target, strides, seeing_everything)

    def global_maps(self, candidate: Candidate) -> list[int]:
        """Numbers of the maps to which the whole image makes up for a small field."""
        if not self.global_context:
            return []
        return [n for n, one in enumerate(candidate.levels) if candidate.sees_everything(one)]

    def judged_levels(self, candidate: Given, input_size: Size = None) -> tuple[str, ...]:
        """The output maps of which something is asked, the finest first; the last if of none.

        These are the ones to measure for `check_measured`.
        """
        judged = as_candidate(candidate, input_size)
        every = (self.asked(judged, axis).judged for axis in self.judged_axes(judged))
        return max(every, key=len)

    def main_level(self, candidate: Given, input_size: Size = None) -> str:
        """The output map whose sizes are logged: the coarsest that serves a part, or the last."""
        judged = as_candidate(candidate, input_size)
        return self.asked(judged, self.judged_axes(judged)[0]).main

    def judged_axes(self, candidate: Candidate) -> tuple[str | None, ...]:
        """The axes that are judged apart; None where one number serves all of them."""
        apart = candidate.axes_differ or bool(self._target_axes)
        return candidate.axes if apart else (None,)

    def asked(self, candidate: Candidate, axis: str | None = None) -> LevelRanges:
        """What is asked of each output map of a candidate, along an axis as for `ranges`."""
        fields = candidate.receptive_fields(axis)
        strides = {level: field.stride for level, field in fields.items()}
        return self.level_ranges(strides, axis, self.global_maps(candidate))

    # -- gates -----------------------------------------------------------------------------

    def verdicts(self, candidate: Given, input_size: Size = None) -> list[Verdict]:
        """What the closed-form gates say, without any network, from the cheapest to the dearest.

        Where there are several output maps, or axes that differ, it is what a gate says of the
        worst.

        Args:
            candidate: An architecture, or a module, a timm name, or what
                `trace_receptive_field` gave of one.
            input_size: Side or `(height, width)` of the input in px, at which a module is traced.
                Costs are those of such images; `None` means those of the budget.

        Raises:
            ValueError: If there is a budget and its images do not fit the network; or a module
                comes without `input_size`, or cannot be traced.
        """
        judged = as_candidate(candidate, input_size)
        worst: dict[str, Verdict] = {}
        for verdict in self._each_verdict(judged, self._budget(input_size, len(judged.axes))):
            known = worst.get(verdict.gate, verdict)
            worst[verdict.gate] = max(known, verdict, key=lambda one: one.octaves)
        return list(worst.values())

    def _each_verdict(self, candidate: Candidate, budget: Budget) -> Iterator[Verdict]:
        asked = {axis: self.asked(candidate, axis) for axis in self.judged_axes(candidate)}
        for axis, of_axis in asked.items():
            sizes = {at: field.size for at, field in candidate.receptive_fields(axis).items()}
            yield from of_axis.verdicts("theoretical", sizes.__getitem__, axis)
        for gate, value in budget.values(candidate).items():
            yield Verdict(gate, value, budget.ranges()[gate])
        for axis in asked:
            ranges = self.ranges(axis if self._target_axes else None)
            if "finest_stride" in ranges:
                every_map = candidate.receptive_fields(axis).values()
                finest = min(plain(seen.stride) for seen in every_map)
                yield Verdict("finest_stride", finest, ranges["finest_stride"], axis=axis)
        if (allowed := self._touched()) is not None:
            yield Verdict("gridding", 1 - candidate.coverage().gridding, allowed)
        if (allowed := self._read()) is not None:
            yield Verdict("skipped", 1 - candidate.skipped_units(), allowed)
        for axis, of_axis in asked.items():
            erf = partial(expected_size, candidate, axis=axis)
            yield from of_axis.verdicts("expected", erf, axis)

    def is_feasible(self, candidate: Given, input_size: Size = None) -> bool:
        """Whether it passes the closed-form gates, and takes the budget's images.

        Args:
            candidate: As for `verdicts`.
            input_size: As for `verdicts`.
        """
        judged = as_candidate(candidate, input_size)
        budget = self._budget(input_size, len(judged.axes))
        if not (self.budget is None or budget.takes(judged)):
            return False
        return all(verdict.passes for verdict in self._each_verdict(judged, budget))

    def descriptors(self, candidate: Given, input_size: Size = None) -> dict[str, float]:
        """What closed forms tell of a candidate, in numbers that a score may follow.

        Sizes are over that of the largest object, if there is a target.

        Args:
            candidate: As for `verdicts`.
            input_size: As for `verdicts`; without a budget costs are those of 256 px or so.

        Raises:
            ValueError: As for `verdicts`.
        """
        judged = as_candidate(candidate, input_size)
        axes = len(judged.axes)
        if self.budget is None and input_size is None and isinstance(judged, Architecture):
            input_size = -(-_USUAL_SIDE // judged.input_multiple) * judged.input_multiple
        budget, level = self._budget(input_size, axes), self.main_level(judged)
        image = budget.input_size if isinstance(judged, Architecture) else judged.input_size
        objects = {axis: self._largest(judged, level, axis) for axis in self.judged_axes(judged)}
        return descriptors(judged, level, objects, budget.cost(judged), math.prod(image))

    def _largest(self, candidate: Candidate, level: str, axis: str | None) -> float:
        """Side of the largest object that a map serves, in px; 1 without a target."""
        if self.target is None:
            return 1.0
        part = self.asked(candidate, axis).levels[level].part
        return (part or (self.target if axis is None else self.target.along(axis))).max_size

    def _budget(self, input_size: Size, axes: int) -> Budget:
        """The bounds on costs, for images of this size and so many axes."""
        budget = self.budget or Budget()
        if input_size is None:
            return budget
        return replace(budget, input_size=checked_size(input_size, axes))

    # -- trials ----------------------------------------------------------------------------

    def check(self, trial: Trial, candidate: Given, input_size: Size = None) -> None:
        """Set the trial's constraints and attributes; prune it if the candidate does not fit.

        Parameters and FLOPs are logged with it; FLOPs where the size of the images is known.

        Args:
            trial: The candidate's.
            candidate: As for `verdicts`.
            input_size: As for `verdicts`.

        Raises:
            optuna.TrialPruned: If a closed-form gate fails; it says by how many px.
            ValueError: As for `verdicts`.
        """
        judged = as_candidate(candidate, input_size)
        verdicts = self.verdicts(judged, input_size)
        is_sized = self.budget is not None or input_size is not None
        budget = self._budget(input_size, len(judged.axes)) if is_sized else None
        log_costs(trial, judged, budget)
        asked = {axis: self.asked(judged, axis) for axis in self.judged_axes(judged)}
        if self.global_context:
            trial.set_user_attr(GLOBAL_MAPS, json.dumps(self.global_maps(judged)))
        check_candidate(trial, judged, asked, verdicts, self._later)

    def check_measured(self, trial: Trial, erf: Sized | Mapping[str, Sized]) -> None:
        """Set the constraint of the measured ERF; prune the trial if it does not fit.

        Args:
            trial: One that has passed `check`.
            erf: As measured. By level where a candidate has several output maps, for those of
                `judged_levels` or more.

        Raises:
            optuna.TrialPruned: If the gate fails; it says by how many px.
            ValueError: If a level is missing.
        """
        free = json.loads(trial.user_attrs.get(GLOBAL_MAPS, "[]"))
        ranges = partial(self.level_ranges, seeing_everything=free)
        check_erf(trial, erf, ranges, self._later)

    @property
    def needs_latency(self) -> bool:
        """Whether there is a bound on the measured latency or memory."""
        return bool(self._later)

    @property
    def _later(self) -> tuple[str, ...]:
        """The gates that a trial meets last."""
        return tuple(self.budget.measured_ranges()) if self.budget else ()

    def check_latency(self, trial: Trial, measured: Timed) -> None:
        """Set the constraints of latency and memory; prune the trial if one does not fit.

        Raises:
            optuna.TrialPruned: If a gate fails; it says by how much.
        """
        check_speed(trial, measured, self.ranges())
