"""What gates judge: an architecture, which has closed forms, or any model, which is traced."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rfsearch.network.architecture import Architecture

if TYPE_CHECKING:
    from rfsearch.field.cost import Cost
    from rfsearch.models.resolve import Model
    from rfsearch.trace.result import TracedModel

#: Answers to what gates ask, by the same names.
Candidate: TypeAlias = "Architecture | TracedModel"
#: Logarithm, base 2, of units across an object that are not told from more: no table of trained
#: candidates has finer maps of images.
_MOST_UNITS = 4.0
#: A candidate, or a module, or the name of a timm model, or a folder that holds one.
Given: TypeAlias = "Candidate | Model"


def as_candidate(given: Given, input_size: int | tuple[int, ...] | None = None) -> Candidate:
    """What can be judged: an architecture or a trace as it is, or the trace of a model.

    Args:
        given: A candidate, or a model.
        input_size: Side or `(height, width)` of the input in px, at which a model is traced.

    Raises:
        ValueError: If it is neither, a model is given without an input size, or it cannot be
            traced.
    """
    if isinstance(given, Architecture):
        return given
    # An architecture needs no torch.
    from rfsearch.trace.result import TracedModel
    from rfsearch.trace.trace import trace_receptive_field

    if isinstance(given, TracedModel):
        return given
    if not (isinstance(given, str | Path) or hasattr(given, "named_modules")):
        raise ValueError(
            "A candidate must be an architecture, a trace, a module or the name of a timm model, "
            f"but got {type(given).__name__}: {given!r:.80}."
        )
    if input_size is None:
        name = given if isinstance(given, str | Path) else type(given).__name__
        raise ValueError(f"`input_size` must be given with a model, to trace {name}.")
    return trace_receptive_field(given, input_size)


def descriptors(
    candidate: Candidate,
    level: str,
    objects: Mapping[str | None, float],
    cost: Cost,
    pixels: int,
) -> dict[str, float]:
    """What is known of a candidate before it is trained, in numbers that a score may follow.

    Args:
        candidate: An architecture, or what a model was traced to be.
        level: The output map whose field is looked at.
        objects: Side of the largest object in px along each axis that is judged apart, None for
            all of them.
        cost: Of the candidate.
        pixels: Of the image that it is for.

    Returns:
        Logarithms, base 2, of sizes over the object's, of units of the map across the object and
        of costs, operations for each pixel; shares as they are. So candidates for objects and
        images of other sizes compare.
    """
    fields = {axis: candidate.receptive_field(level, axis) for axis in objects}
    sigmas = {axis: candidate.expected_erf(level, axis=axis).sigma for axis in objects}

    def over_objects(size: Callable[[str | None], float]) -> float:
        return sum(math.log2(size(axis) / objects[axis]) for axis in objects) / len(objects)

    return {
        "flops": math.log2(cost.flops / pixels + 1e-6),
        "parameters": math.log2(cost.parameters + 1),
        "trf_size": over_objects(lambda axis: fields[axis].size),
        # A pixel is no point: where one alone is seen, sigma is not 0.
        "erf_sigma": over_objects(lambda axis: math.hypot(sigmas[axis], 12**-0.5)),
        "units": min(_MOST_UNITS, -over_objects(lambda axis: fields[axis].stride)),
        "gridding": candidate.coverage().gridding,
        "skipped": candidate.skipped_units(),
    }
