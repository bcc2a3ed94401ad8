from __future__ import annotations

import json

import optuna
import pytest
from search_results import searched_study

from rfsearch import interactive
from rfsearch.analysis import trials_dataframe
from rfsearch.erf_effect import trained_candidates
from rfsearch.pareto import pareto_front
from rfsearch.target import Range

FRAME = trials_dataframe(searched_study())
TRAINED = trained_candidates(FRAME)
EMPTY = trials_dataframe(optuna.create_study())


def markers(figure: interactive.go.Figure) -> list[interactive.go.Scatter]:
    return [trace for trace in figure.data if getattr(trace, "mode", None) == "markers"]


def test_every_candidate_is_a_point_in_both_panels() -> None:
    ratios, sizes = markers(interactive.value_against_erf(FRAME, Range(10, 30), 5.0))
    assert list(ratios.x) == TRAINED["erf_ratio_trained"].tolist()
    assert list(sizes.x) == pytest.approx((TRAINED["erf_trained"] / 5).tolist())
    assert list(sizes.y) == TRAINED["value"].tolist()
    assert f"trial {TRAINED['number'].iloc[0]}<br>" in ratios.text[0]


def test_the_target_is_shaded_in_the_unit_of_the_axis() -> None:
    (shape,) = interactive.value_against_erf(FRAME, Range(10, 30), 5.0).layout.shapes
    assert (shape.x0, shape.x1, shape.xref) == (2, 6, "x2")
    (shape,) = interactive.value_against_erf(FRAME, Range(10, 30)).layout.shapes
    assert (shape.x0, shape.x1) == (10, 30)


def test_the_front_is_drawn() -> None:
    figure = interactive.trade_off(FRAME)
    front = pareto_front(TRAINED, {"params_m": "minimize", "value": "maximize"})
    assert list(figure.data[0].x) == front["params_m"].tolist()


def test_feasibility_has_every_trial_where_its_worst_gate_says() -> None:
    traces = markers(interactive.feasibility(FRAME))
    assert sum(len(trace.x) for trace in traces) == len(FRAME)
    fits = {int(x) for trace in traces if trace.name == "fits" for x in trace.x}
    assert fits == set(FRAME.loc[FRAME["feasible"], "number"])
    assert len({trace.marker.symbol for trace in traces}) == len(traces)


def test_names_are_no_markup() -> None:
    hostile = FRAME.assign(metric="<script>alert(1)</script>", reason="<b>no</b>")
    for figure in (
        interactive.value_against_erf(hostile, None),
        interactive.trade_off(hostile),
        interactive.feasibility(hostile),
    ):
        text = json.dumps(figure.to_plotly_json(), default=list)
        assert "<script>" not in text
        assert "<b>" not in text


def test_figures_hold_plain_lists_alone() -> None:
    # Typed arrays are encoded in a way that older versions of plotly.js cannot read.
    for figure in (
        interactive.value_against_erf(FRAME, Range(10, 30)),
        interactive.trade_off(FRAME),
        interactive.feasibility(FRAME),
        interactive.funnel(FRAME),
    ):
        assert '"bdata"' not in figure.to_json()


def test_many_candidates_are_thinned_out_but_the_best_stay() -> None:
    many = TRAINED.loc[TRAINED.index.repeat(200)].reset_index(drop=True)
    many["value"] = many["value"] + many.index / 1e6
    shown = interactive.shown(many)
    assert len(shown) <= interactive.MAX_POINTS < len(many)
    best = many["value"].nlargest(interactive.MAX_POINTS // 10)
    assert set(best.index) <= set(shown.index)


def test_a_study_without_trials_can_be_drawn() -> None:
    for figure in (
        interactive.value_against_erf(EMPTY, Range(10, 30)),
        interactive.trade_off(EMPTY),
        interactive.feasibility(EMPTY),
        interactive.funnel(EMPTY),
    ):
        assert all(not trace.x for trace in markers(figure))
