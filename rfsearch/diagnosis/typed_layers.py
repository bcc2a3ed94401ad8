"""Receptive fields of layers that somebody types in, without any network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from rfsearch.basics.limits import MAX_SIDE
from rfsearch.basics.validation import FrozenData, parse, read_toml
from rfsearch.diagnosis.layer_field import Extent, LayerField, Reach
from rfsearch.field.expected_erf import ExpectedERF
from rfsearch.field.expression import Chain, Convolution, Node
from rfsearch.field.receptive_field import (
    IDENTITY,
    ReceptiveField,
    same_padding,
    window,
)

if TYPE_CHECKING:
    import pandas as pd

Pixels = Annotated[int, Field(ge=1, le=MAX_SIDE)]


class TypedLayer(FrozenData):
    """One convolution or pooling; only windows change a receptive field.

    Attributes:
        name: What to call it; by default its number.
        kernel_size: Taps along an axis.
        stride: Step between its units, in units of its input.
        dilation: Distance between taps, in units of its input.
        padding: Units added at either side. None is the symmetric padding that keeps the size at
            stride 1; torch's poolings pad 0.
    """

    name: str | None = None
    kernel_size: Pixels
    stride: Pixels = 1
    dilation: Pixels = 1
    padding: Annotated[int, Field(ge=0, le=MAX_SIDE)] | None = None

    @property
    def padded(self) -> int:
        """The padding, in units of its input, whether given or by default."""
        if self.padding is None:
            return same_padding(self.kernel_size, self.stride, self.dilation)
        return self.padding

    @property
    def kind(self) -> str:
        """The window in words, as `3x3, stride 2`."""
        others = {"stride": self.stride, "dilation": self.dilation}
        words = [f"{name} {value}" for name, value in others.items() if value > 1]
        return ", ".join([f"{self.kernel_size}x{self.kernel_size}", *words])

    def on(self, below: ReceptiveField) -> ReceptiveField:
        """The field of its units, on top of what the units of its input see."""
        return below.then(window(self.kernel_size, self.stride, self.dilation, self.padded))

    def node(self) -> Node:
        """The window as one of a convolution of a single channel."""
        return Convolution(self.kernel_size, 1, 1, self.stride, self.dilation, padding=self.padded)

    def units(self, below: int) -> int:
        """How many units it has along an axis, on so many of its input; 0 if it does not fit."""
        covered = self.dilation * (self.kernel_size - 1) + 1
        return max(0, (below + 2 * self.padded - covered) // self.stride + 1)


class TypedLayers(FrozenData):
    """The contents of a file of layers.

    Attributes:
        layers: First to last.
    """

    layers: Annotated[tuple[TypedLayer, ...], Field(strict=False, min_length=1, max_length=10_000)]

    def numbered(self) -> list[tuple[str, TypedLayer, ReceptiveField]]:
        """Name, layer, and what its units see."""
        seen, rows = IDENTITY, []
        for number, layer in enumerate(self.layers, 1):
            seen = layer.on(seen)
            rows.append((layer.name or f"layer {number}", layer, seen))
        return rows

    def fields(self) -> tuple[LayerField, ...]:
        """What each layer sees."""
        found, before = [], _reach(IDENTITY)
        nodes: tuple[Node, ...] = ()
        for name, layer, field in self.numbered():
            reach, nodes = _reach(field), (*nodes, layer.node())
            expected = partial(ExpectedERF, Chain(nodes))
            found.append(LayerField(name, layer.kind, reach, before=before, expected=expected))
            before = reach
        return tuple(found)


def layer_table(layers: Sequence[Mapping[str, Any]], input_size: int = 224) -> pd.DataFrame:
    """The textbook's table: what each of some layers sees, one after another.

    Args:
        layers: First to last; of each `kernel_size`, and if they are not the default `stride` (1),
            `dilation` (1), `padding` (None: symmetric) and `name`.
        input_size: Side of the image in px, for the number of units.

    Returns:
        One row per layer: `name`, its window, then `units` (along an axis; 0 where the window does
        not fit), `size` (receptive field, px), `jump` (px between neighbouring units), `start`
        and `center` (of the first unit's field, px; negative is padding).

    Raises:
        ValueError: If a layer is no window; it says which, and the key.

    >>> walk = [{"kernel_size": 3}, {"kernel_size": 2, "stride": 2, "padding": 0}]
    >>> layer_table(walk)[["name", "units", "size", "jump", "center"]]
          name  units  size  jump  center
    0  layer 1    224     3     1     0.0
    1  layer 2    112     4     2     0.5
    """
    import pandas as pd

    typed = parse(TypedLayers, {"layers": [dict(layer) for layer in layers]}, "layer_table")
    units, rows = input_size, []
    for name, layer, field in typed.numbered():
        units = layer.units(units)
        row = {"name": name, "kernel_size": layer.kernel_size, "stride": layer.stride}
        row |= {"dilation": layer.dilation, "padding": layer.padded, "units": units}
        row |= {"size": field.size, "jump": field.stride, "start": field.start}
        rows.append({**row, "center": field.center})
    return pd.DataFrame(rows)


def read_layers(path: Path) -> tuple[LayerField, ...]:
    """What each layer of a TOML file sees, which has a table `[[layers]]` for each.

    Raises:
        ValueError: If there is no such file, or something else in it.
    """
    return parse(TypedLayers, read_toml(path), str(path)).fields()


def _reach(field: ReceptiveField) -> Reach:
    return Reach(*(Extent(pixels, pixels) for pixels in (field.size, field.size, field.stride)))
