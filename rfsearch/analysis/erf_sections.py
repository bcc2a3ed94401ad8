"""Figures of the ERF of a sequence, which is a curve, and of a volume, as three sections."""

from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rfsearch.analysis.plots import erf_heat_map
from rfsearch.basics.axes import AXIS_NAMES, by_x
from rfsearch.basics.palette import BLUE, GREY, VERMILLION
from rfsearch.field.erf_map import ERF_SHARE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage
    from numpy.typing import NDArray

    from rfsearch.field.erf_map import ErfMap

#: Ratio of the largest to the smallest value that is told apart.
_RANGE = 1e3
_OUTSIDE = "#606060"


def erf_figure(erf: ErfMap, title: str, expected: ErfMap | None = None) -> Figure:
    """An effective receptive field: a curve, a heat map or three sections, by its axes.

    Args:
        erf: The map; its axes are the pixels of the input.
        title: Above the figure.
        expected: The expected map of the same unit, over its field.
    """
    draw = {1: _curve, 2: erf_heat_map, 3: _sections}[erf.map.ndim]
    return draw(erf, title, expected)


def _curve(erf: ErfMap, title: str, expected: ErfMap | None) -> Figure:
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    axes = figure.subplots()
    (middle,), (pixels,) = erf.center, erf.map.shape
    drawn = [("measured" if expected else "", erf, BLUE)]
    drawn += [("expected", expected, VERMILLION)] if expected else []
    for what, one, color in drawn:
        places = np.arange(float(len(one.map))) - one.center[0] + middle
        density = one.map / one.map.sum() * pixels
        axes.plot(places, density, color=color, linewidth=1.0, label=what or "|gradient|")
        for place in (-one.size / 2, one.size / 2):
            label = f"{what} ERF, {ERF_SHARE:.0%}: {one.size}".strip() if place < 0 else None
            axes.axvline(middle + place, color=color, linestyle="dashed", label=label)
    field = erf.theoretical_size
    if not math.isnan(field):
        label = f"theoretical receptive field: {field:g}"
        axes.axvspan(middle - field / 2, middle + field / 2, color=GREY, alpha=0.2, label=label)
    shown = erf.size if math.isnan(field) else field
    axes.set_xlim(middle - 0.55 * shown - 1, middle + 0.55 * shown + 1)
    highest = max(float((one.map / one.map.sum()).max()) for _, one, _ in drawn) * pixels
    axes.set_yscale("log")
    axes.set_ylim(highest / _RANGE, 2 * highest)
    axes.set_xlabel("samples of the input")
    axes.set_ylabel("|gradient| over its mean (log scale)")
    axes.set_title(title, parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def _sections(erf: ErfMap, title: str, expected: ErfMap | None) -> Figure:
    maps = [("measured", erf), *([("expected", expected)] if expected else [])]
    figure = Figure(figsize=(13, 1.2 + 4.4 * len(maps)), layout="constrained")
    rows = figure.subplots(len(maps), 3, squeeze=False)
    # Over the mean of the same volume, so that one scale serves both.
    densities = [one.map / one.map.sum() * erf.map.size for _, one in maps]
    highest = max(float(density.max()) for density in densities)
    for row, (what, one), density in zip(rows, maps, densities, strict=True):
        # The plane across each axis, the outermost first.
        pairs = list(combinations(range(3), 2))[::-1]
        for axes, shown in zip(row, pairs, strict=True):
            image = _draw_section(axes, one, density, shown, highest)
            across = AXIS_NAMES[3][({0, 1, 2} - {*shown}).pop()]
            name = f"{what}, {by_x(one.sizes)} px" if expected else "section"
            axes.set_title(f"{name}, across {across}", fontsize="medium")
    figure.colorbar(image, ax=list(rows.flat), shrink=0.8, label="|gradient| over its mean")
    figure.suptitle(title, parse_math=False)
    handles, labels = rows[0][0].get_legend_handles_labels()
    style: dict[str, Any] = {"facecolor": _OUTSIDE, "labelcolor": "#FFFFFF"}
    figure.legend(handles, labels, loc="outside lower center", ncols=2, **style)
    return figure


class _Box(NamedTuple):
    """A box around the centre of a volume, in px, and how it is drawn."""

    sides: Sequence[float]
    style: str
    color: str
    what: str

    def drawn(self, down: int, across: int) -> Rectangle:
        """Its section in the plane of two axes."""
        width, height = self.sides[across], self.sides[down]
        return Rectangle(
            (-width / 2, -height / 2),
            width,
            height,
            fill=False,
            edgecolor=self.color,
            linestyle=self.style,
            linewidth=1.8,
            label=f"{self.what}: {by_x(f'{side:g}' for side in self.sides)} px",
        )


def _draw_section(
    axes: Axes,
    erf: ErfMap,
    density: NDArray[np.float64],
    shown: tuple[int, int],
    highest: float,
) -> AxesImage:
    """The plane through the centre in which two axes lie, `(down, across)`."""
    (hidden,) = {0, 1, 2} - {*shown}
    last = density.shape[hidden] - 1
    planes = [math.floor(erf.center[hidden]), math.ceil(erf.center[hidden])]
    section = density.take(np.clip(planes, 0, last), hidden).mean(hidden)
    down, across = shown
    height, width = section.shape
    left, top = -erf.center[across] - 0.5, -erf.center[down] - 0.5
    image = axes.imshow(
        np.maximum(section, highest / _RANGE),
        cmap="cividis",
        norm=LogNorm(highest / _RANGE, highest),
        extent=(left, left + width, top + height, top),
        interpolation="nearest",
    )
    boxes = [_Box(erf.sizes, "dashed", "#FFFFFF", f"box with {ERF_SHARE:.0%} of the |gradient|")]
    if erf.theoretical_sizes:
        field = _Box(erf.theoretical_sizes, "dotted", "#FFB08A", "theoretical receptive field")
        boxes.append(field)
    for box in boxes:
        axes.add_patch(box.drawn(down, across))
    half = [1 + 0.53 * max(box.sides[axis] for box in boxes) for axis in range(3)]
    axes.set(xlim=(-half[across], half[across]), ylim=(half[down], -half[down]))
    axes.set_facecolor(_OUTSIDE)
    axes.set_xlabel(f"{AXIS_NAMES[3][across]}, px from the centre")
    axes.set_ylabel(f"{AXIS_NAMES[3][down]}, px")
    return image
