"""What to do about a target that no candidate of a space can meet."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np
from pydantic import ValidationError

from rfsearch.basics.axes import AXIS_NAMES
from rfsearch.basics.sides import most
from rfsearch.network.stems import StemPool
from rfsearch.space.constraint import RFConstraint

if TYPE_CHECKING:
    from rfsearch.space.space import SearchSpace

#: Values that are tried for each key, beside those that it has.
_VALUES: dict[str, tuple[Any, ...]] = {
    "depth": tuple(range(1, 13)),
    "kernel_size": (1, 3, 5, 7, 9, 11, 13, 15, 21, 31),
    "dilation": (1, 2, 3, 4, 6, 8, 12, 16),
    "stride": (1, 2, 3, 4),
    "pool": get_args(StemPool),
    "rates": ((1, 2, 3), (2, 4, 6), (3, 6, 9), (6, 12, 18), (12, 24, 36)),
}
#: Values tried for one key: those next to the ones that it has.
_NEAREST = 6
#: Remedies that an error message lists.
_LISTED = 5


class Remedy(NamedTuple):
    """One choice that would make the feasible set non-empty.

    Attributes:
        part: `"stem"`, `"stage 2"` or `"neck"`.
        key: What is chosen there.
        value: The value to add to the choices.
    """

    part: str
    key: str
    value: Any

    def __str__(self) -> str:
        return f"{self.key} {self.value} in the {self.part}".replace("the stage", "stage")


def require_feasible(space: SearchSpace, constraint: RFConstraint) -> None:
    """Refuse a target that no candidate of the space can meet.

    Raises:
        ValueError: One line that says what is asked, what the space can reach, and which single
            choices would help, or, where necks upsample, why one of its candidates fails.
    """
    axes = [None] if len(space.alike) == 1 else AXIS_NAMES[space.axes]
    reached = {axis: _reachable(space, axis) for axis in axes}
    # An output behind an upsampling neck sees more than these sizes say.
    too_small = not space.upsamples and any(
        "measured" in ranges and ranges["measured"].low > max(sizes)
        for axis, sizes in reached.items()
        for ranges in (constraint.ranges(axis),)
    )
    if not too_small and not space.feasible(constraint).is_empty():
        return
    described = constraint.described()
    if "expected" in described:
        described.pop("measured", None)
    asked = ", ".join(f"{gate} {allowed}" for gate, allowed in described.items())
    whose = "its"
    if space.upsamples:
        whose, advice = "its last maps'", _example(space, constraint)
    else:
        found = list(islice(remedies(space, constraint), _LISTED))
        advice = f" It would with {', or '.join(map(str, found))}." if found else ""
    spans = (
        f"from {min(sizes)} to {max(sizes)} px{f' along {axis}' if axis else ''}"
        for axis, sizes in reached.items()
    )
    raise ValueError(
        f"No candidate of the space passes all gates ({asked}): {whose} theoretical receptive "
        f"fields reach {' and '.join(spans)}.{advice}"
    )


def _example(space: SearchSpace, constraint: RFConstraint) -> str:
    """Why one candidate fails. Where necks upsample, looking for remedies would take minutes."""
    verdicts = constraint.verdicts(space.sample(np.random.default_rng(0)))
    failed = [verdict for verdict in verdicts if not verdict.passes]
    return f" Of one of them: {str(failed[0]).removesuffix('.')}." if failed else ""


def _reachable(space: SearchSpace, axis: str | None) -> list[int]:
    """Theoretical receptive fields that the space has, in px (see `FeasibleSet.histogram`)."""
    return list(space.feasible(RFConstraint(theoretical=None, effective=None)).histogram(axis))


def remedies(space: SearchSpace, constraint: RFConstraint) -> Iterator[Remedy]:
    """Single choices, each of which, added to the space, lets some candidate pass.

    For each part of the space and each of its keys it is the value nearest to those on offer.
    """
    stages = [(f"stage {number}", stage) for number, stage in enumerate(space.stages, start=1)]
    parts = [("stem", space.stem), *stages, ("neck", space.neck)]
    for number, (part, choices) in enumerate(parts):
        for key in (key for key in _VALUES if getattr(choices, key, None)):
            offered = getattr(choices, key)
            for value in _nearest_first(_VALUES[key], offered)[:_NEAREST]:
                changed = _with_choice(space, number, key, (*offered, value))
                if changed is not None and not changed.feasible(constraint).is_empty():
                    yield Remedy(part, key, value)
                    break


def _nearest_first(values: tuple[Any, ...], offered: tuple[Any, ...]) -> list[Any]:
    new = [value for value in values if value not in offered]
    if not isinstance(values[0], int):
        return new
    numbers = [most(other) for other in offered if not isinstance(other, str)] or [1]
    return sorted(new, key=lambda value: min(abs(value - other) for other in numbers))


def _with_choice(
    space: SearchSpace, part: int, key: str, options: tuple[Any, ...]
) -> SearchSpace | None:
    """The space with other choices for one key, or None where they are impossible."""
    values = space.model_dump()
    place = [values["stem"], *values["stages"], values["neck"]][part]
    place[key] = options
    try:
        return type(space).model_validate(values)
    except ValidationError:
        return None
