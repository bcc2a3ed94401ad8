"""What nnU-Net's plans see, beside the objects in its masks: findings in the plans' own terms.

The planner looks at images' sizes and spacings, and at no object. Every remedy that names a field
was tried: the changed plan was built and traced.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rfsearch.basics.axes import AXIS_NAMES
from rfsearch.basics.nifti import SUFFIXES, read_nifti
from rfsearch.diagnosis._rules import find_along
from rfsearch.diagnosis.findings import Finding, NetworkFacts
from rfsearch.diagnosis.network_fields import NetworkFields, network_fields
from rfsearch.models.nnunet import UNetPlan
from rfsearch.models.resolve import resolve_model
from rfsearch.target.scales import read_scales
from rfsearch.target.target import ScaleTarget
from rfsearch.trace.trace import expected_erf

#: Units that are left along an axis at the coarsest stage, as nnU-Net plans it.
_COARSEST = 4
#: Stages that are added at most.
_MORE_STAGES = 2
_STAGE = re.compile(r"(encoder|decoder)\.stages\.(\d+)")

#: Objects to see along each axis of the input, by its name.
Targets = Mapping[str, ScaleTarget]


class AlongAxis(NamedTuple):
    """What is seen along one axis, in px.

    Attributes:
        target: The objects.
        field: Theoretical receptive field.
        erf: Expected ERF.
        patch: Side of the patches.
    """

    target: ScaleTarget
    field: float
    erf: int
    patch: int


@dataclass(frozen=True)
class PlanFindings:
    """What is wrong with a plan.

    Attributes:
        plan: The plan.
        axes: What is seen along each axis, by its name.
        findings: The findings.
    """

    plan: UNetPlan
    axes: Mapping[str, AlongAxis]
    findings: tuple[Finding, ...]

    def as_data(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "configuration": self.plan.name,
            "patch_size": list(self.plan.patch_size),
            "axes": {
                axis: {
                    "objects": [one.target.min_size, one.target.max_size],
                    "rf": one.field,
                    "erf_expected": one.erf,
                    "patch": one.patch,
                }
                for axis, one in self.axes.items()
            },
            "findings": [asdict(one) for one in self.findings],
        }


@dataclass(frozen=True)
class _Built:
    """A plan and what its network sees."""

    plan: UNetPlan

    @cached_property
    def _model(self) -> Any:
        import torch

        with torch.device("meta"):
            module = self.plan.build()
        return resolve_model(module, self.plan.patch_size, in_chans=self.plan.in_chans)

    @cached_property
    def fields(self) -> NetworkFields:
        return network_fields(self._model)

    @cached_property
    def _erf(self) -> Any:
        return expected_erf(self._model)

    def field(self, axis: int) -> float:
        return self.fields.outputs[-1].reach.size[axis]

    def erf(self, axis: int) -> int:
        size: int = replace(self._erf, axis=axis).size
        return size


def objects_in(folder: Path, plan: UNetPlan) -> Targets:
    """The objects in masks along each axis of a plan's input, at its resolution.

    Objects are the connected parts of each class. Those of volumes (NIfTI) are resampled to the
    plan's spacing; a plan for slices sees their extents within the slices.

    Args:
        folder: Of masks: volumes, or images.
        plan: The plan.

    Raises:
        ValueError: If there is no mask, one cannot be read, or there is no object.
    """
    files = sorted(one for one in folder.rglob("*") if one.name.endswith(SUFFIXES))
    names = AXIS_NAMES[plan.num_axes]
    if files:
        sides = np.concatenate([_sides(file, plan) for file in files])
    else:
        scales = read_scales(folder, format="masks", semantic=True)
        if plan.num_axes == 3:
            raise ValueError(f"{folder}: its masks are images, but {plan.name} is of volumes.")
        sides = np.stack([scales.heights, scales.widths], axis=1)
    if not len(sides):
        raise ValueError(f"{folder}: there is no object in its {len(files)} masks.")
    along = zip(names, sides.T, strict=True)
    return {name: ScaleTarget.from_sizes(values, quiet=True) for name, values in along}


def _sides(file: Path, plan: UNetPlan) -> np.ndarray[Any, Any]:
    """Sides of the objects in a volume along the axes of a plan, in px of that."""
    from scipy.ndimage import find_objects, label

    values, spacing = read_nifti(file)
    if values.ndim != 3:
        raise ValueError(f"{file}: must be a volume of 3 axes, but has {values.ndim}.")
    boxes = []
    for number in np.unique(values):
        if number > 0:
            parts, _ = label(values == number, structure=np.ones((3, 3, 3)))
            boxes += [[part.stop - part.start for part in box] for box in find_objects(parts)]
    mm = np.array(boxes, float).reshape(-1, 3) * spacing
    return mm[:, list(plan.axes)] / plan.spacing


def diagnose_plan(plan: UNetPlan, objects: Targets | ScaleTarget) -> PlanFindings:
    """Set what a plan's network sees against the objects, along each axis.

    Args:
        plan: The plan.
        objects: Along each axis, or along all of them.
    """
    built, names = _Built(plan), AXIS_NAMES[plan.num_axes]
    if isinstance(objects, ScaleTarget):
        objects = {name: objects.along(name) if objects.axes else objects for name in names}
    facts = NetworkFacts(plan.patch_size, built.fields.layers, built.fields.outputs)
    found: list[Finding] = []
    for number, (axis, target) in enumerate(objects.items()):
        found += (
            _in_terms_of_the_plan(one, built, number, target)
            for one in find_along(facts, axis, target)
        )
        found += _of_erf(built, number, target)
        found += _of_patch(plan, number, target)
    along = {
        axis: AlongAxis(target, built.field(n), built.erf(n), plan.patch_size[n])
        for n, (axis, target) in enumerate(objects.items())
    }
    return PlanFindings(plan, along, tuple(found))


def _of_patch(plan: UNetPlan, axis: int, target: ScaleTarget) -> Iterator[Finding]:
    """An object that is larger than a patch is never seen whole, whatever the field."""
    patch, name = plan.patch_size[axis], AXIS_NAMES[plan.num_axes][axis]
    if patch >= target.max_size:
        return
    multiple = plan.multiples[axis]
    needed = math.ceil(target.max_size / multiple) * multiple
    yield Finding(
        "patch_too_small",
        f"patch_size[{axis}]",
        patch,
        target.max_size,
        f"Along the {name}: patches of {patch} px never show objects of {target.max_size:.4g} px "
        "whole.",
        f"Set patch_size[{axis}] to {needed} (a multiple of {multiple}), with smaller patches "
        "along other axes or a smaller batch to pay for it, or a coarser spacing.",
    )


def _of_erf(built: _Built, axis: int, target: ScaleTarget) -> Iterator[Finding]:
    size, allowed = built.erf(axis), target.effective
    if allowed.low <= size <= allowed.high:
        return
    small = size < allowed.low
    name = AXIS_NAMES[built.plan.num_axes][axis]
    yield Finding(
        "erf_too_small" if small else "erf_too_large",
        "output",
        size,
        allowed.low if small else allowed.high,
        f"Along the {name}: an expected ERF of {size} px is too {'small' if small else 'large'} "
        f"for objects of up to {target.max_size:.4g} px: {allowed} fit.",
        _remedy(built, axis, lambda one: one.erf(axis), allowed.low, allowed.high, "expected ERF"),
    )


def _in_terms_of_the_plan(one: Finding, built: _Built, axis: int, target: ScaleTarget) -> Finding:
    place = _STAGE.search(one.place)
    where = f"{place[1]} stage {place[2]}" if place else one.place
    if one.kind == "rf_too_small":
        low = target.theoretical.low
        remedy = _remedy(built, axis, lambda other: other.field(axis), low, math.inf, "field")
    elif one.kind == "stride_too_coarse":
        remedy = f"Set strides[0][{axis}] to 1: the output is as fine as the first stage."
    else:
        stage = int(place[2]) if place else 1
        remedy = f"Set strides[{stage}][{axis}] to 1, and to 2 in a later stage instead."
    return replace(one, place=where, remedy=remedy)


def _remedy(
    built: _Built,
    axis: int,
    seen: Callable[[_Built], float],
    low: float,
    high: float,
    what: str,
) -> str:
    """The first change of the plan after which a field is in a range, or the nearest."""
    tried = []
    for words, plan in _changes(built.plan, axis, larger=seen(built) < low):
        value = seen(_Built(plan))
        tried.append((max(low / value, value / high), words, value, plan))
        if low <= value <= high:
            break
    if not tried:
        return "No change of strides or n_stages helps; change the spacing."
    miss, words, value, plan = min(tried, key=lambda one: one[0])
    multiple = plan.multiples[axis]
    needs = ""
    if built.plan.patch_size[axis] % multiple:
        needs = f" (patch_size[{axis}] must then be a multiple of {multiple})"
    fits = "" if miss <= 1 else ", the nearest of what was tried"
    return f"{words}{needs}: the {what} is then {value:g} px{fits}."


def _changes(plan: UNetPlan, axis: int, *, larger: bool) -> Iterator[tuple[str, UNetPlan]]:
    """Changes of a plan by what to say of them, those of least consequence first."""
    stages = len(plan.strides)
    if not larger:
        for stage in reversed(range(1, stages)):
            if plan.strides[stage][axis] > 1:
                strides = _with(plan.strides[stage], axis, 1)
                yield f"Set strides[{stage}][{axis}] to 1", plan.with_strides(stage, strides)
        for left in range(stages - 1, 1, -1):
            plan = plan.shallower()
            yield f"Set n_stages to {left}, without the last stages", plan
        return
    for stage in reversed(range(1, stages)):
        if plan.strides[stage][axis] == 1:
            strides = _with(plan.strides[stage], axis, 2)
            yield f"Set strides[{stage}][{axis}] to 2", plan.with_strides(stage, strides)
    for more in range(1, _MORE_STAGES + 1):
        rest = [patch // step for patch, step in zip(plan.patch_size, plan.multiples, strict=True)]
        strides = tuple(
            2 if n == axis or left >= 2 * _COARSEST else 1 for n, left in enumerate(rest)
        )
        plan = plan.deeper(strides)
        yield f"Set n_stages to {stages + more}, with strides {list(strides)} in the last", plan


def _with(strides: tuple[int, ...], axis: int, stride: int) -> tuple[int, ...]:
    return tuple(stride if n == axis else one for n, one in enumerate(strides))
