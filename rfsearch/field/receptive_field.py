"""Theoretical receptive fields of stacked windows, along one axis.

All positions and sizes are in pixels (px) of the network input. The recurrences are those of
Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill,
2019. Height and width are computed apart, with the same functions.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class ReceptiveField(NamedTuple):
    """The input interval that one output unit can depend on.

    Output unit `i` sees `size` input pixels, the first of which is `start + i * stride`. A
    negative `start` is padding.

    Where a network is traced whose units are finer than pixels or do not divide them, `stride` and
    `start` are `fractions.Fraction`s: numbers like any other, printed as 1/2.

    Attributes:
        start: First pixel seen by output unit 0, in px.
        size: Number of pixels seen, in px.
        stride: Input pixels between neighbouring output units (the "jump"), in px.
    """

    start: int
    size: int
    stride: int

    @property
    def center(self) -> float:
        """Middle of the interval of output unit 0, in px: a half-integer where `size` is even.

        >>> window(3).center
        0.0
        """
        return self.start + (self.size - 1) / 2

    def center_of(self, unit: int) -> float:
        """Middle of the interval of output unit `unit`, in px."""
        return self.center + unit * self.stride

    def then(self, following: ReceptiveField) -> ReceptiveField:
        """Stack `following` on top of this field (Araujo et al., equations 1 to 3).

        >>> window(3).then(window(3))
        ReceptiveField(start=-2, size=5, stride=1)
        """
        return ReceptiveField(
            start=self.start + following.start * self.stride,
            size=self.size + (following.size - 1) * self.stride,
            stride=self.stride * following.stride,
        )

    def merge(self, other: ReceptiveField) -> ReceptiveField:
        """Field of two branches over the same input that are added or concatenated.

        The branches' intervals are united; the result may contain pixels that neither sees
        where they do not overlap.

        Raises:
            ValueError: If the branches do not have the same stride.

        >>> window(1).merge(window(3))
        ReceptiveField(start=-1, size=3, stride=1)
        """
        if self.stride != other.stride:
            raise ValueError(
                "Merged branches must have equal strides, "
                f"but got {self.stride} and {other.stride}."
            )
        start = min(self.start, other.start)
        end = max(self.start + self.size, other.start + other.size)
        return ReceptiveField(start=start, size=end - start, stride=self.stride)


IDENTITY = ReceptiveField(start=0, size=1, stride=1)


def same_padding(kernel_size: int, stride: int = 1, dilation: int = 1) -> int:
    """Pixels of symmetric padding before the first input pixel, as `timm.layers.get_padding`."""
    return (stride - 1 + dilation * (kernel_size - 1)) // 2


def window(
    kernel_size: int, stride: int = 1, dilation: int = 1, padding: int | None = None
) -> ReceptiveField:
    """Field of one convolution or pooling.

    Args:
        kernel_size: Taps along the axis.
        stride: Step between output units, in pixels of the window's own input.
        dilation: Distance between taps, in pixels of the window's own input.
        padding: Pixels added before the first input pixel. `None` means the symmetric rule of
            `timm.layers.get_padding`; note that a 2x2 pooling in torch pads 0.

    Raises:
        ValueError: If `kernel_size`, `stride` or `dilation` is below 1, or `padding` negative.

    >>> window(3, dilation=2)
    ReceptiveField(start=-2, size=5, stride=1)
    >>> window(2, stride=2, padding=0)
    ReceptiveField(start=0, size=2, stride=2)
    """
    for name, value in (("kernel_size", kernel_size), ("stride", stride), ("dilation", dilation)):
        if value < 1:
            raise ValueError(f"`{name} >= 1` must hold, but got {name}={value}.")
    if padding is None:
        padding = same_padding(kernel_size, stride, dilation)
    if padding < 0:
        raise ValueError(f"`padding >= 0` must hold, but got padding={padding}.")
    return ReceptiveField(start=-padding, size=dilation * (kernel_size - 1) + 1, stride=stride)


def stack(fields: Iterable[ReceptiveField]) -> ReceptiveField:
    """Field of layers applied one after another, first to last.

    >>> stack([window(3), window(2, stride=2, padding=0), window(3)])
    ReceptiveField(start=-3, size=8, stride=2)
    """
    return reduce(ReceptiveField.then, fields, IDENTITY)
