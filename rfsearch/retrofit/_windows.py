"""Layers whose windows slide over a map: what torch reads of them in every forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn
from torch.nn.modules.utils import _reverse_repeat_tuple

from rfsearch.field.windows import per_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_MAX_POOLINGS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_KINDS = {
    1: (nn.Conv1d, nn.MaxPool1d, nn.AvgPool1d),
    2: (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d),
    3: (nn.Conv3d, nn.MaxPool3d, nn.AvgPool3d),
}
Sides = tuple[int, ...]


class Window(NamedTuple):
    """The window of a convolution or pooling, in units of its input along each axis.

    Attributes:
        kernel_size: Taps.
        stride: Units between neighbouring positions of the window.
        dilation: Units between neighbouring taps.
        padding: Units that are added on both sides; None where the layer finds that itself.
        kind: `"convolution"`, or the pooling: `"max"` or `"average"`.
    """

    kernel_size: Sides
    stride: Sides
    dilation: Sides
    padding: Sides | None
    kind: str

    @property
    def reaches(self) -> bool:
        """Whether it sees more than one unit."""
        return max(self.kernel_size) > 1

    def where_it_reaches(self, by: Sides) -> Sides:
        """Factors of a dilation without those that make no difference to it."""
        pairs = zip(self.kernel_size, by, strict=True)
        return tuple(times if taps > 1 else 1 for taps, times in pairs)

    def can_be_dilated(self, by: Sides) -> bool:
        """Whether its dilation, and its padding with it, can be so many times as large.

        Torch has no average pooling with a dilation, and pads for a maximum half a window at most.
        """
        if self.kind != "max":
            return self.kind == "convolution"
        each = zip(self.kernel_size, self.padding or (0,), by, strict=True)
        return all(2 * padding * times <= taps for taps, padding, times in each)

    @property
    def keeps_shape(self) -> bool:
        """Whether a larger dilation, with as much more padding, leaves the shape of the map."""
        if self.padding is None:
            return True
        each = zip(self.kernel_size, self.dilation, self.padding, strict=True)
        return all(2 * padding == dilation * (taps - 1) for taps, dilation, padding in each)


def axes_of(layer: nn.Module) -> int | None:
    """Along how many axes the window of a layer slides; None of any other layer.

    Where a pooling says where its maxima were, something else counts on its stride.
    """
    if getattr(layer, "return_indices", False):
        return None
    return next((axes for axes, kinds in _KINDS.items() if isinstance(layer, kinds)), None)


def keys_of(layer: nn.Module) -> tuple[str, ...]:
    """What can be changed of the window of a layer."""
    if axes_of(layer) is None:
        return ()
    return (
        ("stride", "padding") if _kind(layer) == "average" else ("stride", "dilation", "padding")
    )


def window_of(layer: nn.Module) -> Window | None:
    """The window of a layer; None if it has none."""
    axes = axes_of(layer)
    if axes is None:
        return None
    padding: Any = getattr(layer, "padding", 0)
    return Window(
        _sides(layer.kernel_size, axes),
        _sides(layer.stride, axes),
        _sides(getattr(layer, "dilation", 1), axes),
        None if isinstance(padding, str) else _sides(padding, axes),
        _kind(layer),
    )


def _kind(layer: nn.Module) -> str:
    if isinstance(layer, CONVOLUTIONS):
        return "convolution"
    return "max" if isinstance(layer, _MAX_POOLINGS) else "average"


def _sides(value: Any, axes: int) -> Sides:
    return tuple(per_axis(value, axes))


def reversed_padding(layer: Any) -> Sequence[int]:
    """What torch keeps of a convolution's padding where that is not of zeros."""
    if not isinstance(layer.padding, str):
        return tuple(_reverse_repeat_tuple(layer.padding, 2))
    pads: list[int] = []
    for taps, dilation in zip(reversed(layer.kernel_size), reversed(layer.dilation), strict=True):
        reach = dilation * (taps - 1) if layer.padding == "same" else 0
        pads += [reach // 2, reach - reach // 2]
    return pads
