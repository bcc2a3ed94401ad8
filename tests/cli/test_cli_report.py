from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from helpers import refusal, rfsearch
from search_results import searched_study

EXPERIMENT = """
question = "Which networks see a digit?"
space = "toy"
[target]
min_size = 6
max_size = 10
[data]
source = "digits"
num_train = 8
num_valid = 4
"""


@pytest.fixture
def url(stored_once: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(stored_once, tmp_path)}"


def test_a_study_in_a_database(url: str, tmp_path: Path) -> None:
    out = tmp_path / "out.html"
    result = rfsearch("report", "--storage", url, "--study", "made-up", "--out", out)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"report  {out}\n"
    assert "<title>made-up: search report</title>" in out.read_text()


def test_an_experiment_adds_question_images_and_measured_erfs(
    stored_once: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "made-up"
    folder.mkdir()
    (folder / "experiment.toml").write_text(EXPERIMENT)
    shutil.copy(stored_once, folder)
    out = tmp_path / "out.html"
    result = rfsearch("report", folder, "--out", out)
    assert result.exit_code == 0, result.output
    html = out.read_text()
    assert "Which networks see a digit?" in html
    assert "before training, measured" in html
    assert "validation images" in html


def test_an_experiment_whose_study_is_elsewhere(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "made-up"
    folder.mkdir()
    (folder / "experiment.toml").write_text(EXPERIMENT)
    searched_study("another", trials=2, storage=url)
    out = tmp_path / "out.html"
    result = rfsearch("report", folder / "experiment.toml", "--storage", url, "--out", out)
    assert result.exit_code == 0, result.output
    html = out.read_text()
    assert "<title>made-up: search report</title>" in html
    assert "Which networks see a digit?" in html


def test_mistakes_are_one_line(url: str, tmp_path: Path) -> None:
    assert "neither" in refusal(rfsearch("report"))
    assert "must go with `--storage`" in refusal(rfsearch("report", tmp_path, "--study", "a"))
    assert "must be one of made-up, but got 'other'" in refusal(
        rfsearch("report", "--storage", url, "--study", "other")
    )
    searched_study("second", trials=2, storage=url)
    assert "one of made-up, second, but got nothing" in refusal(
        rfsearch("report", "--storage", url)
    )
    named = ("report", "--storage", url, "--study", "second", "--out")
    assert "must end in .html" in refusal(rfsearch(*named, tmp_path / "a.pdf"))
    assert "cannot be written" in refusal(rfsearch(*named, tmp_path / "no" / "a.html"))


def test_no_study_yet(tmp_path: Path) -> None:
    assert "there is no study yet" in refusal(rfsearch("report", tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("nonsense " * 200)
    result = rfsearch("report", "--storage", f"sqlite:///{tmp_path / 'study.db'}")
    assert "not a usable Optuna database" in refusal(result)
    secret = "postgresql://user:secret@localhost:1/db"
    assert "secret" not in refusal(rfsearch("report", "--storage", secret))


def test_a_study_that_can_only_be_read(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: not mode & os.W_OK)
    names = {path.name for path in tmp_path.iterdir()}
    before = (tmp_path / "study.db").read_bytes()
    with tempfile.TemporaryDirectory() as elsewhere:
        result = rfsearch("report", "--storage", url, "--out", Path(elsewhere) / "out.html")
    assert result.exit_code == 0, result.output
    assert {path.name for path in tmp_path.iterdir()} == names
    assert (tmp_path / "study.db").read_bytes() == before
