"""A search as one HTML file, for somebody who was not there.

Everything is inside the file: it needs no network and no other file. Names and texts of a study
are untrusted data, and are escaped wherever they go.
"""

from __future__ import annotations

import base64
import io
from importlib.metadata import version
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from rfsearch.analysis import interactive, interactive_front, search_figures
from rfsearch.analysis.field_figures import erf_gallery, field_growth
from rfsearch.network.architecture_file import architecture_toml
from rfsearch.report import _tables as report_tables
from rfsearch.report import _text as report_text
from rfsearch.report._advice import erf_verdict, next_steps
from rfsearch.search.curves import curve_of
from rfsearch.space.constraint import RFConstraint

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

    from rfsearch.field.erf_map import ErfMap
    from rfsearch.network.architecture import Architecture
    from rfsearch.report.summary import StudySummary


def render_report(summary: StudySummary) -> str:
    """The report of a study as HTML."""
    environment = Environment(
        loader=PackageLoader("rfsearch.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja").render(
        summary=summary,
        facts=report_text.facts(summary),
        answer=report_text.answer(summary),
        asked=report_text.asked(summary),
        stated=report_text.stated(summary),
        winner=_winner(summary),
        found=report_text.found(summary),
        on_the_front=report_text.on_the_front(summary),
        against_baselines=report_text.against_baselines(summary),
        erf_verdict=erf_verdict(summary),
        steps=next_steps(summary),
        candidates=report_tables.candidates(summary),
        front=report_tables.front(summary),
        baselines=report_tables.baselines(summary),
        controls=report_tables.controls(summary),
        levels=report_tables.levels(summary),
        effects=report_tables.effects(summary),
        choices=report_tables.choices(summary),
        saved=report_tables.saved(summary),
        charts=_charts(summary) | _field_charts(summary),
        strip=_strip_of_best(summary),
        plotly_js=Markup(get_plotlyjs()),
        version=version("rfsearch"),
    )


def _charts(summary: StudySummary) -> dict[str, Markup]:
    """The figures for which there is data, by name."""
    frame = summary.frame
    charts = {"funnel": _static(search_figures.funnel(frame), "candidates left after each gate")}
    if len(summary.trained):
        largest = summary.objects.high if summary.objects else None
        charts["erf"] = _live(
            interactive.value_against_erf(frame, summary.effective, largest), "chart-erf"
        )
        if "params_m" not in summary.costs:
            trade_off = interactive_front.trade_off(frame, direction=summary.objectives["value"])
            charts["trade_off"] = _live(trade_off, "chart-trade-off")
        if summary.costs:
            panels = interactive_front.pareto_panels(frame, summary.objectives)
            charts["front"] = _live(panels, "chart-front")
    if frame[["trf_octaves", "erf_expected_octaves"]].notna().any(axis=None):
        charts["feasibility"] = _live(interactive.feasibility(frame), "chart-feasibility")
    if any(curve_of(trial) for trial in summary.study.get_trials(deepcopy=False)):
        curves = search_figures.learning_curves(summary.study, frame)
        charts["curves"] = _static(curves, "value of each candidate after each epoch")
    is_square = summary.space is not None and len(summary.space.alike) == 1
    if is_square and summary.space is not None and summary.constraint is not None:
        everything = RFConstraint(theoretical=None, effective=None)
        histogram = search_figures.feasible_histogram(
            summary.space.feasible(everything).histogram(),
            summary.space.feasible(summary.constraint).histogram(),
            frame,
            maximize=summary.maximizes,
        )
        charts["histogram"] = _static(histogram, "receptive fields in the space and in the search")
    return charts


def _expected_map(architecture: Architecture) -> ErfMap:
    """The map of the last output, of which any axis has the whole."""
    return architecture.expected_erf(axis=architecture.axes[0]).profile


def _field_charts(summary: StudySummary) -> dict[str, Markup]:
    """What the best, the median and a rejected candidate see, and how it grows."""
    if not summary.examples:
        return {}
    names = {f"{what} (trial {number})": number for what, number in summary.examples.items()}
    architectures = {name: summary.architecture(number) for name, number in names.items()}
    maps = {
        name: summary.maps.get(number) or _expected_map(architectures[name])
        for name, number in names.items()
    }
    gallery = erf_gallery(maps, summary.images, summary.objects)
    growth = field_growth(architectures, summary.objects)
    return {
        "gallery": _static(gallery, "effective receptive fields over images of the data"),
        "growth": _static(growth, "receptive fields after each layer"),
    }


def _strip_of_best(summary: StudySummary) -> Markup | None:
    if "best" not in summary.examples:
        return None
    return Markup(summary.architecture(summary.examples["best"])._repr_svg_())


def _winner(summary: StudySummary) -> str | None:
    """The best candidate as TOML."""
    if "best" not in summary.examples:
        return None
    return architecture_toml(summary.architecture(summary.examples["best"]))


def _live(figure: go.Figure, name: str) -> Markup:
    """An interactive figure; plotly.js stands once in the page."""
    html = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        config={"displaylogo": False, "responsive": True},
    )
    return Markup(html)


def _static(figure: Figure, what: str) -> Markup:
    """A drawing as an image of its own, so that its names meet no others."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    data = base64.b64encode(file.getvalue()).decode()
    return Markup('<img alt="{}" src="data:image/svg+xml;base64,{}">').format(what, data)
