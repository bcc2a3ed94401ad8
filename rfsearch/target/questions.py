"""The four questions that the designer of a network asks of its objects, and what follows.

1. Smallest object? It must span `REACH_PER_STRIDE[0]` units of an output map.
2. Largest context? How much around an object has to be seen, in sizes of the object.
3. Dense prediction? If every pixel gets an answer, the output map must be fine.
4. Several scales? Above `MAX_SCALE_RATIO`, one receptive field cannot fit all objects.

Annotations answer the first and the last. What lies around an object they do not show, so its
context is the object alone unless one says otherwise; and only masks ask for dense prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from rfsearch.basics.ranges import Range
from rfsearch.target.target import MAX_SCALE_RATIO, REACH_PER_STRIDE, ScaleTarget


class Answer(NamedTuple):
    """An answer to one of the questions.

    Attributes:
        question: As a designer asks it.
        answer: With its numbers.
        source: Where it comes from. What is assumed should be asked for.
    """

    question: str
    answer: str
    source: Literal["data", "given", "assumed"]


@dataclass(frozen=True)
class Needs:
    """What a network needs in order to see its objects.

    Attributes:
        target: Their scales.
        context: Side of what has to be seen, over the side of the object. None assumes 1.
        dense: Whether every pixel gets an answer. None assumes what the annotations show.
        are_masks: Whether the annotations are masks.

    Raises:
        ValueError: If the context is less than 1.
    """

    target: ScaleTarget
    context: float | None = None
    dense: bool | None = None
    are_masks: bool = False

    def __post_init__(self) -> None:
        if self.context is not None and not 1 <= self.context < float("inf"):
            raise ValueError(
                "`context` must be a number of object sizes of at least 1 (the object alone), "
                f"but got {self.context:g}."
            )
        if self.target.axes and (self.context or 1) > 1:
            raise ValueError(
                "`context` must be 1 where objects are so elongated that heights and widths are "
                f"apart ({self.target.in_words}), but got {self.context:g}."
            )

    @property
    def is_dense(self) -> bool:
        """Whether every pixel gets an answer, as given or else as the annotations show."""
        return self.are_masks if self.dense is None else self.dense

    @property
    def max_output_stride(self) -> int:
        """Largest stride of an output map on which the smallest object spans enough units.

        Of elongated objects it is their shorter side that does.
        """
        return max(1, int(self.target.shortest / REACH_PER_STRIDE[0]))

    def theoretical(self, part: ScaleTarget) -> Range:
        """Theoretical receptive fields that fit a part of the target with its context, in px."""
        return self._with_context(part.theoretical)

    def effective(self, part: ScaleTarget) -> Range:
        """ERF sizes that fit a part of the target with its context, in px."""
        return self._with_context(part.effective)

    def _with_context(self, of_objects: Range) -> Range:
        factor = self.context or 1
        return Range(of_objects.low * factor, of_objects.high * factor)

    def answers(self, quantiles: tuple[float, float]) -> tuple[Answer, ...]:
        """The four answers; `quantiles` are those of the objects that the target spans."""
        return (self._smallest(quantiles[0]), self._context(), self._dense(), self._scales())

    def _smallest(self, quantile: float) -> Answer:
        size, units = self.target.shortest, REACH_PER_STRIDE[0]
        spans = (
            f"it spans {units:g} units of a map with a stride of up to {self.max_output_stride} px"
            if size >= units
            else f"too small to span {units:g} units even at a stride of 1 px: enlarge the input"
        )
        which = " along the shorter axis" if self.target.axes else ""
        answer = f"{size:g} px{which} ({100 * quantile:g} % of the objects are smaller): {spans}."
        return Answer("Smallest object?", answer, "data")

    def _context(self) -> Answer:
        largest = self.target.max_size
        if self.target.axes:
            answer = f"the largest object alone: {self.target.in_words}."
            return Answer("Largest context?", answer, "given" if self.context else "assumed")
        if self.context is None:
            answer = (
                f"{largest:g} px, the largest object alone. If what is around tells what it is: "
                "--context 2 for twice its size."
            )
            return Answer("Largest context?", answer, "assumed")
        seen = self.context * largest
        answer = f"{seen:g} px: {self.context:g} x {largest:g} px, the largest object."
        return Answer("Largest context?", answer, "given")

    def _dense(self) -> Answer:
        yes = f"yes: output stride of at most {self.max_output_stride} px"
        if self.dense is not None:
            answer = f"{yes}." if self.dense else "no: one answer for an image or an object."
            return Answer("Dense prediction?", answer, "given")
        if self.are_masks:
            return Answer("Dense prediction?", f"{yes}, as the masks ask for it.", "data")
        answer = "no, as boxes do not ask for it. If every pixel gets an answer: --dense."
        return Answer("Dense prediction?", answer, "assumed")

    def _scales(self) -> Answer:
        along = [self.target.along(axis) for axis in self.target.axes] or [self.target]
        ratio = max(one.max_size / one.min_size for one in along)
        verb = "no" if ratio <= MAX_SCALE_RATIO else "yes"
        answer = (
            f"{verb}: a factor of {ratio:.1f} from smallest to largest, and one receptive field "
            f"fits up to {MAX_SCALE_RATIO:g}."
        )
        return Answer("Several scales?", answer, "data")

    def experiment_toml(self) -> str:
        """The table `[target]` of an `experiment.toml`."""
        lines = ["[target]"]
        for axis in self.target.axes:
            one = self.target.along(axis)
            lines.append(f"{axis} = [{one.min_size:g}, {one.max_size:g}]")
        if not self.target.axes:
            lines += [
                f"min_size = {self.target.min_size:g}",
                f"max_size = {self.target.max_size:g}",
            ]
        if self.context is not None and self.context > 1:
            theoretical, effective = self.theoretical(self.target), self.effective(self.target)
            lines += [
                f"theoretical = [{theoretical.low:.6g}, inf]",
                f"effective = [{effective.low:.6g}, {effective.high:.6g}]",
            ]
        if self.is_dense:
            lines.append(f"max_output_stride = {self.max_output_stride}")
        return "\n".join(lines)
