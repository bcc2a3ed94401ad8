"""Figures, drawn from tables and maps."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rfsearch.analysis.erf_effect import (
    correlation_line,
    metric_label,
    trained_baselines,
    trained_candidates,
    trained_controls,
)
from rfsearch.analysis.statistics import trend
from rfsearch.basics.palette import BLACK, GREY, ORANGE, TARGET, TRAINED, VERMILLION

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage
    from numpy.typing import NDArray

    from rfsearch.basics.ranges import Range
    from rfsearch.field.erf_map import ErfMap

#: Squares on a map: share of the |gradient|, and line style.
_SQUARES = ((0.5, "solid"), (0.95, "dashed"))
#: Ratio of the largest to the smallest value that a map's colours tell apart.
_COLOR_RANGE = 1e3
_OUTSIDE = "#606060"


def score_against_erf(frame: pd.DataFrame, effective: Range | None) -> Figure:
    """Score of the trained candidates against their ERF ratio and their ERF size.

    The ERF is the one measured after training; a thin line leads to it from the one measured
    before. In px the target is a range, which is shaded; as a ratio it is a range for each
    candidate by itself, shaded behind its point. Where there are enough candidates, a smooth mean
    with its 95 % bootstrap band is drawn. Above each panel stands the rank correlation. Baselines
    and controls, which are hollow, stand beside them.

    Args:
        frame: From `rfsearch.trials_dataframe`.
        effective: The ERF sizes that fit, in px.
    """
    trained = trained_candidates(frame).dropna(subset=["erf_trained"])
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    ratios = trained[["erf_ratio", "erf_ratio_trained"]].astype(float)
    sizes = trained[["erf_init", "erf_trained"]].astype(float)
    score = trained["value"].astype(float)
    if effective is not None:
        _shade_ratios(left, trained, effective)
        top = effective.high if effective.high < math.inf else sizes.max().max()
        right.axvspan(
            effective.low, top, color=TARGET, alpha=0.15, linewidth=0, label="target range"
        )
    for axes, values in ((left, ratios), (right, sizes)):
        axes.hlines(
            score,
            values.iloc[:, 0],
            values.iloc[:, 1],
            color=GREY,
            linewidth=1,
            label="change through training",
        )
        axes.plot(values.iloc[:, 1], score, "o", color=TRAINED, label="trained candidate")
        _draw_trend(axes, values.iloc[:, 1], score)
        line = correlation_line(frame, str(values.columns[1]))
        axes.set_title(line.replace(", with", ",\nwith"), fontsize="medium")
        axes.grid(alpha=0.3)
        axes.margins(x=0.08)
    _draw_references(left, right, frame)
    left.set_xlabel("ERF ratio after training (ERF size / theoretical RF)")
    left.set_ylabel(metric_label(frame), parse_math=False)
    right.set(xlabel="ERF size after training (px)")
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    return figure


def _draw_trend(axes: Axes, sizes: pd.Series[float], values: pd.Series[float]) -> None:
    """The smooth mean with its band, where there are enough points."""
    smooth = trend(sizes, values)
    if smooth.empty:
        return
    axes.fill_between(
        smooth["x"], smooth["low"], smooth["high"], color=BLACK, alpha=0.12, linewidth=0
    )
    axes.plot(smooth["x"], smooth["mean"], color=BLACK, label="smooth mean, 95 % band")


def _draw_references(left: Axes, right: Axes, frame: pd.DataFrame) -> None:
    hollow = {"markerfacecolor": "none", "markeredgewidth": 1.5, "markersize": 8}
    for part, marker, style in (
        (trained_baselines(frame), "D", {"color": ORANGE, "markeredgecolor": BLACK}),
        (trained_controls(frame), "o", {"markeredgecolor": VERMILLION, **hollow}),
    ):
        known = part.dropna(subset=["erf_trained"])
        values = known["value"].astype(float)
        label = "baseline" if marker == "D" else "control, does not fit"
        for axes, column in ((left, "erf_ratio_trained"), (right, "erf_trained")):
            if len(known):
                axes.plot(known[column].astype(float), values, marker, label=label, **style)


def _shade_ratios(axes: Axes, trained: pd.DataFrame, effective: Range) -> None:
    """The target as ratios of each candidate's own theoretical receptive field, at most 1."""
    trf = trained["trf_size"].astype(float)
    axes.hlines(
        trained["value"].astype(float),
        (effective.low / trf).clip(upper=1),
        (effective.high / trf).clip(upper=1),
        color=TARGET,
        alpha=0.15,
        linewidth=9,
    )


