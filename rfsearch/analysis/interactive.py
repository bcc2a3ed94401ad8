"""Interactive figures for reports, dashboards and notebooks.

They hold plain lists alone, so that any version of plotly.js can draw them.
"""

from __future__ import annotations

import math
from html import escape
from itertools import cycle
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from rfsearch.analysis.erf_effect import (
    correlation_line,
    metric_label,
    trained_baselines,
    trained_candidates,
    trained_controls,
    whole_candidates,
)
from rfsearch.analysis.front import cost_label
from rfsearch.analysis.search_figures import funnel_steps
from rfsearch.analysis.statistics import trend
from rfsearch.basics.palette import BLACK, GREY, ORANGE, TARGET, TRAINED, VERMILLION
from rfsearch.space.trial_gates import CONSTRAINT_KEYS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from rfsearch.basics.ranges import Range

#: Candidates in a figure, at most; of more, the best and an even choice of the rest are drawn.
MAX_POINTS = 2000
#: What the figures have in common.
LAYOUT = {
    "template": "plotly_white",
    "margin": {"l": 60, "r": 20, "t": 60, "b": 55},
    "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.08, "x": 0},
}
#: Of candidates that do not fit, and were trained beside the others.
CONTROL_MARKER = {"color": VERMILLION, "symbol": "circle-open", "size": 11, "line": {"width": 2}}
#: Marker symbols in `feasibility`: of what fits, and of what each gate stopped.
_SYMBOLS = (
    *("circle", "square", "diamond", "cross", "triangle-up", "hexagon", "star", "x"),
    *("pentagon", "hourglass", "bowtie", "triangle-down", "hexagram"),
)


def value_against_erf(
    frame: pd.DataFrame, effective: Range | None, object_size: float | None = None
) -> go.Figure:
    """Value of each trained candidate against its ERF ratio, and its ERF size or ERF per object.

    Args:
        frame: From `rfsearch.trials_dataframe`.
        effective: The ERF sizes that fit, in px; shaded.
        object_size: Side of the largest object in px; then ERF sizes are drawn over it.
    """
    trained = shown(trained_candidates(frame).dropna(subset=["erf_trained"]))
    unit = object_size or 1.0
    label = "ERF size / largest object" if object_size else "ERF size (px)"
    metric = metric_label(frame)
    names = ("erf_ratio_trained", "erf_trained")
    titles = [correlation_line(frame, name).replace(", with", ",<br>with") for name in names]
    figure = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=titles)
    for column, (name, scale) in enumerate(zip(names, (1.0, unit), strict=True), start=1):
        x = trained[name] / scale
        _add_trend(figure, x, trained["value"], column)
        figure.add_scatter(
            x=plain(x),
            y=plain(trained["value"]),
            mode="markers",
            marker={"color": TRAINED, "size": 9, "opacity": 0.8},
            text=point_labels(trained, metric),
            hoverinfo="text",
            name="trained candidate",
            showlegend=column == 1,
            row=1,
            col=column,
        )
    sizes = frame.assign(of_object=frame["erf_trained"] / unit)
    for column, name in enumerate(("erf_ratio_trained", "of_object"), start=1):
        add_references(figure, sizes, name, column == 1, row=1, col=column)
    if effective is not None:
        top = effective.high if effective.high < math.inf else float(trained["erf_trained"].max())
        figure.add_vrect(
            x0=effective.low / unit,
            x1=top / unit,
            fillcolor=TARGET,
            opacity=0.15,
            line_width=0,
            annotation_text="target",
            annotation_position="top left",
            row=1,
            col=2,
        )
    figure.update_xaxes(title_text="ERF ratio after training", row=1, col=1)
    figure.update_xaxes(title_text=f"{label} after training", row=1, col=2)
    figure.update_yaxes(title_text=escape(metric), row=1, col=1)
    figure.update_annotations(font_size=13)
    figure.update_layout(**LAYOUT, height=430)
    return figure


def _add_trend(figure: go.Figure, x: pd.Series, y: pd.Series, column: int) -> None:
    smooth = trend(x, y)
    if smooth.empty:
        return
    forth, back = smooth["x"].tolist(), smooth["x"].tolist()[::-1]
    place = {"row": 1, "col": column}
    figure.add_scatter(
        x=forth + back,
        y=smooth["high"].tolist() + smooth["low"].tolist()[::-1],
        fill="toself",
        fillcolor="rgba(0,0,0,0.12)",
        line_width=0,
        hoverinfo="skip",
        showlegend=False,
        **place,
    )
    figure.add_scatter(
        x=forth,
        y=smooth["mean"].tolist(),
        mode="lines",
        line_color=BLACK,
        hoverinfo="skip",
        name="smooth mean, 95 % band",
        showlegend=column == 1,
        **place,
    )


