"""Receptive fields in figures: how they grow through a network, what they cover of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from rfsearch.basics.axes import by_x
from rfsearch.basics.palette import BLACK, BLUE, GREY, ORANGE, SERIES, TARGET, VERMILLION
from rfsearch.diagnosis.layer_field import architecture_layers, architecture_nodes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from rfsearch.diagnosis.layer_field import LayerField
    from rfsearch.field.erf_map import ErfMap
    from rfsearch.network.architecture import Architecture

#: Ratio of the largest to the smallest |gradient| that the colours of a map tell apart.
_COLOR_RANGE = 1e3
#: Opacity of the highest value of a map over an image.
_COVER = 0.8
_LINE_STYLES = ("solid", "dashed", "dotted", "dashdot")


class ObjectSizes(NamedTuple):
    """The objects to see: sides of their boxes in px."""

    low: float
    high: float

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.low:.3g} px"
        return f"{self.low:.3g} to {self.high:.3g} px"


def field_growth(
    architectures: Mapping[str, Architecture], objects: ObjectSizes | None = None
) -> Figure:
    """Theoretical receptive field and expected ERF size after each layer, in px.

    Args:
        architectures: By what to call them.
        objects: Drawn as a band.
    """
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for place, (name, architecture) in enumerate(architectures.items()):
        layers = architecture_layers(architecture)
        theoretical = [layer.reach.size.high for layer in layers]
        color, style = SERIES[place % len(SERIES)], _LINE_STYLES[place % len(_LINE_STYLES)]
        for axes, sizes in ((left, theoretical), (right, expected_growth(architecture))):
            axes.plot(
                range(1, len(sizes) + 1),
                sizes,
                color=color,
                linestyle=style,
                marker="o",
                markersize=4,
                label=name,
            )
    for axes, title in ((left, "theoretical receptive field"), (right, "expected ERF size")):
        if objects is not None:
            axes.axhspan(objects.low, objects.high, color=TARGET, alpha=0.2, linewidth=0)
        axes.set(title=title, xlabel="layer (stem, poolings, blocks)", yscale="log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    _label_in_px(left)
    left.set_ylabel("px of the input")
    handles, labels = left.get_legend_handles_labels()
    if objects is not None:
        handles.append(Patch(color=TARGET, alpha=0.2))
        labels.append(f"objects, {objects}")
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def layer_growth(
    layers: Sequence[LayerField],
    input_size: tuple[int, ...],
    objects: ObjectSizes | None = None,
    *,
    before: Sequence[LayerField] = (),
) -> Figure:
    """Theoretical receptive field after each layer that makes it larger, in px.

    Layers whose input already sees the whole image along every path are crossed out in another
    colour: they add no context.

    Args:
        layers: Of one network, first to last.
        input_size: Sides of the input, in px.
        objects: Drawn as a band.
        before: The layers of the network before it was changed, whose fields are drawn too.

    Raises:
        ValueError: If no layer is known to make the receptive field larger.
    """
    grown = [layer for layer in layers if layer.grows]
    if not grown:
        raise ValueError("A figure needs layers that make the receptive field larger: none does.")
    figure = Figure(figsize=(max(6.0, 1.5 + 0.17 * len(grown)), 4.6), layout="constrained")
    axes = figure.subplots()
    sizes = [layer.reach.size.high for layer in grown]
    idle = [place for place, layer in enumerate(grown) if layer.is_unproductive(input_size)]
    axes.plot(sizes, color=BLUE, marker="o", markersize=4, label="theoretical receptive field")
    axes.plot(
        [layer.reach.smallest.high for layer in grown],
        color=GREY,
        linestyle="dashed",
        marker=".",
        label="over the path that sees least",
    )
    known = {layer.name: layer.reach.size.high for layer in before}
    if known:
        axes.plot(
            [known.get(layer.name, np.nan) for layer in grown],
            color=ORANGE,
            marker=".",
            label="before the changes",
        )
    if idle:
        axes.plot(
            idle,
            [sizes[place] for place in idle],
            color=VERMILLION,
            linestyle="none",
            marker="X",
            markersize=8,
            label=f"unproductive: {len(idle)} of {len(grown)} layers",
        )
    side = by_x(dict.fromkeys(input_size))
    axes.axhline(max(input_size), color=BLACK, linestyle="dotted", label=f"image, {side} px")
    if objects is not None:
        axes.axhspan(
            objects.low,
            objects.high,
            color=TARGET,
            alpha=0.2,
            linewidth=0,
            label=f"objects, {objects}",
        )
    axes.set(yscale="log", ylabel="px of the input")
    _label_in_px(axes)
    names = [layer.name for layer in grown]
    axes.set_xticks(range(len(grown)), names, rotation=90, fontsize="x-small", parse_math=False)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    return figure


def _label_in_px(axes: Axes) -> None:
    """Powers of two on a logarithmic axis of px."""
    low, high = axes.get_ylim()
    shown = [2**power for power in range(21) if low <= 2**power <= high]
    axes.set_yticks(shown, [str(tick) for tick in shown])
    axes.minorticks_off()


def expected_growth(architecture: Architecture) -> list[int]:
    """Expected ERF size in px after each of `architecture_layers`."""
    steps = architecture_layers(architecture)[: len(architecture_nodes(architecture))]
    return [layer.expected().size for layer in steps if layer.expected is not None]


def erf_gallery(
    maps: Mapping[str, ErfMap],
    images: Sequence[NDArray[np.uint8]] = (),
    objects: ObjectSizes | None = None,
) -> Figure:
    """ERF maps side by side, over images where there are any, all at the same scale.

    The dashed square holds 95 % of the |gradient|, the dotted one is the theoretical receptive
    field, the solid one an object of the largest size. Each map's colours run over three decades
    from its own maximum down; over an image they fade as they darken.

    Args:
        maps: By what to call them, the best first.
        images: Images of the data, `(height, width)` or `(height, width, 3)`, each under a map; if
            there are fewer, they are repeated.
        objects: The objects to see.
    """
    half = _half_width(list(maps.values()), images, objects)
    figure = Figure(figsize=(3.2 * len(maps) + 0.4, 4), layout="constrained")
    all_axes = figure.subplots(1, len(maps), squeeze=False, sharex=True, sharey=True)[0]
    for number, (axes, (name, erf)) in enumerate(zip(all_axes, maps.items(), strict=True)):
        if images:
            _draw_image(axes, images[number % len(images)])
        _draw_map(axes, erf, fades=bool(images))
        _draw_squares(axes, erf, objects, on="image" if images else "map")
        ratio = erf.size / erf.theoretical_size
        axes.set_title(
            f"{name}\nERF {erf.size} px, TRF {erf.theoretical_size} px, ratio {ratio:.2f}",
            fontsize="small",
            parse_math=False,
        )
    for axes in all_axes:
        axes.set(xlim=(-half, half), ylim=(half, -half), facecolor="#404040")
        axes.set_aspect("equal")
        axes.tick_params(labelsize="small")
    all_axes[0].set_ylabel("px from the centre", fontsize="small")
    figure.legend(handles=_keys(objects), loc="outside lower center", ncols=3, fontsize="small")
    return figure


def _half_width(
    maps: Sequence[ErfMap], images: Sequence[NDArray[np.uint8]], objects: ObjectSizes | None
) -> float:
    """Half of what all panels show, in px: ERFs with a margin, images, and objects."""
    sides = [1.5 * erf.size for erf in maps]
    sides += [float(max(image.shape[:2])) for image in images]
    sides += [1.2 * objects.high] if objects else []
    return max(sides) / 2


def _draw_image(axes: Axes, image: NDArray[np.uint8]) -> None:
    height, width = image.shape[:2]
    extent = (-width / 2, width / 2, height / 2, -height / 2)
    axes.imshow(image, cmap="gray", extent=extent, interpolation="nearest")


def _draw_map(axes: Axes, erf: ErfMap, *, fades: bool) -> None:
    highest = float(erf.map.max())
    shown = np.maximum(erf.map, highest / _COLOR_RANGE)
    depth = 1 + np.log(shown / highest) / np.log(_COLOR_RANGE)
    height, width = erf.map.shape
    left, top = -erf.center[1] - 0.5, -erf.center[0] - 0.5
    axes.imshow(
        shown,
        alpha=_COVER * depth if fades else None,
        cmap="cividis",
        norm=LogNorm(highest / _COLOR_RANGE, highest),
        extent=(left, left + width, top + height, top),
        interpolation="nearest",
    )


def _draw_squares(axes: Axes, erf: ErfMap, objects: ObjectSizes | None, on: str) -> None:
    squares: list[tuple[float, str]] = [(erf.size, "dashed"), (erf.theoretical_size, "dotted")]
    if objects is not None:
        squares.append((objects.high, "solid"))
    color = "#FFFFFF" if on == "map" else ORANGE
    for side, style in squares:
        axes.add_patch(
            Rectangle(
                (-side / 2, -side / 2),
                side,
                side,
                fill=False,
                edgecolor=color,
                linestyle=style,
                linewidth=1.6,
            )
        )


def _keys(objects: ObjectSizes | None) -> list[Line2D]:
    keys = [
        Line2D([], [], color=BLACK, linestyle="dashed", label="95 % of the |gradient|: ERF size"),
        Line2D([], [], color=GREY, linestyle="dotted", label="theoretical receptive field"),
    ]
    if objects is not None:
        keys.append(Line2D([], [], color=BLACK, label=f"largest object, {objects.high:.3g} px"))
    return keys
