from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen
from wsgiref.simple_server import WSGIServer, make_server

import optuna
import pytest
from browser import browser_page
from helpers import refusal, rfsearch
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, TrialState
from search_results import searched_study
from studies import closing_all

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


class Served(NamedTuple):
    """What the command serves."""

    address: str
    best: int


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The command serves a study, in a thread of its own."""
    url = f"sqlite:///{tmp_path_factory.mktemp('served') / 'study.db'}"
    with closing_all():
        best = searched_study(trials=12, storage=url).best_trial.number
    listening: Future[WSGIServer] = Future()

    def listen(*arguments: Any) -> WSGIServer:
        server = make_server(*arguments)
        listening.set_result(server)
        return server

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor() as thread:
        patch.setattr("rfsearch.cli.dashboard.make_server", listen)
        ended = thread.submit(rfsearch, "dashboard", "--storage", url, "--port", "0")
        # A command that fails never listens.
        ended.add_done_callback(lambda _: listening.cancel())
        try:
            server = listening.result()
        except CancelledError:
            pytest.fail(ended.result().output)
        address = f"http://localhost:{server.server_port}/"
        try:
            yield Served(address, best)
        finally:
            server.shutdown()
        result = ended.result()
    assert result.exit_code == 0
    assert result.stderr == "Reading the study and drawing its figures ...\n"
    assert result.stdout == f"dashboard  {address}  (Ctrl-C ends it)\n"


def test_the_real_dashboard_serves_figures_and_trials(served: Served) -> None:
    with urlopen(f"{served.address}api/studies/0") as answer:
        detail = json.load(answer)
    names = {plot["id"] for plot in detail["plotly_graph_objects"]}
    assert names == {"rf-feasibility", "rf-funnel", "rf-erf"}
    assert len(detail["trials"]) == 12


def test_a_browser_shows_figures_note_feasibility_and_a_map(
    request: pytest.FixtureRequest,
) -> None:
    problems: list[str] = []
    with browser_page(problems) as page:
        address, best = request.getfixturevalue("served")
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