def add_references(
    figure: go.Figure, frame: pd.DataFrame, column: str, in_legend: bool = True, **place: int
) -> None:
    """What stands beside the candidates, if anything: baselines, and controls, which are hollow.

    Args:
        figure: Where to.
        frame: The trials.
        column: Of the table, for the horizontal axis.
        in_legend: Whether the legend names them.
        place: In which of several panels.
    """
    known = trained_baselines(frame).dropna(subset=[column])
    if len(known):
        figure.add_scatter(
            x=plain(known[column]),
            y=plain(known["value"]),
            mode="markers+text",
            marker={"color": ORANGE, "symbol": "x", "size": 11},
            text=[escape(name) for name in known["baseline"]],
            textposition="top center",
            cliponaxis=False,  # Names at the edge of a panel.
            name="baseline",
            showlegend=in_legend,
            **place,
        )
    known = trained_controls(frame).dropna(subset=[column])
    if len(known):
        about = zip(point_labels(known, metric_label(frame)), known["reason"], strict=True)
        figure.add_scatter(
            x=plain(known[column]),
            y=plain(known["value"]),
            mode="markers",
            marker=CONTROL_MARKER,
            text=[f"{label}<br>{escape(reason)}" for label, reason in about],
            hoverinfo="text",
            name="control, does not fit",
            showlegend=in_legend,
            **place,
        )


def feasibility(frame: pd.DataFrame) -> go.Figure:
    """How far each trial was from fitting, in octaves at its worst gate: at most 0 fits."""
    keys = list(CONSTRAINT_KEYS.values())
    worst = frame[keys].max(axis=1)
    known = whole_candidates(frame.assign(worst=worst)).dropna(subset=["worst"]).tail(MAX_POINTS)
    stopped_by = known["rejected_by"].where((known["worst"] > 0) & ~known["control"], None)
    figure = go.Figure()
    groups = {"fits": known[known["worst"] <= 0]}
    groups |= {
        f"stopped by the {gate} gate": known[stopped_by == gate] for gate in CONSTRAINT_KEYS
    }
    groups["control"] = known[known["control"]]
    for (name, rows), symbol in zip(groups.items(), cycle(_SYMBOLS), strict=False):
        if len(rows):
            figure.add_scatter(
                x=plain(rows["number"]),
                y=plain(rows["worst"]),
                mode="markers",
                marker=CONTROL_MARKER
                if name == "control"
                else {
                    "color": TRAINED if name == "fits" else VERMILLION,
                    "symbol": symbol,
                    "size": 9,
                },
                text=[escape(reason) for reason in rows["reason"].fillna("")],
                hovertemplate="trial %{x}: %{y:.2f} octaves<br>%{text}<extra></extra>",
                name=name,
                showlegend=True,
            )
    figure.add_hline(y=0, line={"color": TARGET, "width": 2, "dash": "dash"})
    figure.update_layout(
        **LAYOUT,
        height=400,
        xaxis_title="trial",
        yaxis_title="octaves off the target (≤ 0 fits)",
    )
    return figure


def funnel(frame: pd.DataFrame) -> go.Figure:
    """How many candidates each gate let through."""
    steps = funnel_steps(frame)
    names, counts = (list(part) for part in zip(*steps, strict=True))
    figure = go.Figure(
        go.Bar(
            x=counts,
            y=names,
            orientation="h",
            marker_color=[*[GREY] * (len(steps) - 1), TRAINED],
            text=[f"{count:,}" for count in counts],
        )
    )
    figure.update_layout(
        **LAYOUT,
        height=120 + 45 * len(steps),
        xaxis_title="candidates left",
        yaxis={"autorange": "reversed", "automargin": True},
    )
    return figure


def shown(trained: pd.DataFrame) -> pd.DataFrame:
    """At most `MAX_POINTS` rows: the tenth with the best values, and every so many of the rest."""
    if len(trained) <= MAX_POINTS:
        return trained
    ordered = trained.sort_values("value", ascending=False)
    best, rest = ordered.iloc[: MAX_POINTS // 10], ordered.iloc[MAX_POINTS // 10 :]
    step = -(-len(rest) // (MAX_POINTS - len(best)))
    return trained.loc[sorted([*best.index, *rest.index[::step]])]


def plain(column: pd.Series) -> list[float | None]:
    """Python numbers and None, of any column of numbers."""
    return [
        None if value != value else value
        for value in column.to_numpy(float, na_value=math.nan).tolist()
    ]


def point_labels(frame: pd.DataFrame, metric: str, costs: Sequence[str] = ()) -> list[str]:
    """What to say of each candidate under the pointer; costs are further columns."""
    columns = ["number", "value", "trf_size", "erf_trained", "output_stride", "params_m"]
    more = [cost for cost in costs if cost not in columns]
    rows = frame[columns + more].to_dict(orient="records")
    return [
        f"trial {row['number']}<br>{escape(metric)} {row['value']:.3f}<br>"
        f"TRF {row['trf_size']} px, ERF {_number(row['erf_trained'])} px<br>"
        f"stride {_number(row['output_stride'])} px, {_number(row['params_m'])} M parameters"
        + "".join(f"<br>{escape(cost_label(cost))} {_number(row[cost])}" for cost in more)
        for row in rows
    ]


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else "-"
