from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from search_results import CONSTRAINT, SPACE, add_baseline, searched_study

from rfsearch.analysis.analysis import trials_dataframe
from rfsearch.analysis.search_figures import (
    feasible_histogram,
    funnel,
    funnel_steps,
    learning_curves,
)
from rfsearch.basics.palette import VERMILLION
from rfsearch.space.constraint import RFConstraint

STUDY = searched_study()
FRAME = trials_dataframe(STUDY)
EMPTY = optuna.create_study(direction="maximize")
EVERYTHING = RFConstraint(theoretical=None, effective=None)


def histogram() -> Figure:
    sizes = [SPACE.feasible(constraint).histogram() for constraint in (EVERYTHING, CONSTRAINT)]
    return feasible_histogram(*sizes, FRAME)


def test_the_funnel_narrows_to_the_trained() -> None:
    steps = dict(funnel_steps(FRAME))
    stopped = FRAME["rejected_by"].value_counts()
    assert steps["proposed"] == len(FRAME)
    assert steps["after theoretical RF"] == len(FRAME) - stopped["theoretical"]
    assert steps["after expected ERF"] == steps["trained to the end"] == FRAME["value"].count()
    axes = funnel(FRAME).axes[0]
    assert [bar.get_width() for bar in axes.patches] == list(steps.values())


def test_repeated_candidates_leave_the_funnel_once() -> None:
    frame = FRAME.assign(duplicate_of=FRAME["duplicate_of"].mask(FRAME["number"] == 3, 0))
    steps = dict(funnel_steps(frame))
    assert steps["not trained before"] == steps["trained to the end"]


def test_baselines_are_no_proposals() -> None:
    study = searched_study()
    add_baseline(study, 0.99)
    frame = trials_dataframe(study)
    assert funnel_steps(frame) == funnel_steps(FRAME)
    assert len(learning_curves(study, frame).axes[0].get_lines()) == FRAME["value"].count()


def test_the_histogram_holds_the_whole_space_and_all_trials() -> None:
    upper, lower = histogram().axes
    heights = [sum(bar.get_height() for bar in bars) for bars in upper.containers]
    assert heights[0] == pytest.approx(100)
    assert heights[1] == pytest.approx(100 * SPACE.feasible(CONSTRAINT).fraction, rel=0.2)
    counted = sum(bar.get_height() for bars in lower.containers for bar in bars)
    assert counted == FRAME["trf_size"].count()
    (star,) = lower.get_lines()
    best = FRAME.loc[FRAME["value"].astype(float).idxmax()]
    assert star.get_xdata()[0] == best["trf_size"]


def test_every_trained_candidate_has_a_curve_and_the_best_stands_out() -> None:
    (axes,) = learning_curves(STUDY, FRAME).axes
    assert len(axes.get_lines()) == FRAME["value"].count()
    (best,) = [line for line in axes.get_lines() if line.get_color() == VERMILLION]
    number = FRAME.loc[FRAME["value"].astype(float).idxmax(), "number"]
    assert dict(zip(*best.get_data(), strict=True)) == STUDY.trials[number].intermediate_values
    assert f"trial {number}" in axes.get_legend().get_texts()[0].get_text()


def test_shades_differ_in_lightness_too() -> None:
    upper, lower = histogram().axes
    for axes in (upper, lower):
        shades = {to_hex(bars.patches[0].get_facecolor()) for bars in axes.containers}
        greys = sorted(sum(int(s[i : i + 2], 16) for i in (1, 3, 5)) / 3 for s in shades)
        assert len(greys) == 2
        assert np.diff(greys)[0] > 50


@pytest.mark.parametrize("name", ["funnel", "histogram", "curves"])
def test_a_study_without_trials_can_be_drawn(name: str, tmp_path: Path) -> None:
    frame = trials_dataframe(EMPTY)
    figure = {
        "funnel": lambda: funnel(frame),
        "histogram": lambda: feasible_histogram({8: 1}, {}, frame),
        "curves": lambda: learning_curves(EMPTY, frame),
    }[name]()
    figure.savefig(tmp_path / "figure.svg")
    assert "<svg" in (tmp_path / "figure.svg").read_text()
