from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import optuna
import pytest
from browser import browser_page
from search_results import CONSTRAINT, SPACE, add_baseline, searched_study

from rfsearch.analysis.field_figures import ObjectSizes
from rfsearch.network.architecture_file import read_architecture
from rfsearch.report.html import render_report
from rfsearch.report.summary import StudySummary

HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
FIGURES = {
    "strip", "gallery", "trade_off", "erf", "funnel", "histogram", "feasibility", "curves",
    "growth",
}  # fmt: skip


def full_summary(
    name: str = "made-up",
    baseline: str = "resnet18",
    objectives: tuple[str, ...] = ("score",),
) -> StudySummary:
    study = searched_study(name, objectives=objectives)
    add_baseline(study, 0.8, baseline)
    summary = StudySummary.of_study(study)
    image = (np.arange(48 * 48).reshape(48, 48) % 256).astype(np.uint8)
    return StudySummary(
        study,
        summary.frame,
        question=f"Which? {name}",
        constraint=CONSTRAINT,
        space=SPACE,
        settings={
            "data": {"path": name, "num_train": 3000, "num_valid": 600, "flips": []},
            "search": {"objectives": ["score"], "feasible_only": False, "trained_trials": 7},
        },
        images=(image,),
        num_valid=1000,
    )


@pytest.fixture(scope="module")
def html() -> str:
    return render_report(full_summary())


def sections(html: str) -> str:
    """The page without scripts and drawings."""
    page = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    return re.sub(r"base64,[^\"]*", "", page)


def test_it_answers_the_five_questions(html: str) -> None:
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", html)
    assert headings == [
        "What was asked",
        "What was found",
        "Is it better than the baselines?",
        "Does the effective receptive field matter here?",
        "What to do next",
        "The search",
    ]
    assert {f'id="figure-{name}"' for name in FIGURES} <= set(re.findall(r'id="figure-\w+"', html))
    for words in ("Which? made-up", str(ObjectSizes(6, 10)), "resnet18", "108 candidates"):
        assert words in sections(html)


def test_it_opens_with_the_answer_and_a_figure(html: str) -> None:
    page = sections(html)
    summary = full_summary()
    best = float(summary.trained["value"].iloc[0])
    opening = page[: page.index('id="asked"')]
    assert f"trained candidates has {summary.metric} {best:.3f}" in opening
    assert "the baseline resnet18" in opening
    assert re.findall(r'id="figure-(\w+)"', opening) == ["gallery"]


def test_settings_are_said_in_words(html: str) -> None:
    page = sections(html)
    assert "Images: 3,000 to train on and 600 to judge by." in page
    assert "The search trains 7 candidates to the end." in page
    assert "<dt>search: feasible only</dt><dd>no</dd>" in page
    assert "<dt>search: objectives</dt><dd>score</dd>" in page
    assert "flips" not in page
    assert "[" not in page[page.index("<dl>") : page.index("</dl>")]


def test_the_winner_can_be_copied_as_toml(html: str, tmp_path: Path) -> None:
    text = re.findall(r'<pre id="winner">(.*?)</pre>', html, re.DOTALL)[0]
    summary = full_summary()
    (tmp_path / "best.toml").write_text(unescape(text))
    best = summary.architecture(summary.examples["best"])
    assert read_architecture(tmp_path / "best.toml") == best


def test_a_search_for_several_objectives_shows_its_front(tmp_path: Path) -> None:
    summary = full_summary(objectives=("score", "latency_ms", "flops_g"))
    html = render_report(summary)
    assert "best compromises between several objectives" in sections(html)
    rows = re.findall(r"<h3>The candidates on the Pareto front</h3>.*?</table>", html, re.DOTALL)
    cells = re.findall(r"<td>(.*?)</td>", rows[0])
    expected = summary.front[["number", "latency_ms", "flops_g"]].to_dict(orient="records")
    shown = zip(cells[::10], cells[2::10], cells[3::10], strict=True)
    assert [*shown] == [
        (f"{row['number']}", f"{row['latency_ms']:.4g}", f"{row['flops_g']:.4g}")
        for row in expected
    ]
    assert 'id="figure-curves"' in html
    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    problems: list[str] = []
    with browser_page(problems) as page:
        page.goto((tmp_path / "report.html").as_uri())
        page.wait_for_selector("#chart-front .main-svg")
        points = page.locator("#chart-front .scatterlayer .points path").count()
        page.set_viewport_size({"width": 400, "height": 800})
        page.wait_for_function("document.body.scrollWidth <= document.body.clientWidth")
    # Neither is known of the baseline's latency and FLOPs.
    assert points == 2 * (len(summary.front) + len(summary.trained))
    assert problems == []


