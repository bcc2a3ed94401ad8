"""The experiments that give evidence, in a tiny size."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from helpers import TINY_SPACE

import rfsearch as rfs

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
sys.path += [
    str(EXPERIMENTS / name) for name in ("erf_and_accuracy", "search_cost", "zero_cost_proxies")
]

import figure  # noqa: E402
import replay  # noqa: E402
import rules  # noqa: E402
import run as zero_cost_proxies  # noqa: E402
import train  # noqa: E402
import trained  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All candidates of a tiny space, trained on a few scenes with objects of one size."""
    scenes, path = rfs.digit_scenes, tmp_path_factory.mktemp("evidence")
    (path / "space.toml").write_text(TINY_SPACE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rfs, "digit_scenes", lambda **kw: scenes(
            object_size=12, canvas_size=16, num_train=64, num_valid=32, seed=kw.get("seed", 0)
        ))  # fmt: skip
        train.train_all(path, 26, 0)
        patch.setattr(trained, "TABLES", path)
        patch.setitem(trained.SPACES, "tiny", str(path))
        trained.write("tiny", pd.DataFrame(train.rows("tiny")))
        yield path


def test_every_candidate_is_trained_once(folder: Path) -> None:
    train.train_all(folder, 26, 0)
    with trained.storage_of(folder) as storage:
        trials = optuna.load_study(study_name=train.study_name(26, 0), storage=storage).trials
    assert len(trials) == rfs.SearchSpace.load(folder / "space.toml").size
    assert {trial.state.name for trial in trials} == {"COMPLETE"}


def test_tables_follow_from_the_trials(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = rfs.SearchSpace.load(folder / "space.toml")
    assert trained.tables() == ("tiny",)
    monkeypatch.setattr(figure, "trained", lambda _: trained.trained("tiny"))
    assert figure.by_ratio(figure.trials())["trainings"].sum() == space.size
    known = replay.load_table("tiny", 26)
    assert set(known) == set(space)
    for trial in trained.trials_of(folder)["side 26, seed 0"]:
        architecture = space.from_params(trial.params)
        assert known[architecture][0] == pytest.approx(trial.values[0], abs=1e-6)
    rows = list(zero_cost_proxies.rows("tiny", 26))
    assert len(rows) == space.size
    assert all(
        np.isfinite([row[name] for name in zero_cost_proxies.PROXIES]).all() for row in rows
    )


def test_a_rule_saves_what_it_leaves_out(folder: Path) -> None:
    (table,) = rules.by_size("tiny")
    assert len(table.ratios) == rfs.SearchSpace.load(folder / "space.toml").size
    ratios, gaps = np.arange(1.0, 41.0), np.arange(40) / 40
    known = rules.Table("known", ratios, gaps, np.arange(40.0) % 20)  # Best: 20 and 40.
    assert known.judge(0, 99, 1) == (1, 0)
    assert known.judge(20, 20, 1) == (pytest.approx(41 / 3), 0)
    assert known.judge(1, 20, 1) == (pytest.approx(41 / 3 * 2 / 21), 0)
    assert known.judge(1, 19, 1) == (0, 1)
    assert known.judge(0, 99, 0.5) == (pytest.approx(41 / 3 * 2 / 22), 0)
    assert known.judge(0, 99, 0.4) == (0, 3)


def test_searches_are_replayed_within_their_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "TRAININGS", 10)
    space = rfs.SearchSpace.load(EXPERIMENTS / "search_cost" / "space.toml")
    table = {arch: (1 / arch.expected_erf().size, 1.0) for arch in space}
    target = rfs.ScaleTarget(10, 20)
    whole = rfs.RFConstraint(target, measured=False)
    theory = rfs.RFConstraint(target, effective=None, max_gridding=None)
    best_that_fits = max(table[arch][0] for arch in space if space.feasible(whole).contains(arch))

    def earlier(seed: int) -> replay.Earlier:
        plain = replay.Method(lambda seed: optuna.samplers.RandomSampler(seed=seed), theory.check)
        return replay.search(space, plain, table, seed)[0], theory

    for name, method in replay.methods(space, whole, theory, earlier).items():
        _, curve = replay.search(space, method, table, seed=0)
        assert curve.best == sorted(curve.best)
        assert curve.gflops == list(range(1, len(curve.best) + 1))
        within = ("RFSampler(TPE)", "RFSampler(GP)", "RFSampler(descriptors)")
        if name in ("TPE, pruned", "TPE, constraints", *within):
            assert curve.best[-1] <= best_that_fits
        if name == "RFSampler(descriptors), earlier":  # It knows which is best, all but exactly.
            assert curve.best[0] > 0.8 * best_that_fits


def test_a_report_of_searches() -> None:
    """One way finds with its first training what others find with their third."""

    def searches(way: str, *best: float) -> replay.Searches:
        curves = [replay.SearchCurve([1.0, 2.0, 3.0], list(best))] * 3
        return replay.Searches(("made up", 1), 0, way, curves)

    found = [
        searches(way, *((0.5, 0.5, 0.5) if way == "RFSampler(GP)" else (0.1, 0.3, 0.5)))
        for way in replay.STYLES
    ]
    frame = replay.report(found).set_index("way")
    assert frame.loc["TPE", ["reached", "trainings", "times_less"]].tolist() == [1, 3, 1]
    assert frame.loc["RFSampler(GP)", ["reached", "trainings", "times_less"]].tolist() == [1, 1, 3]
    assert frame.loc["RFSampler(GP)", ["best of 10", "TPE needs"]].tolist() == [0.5, 3]
