"""All candidates that can be made from choices: counted, numbered, drawn, named by parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from rfsearch.basics.axes import AXIS_NAMES, Alike
from rfsearch.basics.limits import MAX_RECEPTIVE_FIELD
from rfsearch.basics.sides import as_sides, sides
from rfsearch.basics.validation import FrozenData
from rfsearch.feasible.choices import NotOfferedError, Params
from rfsearch.feasible.paths import random_below
from rfsearch.network.architecture import Architecture
from rfsearch.network.axes import check_neck, check_numbers, check_stage, check_stem
from rfsearch.network.block_registry import kind_of
from rfsearch.network.dilations import dilations
from rfsearch.network.neck import check_divides, check_stages
from rfsearch.space.choices import StageChoices
from rfsearch.space.neck_choices import NeckChoices
from rfsearch.space.stem_choices import StemChoices

if TYPE_CHECKING:
    import numpy as np


#: What a part of an architecture is chosen from.
Part = StemChoices | StageChoices | NeckChoices


class Candidates(FrozenData):
    """All architectures that can be made from choices for the stem, each stage and the neck."""

    axes: Literal[1, 2, 3] = 2
    stem: StemChoices
    stages: Annotated[tuple[StageChoices, ...], Field(strict=False, min_length=1, max_length=16)]
    neck: NeckChoices | None = None

    @model_validator(mode="after")
    def _has_its_axes(self) -> Self:
        for stem in self.stem.outcomes:
            check_stem(stem, self.axes)
        for number, choices in enumerate(self.stages, start=1):
            for kernel_size in choices.kernel_size:
                check_numbers(f"stage {number}", self.axes, kernel_size=kernel_size)
            for dilation in choices.dilation:
                for one in dilations(dilation, max(choices.depth)):
                    check_numbers(f"stage {number}", self.axes, dilation=one)
            for stage in choices.beginnings():
                check_stage(stage, number, self.axes)
        for kind in self.neck.kind if self.neck else ():
            check_neck(kind, self.axes)
        return self

    @model_validator(mode="after")
    def _necks_can_follow(self) -> Self:
        necks = [neck for neck in self.neck.outcomes if neck is not None] if self.neck else []
        for neck in necks:
            check_stages(neck, len(self.stages))
        if self.upsamples:
            for stem in self.stem.outcomes:
                check_divides(stem.lower(in_channels=1), stem.reduction, 0)
            for number, choices in enumerate(self.stages, start=1):
                for example in choices.examples():
                    check_divides(example.lower(example.width), example.stride, number)
        return self

    @model_validator(mode="after")
    def _sees_a_bounded_area(self) -> Self:
        for axis, axis_name in enumerate(AXIS_NAMES[self.axes]):
            largest = {
                name: max(options, key=partial(_magnitude, axis=axis))
                for name, options in self.choices().items()
            }
            size = self.from_params(largest).receptive_field(axis=axis_name).size
            if size > MAX_RECEPTIVE_FIELD:
                raise ValueError(
                    f"the receptive field of the candidate with the largest of all numbers must "
                    f"be at most {MAX_RECEPTIVE_FIELD:,} px, but got {size:,} px."
                )
        return self

    @cached_property
    def alike(self) -> Alike:
        """Which of its axes no choice tells apart: all of them, or none."""
        options: list[Any] = [*self.stem.stride, *self.stem.kernel_size]
        for stage in self.stages:
            options += [*stage.stride, *stage.kernel_size]
            options += (d for each in stage.dilation for d in dilations(each, max(stage.depth)))
        apart = any(isinstance(option, tuple) for option in options)
        return (1,) * self.axes if apart else (self.axes,)

    @property
    def has_own_blocks(self) -> bool:
        """Whether blocks on offer are of the user's own."""
        return any(kind_of(block).build for stage in self.stages for block in stage.block)

    @property
    def upsamples(self) -> bool:
        """Whether a neck on offer upsamples."""
        necks = self.neck.outcomes if self.neck else []
        return any(neck is not None and neck.upsamples for neck in necks)

    # -- counting, enumerating, sampling ---------------------------------------------------

    @cached_property
    def _parts(self) -> tuple[tuple[str, Part], ...]:
        """Prefixes of parameters, and what they choose from."""
        stages = [(f"stage{number}_", stage) for number, stage in enumerate(self.stages, start=1)]
        necks = [("neck_", self.neck)] if self.neck else []
        return (("stem_", self.stem), *stages, *necks)

    @cached_property
    def size(self) -> int:
        """How many distinct architectures there are; may exceed 2^63."""
        size = 1
        for _, part in self._parts:
            size *= part.size
        return size

    def __getitem__(self, index: int) -> Architecture:
        """The architecture with this number, from 0 to `size - 1`."""
        if not 0 <= index < self.size:
            raise IndexError(f"`0 <= index < {self.size}` must hold, but got {index}.")
        parts = []
        for _, part in self._parts:
            index, digit = divmod(index, part.size)
            parts.append(part.unrank(digit))
        return self._assembled(parts)

    def _assembled(self, parts: list[Any]) -> Architecture:
        """The architecture of parts in the order of `_parts`."""
        stem, *others = parts
        neck = others.pop() if self.neck else None
        return Architecture(num_axes=self.axes, stem=stem, stages=tuple(others), neck=neck)

    def __iter__(self) -> Iterator[Architecture]:  # type: ignore[override]  # not pydantic's fields
        """All architectures, each once, made one at a time."""
        index = 0
        while index < self.size:
            yield self[index]
            index += 1

    def __contains__(self, architecture: object) -> bool:
        """Whether the space can propose this architecture."""
        if not isinstance(architecture, Architecture):
            return False
        if len(architecture.stages) != len(self.stages) or architecture.num_axes != self.axes:
            return False
        params = self.to_params(architecture)
        known = self.choices()
        if any(name not in known or params[name] not in known[name] for name in params):
            return False
        return self.from_params(params) == architecture

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw one architecture, each as likely as any other."""
        return self[random_below(self.size, rng)]

    # -- parameters ------------------------------------------------------------------------

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """All parameters with their choices, also those with a single one."""
        return {
            prefix + name: options
            for prefix, part in self._parts
            for name, options in part.values().items()
        }

    def to_params(self, architecture: Architecture) -> Params:
        """Parameters that make an architecture; inactive ones get their first choice.

        Use `study.enqueue_trial(space.to_params(architecture))` to try a known candidate.
        """
        chosen: list[Any] = [architecture.stem, *architecture.stages]
        chosen += [architecture.neck] if self.neck else []
        return {
            prefix + name: value
            for (prefix, part), one in zip(self._parts, chosen, strict=True)
            for name, value in part.to_params(one).items()
        }

    def active_params(self, params: Mapping[str, Any]) -> Params:
        """Those of a candidate's parameters that make a difference to it.

        Args:
            params: All parameters by name; those with one choice may be left out.
        """
        active: Params = {}
        for prefix, choices in self._parts:
            given = {
                n: params.get(prefix + n, options[0]) for n, options in choices.values().items()
            }
            active |= {prefix + n: given[n] for n in choices.active_names(given)}
        return active

    def from_params(self, params: Params) -> Architecture:
        """The architecture that parameters stand for; those with one choice may be left out.

        Raises:
            NotOfferedError: If a parameter is missing or is not one of its choices.
        """
        chosen: Params = {}
        for name, options in self.choices().items():
            value = params.get(name, options[0] if len(options) == 1 else None)
            if value not in options:
                allowed = ", ".join(map(str, options))
                raise NotOfferedError(f"`{name}` must be one of {allowed}, but got {value!r}.")
            chosen[name] = value
        return self._assembled(
            [part.from_params(_with_prefix(chosen, prefix)) for prefix, part in self._parts]
        )


def _magnitude(option: Any, axis: int) -> int:
    """How large an option is along an axis; 0 of what is no number."""
    value = as_sides(option)
    return sides(value, axis + 1)[axis] if isinstance(value, int | tuple) else 0


def _with_prefix(params: Params, prefix: str) -> Params:
    return {k.removeprefix(prefix): v for k, v in params.items() if k.startswith(prefix)}
