from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from studies import open_study
from test_study import run, stub_experiment, with_search, write_experiment
from torch import nn

from rfsearch.search import _environment as environment
from rfsearch.search._environment import device_name, environment_of
from rfsearch.search.experiment import Experiment
from rfsearch.workers.worker import Worker


@pytest.fixture(autouse=True)
def looks_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Git's state is remembered for a process, and these tests change it."""
    environment._git_state.cache_clear()
    # Nobody's own settings, nor a repository around the folder for temporary files.
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    yield
    environment._git_state.cache_clear()


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    done = subprocess.run(
        ["git", *who, "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def committed(folder: Path) -> str:
    """Make a folder a repository with one commit of all that is in it."""
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "Begin")
    return git(folder, "rev-parse", "HEAD")


def of(folder: Path | None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(environment_of(nn.Linear(1, 1), folder))
    return found


def test_versions_and_device() -> None:
    found = of(None)
    assert found.keys() == {"device", "threads", "versions"}
    assert found["device"] == f"cpu ({platform.machine()})"
    assert found["threads"] == torch.get_num_threads()
    versions = found["versions"]
    assert {name: versions.pop(name) for name in ("rfsearch", "torch", "timm", "optuna")} == {
        name: version(name) for name in ("rfsearch", "torch", "timm", "optuna")
    }
    assert versions == {"python": platform.python_version(), "cuda": torch.version.cuda}


@pytest.mark.gpu
def test_a_gpu_has_its_name() -> None:
    assert device_name(torch.device("cuda")) == torch.cuda.get_device_name(0)


def test_the_commit_and_whether_known_files_have_changed(tmp_path: Path) -> None:
    inner = tmp_path / "experiment"
    inner.mkdir()
    (inner / "experiment.toml").write_text("a = 1")
    (tmp_path / "code.py").write_text("1")
    commit = committed(tmp_path)
    (inner / "study.db").write_text("what a search writes")
    assert of(inner)["git"] == {"commit": commit, "dirty": False}
    (tmp_path / "code.py").write_text("2")
    assert of(inner)["git"] == {"commit": commit, "dirty": False}  # Looked at once.
    environment._git_state.cache_clear()
    assert of(inner)["git"] == {"commit": commit, "dirty": True}


def test_without_a_repository_or_a_commit_there_is_no_git_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert "git" not in of(tmp_path)
    git(tmp_path, "init", "--quiet")
    environment._git_state.cache_clear()
    assert "git" not in of(tmp_path)


@pytest.mark.parametrize("program", [None, "sleep 30"])
def test_git_that_is_absent_or_does_not_answer_is_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str | None
) -> None:
    (tmp_path / "a").write_text("1")
    committed(tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    if program is not None:
        (programs / "git").write_text(f"#!/bin/sh\nexec /bin/{program}\n")
        (programs / "git").chmod(0o755)
    monkeypatch.setattr(environment, "_PATIENCE", 0.1)
    monkeypatch.setenv("PATH", str(programs))
    assert "git" not in of(tmp_path)


def test_a_repository_starts_no_program_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    committed(tmp_path)
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    hook.chmod(0o755)
    git(tmp_path, "config", "core.fsmonitor", str(hook))
    git(tmp_path, "status")
    assert (tmp_path / "ran").exists()
    (tmp_path / "ran").unlink()
    assert of(tmp_path)["git"]["dirty"] is False
    assert not (tmp_path / "ran").exists()


def test_trained_trials_have_it_and_rejected_ones_do_not(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path / "tiny")
    commit = committed(folder)
    trials = run(stub_experiment(folder))
    assert {"architecture"} < {name for trial in trials for name in trial.user_attrs}
    for trial in trials:
        assert ("environment" in trial.user_attrs) == (trial.state.name == "COMPLETE")
        if trial.state.name == "COMPLETE":
            found = json.loads(trial.user_attrs["environment"])
            assert found["git"] == {"commit": commit, "dirty": False}
            assert trial.user_attrs["seed"] == 0
    assert {trial.state.name for trial in trials} == {"COMPLETE", "PRUNED"}


def test_baselines_have_it_too(tmp_path: Path) -> None:
    text = 'baselines = ["test_resnet"]\n' + with_search(trained_trials=1)
    folder = write_experiment(tmp_path / "tiny", text)
    commit = committed(folder)
    experiment = Experiment.load(folder, device="cpu")
    study = open_study(experiment)
    Worker(study, experiment).work()
    found = json.loads(study.trials[0].user_attrs["environment"])
    assert found["git"]["commit"] == commit
