"""What one gate says of a candidate."""

from __future__ import annotations

from typing import NamedTuple

from rfsearch.basics.ranges import Range

#: What each gate looks at, in words.
QUANTITIES = {
    "theoretical": "theoretical RF",
    "output_stride": "output stride",
    "parameters": "model size",
    "flops": "cost",
    "training_memory": "training memory",
    "finest_stride": "finest output stride",
    "gridding": "touched share",
    "skipped": "share of a map that is read",
    "expected": "expected ERF",
    "measured": "ERF",
    "latency": "latency",
    "memory": "peak memory",
}
#: Violation of a candidate none of whose levels serves some of the objects, in octaves.
UNSERVED = 1.0


class Verdict(NamedTuple):
    """What one gate says of a candidate.

    Attributes:
        gate: Its name.
        size: The candidate's value, in px, millions of parameters, 10^9 operations, as a share,
            in ms or MiB.
        allowed: The values that pass.
        level: The output map that it is about, where there are several.
        axis: The axis that it is about, where axes are judged apart.
        unserved: Why no output map can be held to the target, if that is so.
        clipped: Share of the receptive field that an image has cut off. A size that was measured
            so is too small, by an unknown amount, and is not judged.
    """

    gate: str
    size: float
    allowed: Range
    level: str | None = None
    axis: str | None = None
    unserved: str | None = None
    clipped: float = 0.0

    @property
    def octaves(self) -> float:
        """Violation in octaves; zero or below passes. Zero of what is not judged."""
        if self.unserved is not None:
            return UNSERVED
        return 0.0 if self.clipped > 0 else self.allowed.violation(self.size)

    @property
    def passes(self) -> bool:
        """Whether the candidate may go on."""
        return self.octaves <= 0

    def __str__(self) -> str:
        if self.unserved is not None:
            return self.unserved
        unit = self.allowed.unit
        along = f" along {self.axis}" if self.axis else ""
        what = f"{QUANTITIES[self.gate]}{along} of {self.size:g} {unit}"
        what = f"{self.level}: {what}" if self.level else what
        if self.clipped > 0:
            return (
                f"{what} is not judged, for it is too small: {self.clipped:.0%} of the receptive "
                "field lies outside of the image that it was measured on"
            )
        if self.passes:
            return f"{what} is within {self.allowed}"
        if self.size < self.allowed.low:
            missing = self.allowed.low - self.size
            below = f"{missing:g} {unit} below the lower bound"
            return f"{what} is {below} of {self.allowed.low:g} {unit}"
        excess = self.size - self.allowed.high
        above = f"{excess:g} {unit} above the upper bound"
        return f"{what} is {above} of {self.allowed.high:g} {unit}"
