"""A part of a network whose tape says what it does to the expected squared gradient."""

from __future__ import annotations

from dataclasses import dataclass, field

from rfsearch.field.moments import Units
from rfsearch.field.part import Part
from rfsearch.field.profiles import Profile
from rfsearch.field.squared_gradient import Place, Reading
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

    def read(self, units: Units, axes: tuple[int, ...]) -> Reading:
        """The tape's own reading, as if nothing met what is before the part."""
        playing = self.tape.play(units=units)
        state, (along, _) = playing.state(self.step), playing.arrivals(self.step)
        place = Place(along.mean, along.variance, round(along.jump))

        def pull(grid: Profile) -> Profile:
            # Of one axis it is the sum along the other.
            flat = grid.values.ndim == 1
            values = grid.values[:, None] if flat else grid.values
            top, left = (*grid.starts, 0)[:2]
            patch = playing.pull(self.step, Patch(values, top, left))
            pulled = patch.values.sum(axis=1) if flat else patch.values
            starts = (patch.top, patch.left)[: grid.values.ndim]
            return Profile(pulled / state.mass, starts, grid.axes)

        return Reading(state.units, state.mass, (place,) * len(axes), pull)
