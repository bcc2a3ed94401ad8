"""A part of a network whose tape says what it does to the expected squared gradient."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from rfsearch.field.moments import Units
from rfsearch.field.part import Part
from rfsearch.field.profiles import Profile
from rfsearch.field.squared_gradient import Place, Reading
from rfsearch.field.windows import Read
from rfsearch.tape.tape import Patch, Tape


@dataclass(frozen=True)
class TapedPart(Part):
    """A part with a tape, in squares: both axes are alike.

    Attributes:
        tape: Its operations.
        step: The step that is its output.
    """

    tape: Tape = field(repr=False, compare=False)
    step: int = field(repr=False, compare=False)

    @cached_property
    def read_units(self) -> tuple[Read, float]:
        """Those of its tape; both axes are alike."""
        (first, _), *others = self.tape.play().reads(self.step, axis=0)
        return first, max((read.skipped for read, _ in others), default=0.0)

    def read(self, units: Units, axes: tuple[int, ...]) -> Reading:
        """The tape's own reading, as if nothing met what is before the part."""
        # The tape has two axes, each with its own neighbours.
        every = [axis for axis, number in enumerate(axes) for _ in range(number)]
        both = (every * 2)[:2]
        known = tuple(units.neighbours[axis] for axis in both) if units.neighbours else ()
        playing = self.tape.play(units=units._replace(neighbours=known))
        state, (along, _) = playing.state(self.step), playing.arrivals(self.step)
        place = Place(along.mean, along.variance, round(along.jump))

        def pull(grid: Profile) -> Profile:
            # Of one axis it is the sum along the other.
            flat = grid.values.ndim == 1
            values = grid.values[:, None] if flat else grid.values
            patch = playing.pull(self.step, Patch(values, (*grid.starts, 0)[:2]))
            pulled = patch.values.sum(axis=1) if flat else patch.values
            return Profile(pulled / state.mass, patch.first[: grid.values.ndim], grid.axes)

        found = state.units.neighbours
        shared = tuple(found[both.index(axis)] for axis in range(len(axes))) if found else ()
        out = state.units._replace(neighbours=shared)
        return Reading(out, state.mass, (place,) * len(axes), pull)
