"""What is found of annotated objects, as tables and as plain data."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

from rfsearch.basics.axes import by_x
from rfsearch.basics.ranges import Range
from rfsearch.target.object_scales import ObjectScales, ScaleSummary
from rfsearch.target.questions import Needs
from rfsearch.target.target import (
    MAX_GRIDDING,
    MAX_SCALE_RATIO,
    MIN_UNITS_PER_OBJECT,
    ScaleTarget,
)

if TYPE_CHECKING:
    from rich.console import Console

_QUARTILES = (0.25, 0.5, 0.75)
_TEXT_WIDTH = 80
#: Digits after the point of bounds in px: 106.35, not 106.35000000000001.
_DIGITS = 6
#: Classes in the table; the others are named by their number only.
_MOST_CLASSES = 30
_RESIZING = {
    "none": "none: tiles or crops at native resolution",
    "stretch": "height and width each scaled to {size} px",
    "letterbox": "aspect kept, all of the image fits into {size} px (letterbox)",
    "shorter": "aspect kept, the image covers {size} px (shorter side), and is cropped",
}


@dataclass(frozen=True)
class TargetReport:
    """Annotated objects, and what a network needs in order to see them.

    Attributes:
        source: Name of the annotations.
        scales: The objects.
        quantiles: Those of the object sizes that the target spans.
        needs: The target and the rest of what is needed.
        strides: Strides of a pyramid's levels in px by name; none for one output map.
        parts: The parts of the target of those levels that have one.
    """

    source: str
    scales: ObjectScales
    quantiles: tuple[float, float]
    needs: Needs
    strides: Mapping[str, int]
    parts: Mapping[str, ScaleTarget]

    def _probabilities(self) -> list[float]:
        """The target's quantiles among the quartiles."""
        return sorted({*self.quantiles, *_QUARTILES})

    def summaries(self) -> list[ScaleSummary]:
        """Of all objects, and then of each class."""
        return self.scales.summaries(self._probabilities())

    def objects_of(self, part: ScaleTarget) -> int:
        """Number of objects in a part of the target; one where two meet is in the coarser."""
        sizes, is_last = self.scales.sizes, part.max_size == self.needs.target.max_size
        below = sizes <= part.max_size if is_last else sizes < part.max_size
        return int(((sizes >= part.min_size) & below).sum())

    def as_data(self) -> dict[str, Any]:
        """All of it, fit for JSON: sizes in px, null for no upper bound."""
        scales, needs = self.scales, self.needs
        names = [f"{quantile:g}" for quantile in self._probabilities()]
        return {
            "annotations": self.source,
            "input_size": list(scales.input_size) if scales.input_size else None,
            "resize": scales.resize,
            "images": scales.num_images,
            "objects": len(scales),
            "skipped": scales.skipped._asdict(),
            "clipped": scales.num_clipped,
            "notes": list(scales.notes),
            "larger_than_input": scales.num_larger_than_input,
            "classes": [
                {
                    "name": one.name,
                    "objects": one.num_objects,
                    "smallest": one.smallest,
                    "quantiles": dict(zip(names, one.quantiles, strict=True)),
                    "largest": one.largest,
                }
                for one in self.summaries()
            ],
            "questions": [one._asdict() for one in needs.answers(self.quantiles)],
            "elongation": scales.elongation._asdict(),
            "target": self._part_data(needs.target),
            "advice": needs.target.advice,
            "levels": {
                name: {"stride": self.strides[name], **self._part_data(part)}
                for name, part in self.parts.items()
            },
            "experiment": needs.experiment_toml(),
        }

    def _part_data(self, part: ScaleTarget) -> dict[str, Any]:
        if part.axes:
            return {axis: self._part_data(part.along(axis)) for axis in part.axes}
        return {
            "min_size": part.min_size,
            "max_size": part.max_size,
            "theoretical": _bounds(self.needs.theoretical(part)),
            "effective": _bounds(self.needs.effective(part)),
        }

    def print(self, console: Console) -> None:
        """Print it for people."""
        for name, value in (*self._header(), ("", "")):
            console.print(f"{name:<16}{value}".rstrip(), highlight=False, markup=False)
        console.print(self._size_table(), "")
        console.print(self._question_table(), "")
        for name, value in self._ranges():
            console.print(f"{name:<16}{value}", highlight=False)
        for paragraph in self._advice():
            console.print(f"\n{textwrap.fill(paragraph, _TEXT_WIDTH)}", highlight=False)
        if self.parts:
            console.print("", self._level_table())
        for line in self._wide_parts():
            console.print(line, highlight=False)
        console.print(f"\n{self.needs.experiment_toml()}", highlight=False, markup=False)

    def _header(self) -> list[tuple[str, str]]:
        scales = self.scales
        size = by_x(scales.input_size) if scales.input_size else ""
        clipped = f"; clipped to them: {scales.num_clipped}" if scales.num_clipped else ""
        lines = [
            ("annotations", self.source),
            ("objects", f"{len(scales)} (images: {scales.num_images}{clipped})"),
            ("skipped", str(scales.skipped)),
            ("resizing", _RESIZING[scales.resize].format(size=size)),
        ]
        lines += [("note", note) for note in scales.notes]
        if cut := scales.num_larger_than_input:
            lines.append(("cut off", f"{cut} objects are larger than the input of {size} px"))
        return lines

    def _ranges(self) -> list[tuple[str, str]]:
        target = self.needs.target
        return [
            ("target", target.in_words),
            ("theoretical RF", self._each(self.needs.theoretical)),
            ("ERF size", self._each(self.needs.effective)),
            ("finest stride", self._each(_strides)),
            ("gridding", f"at most {MAX_GRIDDING:.0%} of the pixels inside the theoretical RF"),
        ]

    def _each(self, range_of: Callable[[ScaleTarget], Range]) -> str:
        """What fits the target, along each axis where they are apart."""
        target = self.needs.target
        if not target.axes:
            return str(range_of(target))
        return ", ".join(f"{axis} {range_of(target.along(axis))}" for axis in target.axes)

    def _advice(self) -> list[str]:
        advice = self.needs.target.advice
        shape = self._elongated()
        if advice is None:
            return shape
        if self.needs.target.axes:
            return [*shape, advice]
        return [*shape, advice if self.strides else f"{advice} To split it: --levels 4,8,16,32."]

    def _elongated(self) -> list[str]:
        """What follows where objects are elongated."""
        if not self.needs.target.axes:
            return []
        return [
            f"Objects are elongated: {self.scales.elongation}. Fields that fit their heights and "
            "widths are not square: let a space choose kernels, strides and dilations for each "
            "axis, such as kernel_size = [3, [1, 7], [7, 1]]. A map's stride of up to "
            f"{self.needs.max_output_stride} px does not skip their shorter side."
        ]

    def _size_table(self) -> Table:
        table = _table("class", "objects", "smallest", *map(_percent, self._probabilities()))
        table.add_column("largest", justify="right", no_wrap=True)
        if self.needs.target.axes:
            for name, values in (("height", self.scales.heights), ("width", self.scales.widths)):
                quantiles = np.quantile(values, [0, *self._probabilities(), 1])
                row = (f"{size:.1f}" for size in quantiles)
                table.add_row(f"{name} (px)", str(len(values)), *row)
        rows = self.summaries()
        for one in rows[: _MOST_CLASSES + 1]:
            sizes = (one.smallest, *one.quantiles, one.largest)
            name = "all (px)" if one.name is None else escape(one.name)
            table.add_row(name, str(one.num_objects), *(f"{size:.1f}" for size in sizes))
        if (others := len(rows) - 1 - _MOST_CLASSES) > 0:
            table.add_row(f"{others} more", "")
        return table

    def _question_table(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
        table.add_column("question", no_wrap=True)
        table.add_column("answer", overflow="fold")
        table.add_column("from", no_wrap=True)
        for question, answer, source in self.needs.answers(self.quantiles):
            table.add_row(question, answer, source)
        return table

    def _level_table(self) -> Table:
        table = _table("level (px)", "stride", "serves", "objects", "RF at least", "ERF size")
        for name, stride in sorted(self.strides.items(), key=lambda level: level[1]):
            if (part := self.parts.get(name)) is None:
                table.add_row(name, str(stride), "none of them")
                continue
            erf = self.needs.effective(part)
            table.add_row(
                name,
                str(stride),
                f"{part.min_size:.4g} to {part.max_size:.4g}",
                str(self.objects_of(part)),
                f"{self.needs.theoretical(part).low:.4g}",
                f"{erf.low:.4g} to {erf.high:.4g}",
            )
        return table

    def _wide_parts(self) -> list[str]:
        ratios = {name: part.max_size / part.min_size for name, part in self.parts.items()}
        return [
            f"{name} serves a factor of {ratio:.1f}, above {MAX_SCALE_RATIO:g}: its receptive "
            "field fits the largest."
            for name, ratio in ratios.items()
            if ratio > MAX_SCALE_RATIO
        ]


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _percent(probability: float) -> str:
    return f"{100 * probability:g} %"


def _bounds(allowed: Range) -> list[float | None]:
    high = None if allowed.high == math.inf else round(allowed.high, _DIGITS)
    return [round(allowed.low, _DIGITS), high]


def _strides(target: ScaleTarget) -> Range:
    """Strides of the finest output map that leave units enough across the smallest object."""
    return Range(0, target.min_size / MIN_UNITS_PER_OBJECT)
