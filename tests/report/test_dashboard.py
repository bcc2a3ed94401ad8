from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import optuna
import pytest
from browser import browser_page
from helpers import refusal, rfsearch
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, TrialState
from search_results import searched_study

from rfsearch.space.trial_gates import CONSTRAINT_KEYS

pytest.importorskip("optuna_dashboard", reason="needs the extra rfsearch[dashboard]")

from rfsearch.report.dashboard import (
    FEASIBLE,
    VIOLATION,
    MemoryArtifacts,
    dashboard_study,
    note,
    plain,
)
from rfsearch.report.summary import StudySummary


class Copy(NamedTuple):
    """A study as the dashboard shows it."""

    study: optuna.Study
    before: list[FrozenTrial]
    summary: StudySummary
    artifacts: MemoryArtifacts
    shown: optuna.Study


@pytest.fixture(scope="module")
def plain_maps() -> Iterator[None]:
    """Maps without a drawing; the real dashboard has one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rfsearch.report.dashboard.erf_heat_map", lambda *_: Figure())
        yield


@pytest.fixture(scope="module")
def copy(plain_maps: None) -> Copy:
    study = searched_study()
    before, summary, artifacts = study.trials, StudySummary.of_study(study), MemoryArtifacts()
    return Copy(study, before, summary, artifacts, dashboard_study(summary, artifacts))


def test_the_copy_has_all_trials_and_says_what_fits(copy: Copy) -> None:
    study, before, shown = copy.study, copy.before, copy.shown
    assert study.trials == before
    for trial, copied in zip(before, shown.trials, strict=True):
        octaves = [
            trial.constraints[k] for k in CONSTRAINT_KEYS.values() if k in trial.constraints
        ]
        assert (copied.state, copied.values, copied.params) == (
            trial.state,
            trial.values,
            trial.params,
        )
        assert copied.user_attrs[FEASIBLE] == (max(octaves) <= 0)
        assert copied.user_attrs[VIOLATION] == pytest.approx(max(octaves), abs=1e-3)
        assert copied.system_attrs["constraints"] == octaves
        # In the made-up study the closed-form gates stop exactly what does not fit.
        assert copied.user_attrs[FEASIBLE] == (trial.state == TrialState.COMPLETE)


@pytest.mark.usefixtures("plain_maps")
def test_several_objectives_are_copied_with_their_names_and_their_front() -> None:
    study = searched_study(trials=20, objectives=("score", "params_m"))
    shown = dashboard_study(StudySummary.of_study(study), MemoryArtifacts())
    assert shown.directions == study.directions
    assert shown.metric_names == ["score", "params_m"]
    assert [trial.values for trial in shown.trials] == [trial.values for trial in study.trials]
    assert {trial.number for trial in shown.best_trials} == {t.number for t in study.best_trials}
    attributes = shown._storage.get_study_system_attrs(shown._study_id)
    assert "Pareto front" in attributes["dashboard:plot_data:rf-front:0"]


def test_maps_are_artifacts_of_the_best_and_of_examples(copy: Copy) -> None:
    summary, artifacts, shown = copy.summary, copy.artifacts, copy.shown
    with_map = {
        trial.number: json.loads(value)
        for trial in shown.trials
        for key, value in trial.system_attrs.items()
        if key.startswith("artifacts:")
    }
    assert set(summary.examples.values()) | set(summary.trained["number"].head(10)) == set(
        with_map
    )
    for about in with_map.values():
        assert about["filename"] == "expected_erf.png"
        assert artifacts.open_reader(about["artifact_id"]).read().startswith(b"\x89PNG")


def test_the_note_is_text_whatever_the_names_are() -> None:
    study = searched_study("<img src=x> [a](b) | **c**")
    written = note(StudySummary.of_study(study))
    assert plain(study.study_name) in written
    assert "<img" not in written.replace("\\<img", "")
    assert "## What to do next" in written


def test_it_shows_in_the_real_dashboard(tmp_path: Path) -> None:
    """The command starts it; figures, note, feasibility and a map are there, in a browser."""
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = searched_study(trials=12, storage=url)
    best = study.best_trial.number
    command = [
        sys.executable,
        "-m",
        "rfsearch.cli.main",
        "dashboard",
        "--storage",
        url,
        "--port",
        "0",
    ]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stderr is not None
            assert server.stderr.readline() == "Reading the study and drawing its figures ...\n"
            line = server.stdout.readline()
            address = line.split()[1]
            assert address.startswith("http://localhost:")
            with urlopen(f"{address}api/studies/0") as answer:
                detail = json.load(answer)
            names = {plot["id"] for plot in detail["plotly_graph_objects"]}
            assert names == {"rf-feasibility", "rf-funnel", "rf-erf"}
            assert len(detail["trials"]) == 12
            problems: list[str] = []
            with browser_page(problems) as page:
                page.goto(f"{address}dashboard/studies/0")
                page.get_by_text("What the gates let through").wait_for()
                page.get_by_text("accuracy against the ERF").wait_for()
                page.goto(f"{address}dashboard/studies/0/note")
                page.get_by_text("What to do next").wait_for()
                page.goto(f"{address}dashboard/studies/0/trials?numbers={best}")
                page.get_by_text(f"{FEASIBLE} true").wait_for()
                image = page.locator("img[src*='/artifacts/']").first
                image.wait_for()
                assert image.evaluate("i => i.decode().then(() => i.naturalWidth)") > 300
            assert problems == []
        finally:
            server.terminate()


@pytest.mark.usefixtures("plain_maps")
def test_mistakes_are_one_line(tmp_path: Path) -> None:
    assert "neither" in refusal(rfsearch("dashboard"))
    url = f"sqlite:///{tmp_path / 'study.db'}"
    assert "no study yet" in refusal(rfsearch("dashboard", "--storage", url))
    searched_study(trials=3, storage=url)
    taken = rfsearch("dashboard", "--storage", url, "--host", "no.such.host.invalid")
    assert taken.exit_code == 2
    says, mistake = taken.stderr.splitlines()
    assert says == "Reading the study and drawing its figures ..."
    assert mistake.startswith("error: no.such.host.invalid")


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    assert "rfsearch[dashboard]" in refusal(rfsearch("dashboard", "--storage", "sqlite:///x.db"))
