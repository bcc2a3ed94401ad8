"""Controls: candidates that do not fit, trained beside those that do.

A search trains what fits, so it cannot say whether the range is right. Controls can: drawn from
just outside and from far outside of it, on both sides where both exist, and trained like any
candidate. They are of about the size of candidates that fit, so that what sets them apart is what
they see. They are no part of the search: see `rfsearch.search.references`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import optuna

from rfsearch.feasible.path_set import NoneFoundError
from rfsearch.search.references import Network, enqueue_references, references
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.space import SearchSpace
from rfsearch.space.trial_attributes import CONTROL, CONTROLS, GRIDDING, LARGER, SMALLER

if TYPE_CHECKING:
    from rfsearch.network.architecture import Architecture
    from rfsearch.search.references import Trains
    from rfsearch.space.module_space import ModuleSpace
    from rfsearch.space.verdict import Verdict

#: Gates that a control may fail, and what it passes: all other gates in closed form.
_GATES = ("theoretical", "expected", "gridding")
#: Where controls come from, in turn; near is at most an octave outside.
_BANDS = (
    (SMALLER, "near"),
    (LARGER, "far"),
    (SMALLER, "far"),
    (LARGER, "near"),
    (GRIDDING, "near"),
    (GRIDDING, "far"),
)
_NEAR = 1.0
#: Candidates that controls are chosen from; the same where necks upsample, which takes longer.
_DRAWS, _FEWER_DRAWS = 500, 50
#: Candidates that fit whose sizes controls are chosen by.
_FITTING = 20


class Control(NamedTuple):
    """A candidate that does not fit.

    Attributes:
        params: Its parameters by name.
        side: `"smaller"` or `"larger"` than the range, or `"gridding"`.
    """

    params: dict[str, Any]
    side: str


class Controls(NamedTuple):
    """The controls of a space.

    Attributes:
        found: In the order in which they are taken.
        missing: Sides of the range on which the space was not found to have any.
    """

    found: tuple[Control, ...]
    missing: tuple[str, ...]


def enqueue_controls(
    study: optuna.Study,
    space: SearchSpace | ModuleSpace,
    constraint: RFConstraint,
    number: int,
    *,
    seed: int = 0,
) -> None:
    """Let a study train candidates that do not fit, beside the search.

    The next trials are these controls; `rfsearch.Objective` trains them. A study that has some
    gets what is missing. Where the space has fewer, or none on a side of the range, the study's
    attribute `rfsearch_controls` says so, and the report with it.

    Args:
        study: Where the trials go.
        space: What is searched.
        constraint: Which receptive fields fit.
        number: How many controls the study is to have.
        seed: Of the draws.

    Raises:
        ValueError: If `number` is negative, no gate in closed form looks at receptive fields, or
            the space is one of modules.
    """
    if number < 0:
        raise ValueError(f"`number` of controls must be 0 or more, but got {number}.")
    if not number:
        return
    space = _of_architectures(space)
    check_controls(constraint, space)
    have = [value for value, _ in references(study.get_trials(deepcopy=False), CONTROL)]
    known = study.user_attrs.get(CONTROLS, {})
    if known.get("asked") == number and len(have) >= known["there_are"]:
        return
    found, missing = draw_controls(space, constraint, seed)
    wanted = [control._asdict() for control in found]
    new = [value for value in wanted if value not in have][: max(0, number - len(have))]
    enqueue_references(study, CONTROL, new)
    there_are = len(have) + len(new)
    about = {"asked": number, "there_are": there_are, "missing": list(missing)}
    study.set_user_attr(CONTROLS, about)


def _of_architectures(space: SearchSpace | ModuleSpace) -> SearchSpace:
    if isinstance(space, SearchSpace):
        return space
    raise ValueError(
        f"Controls must come from a search space of architectures, but got {type(space).__name__}."
    )


def check_controls(constraint: RFConstraint, space: SearchSpace | ModuleSpace) -> None:
    """Refuse controls where nothing in closed form tells them from what fits, or of modules.

    Raises:
        ValueError: If so.
    """
    _of_architectures(space)
    if not set(_GATES) & set(constraint.gates):
        raise ValueError(
            "Controls are candidates that the theoretical, the expected or the gridding gate "
            "rejects, so one of these must be on."
        )


def draw_controls(space: SearchSpace, constraint: RFConstraint, seed: int = 0) -> Controls:
    """Candidates that fail a gate of receptive fields and no other one in closed form.

    Args:
        space: What is searched.
        constraint: Which receptive fields fit.
        seed: Of the draws.
    """
    affordable = RFConstraint(theoretical=None, effective=None, budget=constraint.budget)
    rng = np.random.default_rng(seed)
    size = _typical_size(space, constraint, rng)
    bands: dict[tuple[str, str], dict[Architecture, float]] = {band: {} for band in _BANDS}
    for architecture in _drawn(space, affordable, rng):
        band = _band(constraint.verdicts(architecture))
        if band is not None:
            bands[band][architecture] = abs(np.log(_weights(architecture) / size))
    # Of several that are equally far from the typical size, the first that was drawn.
    ordered = [sorted(band, key=band.__getitem__) for band in bands.values()]
    taken = [
        Control(_params(space, architecture), side)
        for row in zip_longest(*ordered)
        for architecture, (side, _) in zip(row, _BANDS, strict=True)
        if architecture is not None
    ]
    sides = {control.side for control in taken}
    return Controls(tuple(taken), tuple(s for s in _possible(constraint) if s not in sides))


def _drawn(
    space: SearchSpace, constraint: RFConstraint, rng: np.random.Generator
) -> Iterator[Architecture]:
    number = _FEWER_DRAWS if space.upsamples else _DRAWS
    if space.size <= number:
        yield from (arch for arch in space if constraint.is_feasible(arch))
        return
    feasible = space.feasible(constraint)
    with suppress(NoneFoundError):
        for _ in range(number):
            yield feasible.sample(rng)


def _typical_size(space: SearchSpace, constraint: RFConstraint, rng: np.random.Generator) -> float:
    """Median number of parameters of candidates that fit."""
    feasible = space.feasible(constraint)
    try:
        return float(np.median([_weights(feasible.sample(rng)) for _ in range(_FITTING)]))
    except NoneFoundError:
        return 1.0


def _weights(architecture: Architecture) -> int:
    every = (architecture.receptive_fields(axis).values() for axis in architecture.axes)
    stride = max(field.stride for fields in every for field in fields)
    return architecture.cost(stride, 3).parameters


def _band(verdicts: list[Verdict]) -> tuple[str, str] | None:
    """Where a candidate lies; None if it fits, or fails for another reason."""
    failed = [verdict for verdict in verdicts if not verdict.passes]
    if not failed or any(v.gate not in _GATES or v.unserved is not None for v in failed):
        return None
    fields = [verdict for verdict in failed if verdict.gate != "gridding"]
    worst = max(fields or failed, key=lambda verdict: verdict.octaves)
    distance = "near" if worst.octaves <= _NEAR else "far"
    if not fields:
        return GRIDDING, distance
    return (SMALLER if worst.size < worst.allowed.low else LARGER), distance


def _possible(constraint: RFConstraint) -> Iterator[str]:
    """Sides that the ranges have."""
    every = constraint.ranges_by_axis().values()
    fields = [
        ranges[gate] for ranges in every for gate in ("theoretical", "expected") if gate in ranges
    ]
    if any(allowed.low > 1 for allowed in fields):
        yield SMALLER
    if any(allowed.high < np.inf for allowed in fields):
        yield LARGER


def _params(space: SearchSpace, architecture: Architecture) -> dict[str, Any]:
    """The parameters that `space.suggest` would suggest."""
    params = space.to_params(architecture)
    return {name: params[name] for name in space.distributions()}


def prepare_control(trial: optuna.Trial, objective: Trains) -> Network:
    """Describe and build the control that a trial is about.

    Raises:
        ValueError: If it is none of the space's candidates, or the task has not room for it.
    """
    space = _of_architectures(objective.space)
    architecture = space.from_params(trial.user_attrs[CONTROL]["params"])
    objective.describe(trial, architecture)
    constraint = objective.constraint
    with suppress(optuna.TrialPruned):  # As it must: the attributes say by how much.
        constraint.check(trial, architecture)
    levels = constraint.judged_levels(architecture)
    return Network(objective.task.build(architecture), levels, constraint.main_level(architecture))
