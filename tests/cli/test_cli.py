from __future__ import annotations

import os
import signal
import sqlite3
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import Result
from helpers import TINY_SPACE, refusal, rfsearch
from optuna.trial import FrozenTrial, TrialState
from studies import stored_study

from rfsearch.search.folder_lock import exclusive
from rfsearch.space.constraint import RFConstraint
from rfsearch.space.space import SearchSpace
from rfsearch.target.target import ScaleTarget

EXPERIMENT = """
space = "space.toml"
[target]
min_size = {min_size}
max_size = 6
[data]
source = "digits"
object_size = 8
canvas_size = 16
num_train = 32
num_valid = 16
[training]
epochs = {epochs}
[search]
trained_trials = {trained_trials}
max_trials = 100000
sampler = "random"
feasible_only = false
seed = 2
"""


def write_experiment(
    folder: Path, *, min_size: float = 5, epochs: int = 1, trained_trials: int = 2
) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "space.toml").write_text(TINY_SPACE)
    text = EXPERIMENT.format(min_size=min_size, epochs=epochs, trained_trials=trained_trials)
    (folder / "experiment.toml").write_text(text)
    return folder


def many_candidates(folder: Path, trained_trials: int) -> Path:
    """An experiment whose space is large enough for workers not to run out of candidates."""
    folder.mkdir()
    source = Path(__file__).parents[2] / "experiments" / "many_workers"
    for name in ("experiment.toml", "space.toml"):
        text = (source / name).read_text()
        budget = f"trained_trials = {trained_trials}"
        (folder / name).write_text(text.replace("trained_trials = 30", budget))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_experiment(tmp_path / "tiny")


def run(folder: Path) -> Result:
    return rfsearch("run", folder, "--device", "cpu")


def stored_trials(folder: Path) -> list[FrozenTrial]:
    return stored_study(folder).trials


# -- run --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = write_experiment(tmp_path_factory.mktemp("cli") / "tiny")
    return folder, run(folder)


def test_run_ends_with_the_paths_of_its_files(finished: tuple[Path, Result]) -> None:
    folder, result = finished
    assert result.exit_code == 0, result.output
    csv, figure = folder / "trials.csv", folder / "score_vs_erf.png"
    assert result.stdout.splitlines()[-2:] == [f"table   {csv}", f"figure  {figure}"]
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert csv.read_text().startswith("number,state,value,")
    assert (folder / "study.db").is_file()


def test_run_says_what_every_gate_did(finished: tuple[Path, Result]) -> None:
    folder, result = finished
    trials = stored_trials(folder)
    pruned = sum(trial.state == TrialState.PRUNED for trial in trials)
    assert pruned > 0
    counts = f"{len(trials)} trials: 2 trained to the end, {pruned} stopped by the theoretical RF"
    assert counts in result.stdout
    assert "theoretical gate: at least 9 px" in result.stdout
    assert "measured gate: 6 to 21 px" in result.stdout


def test_the_table_lists_the_trained_candidates_best_first(
    finished: tuple[Path, Result],
) -> None:
    folder, result = finished
    lines = result.stdout.splitlines()
    assert "Trained candidates, best first" in lines[0]
    assert lines[3].split()[:3] == ["trial", "accuracy", "TRF"]
    rows = [line.split() for line in lines[5 : lines.index(" " * len(lines[0]), 5)]]
    complete = [t for t in stored_trials(folder) if t.state == TrialState.COMPLETE]
    best_first = sorted(complete, key=lambda trial: trial.value or 0, reverse=True)
    assert [row[1] for row in rows] == [f"{trial.value:.3f}" for trial in best_first]
    assert {row[0] for row in rows} == {str(trial.number) for trial in complete}
    for row in rows:
        trial = stored_trials(folder)[int(row[0])]
        assert row[2] == str(trial.user_attrs["trf_size"])
        assert row[5] == f"{trial.user_attrs['erf_trained']:.0f}"


def test_a_pipe_of_80_columns_gets_the_whole_table(finished: tuple[Path, Result]) -> None:
    assert "…" not in finished[1].stdout


def test_progress_goes_to_stderr(finished: tuple[Path, Result]) -> None:
    result = finished[1]
    assert "best 0." in result.stderr
    assert "theoretical" in result.stderr
    assert "best 0." not in result.stdout


def test_run_again_resumes(finished: tuple[Path, Result]) -> None:
    folder, _ = finished
    before = stored_trials(folder)
    again = run(folder / "experiment.toml")
    assert again.exit_code == 0, again.output
    assert stored_trials(folder) == before
    assert "2 trained to the end" in again.stdout


