"""What gates judge: an architecture, which has closed forms, or any model, which is traced."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rfsearch.network.architecture import Architecture

if TYPE_CHECKING:
    from rfsearch.models.resolve import Model
    from rfsearch.trace.result import TracedModel

#: Answers to what gates ask, by the same names.
Candidate: TypeAlias = "Architecture | TracedModel"
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
