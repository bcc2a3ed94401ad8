"""The Pareto front of a search for several objectives, as a table and a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.table import Table

from rfsearch.analysis.erf_effect import (
    metric_label,
    trained_baselines,
    trained_candidates,
    trained_controls,
)
from rfsearch.basics.palette import BLACK, GREY, ORANGE, VERMILLION

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Names of the objectives beside the score, with their units.
_LABELS = {
    "latency_ms": "latency (ms)",
    "peak_memory_mb": "peak memory (MiB)",
    "params_m": "parameters (millions)",
    "flops_g": "FLOPs (10⁹)",
    "erf_misfit": "misfit of the ERF (octaves)",
}


def cost_label(column: str) -> str:
    """What an objective beside the score is called, with its unit."""
    return _LABELS.get(column, column)


def is_wide(costs: pd.Series) -> bool:
    """Whether costs are positive and spread so far that an axis should be logarithmic."""
    low, high = costs.min(), costs.max()
    return bool(pd.notna(low) and 0 < 10 * low < high)


def front_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The trials on the front, each candidate once.

    Args:
        frame: From `rfsearch.trials_dataframe`.
    """
    return frame[frame["pareto"].fillna(False) & frame["duplicate_of"].isna()]


def front_table(frame: pd.DataFrame, objectives: Sequence[str]) -> Table:
    """The trials on the front and their objectives, the best score first.

    Args:
        frame: From `rfsearch.trials_dataframe`.
        objectives: The study's, the score first.
    """
    table = Table(title="Pareto front: no trial is better in all of these", box=SIMPLE_HEAD)
    for heading in ("trial", metric_label(frame), *(cost_label(name) for name in objectives[1:])):
        table.add_column(heading, justify="right")
    for row in front_rows(frame).sort_values("value", ascending=False).to_dict(orient="records"):
        values = (f"{row[name]:.4g}" for name in objectives[1:])
        table.add_row(str(row["number"]), f"{row['value']:.3f}", *values)
    return table


def front_figure(frame: pd.DataFrame, objectives: Sequence[str]) -> Figure:
    """The score of the trained candidates against each other objective, the front in colour.

    With two objectives the front is also a line: the best score that can be had for the cost.
    Baselines and controls, which are hollow, stand beside them where they have the numbers.

    Args:
        frame: From `rfsearch.trials_dataframe`.
        objectives: The study's, the score first.
    """
    costs, trained = objectives[1:], frame[frame["value"].notna()]
    figure = Figure(figsize=(1 + 4.5 * len(costs), 4.4), layout="constrained")
    panels = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
    parts = (
        (trained_candidates(frame), "o", GREY, "trained candidate"),
        (trained_baselines(frame), "D", ORANGE, "baseline"),
        (trained_controls(frame), "o", "none", "control, does not fit"),
        (front_rows(frame), "o", VERMILLION, "Pareto front"),
    )
    for axes, cost in zip(panels, costs, strict=True):
        for part, marker, color, label in parts:
            known = part.dropna(subset=[cost, "value"]).sort_values(cost)
            x, y = known[cost].astype(float), known["value"].astype(float)
            if len(known):
                style = {"markerfacecolor": color, "markeredgecolor": BLACK}
                axes.plot(x, y, marker, label=label, **style)
            if label == "Pareto front" and len(costs) == 1:
                axes.plot(x, y, color=color, drawstyle="steps-post", zorder=1)
        axes.set_xlabel(cost_label(cost), parse_math=False)
        axes.set_xscale("log" if is_wide(trained[cost]) else "linear")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(metric_label(frame), parse_math=False)
    # A baseline may lack what the first panel shows.
    keys = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if keys:
        figure.legend(keys.values(), keys, loc="outside upper center", ncols=4, frameon=False)
    return figure
