"""Figures, drawn from tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from rfsearch.target import Range

# Okabe and Ito's palette, which colour-blind people can tell apart.
_POINT, _TARGET, _LINE = "#0072B2", "#009E73", "#999999"


def accuracy_against_erf(frame: pd.DataFrame, effective: Range | None) -> Figure:
    """Accuracy of the trained candidates against their ERF ratio and their ERF size.

    The ERF is the one measured after training; a thin line leads to it from the one measured
    before. In px the target is a range, which is shaded; as a ratio it is a range for each
    candidate by itself, shaded behind its point.

    Args:
        frame: From `rfsearch.trials_dataframe`.
        effective: The ERF sizes that fit, in px.
    """
    trained = frame[frame["duplicate_of"].isna()].dropna(subset=["value", "erf_trained"])
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    ratios = trained[["erf_ratio", "erf_ratio_trained"]].astype(float)
    sizes = trained[["erf_init", "erf_trained"]].astype(float)
    accuracy = trained["value"].astype(float)
    if effective is not None:
        _shade_ratios(left, trained, effective)
        top = effective.high if effective.high < math.inf else sizes.max().max()
        right.axvspan(
            effective.low, top, color=_TARGET, alpha=0.15, linewidth=0, label="target range"
        )
    for axes, values in ((left, ratios), (right, sizes)):
        axes.hlines(
            accuracy,
            values.iloc[:, 0],
            values.iloc[:, 1],
            color=_LINE,
            linewidth=1,
            label="change through training",
        )
        axes.plot(values.iloc[:, 1], accuracy, "o", color=_POINT, label="trained candidate")
        axes.grid(alpha=0.3)
        axes.margins(x=0.08)
    left.set(xlabel="ERF ratio after training (ERF size / theoretical RF)", ylabel="accuracy")
    right.set(xlabel="ERF size after training (px)")
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    return figure


def _shade_ratios(axes: Axes, trained: pd.DataFrame, effective: Range) -> None:
    """The target as ratios of each candidate's own theoretical receptive field, at most 1."""
    trf = trained["trf_size"].astype(float)
    axes.hlines(
        trained["value"].astype(float),
        (effective.low / trf).clip(upper=1),
        (effective.high / trf).clip(upper=1),
        color=_TARGET,
        alpha=0.15,
        linewidth=9,
    )
