"""What the gates of receptive fields ask of each output map of a candidate."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from rfsearch.basics.ranges import Range
from rfsearch.space.verdict import Verdict
from rfsearch.target.target import ScaleTarget

#: Gates that look at receptive fields, each map having its own; the others look at the network.
FIELD_GATES = ("theoretical", "expected", "measured")


@dataclass(frozen=True)
class Asked:
    """What is asked of one output map.

    Attributes:
        ranges: What each gate lets pass, in px.
        part: The objects that the map serves, where they are split among several maps.
    """

    ranges: Mapping[str, Range]
    part: ScaleTarget | None = None


@dataclass(frozen=True)
class LevelRanges:
    """What is asked of a candidate's output maps.

    Attributes:
        names: All levels, the finest first.
        levels: What is asked of each.
        unserved: Why the target cannot be split among them, if that is so.
        unmet: By gate, what no map can be held to then.
    """

    names: tuple[str, ...]
    levels: Mapping[str, Asked]
    unserved: str | None = None
    unmet: Mapping[str, Range] = field(default_factory=dict)

    @property
    def several(self) -> bool:
        """Whether there are several maps, so that a verdict says which it is about."""
        return len(self.names) > 1

    @property
    def judged(self) -> tuple[str, ...]:
        """Levels of which something is asked, the finest first; the last level if of none."""
        return tuple(level for level, asked in self.levels.items() if asked.ranges) or (self.main,)

    @property
    def main(self) -> str:
        """The level whose sizes are logged: the coarsest that serves a part, or the last."""
        parts = [level for level, asked in self.levels.items() if asked.part is not None]
        return parts[-1] if parts else self.names[-1]

    def verdicts(
        self, gate: str, size_of: Callable[[str], float], axis: str | None = None
    ) -> Iterator[Verdict]:
        """What a gate says of each level that it asks something of.

        Args:
            gate: One of `FIELD_GATES`.
            size_of: Size of what the gate looks at, in px, by level.
            axis: The axis along which, where axes are judged apart.
        """
        if gate in self.unmet:
            size = size_of(self.names[-1])
            yield Verdict(gate, size, self.unmet[gate], axis=axis, unserved=self.unserved)
        for level, asked in self.levels.items():
            if gate in asked.ranges:
                name = level if self.several else None
                yield Verdict(gate, size_of(level), asked.ranges[gate], name, axis)


def level_ranges(
    ranges: Mapping[str, Range],
    ruled: Collection[str],
    target: ScaleTarget | None,
    strides: Mapping[str, int],
    seeing_everything: Collection[int] = (),
) -> LevelRanges:
    """Share out what the gates ask.

    Bounds that a user has given hold for every map. Where they follow from the target and there
    are several maps, each has those of its part of the target, and maps without a part have none.

    Args:
        ranges: What each gate of `FIELD_GATES` that is on asks of a network with one map.
        ruled: Gates whose ranges follow from the target.
        target: The target.
        strides: Stride of each output map in px, by level, the finest first.
        seeing_everything: Numbers of the maps whose fields may be as small as they like.
    """
    names = tuple(strides)
    shared = _shared_out(ranges, ruled, target, strides)
    free = {names[number] for number in seeing_everything}
    levels = {
        level: replace(asked, ranges={gate: _without_low(r) for gate, r in asked.ranges.items()})
        if level in free
        else asked
        for level, asked in shared.levels.items()
    }
    return replace(shared, levels=levels)


def _without_low(allowed: Range) -> Range:
    """The same range of sizes from a pixel on, so that every octave is finite."""
    return allowed._replace(low=min(allowed.low, 1.0))


def _shared_out(
    ranges: Mapping[str, Range],
    ruled: Collection[str],
    target: ScaleTarget | None,
    strides: Mapping[str, int],
) -> LevelRanges:
    names = tuple(strides)
    by_rule = {gate: allowed for gate, allowed in ranges.items() if gate in ruled}
    if len(names) == 1 or not by_rule or target is None:
        return LevelRanges(names, dict.fromkeys(names, Asked(ranges)))
    given = {gate: allowed for gate, allowed in ranges.items() if gate not in ruled}
    try:
        parts = target.split(strides)
    except ValueError as error:
        return LevelRanges(names, dict.fromkeys(names, Asked(given)), str(error), by_rule)
    levels = {
        level: Asked(given | _of_part(parts[level], by_rule), parts[level])
        if level in parts
        else Asked(given)
        for level in names
    }
    return LevelRanges(names, levels)


def _of_part(part: ScaleTarget, gates: Collection[str]) -> dict[str, Range]:
    return {gate: part.theoretical if gate == "theoretical" else part.effective for gate in gates}
