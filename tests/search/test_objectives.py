"""Searches with several objectives, from the TOML file to the table."""

from __future__ import annotations

import math
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from helpers import TINY_SPACE, refusal, rfsearch
from optuna.samplers import GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState
from studies import load_study, open_study, stored_study
from test_cli_worker import start
from test_objective import CONSTRAINT, SPACE, stub_task

import rfsearch as rfs
from rfsearch.analysis.front import front_figure, front_table
from rfsearch.basics.ranges import Range
from rfsearch.report.summary import StudySummary
from rfsearch.search.curves import curve_of, note_epoch
from rfsearch.search.experiment import Experiment
from rfsearch.search.objectives import erf_misfit, name_objectives
from rfsearch.search.study import storage_url
from rfsearch.storage.recovery import RETRY_OF, SIGN

SAMPLERS = {
    "tpe": lambda: TPESampler(seed=0, n_startup_trials=3),
    "random": lambda: RandomSampler(seed=0),
    "nsgaii": lambda: NSGAIISampler(seed=0, population_size=3),
    "gp": lambda: GPSampler(seed=0, n_startup_trials=3),
}
EXPERIMENT = """
space = "space.toml"
baselines = BASELINES
[target]
min_size = 4
max_size = 8
[data]
source = "digits"
object_size = 8
canvas_size = 16
num_train = 32
num_valid = 16
[training]
epochs = EPOCHS
batch_size = 16
[search]
trained_trials = 3
startup_trials = 2
"""


def write(folder: Path, search: str, *, baselines: tuple[str, ...] = (), epochs: int = 2) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "space.toml").write_text(TINY_SPACE)
    text = EXPERIMENT.replace("BASELINES", str([*baselines])).replace("EPOCHS", str(epochs))
    (folder / "experiment.toml").write_text(text + search)
    return folder


def search(
    sampler: optuna.samplers.BaseSampler, objectives: tuple[str, ...], num_trials: int
) -> optuna.Study:
    task = stub_task(curves=((0.2, 0.5), (0.4, 0.75), (0.3, 0.25)))
    objective = rfs.Objective(SPACE, CONSTRAINT, task, objectives=objectives)
    study = optuna.create_study(directions=objective.directions, sampler=sampler)
    study.optimize(objective, num_trials)
    return study


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("feasible_only", [True, False])
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_searches_for_several(name: str, feasible_only: bool) -> None:
    base = SAMPLERS[name]()
    sampler = rfs.RFSampler(SPACE, CONSTRAINT, base, seed=0) if feasible_only else base
    study = search(sampler, ("score", "params_m", "flops_g"), 8)
    frame = rfs.trials_dataframe(study)
    assert not (frame["state"] == "FAIL").any()
    trained = frame[frame["value"].notna()]
    assert len(trained)
    for trial in study.trials:
        if trial.number in set(trained["number"]):
            attributes = trial.user_attrs
            assert trial.values[1:] == [attributes["params_m"], attributes["flops_g"]]
    front = {trial.number for trial in study.best_trials}
    assert set(frame.loc[frame["pareto"].fillna(False), "number"]) == front
    assert front


def test_a_rejected_trial_has_a_stand_in_for_each_objective() -> None:
    study = search(NSGAIISampler(seed=0), ("score", "params_m"), 12)
    complete = [t for t in study.trials if t.state == TrialState.COMPLETE]
    rejected = [t for t in complete if "rejected_by" in t.user_attrs]
    assert rejected
    assert all(len(trial.values) == 2 for trial in rejected)
    frame = rfs.trials_dataframe(study).set_index("number")
    assert frame.loc[[t.number for t in rejected], ["value", "pareto"]].isna().all(axis=None)


def test_the_curve_is_kept_without_a_pruner() -> None:
    study = search(rfs.RFSampler(SPACE, CONSTRAINT, seed=0), ("score", "params_m"), 2)
    assert [curve_of(trial) for trial in study.trials] == [{1: 0.2, 2: 0.5}, {1: 0.4, 2: 0.75}]


def test_a_repeated_candidate_repeats_all_values() -> None:
    objective = rfs.Objective(SPACE, CONSTRAINT, stub_task(), objectives=("score", "params_m"))
    study = optuna.create_study(directions=objective.directions)
    member = SPACE.feasible(CONSTRAINT).sample_params(np.random.default_rng(0))
    for _ in range(2):
        study.enqueue_trial(member)
    study.optimize(objective, 2)
    first, second = study.trials
    assert second.user_attrs["duplicate_of"] == 0
    assert first.values == second.values