def test_with_params_as_an_objective_they_are_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rfsearch.report.html._static", lambda *_: "")  # It is about the others.
    html = render_report(full_summary(objectives=("score", "params_m")))
    assert 'id="figure-front"' in html
    assert 'id="figure-trade_off"' not in html
    assert "best score that can be had for the cost" in html


def test_with_one_objective_there_is_no_front(html: str) -> None:
    assert "Pareto" not in sections(html)


def test_it_is_one_file_of_sane_size(html: str) -> None:
    assert html.count("plotly.js v") == 1
    assert len(html) < 7_000_000
    for address in re.findall(r"""(?:src|href)=["']([^"']*)""", sections(html)):
        assert address.startswith(("data:", "#")), address


def test_a_study_of_nothing_has_a_report() -> None:
    page = sections(
        render_report(StudySummary.of_study(optuna.create_study(direction="maximize")))
    )
    assert "No candidate was trained to the end." in page
    assert "figure-erf" not in page


def test_it_works_from_a_file_in_a_browser(html: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    problems: list[str] = []
    with browser_page(problems) as page:
        page.goto((tmp_path / "report.html").as_uri())
        page.wait_for_selector("#chart-erf .main-svg")
        for name in FIGURES:
            box = page.locator(f"#figure-{name}").bounding_box()
            assert box is not None, name
            assert box["width"] > 300, name
            assert box["height"] > 80, name
        points = page.locator("#chart-erf .scatterlayer .points path").count()
        broken = page.evaluate("[...document.images].filter(i => !i.naturalWidth).length")
        overflow = page.evaluate("document.body.scrollWidth - document.body.clientWidth")
        page.evaluate("document.querySelector('footer').scrollIntoView()")
        contents = page.locator("nav").bounding_box()
        page.set_viewport_size({"width": 1280, "height": 800})
        page.wait_for_function("document.body.scrollWidth <= innerWidth")
        page.locator("details", has=page.locator("#copy")).locator("summary").click()
        page.locator("#copy").click()
        page.wait_for_function(
            "/Copied|Selected/.test(document.getElementById('copy').textContent)"
        )
        page.set_viewport_size({"width": 400, "height": 800})
        # The interactive figures follow a little later.
        page.wait_for_function("document.body.scrollWidth <= document.body.clientWidth")
    assert points == 2 * (len(full_summary().trained) + 1)  # The baseline is the one more.
    assert (broken, overflow) == (0, 0)
    assert contents is not None
    assert contents["y"] == 0  # It stays where the page is scrolled.
    assert problems == []


def test_names_in_a_study_are_inert(tmp_path: Path) -> None:
    summary = full_summary(HOSTILE, baseline=HOSTILE)
    summary.frame["metric"] = HOSTILE
    summary.frame.loc[summary.frame["rejected_by"].notna(), "reason"] = HOSTILE
    problems: list[str] = []
    with browser_page(problems) as page:
        (tmp_path / "report.html").write_text(render_report(summary), encoding="utf-8")
        page.goto((tmp_path / "report.html").as_uri())
        page.wait_for_selector("#chart-erf .main-svg")
        assert page.evaluate("window.hacked === undefined")
        assert HOSTILE in page.inner_text("h1")
    assert problems == []


def test_hostile_names_are_escaped_without_a_browser() -> None:
    summary = full_summary(HOSTILE, baseline=HOSTILE)
    html = render_report(summary)
    assert HOSTILE not in html
    assert json.dumps(HOSTILE) not in html
    assert "<img src=x" not in html
