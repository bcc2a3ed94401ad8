from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rfsearch.workers.local_workers import LocalWorkers

#: Kills itself as long as there are fewer files than `sys.argv[2]` in the folder `sys.argv[1]`.
DIES = """
import os, pathlib, signal, sys
folder = pathlib.Path(sys.argv[1])
(folder / str(os.getpid())).touch()
if len(list(folder.iterdir())) < int(sys.argv[2]):
    os.kill(os.getpid(), signal.SIGKILL)
"""
STAYS = "import time; print('up', flush=True); time.sleep(600)"


def workers(tmp_path: Path, script: str, *arguments: str, number: int = 2) -> LocalWorkers:
    command = [sys.executable, "-S", "-c", script, *arguments]
    return LocalWorkers(command, number, tmp_path / "workers.log", {"RFSEARCH_TEST": "x"}, 0.1)


def look_until_ended(pool: LocalWorkers, finished: int = 0) -> None:
    end = time.monotonic() + 60
    while pool.are_running(finished):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_it_ends_when_all_have_ended(tmp_path: Path) -> None:
    # In one piece: both may say it at the same time.
    says = r"import os, sys; sys.stdout.write(os.environ['RFSEARCH_TEST'] + '\n')"
    with workers(tmp_path, says) as pool:
        look_until_ended(pool)
    assert (tmp_path / "workers.log").read_text() == "x\nx\n"


def threads_of_each(tmp_path: Path, number: int) -> list[str]:
    says = r"import os, sys; sys.stdout.write(os.environ.get('OMP_NUM_THREADS', 'all') + '\n')"
    with workers(tmp_path, says, number=number) as pool:
        look_until_ended(pool)
    return (tmp_path / "workers.log").read_text().split()


def test_workers_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert threads_of_each(tmp_path, 1) == ["all"]
    assert threads_of_each(tmp_path, 2) == ["3"] * 2
    assert threads_of_each(tmp_path, 8) == ["1"] * 8
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert threads_of_each(tmp_path, 2) == ["5"] * 2


def test_killed_workers_are_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "started"
    folder.mkdir()
    with workers(tmp_path, DIES, str(folder), "5") as pool:
        look_until_ended(pool)
    assert 5 <= len(list(folder.iterdir())) <= 6


def test_workers_that_never_get_anywhere_are_not_replaced_for_ever(tmp_path: Path) -> None:
    folder = tmp_path / "started"
    folder.mkdir()
    with (
        workers(tmp_path, DIES, str(folder), "999") as pool,
        pytest.raises(ValueError, match=r"7 workers were killed before a trial .* by SIGKILL"),
    ):
        look_until_ended(pool)


def test_progress_resets_the_count(tmp_path: Path) -> None:
    folder = tmp_path / "started"
    folder.mkdir()
    finished = 0
    with workers(tmp_path, DIES, str(folder), "20") as pool:
        while pool.are_running(finished):
            finished += 1
            time.sleep(0.02)
    assert len(list(folder.iterdir())) >= 20


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (2, ValueError, r"^no such space$"),
        (1, RuntimeError, r"^A worker has failed \(no such space\); see .*workers\.log\.$"),
    ],
)
def test_what_a_worker_says_at_last_is_passed_on(
    tmp_path: Path, code: int, kind: type[Exception], message: str
) -> None:
    # In one piece, as `typer.echo` does: two workers say it at the same time.
    words = r"import sys; sys.stderr.write('hm\n'); sys.stderr.write('error: no such space\n')"
    with (
        workers(tmp_path, f"{words}; sys.exit({code})") as pool,
        pytest.raises(kind, match=message),
    ):
        look_until_ended(pool)


def test_no_worker_outlives_the_block(tmp_path: Path) -> None:
    with workers(tmp_path, STAYS) as pool:
        while (tmp_path / "workers.log").read_text().count("up") < 2:
            time.sleep(0.02)
        processes = list(pool._running)
    assert [process.returncode for process in processes] == [-15, -15]


#: Starts two workers which note when their standard input ends, and is killed with its group.
KILLED = """
import os, signal, sys
from pathlib import Path
from rfsearch.workers.local_workers import LocalWorkers
folder = Path(sys.argv[1])
note = "import os, pathlib, sys; print('up', flush=True); sys.stdin.read(); " + (
    f"pathlib.Path({str(folder)!r}, str(os.getpid())).touch()"
)
with LocalWorkers([sys.executable, "-S", "-c", note], 2, folder / "log", {}, 0.1):
    while (folder / "log").read_text().count("up") < 2:
        pass
    os.killpg(0, signal.SIGKILL)
"""


def test_workers_notice_that_who_started_them_was_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    process = subprocess.run(command, start_new_session=True, check=False)
    assert process.returncode == -signal.SIGKILL
    end = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 3:
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("code", [None, 1])
def test_workers_that_were_told_to_end_are_not_replaced(
    tmp_path: Path, number: signal.Signals, code: int | None
) -> None:
    """However they end: by the signal where they had not begun yet, or with their own code."""
    handles = f"signal.signal({number:d}, lambda *_: sys.exit({code}));"
    script = f"import signal, sys, time; {handles if code is not None else USUAL}"
    script += "print('up', flush=True); time.sleep(600)"
    with workers(tmp_path, script) as pool:
        while (tmp_path / "workers.log").read_text().count("up") < 2:
            time.sleep(0.02)
        pool.tell(number)
        look_until_ended(pool)


def test_a_worker_that_others_have_ended_is_no_failure(tmp_path: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with workers(tmp_path, f"import sys; sys.exit({128 + number})") as pool:
            look_until_ended(pool)


#: A shell without job control starts background commands with SIGINT ignored.
USUAL = "signal.signal(signal.SIGINT, signal.SIG_DFL);"
