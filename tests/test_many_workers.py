"""Searches whose workers and databases die, and the job files that start workers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent / "experiments" / "many_workers"
sys.path.append(str(FOLDER))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "workers"), [("postgresql", 6), ("sqlite", 4)])
def test_a_search_comes_to_its_end_whole(kind: str, workers: int, tmp_path: Path) -> None:
    from postgres import server_programs
    from soak import run

    if kind == "postgresql" and server_programs() is None:
        pytest.skip("no PostgreSQL server (pg_ctl) is installed")
    found: dict[str, Any] = run(kind, tmp_path, workers=workers, kill_every=4.0)
    assert found["kills"] >= 5
    assert found["restarts"] == (2 if kind == "postgresql" else 0)
    assert found["failures"] == 0
    assert set(found["states"]) <= {"COMPLETE", "FAIL"}
    assert found["trained"] == 30
    assert found["numbers_are_gapless"]
    assert found["results_stored_twice"] == 0
    assert found["candidates_trained_twice"] <= 1
    assert found["retries"] >= 1
    assert found["most_losses"] <= 3
    assert (found["cells_missing"], found["rows"]) == (0, found["trials"])
    assert found["checkpoints_left"] == 0
