"""Interactive figures of what a better score costs."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from rfsearch.analysis.erf_effect import metric_label, trained_candidates
from rfsearch.analysis.front import cost_label, front_rows, is_wide
from rfsearch.analysis.interactive import LAYOUT, add_references, plain, point_labels, shown
from rfsearch.analysis.pareto import Direction, pareto_front
from rfsearch.basics.palette import TRAINED, VERMILLION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

#: Panels of `pareto_panels` side by side.
_PANELS = 3


def trade_off(
    frame: pd.DataFrame, cost: str = "params_m", direction: Direction = "maximize"
) -> go.Figure:
    """Value against a cost, with the front of candidates that no other beats in both.

    Args:
        frame: From `rfsearch.trials_dataframe`.
        cost: Its column to pay with.
        direction: Of the value.
    """
    names = {"params_m": "parameters (millions)", "flops_g": "10⁹ FLOPs", "train_seconds": "s"}
    metric = metric_label(frame)
    trained = trained_candidates(frame).dropna(subset=[cost])
    front = pareto_front(trained, {cost: "minimize", "value": direction})
    figure = go.Figure()
    figure.add_scatter(
        x=plain(front[cost]),
        y=plain(front["value"]),
        mode="lines+markers",
        line={"color": VERMILLION, "shape": "hv"},
        marker={"symbol": "diamond", "size": 13},
        hoverinfo="skip",
        name="not beaten in both",
    )
    _add_candidates(figure, frame, cost)
    figure.update_layout(
        **LAYOUT,
        height=400,
        xaxis={"title": names.get(cost, escape(cost)), "type": "log"},
        yaxis_title=escape(metric),
    )
    return figure


def pareto_panels(frame: pd.DataFrame, objectives: Mapping[str, Direction]) -> go.Figure:
    """Score against each other objective of a search for several, with the Pareto front.

    With two objectives the front is also a line: the best score that can be had for the cost.

    Args:
        frame: From `rfsearch.trials_dataframe`, with a column for each objective.
        objectives: Column to direction, the score's first: see `objectives_of`.
    """
    costs, trained = list(objectives)[1:], frame[frame["value"].notna()]
    rows, columns = -(-len(costs) // _PANELS), min(len(costs), _PANELS)
    figure = make_subplots(rows, columns, shared_yaxes="all", horizontal_spacing=0.04)
    for index, cost in enumerate(costs):
        place = {"row": index // _PANELS + 1, "col": index % _PANELS + 1}
        front, minimized = front_rows(frame).sort_values(cost), objectives[cost] == "minimize"
        figure.add_scatter(
            x=plain(front[cost]),
            y=plain(front["value"]),
            mode="lines+markers" if len(costs) == 1 else "markers",
            # A score can be had for any cost that is worse than its trial's.
            line={"color": VERMILLION, "shape": "hv" if minimized else "vh"},
            marker={"color": VERMILLION, "symbol": "diamond", "size": 13},
            hoverinfo="skip",
            name="Pareto front",
            **place,
        )
        _add_candidates(figure, frame, cost, costs, **place)
        scale = "log" if is_wide(trained[cost]) else "linear"
        figure.update_xaxes(title_text=escape(cost_label(cost)), type=scale, **place)
        if place["col"] == 1:
            figure.update_yaxes(title_text=escape(metric_label(frame)), **place)
    named = set()
    for trace in figure.data:
        trace.update(legendgroup=trace.name, showlegend=trace.name not in named)
        named.add(trace.name)
    figure.update_layout(**LAYOUT, height=90 + 310 * rows)
    return figure


def _add_candidates(
    figure: go.Figure, frame: pd.DataFrame, cost: str, told: Sequence[str] = (), **place: int
) -> None:
    """The trained candidates, and what stands beside them: value against a cost.

    Args:
        figure: Where to.
        frame: The trials.
        cost: Column of the cost.
        told: Columns to tell of under the pointer, too.
        place: In which of several panels.
    """
    points = shown(trained_candidates(frame).dropna(subset=[cost]))
    figure.add_scatter(
        x=plain(points[cost]),
        y=plain(points["value"]),
        mode="markers",
        marker={"color": TRAINED, "size": 8},
        text=point_labels(points, metric_label(frame), told),
        hoverinfo="text",
        name="trained candidate",
        **place,
    )
    add_references(figure, frame, cost, True, **place)
