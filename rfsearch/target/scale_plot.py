"""A picture of object scales by class, with the target and the parts of a pyramid's levels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from rfsearch.target.object_scales import ObjectScales
    from rfsearch.target.target import ScaleTarget

# Okabe and Ito's palette, which colour-blind people can tell apart.
_BARS, _ENDS = "#0072B2", "#000000"
#: The target, or the levels in turn, which also have names.
_BANDS = ("#E69F00", "#56B4E9")
_BINS_PER_OCTAVE = 4
#: Rows for classes; those with fewer objects are shown in the first row only.
_MOST_CLASSES = 8
#: Octaves shown on either side of the sizes.
_MARGIN = 0.25
#: Octaves that a name above the first row takes, and its height in points.
_NAME_WIDTH, _NAME_HEIGHT = 0.7, 24


def scale_histogram(
    scales: ObjectScales, target: ScaleTarget, parts: Mapping[str, ScaleTarget] | None = None
) -> Figure:
    """Histograms of the sizes of all objects and of each class, one below the other.

    Args:
        scales: The objects.
        target: The range of sizes to see, whose ends are dashed lines.
        parts: The parts of a pyramid's levels, shaded in turn instead of the target.
    """
    rows = scales.summaries(())[: _MOST_CLASSES + 1]
    rows = rows[:1] if len(rows) == 2 and rows[0].num_objects == rows[1].num_objects else rows
    figure = Figure(figsize=(8, 1.8 + 0.9 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    edges = _edges(scales.sizes, target)
    for axes, row in zip(panels, rows, strict=True):
        chosen = scales if row.name is None else scales.only([row.name])
        name = "all" if row.name is None else row.name
        axes.hist(chosen.sizes, bins=edges, color=_BARS, edgecolor="#FFFFFF", linewidth=0.5)
        axes.set_ylabel(
            f"{name}\n({row.num_objects})", rotation=0, ha="right", va="center", parse_math=False
        )
        axes.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        _shade(axes, target, parts or {})
    _name_bands(panels[0], target, parts or {})
    _label_px(panels[-1], edges)
    figure.align_ylabels(panels)
    figure.supylabel("number of objects", fontsize="medium")
    return figure


def _edges(sizes: NDArray[np.float64], target: ScaleTarget) -> NDArray[np.float64]:
    """Bins of equal width in octaves, from below the smallest size to above the largest."""
    low = math.log2(min(float(sizes.min()), target.min_size)) - _MARGIN
    high = math.log2(max(float(sizes.max()), target.max_size)) + _MARGIN
    first, last = math.floor(low * _BINS_PER_OCTAVE), math.ceil(high * _BINS_PER_OCTAVE)
    return np.exp2(np.arange(first, last + 1) / _BINS_PER_OCTAVE)


def _shade(axes: Axes, target: ScaleTarget, parts: Mapping[str, ScaleTarget]) -> None:
    for number, band in enumerate(parts.values() or [target]):
        color = _BANDS[number % len(_BANDS)]
        axes.axvspan(band.min_size, band.max_size, color=color, alpha=0.3, linewidth=0, zorder=0)
    for end in (target.min_size, target.max_size):
        axes.axvline(end, color=_ENDS, linestyle="dashed", linewidth=1)


def _name_bands(axes: Axes, target: ScaleTarget, parts: Mapping[str, ScaleTarget]) -> None:
    bands = parts or {"target": target}
    # Names of narrow neighbours would overlap on one line.
    octaves = [math.log2(band.max_size / band.min_size) for band in bands.values()]
    num_lines = 2 if len(bands) > 1 and min(octaves) < _NAME_WIDTH else 1
    for number, (name, band) in enumerate(bands.items()):
        axes.annotate(
            f"{name}\n{band.min_size:g} to {band.max_size:g}",
            (math.sqrt(band.min_size * band.max_size), 1),
            (0, 3 + _NAME_HEIGHT * (number % num_lines)),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize="small",
        )


def _label_px(axes: Axes, edges: NDArray[np.float64]) -> None:
    octaves = range(math.ceil(math.log2(edges[0])), math.floor(math.log2(edges[-1])) + 1)
    axes.set_xscale("log", base=2)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xticks(
        [2.0**octave for octave in octaves], [f"{2.0**octave:g}" for octave in octaves]
    )
    axes.set_xlabel("object scale, sqrt(width x height), in px at network resolution")
