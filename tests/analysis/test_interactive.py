from __future__ import annotations

import itertools
import json

import optuna
import pytest
from optuna.trial import create_trial
from search_results import add_baseline, add_controls, searched_study

from rfsearch.analysis import interactive, interactive_front
from rfsearch.analysis.analysis import trials_dataframe
from rfsearch.analysis.erf_effect import trained_candidates
from rfsearch.analysis.objective_columns import objectives_of
from rfsearch.analysis.pareto import pareto_front
from rfsearch.basics.ranges import Range

FRAME = trials_dataframe(searched_study())
TRAINED = trained_candidates(FRAME)
EMPTY = trials_dataframe(optuna.create_study())
SEVERAL = ("score", "params_m", "flops_g", "latency_ms")
CONTROL = "control, does not fit"
OBJECTIVES = {"value": "maximize", "params_m": "minimize", "latency_ms": "minimize"}


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
    figure = interactive_front.trade_off(FRAME)
    front = pareto_front(TRAINED, {"params_m": "minimize", "value": "maximize"})
    assert list(figure.data[0].x) == front["params_m"].tolist()


def test_a_search_for_several_has_a_panel_for_each_cost_and_a_front() -> None:
    study = searched_study(objectives=SEVERAL)
    add_baseline(study, 0.8)
    frame = trials_dataframe(study)
    figure = interactive_front.pareto_panels(frame, objectives_of(study))
    best = {trial.number for trial in study.best_trials}
    front = frame[frame["number"].isin(best)]
    assert 1 < len(front) < len(trained_candidates(frame))
    for axis, cost in (("x", "params_m"), ("x2", "flops_g"), ("x3", "latency_ms")):
        in_panel = {trace.name: trace for trace in figure.data if trace.xaxis == axis}
        drawn = set(zip(in_panel["Pareto front"].x, in_panel["Pareto front"].y, strict=True))
        assert drawn == set(zip(front[cost], front["value"], strict=True))
        assert len(in_panel["trained candidate"].x) == len(trained_candidates(frame))
        assert ("baseline" in in_panel) == (cost == "params_m")
        assert in_panel["Pareto front"].mode == "markers"
    named = [trace.name for trace in figure.data if trace.showlegend]
    assert sorted(named) == ["Pareto front", "baseline", "trained candidate"]


@pytest.mark.parametrize("directions", [*itertools.product(["minimize", "maximize"], repeat=2)])
def test_the_line_of_a_front_runs_through_what_can_be_had(directions: tuple[str, str]) -> None:
    study = optuna.create_study(directions=directions)
    good = [1 if direction == "maximize" else -1 for direction in directions]
    for value, cost in ((1, 3), (2, 2), (3, 1), (0, 0)):
        study.add_trial(create_trial(values=[good[0] * value, good[1] * cost]))
    frame = trials_dataframe(study)
    line = interactive_front.pareto_panels(frame, objectives_of(study)).data[0]
    assert line.mode == "lines+markers"
    corner = [(good[0] * y, good[1] * x) for y, x in corners(line)]
    # Each corner is beaten by a trial in one objective, and has the other from a better one.
    assert sorted(corner) == [(1, 2), (2, 1)]


def corners(line: interactive.go.Scatter) -> list[tuple[float, float]]:
    """Where a line of steps turns between its points, as (y, x)."""
    points = list(zip(line.x, line.y, strict=True))
    horizontal_first = line.line.shape == "hv"
    return [
        (y0, x1) if horizontal_first else (y1, x0)
        for (x0, y0), (x1, y1) in itertools.pairwise(points)
    ]


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
        interactive_front.trade_off(hostile),
        interactive_front.pareto_panels(hostile, OBJECTIVES),
        interactive.feasibility(hostile),
    ):
        text = json.dumps(figure.to_plotly_json(), default=list)
        assert "<script>" not in text
        assert "<b>" not in text


def test_figures_hold_plain_lists_alone() -> None:
    # Typed arrays are encoded in a way that older versions of plotly.js cannot read.
    for figure in (
        interactive.value_against_erf(FRAME, Range(10, 30)),
        interactive_front.trade_off(FRAME),
        interactive_front.pareto_panels(FRAME, OBJECTIVES),
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
        interactive_front.trade_off(EMPTY),
        interactive_front.pareto_panels(EMPTY, OBJECTIVES),
        interactive.feasibility(EMPTY),
        interactive.funnel(EMPTY),
    ):
        assert all(not trace.x for trace in markers(figure))


def test_controls_are_hollow_and_move_no_trend() -> None:
    study = searched_study()
    add_controls(study, 0.3, 0.4)
    frame = trials_dataframe(study)
    before = interactive.value_against_erf(FRAME, Range(10, 30))
    figure = interactive.value_against_erf(frame, Range(10, 30))
    assert [t.x for t in figure.data if t.name != CONTROL] == [t.x for t in before.data]
    ratios, sizes = (trace for trace in figure.data if trace.name == CONTROL)
    assert ratios.marker.symbol == sizes.marker.symbol == "circle-open"
    assert list(sizes.x) == [6, 6]
    assert list(ratios.y) == [0.3, 0.4]
    assert "below the lower bound" in ratios.text[0]
    (shown,) = (t for t in interactive.feasibility(frame).data if t.name == "control")
    assert len(shown.x) == 2
    assert interactive.funnel(frame) == interactive.funnel(FRAME)
    assert CONTROL in {trace.name for trace in interactive_front.trade_off(frame).data}
