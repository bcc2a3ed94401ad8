"""What operations find behind the step that they are given: sums, and what was joined.

A rectifier behind a sum is one step with it, and a batch normalisation normalises what was joined
along the channels apart, wherever one part of a network ends and the next begins.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from rfsearch.tape import _rules as rules
from rfsearch.tape.tape import Step, Tape


def summands(tape: Tape, number: int) -> list[int]:
    """The steps whose sum a step is; itself if it is none."""
    step = tape.steps[number]
    if step.rule is not rules.add:
        return [number]
    return [leaf for parent in step.parents for leaf in summands(tape, parent)]


def joined(tape: Tape, number: int, share: float = 1.0) -> dict[int, float]:
    """The steps that were joined along the channels to one, each with its share of them."""
    step = tape.steps[number]
    shares = getattr(step.rule, "keywords", {}).get("shares")
    if shares is None or getattr(step.rule, "func", None) is not rules.concatenate:
        return {number: share}
    found: dict[int, float] = {}
    for parent, part in zip(step.parents, shares, strict=True):
        for leaf, own in joined(tape, parent, share * part).items():
            found[leaf] = found.get(leaf, 0.0) + own
    return found


def spliced(tape: Tape, part: Tape, last: int, at: int) -> int:
    """Write a tape behind a step of another one.

    Args:
        tape: Where to write.
        part: What to write; its images are the output of the step.
        last: The step of it that is its output.
        at: The step.

    Returns:
        The step that is the output now.
    """
    numbers = [at]
    for step in part.steps[1 : last + 1]:
        parents = [numbers[parent] for parent in step.parents]
        numbers.append(tape.append(_at_seam(tape, replace(step, parents=tuple(parents)))))
    return numbers[last]


def _at_seam(tape: Tape, step: Step) -> Step:
    """A step as it would have been written if what is before the seam had been known."""
    match getattr(step.rule, "func", None):
        case rules.rectify:
            leaves = [leaf for parent in step.parents for leaf in summands(tape, parent)]
            return replace(step, parents=tuple(leaves))
        case rules.batch_normalised:
            assert isinstance(step.rule, partial)
            found: dict[int, float] = {}
            for parent, part in zip(step.parents, step.rule.keywords["shares"], strict=True):
                for leaf, share in joined(tape, parent, part).items():
                    found[leaf] = found.get(leaf, 0.0) + share
            rule = partial(rules.batch_normalised, shares=tuple(found.values()))
            return replace(step, rule=rule, parents=tuple(found))
        case _:
            return step
