"""Searches whose workers and databases die, and the job files that start workers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.main import get_command

from rfsearch.cli.app import app

FOLDER = Path(__file__).parents[2] / "experiments" / "many_workers"
sys.path.append(str(FOLDER))


@pytest.mark.slow
# Optuna's storage has no way to close its connections, so they end with it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("kind", "workers"), [("postgresql", 6), ("mysql", 6), ("sqlite", 4)])
def test_a_search_comes_to_its_end_whole(kind: str, workers: int, tmp_path: Path) -> None:
    from postgres import server_programs
    from soak import run

    if kind == "postgresql" and server_programs() is None:
        pytest.skip("no PostgreSQL server (pg_ctl) is installed")
    if kind == "mysql" and not (shutil.which("mariadbd") and find_spec("pymysql")):
        pytest.skip("no MariaDB server (mariadbd), or not rfsearch[mysql], is installed")
    found: dict[str, Any] = run(kind, tmp_path, workers=workers, kill_every=4.0)
    assert found["kills"] >= 3  # One in 4 s, and a quick machine needs half a minute.
    assert found["restarts"] == (0 if kind == "sqlite" else 2)
    assert found["failures"] == 0
    # Pruned: one whose network, once built, sees more or less than was expected.
    assert set(found["states"]) <= {"COMPLETE", "FAIL", "PRUNED"}
    assert found["trained"] == 30
    assert found["numbers_are_gapless"]
    assert found["results_stored_twice"] == 0
    assert found["candidates_trained_twice"] <= 1
    assert found["retries"] >= 1
    assert found["most_losses"] <= 3
    assert (found["cells_missing"], found["rows"]) == (0, found["trials"])
    assert found["checkpoints_left"] == 0


# -- job files --------------------------------------------------------------------------------


def worker_options() -> set[str]:
    worker = get_command(app).commands["worker"]  # type: ignore[attr-defined]
    return {name for option in worker.params for name in option.opts}


def options_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z]+", text))


def test_the_slurm_job_is_a_script_with_options_that_exist() -> None:
    script = FOLDER / "slurm.sh"
    bash = shutil.which("bash")
    assert bash is not None
    checked = subprocess.run([bash, "-n", script], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    command = script.read_text().split("rfsearch worker")[1]
    assert options_in(command) == {"--study", "--checkpoints", "--grace"}
    assert options_in(command) <= worker_options()


def test_the_slurm_job_says_what_it_lacks() -> None:
    bash = shutil.which("bash")
    assert bash is not None
    run = subprocess.run(
        [bash, FOLDER / "slurm.sh", "experiment"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert run.returncode != 0
    assert "RFSEARCH_STORAGE" in run.stderr


def test_the_kubernetes_job_fits_the_schema_and_has_options_that_exist() -> None:
    job = yaml.safe_load((FOLDER / "kubernetes.yaml").read_text())
    kubernetes_validate.validate(job, "1.30", strict=True)
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"][:2] == ["rfsearch", "worker"]
    assert options_in(" ".join(container["command"])) <= worker_options()
    grace = container["command"][container["command"].index("--grace") + 1]
    assert float(grace) < pod["terminationGracePeriodSeconds"]
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}
