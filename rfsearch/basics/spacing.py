"""How large a pixel is: fields and ERFs in millimetres or milliseconds."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rfsearch.basics.axes import AXIS_NAMES, ByAxis, by_x

#: Milliseconds in a second.
_MS = 1000.0


@dataclass(frozen=True)
class Spacing:
    """The distance between neighbouring pixels.

    Attributes:
        sizes: Along each axis.
        unit: What they are in: `mm`, or `ms` of a sequence.
    """

    sizes: ByAxis[float]
    unit: str

    @classmethod
    def of_pixels(cls, sizes: Sequence[float], num_axes: int) -> Spacing:
        """From sizes in mm, one for each axis or one for all.

        Raises:
            ValueError: If there are others, or one is no positive number.
        """
        if len(sizes) not in (1, num_axes):
            names = ", ".join(AXIS_NAMES[num_axes])
            raise ValueError(
                f"The spacing must be one number of mm, or one for each of the axes {names}, but "
                f"got {by_x(sizes)}."
            )
        if not all(size > 0 and math.isfinite(size) for size in sizes):
            raise ValueError(f"The spacing must be positive numbers of mm, but got {by_x(sizes)}.")
        return cls(ByAxis(*(sizes if len(sizes) > 1 else tuple(sizes) * num_axes)), "mm")

    @classmethod
    def of_samples(cls, sample_rate: float, num_axes: int) -> Spacing:
        """From samples in a second, of a sequence.

        Raises:
            ValueError: If the rate is no positive number, or the input has other axes than time.
        """
        if not (sample_rate > 0 and math.isfinite(sample_rate)):
            raise ValueError(f"The sample rate must be above 0 Hz, but got {sample_rate:g}.")
        if num_axes != 1:
            raise ValueError(
                "A sample rate is of sequences, but the axes are "
                f"{', '.join(AXIS_NAMES[num_axes])}: give their spacing, not {sample_rate:g} Hz."
            )
        return cls(ByAxis(_MS / sample_rate), "ms")

    def of(self, pixels: Sequence[float]) -> ByAxis[float]:
        """A number of pixels along each axis, in `unit`."""
        return ByAxis(*(float(n) * size for n, size in zip(pixels, self.sizes, strict=True)))

    def words(self, pixels: Sequence[float]) -> str:
        """The same in words, as `15x3.5x3.5 mm`; one number where all are alike.

        >>> Spacing(ByAxis(3.0, 0.5, 0.5), "mm").words((5, 7, 7))
        '15x3.5x3.5 mm'
        """
        numbers = [f"{value:.4g}" for value in self.of(pixels)]
        return f"{by_x(numbers if len({*numbers}) > 1 else numbers[:1])} {self.unit}"


def parse_spacing(text: str, num_axes: int) -> Spacing:
    """The sizes of a pixel as somebody types them: `0.7`, or `3.0x0.7x0.7 mm`.

    Raises:
        ValueError: If they are no numbers, or not as many as there are axes.
    """
    number = r"\d+\.?\d*|\.\d+"
    match = re.fullmatch(rf"\s*((?:{number})(?:x(?:{number}))*)\s*(?:mm)?\s*", text)
    if match is None:
        raise ValueError(
            f"The spacing must be numbers of mm, as 0.7 or 3.0x0.7x0.7, but got {text!r}."
        )
    return Spacing.of_pixels([float(size) for size in match[1].split("x")], num_axes)