def test_an_interrupt_during_training_ends_with_the_results(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rfsearch.training.classification.ClassificationTask.train", interrupt)
    result = run(folder)
    assert result.exit_code == 130
    assert "Interrupted; finished trials are kept." in result.stderr
    assert "0 trained to the end" in result.stdout
    interrupted, waiting = stored_trials(folder)[-2:]
    assert (interrupted.state, waiting.state) == (TrialState.FAIL, TrialState.WAITING)


# -- mistakes of the user ---------------------------------------------------------------------


def test_run_with_a_missing_file(tmp_path: Path) -> None:
    line = refusal(run(tmp_path / "nothing"))
    assert str(tmp_path / "nothing") in line
    assert "No such file" in line


def test_run_with_a_file_that_is_not_toml(folder: Path) -> None:
    (folder / "experiment.toml").write_text("space = = 3")
    assert f"{folder / 'experiment.toml'}: not a TOML file" in refusal(run(folder))


def test_run_with_an_unknown_key(folder: Path) -> None:
    with (folder / "experiment.toml").open("a") as file:
        file.write("trails = 3\n")
    line = refusal(run(folder))
    assert f"{folder / 'experiment.toml'}: search, trails: unknown key" in line


def test_run_with_a_target_that_no_candidate_meets(folder: Path) -> None:
    with (folder / "experiment.toml").open() as file:
        text = file.read()
    text = text.replace("max_size = 6", "max_size = 16").replace("min_size = 5", "min_size = 15")
    (folder / "experiment.toml").write_text(text)
    line = refusal(run(folder))
    assert "No candidate of the space passes all gates (theoretical at least 24 px" in line
    assert "theoretical receptive fields reach from 5 to 23 px. It would with " in line
    assert "stride 2 in the stem" in line
    assert not (folder / "study.db").exists()


@pytest.mark.parametrize("device", ["toaster", "cuda:99"])
def test_run_with_an_unknown_device(folder: Path, device: str) -> None:
    line = refusal(rfsearch("run", folder, "--device", device))
    assert f"The device {device!r} cannot be used here" in line


def test_run_with_the_database_of_another_experiment(folder: Path) -> None:
    (folder / "study.db").write_bytes(b"My diary. " * 100)
    assert f"{folder / 'study.db'}: not a usable Optuna database" in refusal(run(folder))


def test_run_while_another_runs(folder: Path) -> None:
    with exclusive(folder):
        line = refusal(run(folder))
    assert f"{folder}: process {os.getpid()} is searching here" in line
    assert not (folder / "study.db").exists()


def test_run_in_a_folder_that_cannot_be_written(folder: Path) -> None:
    (folder / "run.lock").mkdir()
    assert f"{folder}: results cannot be written here" in refusal(run(folder))


# -- bugs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ValueError, OSError, RuntimeError])
def test_a_bug_keeps_its_traceback(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def train_badly(*_: object) -> None:
        raise kind("boom")

    monkeypatch.setattr("rfsearch.training.classification.ClassificationTask.train", train_badly)
    result = run(folder)
    assert type(result.exception) is kind
    assert str(result.exception) == "boom"
    frames = traceback.extract_tb(result.exception.__traceback__)
    assert frames[-1].name == "train_badly"
    assert "error:" not in result.stderr


# -- space ------------------------------------------------------------------------------------


def test_space_shows_size_and_reach(folder: Path) -> None:
    result = rfsearch("space", folder / "space.toml")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[:4] == [
        f"space           {folder / 'space.toml'}",
        "architectures   12",
        "parameters      3",
        "theoretical RF  5 to 23 px",
    ]
    # Of 12 candidates, two have 5 px and four more up to 7 px.
    shares = [line.split()[3] for line in result.stdout.splitlines()[5:]]
    assert sum(float(share.rstrip("%")) for share in shares) == pytest.approx(100, abs=0.05)
    assert "█" in result.stdout


def test_space_says_whose_field_it_is_where_a_neck_upsamples() -> None:
    lines = rfsearch("space", "unet").stdout.splitlines()
    assert lines[3] == "theoretical RF  25 to 1377 px (of the last stage, or the coarsest level)"


def test_space_counts_what_fits(folder: Path) -> None:
    result = rfsearch("space", folder / "space.toml", "--target", "5:6")
    assert result.exit_code == 0, result.output
    space, constraint = SearchSpace.load(folder / "space.toml"), RFConstraint(ScaleTarget(5, 6))
    fitting = sum(constraint.is_feasible(architecture) for architecture in space)
    assert result.stdout.splitlines()[-6:] == [
        "theoretical range    at least 9 px",
        "finest stride range  at most 5 px",
        "gridding range       at least 0.9 of the RF",
        "expected range       6 to 21 px",
        "within TRF range     7 (0.583 of all, exact)",
        f"feasible             {fitting} ({fitting / 12:.3g} of all, exact)",
    ]


def test_gaps_count_for_what_is_feasible_and_not_for_the_range(tmp_path: Path) -> None:
    file = tmp_path / "gaps.toml"
    stage = '[[stages]]\nblock = "plain"\ndepth = 2\nwidth = 8\nkernel_size = 3\n'
    file.write_text(
        f"[stem]\nkernel_size = 3\nstride = 2\nwidth = 8\n{stage}dilation = [1, 2, 6]\n"
        f"{stage}dilation = [1, 6]\nstride = 2\n"
    )
    result = rfsearch("space", file, "--target", "7:20")
    assert result.exit_code == 0, result.output
    target, members = ScaleTarget(7, 20), list(SearchSpace.load(file))
    ranged, gated = (
        sum(
            RFConstraint(target, expected=False, max_gridding=gaps).is_feasible(one)
            for one in members
        )
        for gaps in (None, "rule")
    )
    assert 0 < gated < ranged < len(members)
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("within TRF range")]
    assert line == f"within TRF range     {ranged} ({ranged / len(members):.3g} of all, exact)"


def test_space_estimates_what_it_cannot_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rfsearch.space.feasible.FeasibleSet.estimate", lambda *_: (1.2e9, 1.4e9))
    result = rfsearch("space", "plain", "--target", "24:48")
    assert result.exit_code == 0, result.output
    share = "0.41 to 0.48 of all, 95 % interval"
    assert result.stdout.splitlines()[-1] == f"feasible             1.2e+09 to 1.4e+09 ({share})"
    assert result.stdout.splitlines()[-2].endswith("of all, exact)")


def test_space_advises_pyramids_for_a_wide_target(folder: Path) -> None:
    with pytest.warns(UserWarning, match="one receptive field cannot fit all"):
        result = rfsearch("space", folder / "space.toml", "--target", "1:6")
    assert result.exit_code == 0, result.output
    assert "expected range       6 to 21 px" in result.stdout


@pytest.mark.parametrize("text", ["24", "24:", "a:b", "1:2:3", "24-96"])
def test_space_with_a_target_that_is_no_range(folder: Path, text: str) -> None:
    line = refusal(rfsearch("space", folder / "space.toml", "--target", text))
    rule = "must be MIN:MAX in px, as 24:96, or those of height and width, as 8:12x100:140"
    assert line == f"error: --target {rule}, but got {text!r}."


@pytest.mark.parametrize("text", ["96:24", "0:3", "nan:nan", "1:inf"])
def test_space_with_an_impossible_range(folder: Path, text: str) -> None:
    line = refusal(rfsearch("space", folder / "space.toml", "--target", text))
    assert "`0 < min_size <= max_size` must hold" in line


def test_space_with_a_target_that_no_candidate_meets(folder: Path) -> None:
    line = refusal(rfsearch("space", folder / "space.toml", "--target", "2000:3000"))
    assert "No candidate of the space passes all gates (theoretical at least 4500 px" in line
    assert "theoretical receptive fields reach from 5 to 23 px." in line


def test_space_that_does_not_exist(tmp_path: Path) -> None:
    assert "toy" in refusal(rfsearch("space", "tyo"))
    assert "nix.toml: cannot be read" in refusal(rfsearch("space", tmp_path / "nix.toml"))


# -- a search on its way ----------------------------------------------------------------------


def count_complete(folder: Path) -> int:
    """Finished trials in a database that another process may be writing."""
    try:
        database = sqlite3.connect(f"file:{folder / 'study.db'}?mode=ro", uri=True)
    except sqlite3.OperationalError:
        return 0
    try:
        rows = database.execute("SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'")
        return int(rows.fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        database.close()


def test_a_running_search_keeps_others_out_and_can_be_interrupted(folder: Path) -> None:
    write_experiment(folder, trained_trials=100_000)

    def disturb() -> int:
        while (complete := count_complete(folder)) < 2:
            time.sleep(0.05)
        try:
            with (
                pytest.raises(ValueError, match=f"process {os.getpid()} is searching here"),
                exclusive(folder),
            ):
                pass
        finally:
            signal.raise_signal(signal.SIGINT)
        return complete

    with ThreadPoolExecutor() as thread:
        before = thread.submit(disturb)
        result = run(folder)
    assert result.exit_code == 130
    assert "Interrupted; finished trials are kept." in result.stderr
    assert f"table   {folder / 'trials.csv'}" in result.stdout
    trials = stored_trials(folder)
    assert sum(trial.state == TrialState.COMPLETE for trial in trials) >= before.result()
    assert all(trial.state.is_finished() for trial in trials[:-1])