def erf_heat_map(erf: ErfMap, title: str, expected: ErfMap | None = None) -> Figure:
    """An effective receptive field with its 50 % and 95 % squares and the theoretical one.

    The colours say how much more a pixel matters than the average pixel of the input, on a
    logarithmic scale. What of the theoretical field lies outside the input is shown as far as
    half the input's side.

    Args:
        erf: The map; its axes are the pixels of the input.
        title: Above the figure.
        expected: The expected map of the same unit, to draw beside it, over its field.
    """
    beside = [] if expected is None else [expected]
    maps = [erf, *(_placed(one, erf) for one in beside)]
    figure = Figure(layout="constrained")
    all_axes = figure.subplots(1, len(maps), squeeze=False)[0]
    highest = max(float(_density(one).max()) for one in maps)
    for axes, one, unclipped in zip(all_axes, maps, [erf, *beside], strict=True):
        image = _draw_density(axes, one, highest, unclipped.squares([s for s, _ in _SQUARES]))
    figure.colorbar(
        image, ax=list(all_axes), shrink=0.85, label="|gradient| over its mean (log scale)"
    )
    if expected is None:
        all_axes[0].set_title(title, parse_math=False)
    else:
        figure.suptitle(title, parse_math=False)
        for axes, name in zip(all_axes, ("measured", "expected"), strict=True):
            axes.set(title=name)
    (left, right), (bottom, top) = all_axes[0].get_xlim(), all_axes[0].get_ylim()
    shape = abs(top - bottom) / (right - left)
    figure.set_size_inches(2 + 5 * len(maps), 2 + 5.2 * min(1.6, max(0.5, shape)))
    for axes in all_axes:
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.12),
            facecolor=_OUTSIDE,
            labelcolor="#FFFFFF",
        )
    return figure


def _density(erf: ErfMap) -> NDArray[np.float64]:
    """|gradient| over its mean over the input."""
    density: NDArray[np.float64] = erf.map * (erf.map.size / erf.map.sum())
    return density


def _placed(expected: ErfMap, erf: ErfMap) -> ErfMap:
    """A map over its field as a map over the input of another one, around the same centre."""

    def placed(values: NDArray[np.float64]) -> NDArray[np.float64]:
        top, left = (
            round(middle - own) for middle, own in zip(erf.center, expected.center, strict=True)
        )
        (height, width), (rows, columns) = erf.map.shape, values.shape
        padded = np.zeros((height + 2 * rows, width + 2 * columns))
        top = min(max(top, -rows), height)
        left = min(max(left, -columns), width)
        padded[top + rows : top + 2 * rows, left + columns : left + 2 * columns] = values
        return padded[rows : rows + height, columns : columns + width]

    return replace(
        expected, map=placed(expected.map), power=placed(expected.power), center=erf.center
    )


def _draw_density(
    axes: Axes, erf: ErfMap, highest: float, sides: Mapping[float, int]
) -> AxesImage:
    height, width = erf.map.shape
    image = axes.imshow(
        np.maximum(_density(erf), highest / _COLOR_RANGE),
        cmap="cividis",
        norm=LogNorm(highest / _COLOR_RANGE, highest),
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="nearest",
    )
    for share, style in _SQUARES:
        axes.add_patch(
            _square(erf, sides[share], style, "#FFFFFF", f"{share * 100:.0f} % of the |gradient|")
        )
    is_known = not math.isnan(erf.theoretical_size)
    field = erf.theoretical_size if is_known else 0
    left, right = _limits(width, erf.center[1], field)
    top, bottom = _limits(height, erf.center[0], field)
    if is_known:
        hidden = " (beyond the frame)" if field > max(right - left, bottom - top) else ""
        what = f"theoretical receptive field{hidden}"
        axes.add_patch(_square(erf, field, "dotted", "#FFB08A", what))
    axes.set(xlim=(left, right), ylim=(bottom, top), facecolor=_OUTSIDE)
    axes.set(xlabel="px of the input; grey is outside", ylabel="px of the input")
    return image


def _square(erf: ErfMap, side: float, style: str, color: str, what: str) -> Rectangle:
    corner = (erf.center[1] - side / 2, erf.center[0] - side / 2)
    label = f"{what}: {side} px"
    return Rectangle(
        corner,
        side,
        side,
        fill=False,
        edgecolor=color,
        linestyle=style,
        linewidth=1.8,
        label=label,
    )


def _limits(pixels: int, middle: float, side: float) -> tuple[float, float]:
    """What of an axis to show: the input, and around it the field or half the input's side."""
    margin = 0.02 * side
    low = min(-0.5, middle - side / 2 - margin)
    high = max(pixels - 0.5, middle + side / 2 + margin)
    return max(low, -0.5 * pixels), min(high, 1.5 * pixels)