def test_the_study_knows_what_its_values_are() -> None:
    names = ("score", "params_m")
    assert search(RandomSampler(seed=0), names, 1).metric_names == [*names]
    assert search(RandomSampler(seed=0), ("score",), 1).metric_names is None
    objective = rfs.Objective(SPACE, CONSTRAINT, stub_task(), objectives=names)
    named = optuna.create_study(directions=objective.directions)
    name_objectives(named, ["accuracy", "size"])
    named.optimize(objective, 1)
    assert named.metric_names == ["accuracy", "size"]


def test_with_one_objective_the_front_is_the_best() -> None:
    study = search(rfs.RFSampler(SPACE, CONSTRAINT, seed=0), ("score",), 3)
    frame = rfs.trials_dataframe(study)
    assert frame.loc[frame["pareto"].fillna(False), "number"].tolist() == [study.best_trial.number]


def test_latency_memory_and_misfit_are_measured_if_they_are_objectives() -> None:
    names = ("score", "latency_ms", "peak_memory_mb", "erf_misfit")
    (trial,) = search(rfs.RFSampler(SPACE, CONSTRAINT, seed=0), names, 1).trials
    assert trial.values == [trial.user_attrs.get(name, 0.5) for name in names]
    assert min(trial.values) >= 0
    allowed = CONSTRAINT.ranges()["measured"]
    middle = math.sqrt(allowed.low * allowed.high)
    expected = abs(math.log2(trial.user_attrs["erf_trained"] / middle))
    assert trial.user_attrs["erf_misfit"] == pytest.approx(expected)


def test_the_misfit_is_zero_in_the_middle() -> None:
    assert erf_misfit(32, {"measured": Range(16, 64)}) == 0
    assert erf_misfit(8, {"measured": Range(16, 64)}) == 2


def test_a_study_of_other_directions_is_refused() -> None:
    objective = rfs.Objective(SPACE, CONSTRAINT, stub_task(), objectives=("score", "params_m"))
    for study in (
        optuna.create_study(direction="maximize"),
        optuna.create_study(directions=["maximize", "maximize"]),
    ):
        with pytest.raises(ValueError, match="directions must be"):
            study.optimize(objective, 1)


@pytest.mark.parametrize(
    ("objectives", "options", "message"),
    [
        (("params_m", "score"), {}, "must begin with 'score', but got 'params_m', 'score'"),
        ((), {}, "must begin with 'score', but got none"),
        (("score", "speed"), {}, "must be among score, .*, but got 'speed'"),
        (("score", "params_m", "params_m"), {}, "must differ"),
        (("score", "erf_misfit"), {"effective": (5.0, None)}, "bounded on both sides"),
        (("score", "erf_misfit"), {"effective": None}, "bounded on both sides"),
    ],
)
def test_wrong_objectives(
    objectives: tuple[str, ...], options: dict[str, Any], message: str
) -> None:
    constraint = rfs.RFConstraint(rfs.ScaleTarget(4, 8), **options)
    with pytest.raises(ValueError, match=message):
        rfs.Objective(SPACE, constraint, stub_task(), objectives=objectives)


# -- table and figure -------------------------------------------------------------------------


def test_the_front_is_shown_in_order_and_drawn() -> None:
    study = search(RandomSampler(seed=0), ("score", "params_m"), 20)
    frame = rfs.trials_dataframe(study)
    front = frame[frame["pareto"].fillna(False) & frame["duplicate_of"].isna()]
    table = front_table(frame, ("score", "params_m"))
    best_first = front.sort_values("value", ascending=False)
    assert list(table.columns[0].cells) == [str(number) for number in best_first["number"]]
    (axes,) = front_figure(frame, ("score", "params_m")).axes
    (drawn,) = (
        line
        for line in axes.lines
        if line.get_label() == "Pareto front" and line.get_linestyle() == "None"
    )
    by_cost = front.sort_values("params_m")
    assert list(drawn.get_xdata()) == list(by_cost["params_m"])
    assert list(drawn.get_ydata()) == list(by_cost["value"])


def test_every_cost_has_a_panel() -> None:
    names = ("score", "params_m", "flops_g")
    figure = front_figure(rfs.trials_dataframe(search(RandomSampler(seed=0), names, 1)), names)
    assert [axes.get_xlabel() for axes in figure.axes] == ["parameters (millions)", "FLOPs (10⁹)"]


