"""The tables of a report, formatted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from rfsearch.analysis.erf_effect import erf_correlations
from rfsearch.analysis.front import cost_label
from rfsearch.analysis.importances import choice_importances
from rfsearch.analysis.level_table import levels_dataframe
from rfsearch.analysis.savings import gate_savings
from rfsearch.report._advice import ENOUGH_CANDIDATES
from rfsearch.report._text import duration

if TYPE_CHECKING:
    from rfsearch.report.summary import StudySummary

#: Columns of the tables of candidates: column, heading, format.
_CANDIDATE = (
    ("number", "trial", "{:d}"),
    ("value", "", "{:.3f}"),
    ("trf_size", "TRF, px", "{:d}"),
    ("erf_expected", "ERF expected, px", "{:.0f}"),
    ("erf_init", "ERF initial, px", "{:.0f}"),
    ("erf_trained", "ERF trained, px", "{:.0f}"),
    ("erf_ratio_trained", "ERF ratio", "{:.2f}"),
    ("output_stride", "stride, px", "{:.3g}"),
    ("params_m", "parameters, M", "{:.3g}"),
    ("flops_g", "GFLOPs", "{:.3g}"),
    ("train_seconds", "training, s", "{:.0f}"),
)
_BASELINE = (("baseline", "network", "{}"), *_CANDIDATE[1:])
_CONTROL = (*_CANDIDATE[:7], ("reason", "does not fit", "{}"))
#: What comes out too small where the images are smaller than the receptive field.
_MEASURED = ("erf_init", "erf_trained", "erf_ratio", "erf_ratio_trained")
#: Column for what a candidate was built from.
_CHOICES = "choices"
_TOP = 10
_FRONT = 30


class Grid(NamedTuple):
    """A table of the report, already formatted."""

    headings: list[str]
    rows: list[list[str]]


def candidates(summary: StudySummary) -> Grid:
    """The best candidates."""
    columns = _named(summary, _CANDIDATE)
    if not summary.examples:  # No trial says what was built: modules of the user's own.
        columns.append((_CHOICES, "choices", "{}"))
    table = summary.trained.head(_TOP)
    built = [summary.parameters(number) for number in table["number"]]
    return _grid(table.assign(**{_CHOICES: built}), columns)


def baselines(summary: StudySummary) -> Grid:
    """The known networks, the best first."""
    return _grid(summary.baselines, _named(summary, _BASELINE))


def controls(summary: StudySummary) -> Grid:
    """The candidates that do not fit, the best first."""
    return _grid(summary.controls, _named(summary, _CONTROL))


def front(summary: StudySummary) -> Grid:
    """The candidates on the Pareto front, the best score first; nothing with one objective."""
    costs = [(cost, cost_label(cost), "{:.4g}") for cost in summary.costs]
    table = summary.front.head(_FRONT if costs else 0)
    return _grid(table, [*_named(summary, _CANDIDATE[:2]), *costs, *_CANDIDATE[2:8]])


def _named(
    summary: StudySummary, columns: tuple[tuple[str, str, str], ...]
) -> list[tuple[str, str, str]]:
    return [(column, heading or summary.metric, form) for column, heading, form in columns]


def _grid(frame: pd.DataFrame, columns: list[tuple[str, str, str]]) -> Grid:
    rows = [
        [cell(row, column, form) for column, _, form in columns]
        for row in frame.to_dict(orient="records")
    ]
    return Grid([heading for _, heading, _ in columns], rows)


def cell(row: Mapping[Any, Any], column: str, form: str) -> str:
    """A value of a row; an ERF that the images clipped, which is too small, as `>` its number.

    >>> cell({"erf_init": 61.0, "erf_clipped": 0.2}, "erf_init", "{:.0f} px")
    '>61 px'
    """
    if pd.isna(row[column]):
        return "-"
    clipped = column in _MEASURED and pd.notna(share := row.get("erf_clipped")) and share > 0
    return f"{'>' if clipped else ''}{form.format(row[column])}"


def effects(summary: StudySummary) -> Grid:
    """How each predictor goes with the value."""
    effect = erf_correlations(summary.frame, summary.effective).dropna(subset=["rho"])
    columns = [("what", "predictor", "{}"), ("rho", "rank correlation", "{:+.2f}")]
    columns += [("low", "95 % from", "{:+.2f}"), ("high", "to", "{:+.2f}")]
    return _grid(effect, [*columns, ("points", "candidates", "{:d}")])


def saved(summary: StudySummary) -> Grid:
    """What each gate stopped."""
    table = gate_savings(summary.frame)
    spans = ["saved_seconds", "saved_low", "saved_high"]
    table[spans] = table[spans].map(lambda s: duration(s) if pd.notna(s) else None)
    columns = [("what", "gate", "{}"), ("stopped", "trials stopped", "{:d}")]
    columns += [("saved_seconds", "training saved", "{}"), ("saved_low", "95 % from", "{}")]
    return _grid(table, [*columns, ("saved_high", "to", "{}")])


def choices(summary: StudySummary) -> Grid:
    """The choices that matter most, where there are candidates enough."""
    table = choice_importances(summary.study).head(_TOP)
    if len(summary.trained) < ENOUGH_CANDIDATES:  # A tenth of them would be one or two.
        table = table.head(0)
    return _grid(table, [("parameter", "choice", "{}"), ("importance", "importance", "{:.0%}")])


def levels(summary: StudySummary) -> Grid:
    """The output maps of the best candidate, if it has several."""
    table = levels_dataframe(summary.study)
    best = summary.trained["number"].head(1)
    columns = [("level", "level", "{}"), ("stride", "stride, px", "{:d}")]
    columns += [("trf_size", "TRF, px", "{:d}"), ("erf_expected", "ERF expected, px", "{:.0f}")]
    columns += [("part_low", "objects from, px", "{:.0f}"), ("part_high", "to, px", "{:.0f}")]
    return _grid(table[table["number"].isin(best)], columns)
