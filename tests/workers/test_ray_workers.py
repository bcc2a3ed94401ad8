from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from helpers import refusal, rfsearch
from optuna.trial import TrialState
from studies import open_storage
from test_cli import many_candidates, write_experiment


def test_ray_needs_a_database_that_all_nodes_reach(tmp_path: Path) -> None:
    folder = write_experiment(tmp_path / "tiny")
    assert "--on ray needs --storage" in refusal(rfsearch("run", folder, "--on", "ray"))


def test_ray_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_experiment(tmp_path / "tiny")
    monkeypatch.setitem(sys.modules, "ray", None)
    storage = f"sqlite:///{tmp_path / 'x.db'}"
    line = refusal(rfsearch("run", folder, "--on", "ray", "--storage", storage))
    assert line == "error: --on ray needs Ray; pip install 'rfsearch[ray]'."


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_search_survives_the_loss_of_a_node(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    folder = many_candidates(tmp_path / "ray", trained_trials=8)
    address = f"sqlite:///{tmp_path / 'ray.db'}"  # Both nodes are on this machine.
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 0})
    process = None
    try:
        node = cluster.add_node(num_cpus=2, num_gpus=0)
        process = subprocess.Popen(
            [sys.executable, "-m", "rfsearch.cli.main", "run", str(folder), "--on", "ray",
             "--workers", "4", "--storage", address, "--heartbeat", "1"],
            env=os.environ | {"RAY_ADDRESS": cluster.address},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        storage = open_storage(address, wait=60)
        study = optuna.create_study(
            study_name="ray", storage=storage, direction="maximize", load_if_exists=True
        )
        seen: set[str] = set()
        while len(seen) < 4:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.2)
            signs = [t.user_attrs.get("heartbeat") for t in study.get_trials(deepcopy=False)]
            seen = {sign.split()[0] for sign in signs if sign}
        cluster.remove_node(node, allow_graceful=False)
        stdout, stderr = process.communicate(timeout=540)
    finally:
        if process is not None:
            process.kill()
        cluster.shutdown()
    assert process.returncode == 0, stderr
    assert "8 trained to the end" in stdout
    trials = study.trials
    assert sum(trial.state == TrialState.COMPLETE for trial in trials) == 8
    assert all(trial.state.is_finished() for trial in trials)
    assert any("retry_of" in trial.user_attrs for trial in trials)