# -- the command line -------------------------------------------------------------------------


def test_a_whole_search_and_going_on(tmp_path: Path) -> None:
    folder = write(tmp_path / "tiny", 'objectives = ["score", "params_m"]')
    done = rfsearch("run", folder, "--device", "cpu")
    assert done.exit_code == 0, done.output
    study = load_study("tiny", storage_url(folder))
    trained = [t for t in study.trials if t.state == TrialState.COMPLETE]
    assert len(trained) == 3
    assert all(len(trial.values) == 2 for trial in trained)
    assert "Pareto front" in done.stdout
    assert (folder / "pareto_front.png").is_file()
    assert rfsearch("run", folder, "--device", "cpu").exit_code == 0
    write(folder, 'objectives = ["score", "flops_g"]')
    line = refusal(rfsearch("run", folder, "--device", "cpu"))
    assert "has the objectives score, params_m, but the experiment has score, flops_g" in line
    write(folder, "")
    line = refusal(rfsearch("run", folder, "--device", "cpu"))
    assert "has the objectives score, params_m, but the experiment has score;" in line


@pytest.mark.usefixtures("plain_cards")
def test_a_killed_run_goes_on_and_its_results_are_shown_and_exported(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "tiny", 'objectives = ["score", "params_m"]', baselines=("test_resnet",)
    )
    experiment = Experiment.load(folder, "cpu")
    study = open_study(experiment)
    baseline, candidate = study.ask(), study.ask()
    architecture = experiment.space.suggest(candidate)
    for killed in (baseline, candidate):
        note_epoch(killed, 1, 0.9)
    done = rfsearch("run", folder, "--device", "cpu")
    assert done.exit_code == 0, done.output
    trials = study.trials
    assert [trial.state.name for trial in trials] == ["FAIL"] * 2 + ["PRUNED"] + ["COMPLETE"] * 3
    again = trials[3]
    assert (again.user_attrs[RETRY_OF], len(again.values)) == (1, 2)
    assert experiment.space.from_params(again.params) == architecture
    assert list(curve_of(again)) == list(curve_of(trials[2])) == [1, 2]
    best = max(trials[3:], key=lambda trial: trial.values[0])
    page = tmp_path / "report.html"
    assert rfsearch("report", folder, "--out", page).exit_code == 0
    assert "The candidates on the Pareto front" in page.read_text(encoding="utf-8")
    (known,) = StudySummary.of_study(study).baselines["baseline"]
    assert known == "test_resnet"
    out = tmp_path / "network"
    assert rfsearch("export", folder, "--out", out, "--no-onnx").exit_code == 0
    assert f"| validation accuracy | {best.values[0]:.4f} |" in (out / "README.md").read_text()


@pytest.mark.slow
def test_a_crew_whose_worker_is_killed_in_the_middle_of_a_training(tmp_path: Path) -> None:
    folder = write(tmp_path / "pool", 'objectives = ["score", "params_m"]', epochs=300)
    process = start("run", folder, "--workers", 2, "--heartbeat", 1)
    try:
        while not (begun := in_the_middle(folder)):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.2)
        worker = int(begun[0].user_attrs[SIGN].split()[0].rpartition(":")[2])
        os.kill(worker, signal.SIGKILL)
        stdout, stderr = process.communicate(timeout=500)
    finally:
        process.kill()
    assert process.returncode == 0, stderr
    assert "Pareto front" in stdout
    trials = load_study("pool", storage_url(folder)).trials
    (again,) = (t for t in trials if t.user_attrs.get(RETRY_OF) == begun[0].number)
    assert trials[begun[0].number].state == TrialState.FAIL
    assert again.params == begun[0].params
    # It may repeat the other worker's results, where both had proposed the same.
    assert len(again.values) == 2


def in_the_middle(folder: Path) -> list[FrozenTrial]:
    """Running trials whose networks were trained for some epochs."""
    if not list(folder.glob("checkpoints/*/*/last.pt")):
        return []
    study = stored_study(folder)
    running = study.get_trials(states=(TrialState.RUNNING,))
    return [trial for trial in running if len(curve_of(trial)) > 1 and SIGN in trial.user_attrs]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('objectives = ["params_m"]', "must begin with 'score'"),
        ('objectives = ["score", "params_m"]\npruner = "median"', "`pruner` must be 'none'"),
        ('objectives = ["score", "speed"]', "speed"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(rfsearch("run", write(tmp_path / "tiny", text)))
