"""How the trial of a candidate that fails a gate ends.

The same Optuna constraints are set in every trial, in octaves (see `Range.violation`), and a
candidate that fails a gate is pruned. A trial pruned before its network was measured gets, as its
measured constraint, the one of the expected ERF: the best estimate there is. Its latency and its
memory are unknown, so those constraints are 0 octaves, which speaks neither for nor against it.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from rfsearch.field.erf_map import ErfMap
from rfsearch.field.expected_erf import ExpectedERF
from rfsearch.network.architecture import Architecture
from rfsearch.space.budget import Budget
from rfsearch.space.trial_attributes import JUDGED_AXES, attribute, judged_axes
from rfsearch.space.verdict import Verdict

if TYPE_CHECKING:
    from optuna.trial import Trial

    from rfsearch.basics.ranges import Range
    from rfsearch.network.architecture import Architecture
    from rfsearch.space._level_ranges import LevelRanges
    from rfsearch.space.candidate import Candidate

#: Gate to the name of its Optuna constraint, from the cheapest to the dearest.
CONSTRAINT_KEYS = {
    "theoretical": "trf_octaves",
    "output_stride": "output_stride_octaves",
    "parameters": "params_octaves",
    "flops": "flops_octaves",
    "training_memory": "training_memory_octaves",
    "finest_stride": "finest_stride_octaves",
    "gridding": "gridding_octaves",
    "skipped": "skipped_octaves",
    "expected": "erf_expected_octaves",
    "measured": "erf_measured_octaves",
    "latency": "latency_octaves",
    "memory": "peak_memory_octaves",
}


#: Share of the |gradient| in the smaller square that is noted beside the ERF size.
_HALF = 0.5
#: Name of an output map; None where there is but one.
Level = TypeVar("Level", str, str | None)


class Sized(Protocol):
    """A measured effective receptive field."""

    @property
    def size(self) -> float:
        """ERF size in px."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """ERF size in px along each axis."""

    @property
    def clipped(self) -> float:
        """Share of the theoretical receptive field outside of the image; NaN if not known."""


class Timed(Protocol):
    """A measured latency and peak memory."""

    @property
    def latency_ms(self) -> float:
        """Median time of a forward pass of one image, in ms."""

    @property
    def peak_memory_mb(self) -> float:
        """Memory during that pass, in MiB."""


def log_costs(trial: Trial, candidate: Candidate, budget: Budget | None) -> None:
    """Set what a candidate costs, unless the trial has it already.

    Args:
        trial: The candidate's.
        candidate: An architecture, or what a model was traced to be.
        budget: For which images. None means that an architecture's are not known.
    """
    if "params_m" in trial.user_attrs:
        return
    if isinstance(candidate, Architecture) and budget is None:
        # Parameters are those at any size: here one that all windows fit into.
        multiple = candidate.input_multiple
        every = (candidate.receptive_fields(axis).values() for axis in candidate.axes)
        field = max(seen.size for fields in every for seen in fields)
        cost = candidate.cost(-(-field // multiple) * multiple)
    else:
        cost = (budget or Budget()).cost(candidate)
        trial.set_user_attr("flops_g", cost.flops / 1e9)
    trial.set_user_attr("params_m", cost.parameters / 1e6)
    trial.set_user_attr("global_layers", ",".join(candidate.global_layers))


def log_spread(trial: Trial, when: str, erf: object) -> None:
    """Note sigma and the 50 % square of an effective receptive field, where it has them.

    Unlike the 95 % square they do not end at the theoretical receptive field of small networks.

    Args:
        trial: The candidate's, whose axes are not judged apart.
        when: `"expected"`, `"init"` or `"trained"`.
        erf: Expected or measured.
    """
    if isinstance(erf, ErfMap | ExpectedERF):
        trial.set_user_attr(f"erf_sigma_{when}", erf.sigma)
        trial.set_user_attr(f"erf_half_{when}", erf.square(_HALF))


def check_candidate(
    trial: Trial,
    candidate: Candidate,
    asked: Mapping[str | None, LevelRanges],
    verdicts: list[Verdict],
    later: Iterable[str],
) -> None:
    """Set what the closed forms say; prune the trial if a gate fails.

    Args:
        trial: The candidate's.
        candidate: An architecture, or what a model was traced to be.
        asked: What is asked of its maps, by the axes that are judged apart.
        verdicts: What the gates say, from the cheapest to the dearest; of each gate the worst.
        later: The gates of latency and memory that are on.

    Raises:
        optuna.TrialPruned: If a gate fails; it says by how many px.
    """
    for axis, of_axis in asked.items():
        level = of_axis.main
        field = candidate.receptive_field(level, axis)
        trial.set_user_attr(attribute("trf_size", axis), field.size)
        trial.set_user_attr(attribute("output_stride", axis), plain(field.stride))
        size = expected_size(candidate, level, axis=axis)
        trial.set_user_attr(attribute("erf_expected", axis), size)
        if of_axis.several:
            described = json.dumps(_described(candidate, of_axis, axis))
            trial.set_user_attr(attribute("levels", axis), described)
    if None in asked:
        log_spread(trial, "expected", candidate.expected_erf(asked[None].main))
    else:
        trial.set_user_attr(JUDGED_AXES, json.dumps(list(asked)))
    trial.set_user_attr("skipped", candidate.skipped_units())
    for verdict in verdicts:
        trial.set_constraint(CONSTRAINT_KEYS[verdict.gate], verdict.octaves)
    failed = [verdict for verdict in verdicts if not verdict.passes]
    if failed:
        as_expected = [
            verdict
            for axis, of_axis in asked.items()
            for verdict in of_axis.verdicts(
                "measured", partial(expected_size, candidate, axis=axis), axis
            )
        ]
        _constrain(trial, as_expected)
        _set_unknown(trial, later)
        _reject(trial, failed[0])


def check_erf(
    trial: Trial,
    erf: Sized | Mapping[str, Sized],
    level_ranges: Callable[[Mapping[str, int], str | None], LevelRanges],
    later: Iterable[str],
) -> None:
    """Set what the measured ERF says; prune the trial if it does not fit.

    Args:
        trial: One that `check_candidate` has let pass.
        erf: As measured, by level where there are several.
        level_ranges: Gives what is asked of maps, by their strides, along an axis.
        later: The gates of latency and memory that are on.

    Raises:
        optuna.TrialPruned: If the gate fails; it says by how many px.
        ValueError: If a level is missing.
    """
    measured = dict(erf) if isinstance(erf, Mapping) else {"": erf}
    verdicts: list[Verdict] = []
    for axis, sizes in measured_sizes(trial, measured).items():
        name = attribute("levels", axis)
        levels = json.loads(trial.user_attrs.get(name, "{}"))
        strides = {level: known["stride"] for level, known in levels.items()}
        asked = level_ranges(strides or dict.fromkeys(list(measured)[-1:], 1), axis)
        size_of = partial(_known_size, sizes)
        trial.set_user_attr(attribute("erf_init", axis), size_of(asked.main))
        if axis is None:
            log_spread(trial, "init", measured.get(asked.main, measured.get("")))
        if levels:
            for level in levels.keys() & measured.keys():
                levels[level]["erf_init"] = size_of(level)
            trial.set_user_attr(name, json.dumps(levels))
        verdicts += (
            verdict._replace(clipped=float(measured[verdict.level or asked.names[-1]].clipped))
            for verdict in asked.verdicts("measured", size_of, axis)
        )
    for verdict in verdicts:
        if verdict.clipped > 0:
            warnings.warn(f"Trial {trial.number}: {verdict}.", stacklevel=3)
    worst = _constrain(trial, verdicts)
    if worst is not None and not worst.passes:
        _set_unknown(trial, later)
        _reject(trial, worst)


def check_speed(trial: Trial, measured: Timed, ranges: Mapping[str, Range]) -> None:
    """Set what latency and memory say; prune the trial if one does not fit.

    Args:
        trial: One that `check_erf` has let pass.
        measured: Latency and memory.
        ranges: What each gate lets pass.

    Raises:
        optuna.TrialPruned: If a gate fails; it says by how much.
    """
    values = {"latency": measured.latency_ms, "memory": measured.peak_memory_mb}
    trial.set_user_attr("latency_ms", measured.latency_ms)
    trial.set_user_attr("peak_memory_mb", measured.peak_memory_mb)
    verdicts = [
        Verdict(gate, values[gate], allowed) for gate, allowed in ranges.items() if gate in values
    ]
    for verdict in verdicts:
        trial.set_constraint(CONSTRAINT_KEYS[verdict.gate], verdict.octaves)
    for verdict in verdicts:
        if not verdict.passes:
            _reject(trial, verdict)


def plain(stride: float | Fraction) -> float:
    """A stride in px, fit for JSON: behind an enlarged image it may be no whole number."""
    return float(stride) if isinstance(stride, Fraction) else stride


def expected_size(candidate: Candidate, level: str, axis: str | None) -> int:
    """Size of the expected ERF of a candidate's map, in px."""
    return candidate.expected_erf(level, axis=axis).size


def measured_sizes(
    trial: Trial, measured: Mapping[Level, Sized]
) -> dict[str | None, dict[Level, float]]:
    """Sizes of measured ERFs in px, by the axes that a trial is judged along, and by level."""
    return {
        axis: {
            level: erf.size if axis is None else erf.sizes[number]
            for level, erf in measured.items()
        }
        for number, axis in enumerate(judged_axes(trial))
    }


def _known_size(sizes: Mapping[str, float], level: str) -> float:
    if level not in sizes:
        raise ValueError(f"`erf` must hold the measured ERF of {level}, by its level.")
    return float(sizes[level])


def _set_unknown(trial: Trial, gates: Iterable[str]) -> None:
    for gate in gates:
        trial.set_constraint(CONSTRAINT_KEYS[gate], 0.0)


def _described(
    candidate: Candidate, asked: LevelRanges, axis: str | None
) -> dict[str, dict[str, Any]]:
    """What is logged of each output map, fit for JSON; `part` is null where it serves none."""
    described: dict[str, dict[str, Any]] = {}
    for level, field in candidate.receptive_fields(axis).items():
        part = asked.levels[level].part
        described[level] = {
            "stride": plain(field.stride),
            "trf_size": field.size,
            "erf_expected": expected_size(candidate, level, axis),
            "part": [part.min_size, part.max_size] if part is not None else None,
        }
    return described


def _constrain(trial: Trial, verdicts: list[Verdict]) -> Verdict | None:
    """Set the constraint of one gate by the worst level, if the gate is on."""
    if not verdicts:
        return None
    worst = max(verdicts, key=lambda verdict: verdict.octaves)
    trial.set_constraint(CONSTRAINT_KEYS[worst.gate], worst.octaves)
    return worst


def _reject(trial: Trial, verdict: Verdict) -> None:
    from optuna import TrialPruned

    trial.set_user_attr("rejected_by", verdict.gate)
    trial.set_user_attr("reason", str(verdict))
    raise TrialPruned(str(verdict))
