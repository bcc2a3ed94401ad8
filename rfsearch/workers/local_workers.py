"""Several worker processes on this machine, watched by the one that started them.

Should that be killed, the workers notice that their standard input ends, and hand back their
trials (`rfsearch.workers.interrupts.end_with_standard_input`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rfsearch.workers.interrupts import AFTER_GRACE, STOP

#: Workers that may be killed, for each that was started, before a trial is finished.
_DEATHS = 3
#: Exit code of a user's mistake.
_MISTAKE = 2
#: Exit codes of a worker that has ended as it should.
_ENDED = {0, *(128 + number for number in STOP)}


class LocalWorkers:
    """Starts workers, and replaces those that were killed.

    Args:
        command: What starts a worker. It ends with code 0 when the search is over, and when its
            standard input ends.
        number: How many to start.
        log: File that takes in what they say.
        environment: Variables beside this process's own. Unless either of them sets
            `OMP_NUM_THREADS`, several workers share the CPU's cores among them.
        grace: Seconds that a worker has to end after SIGTERM.
    """

    def __init__(
        self,
        command: Sequence[str],
        number: int,
        log: Path,
        environment: dict[str, str],
        grace: float,
    ) -> None:
        self.command = command
        self.number = number
        self.log = log
        self._environment = _threads(number) | os.environ | environment
        self._grace = grace
        self._running: list[subprocess.Popen[bytes]] = []
        self._lifeline: tuple[int, int] | None = None
        self._are_told = False
        self._deaths = 0
        self._finished = -1

    def __enter__(self) -> Self:
        self.log.write_bytes(b"")
        self._lifeline = os.pipe()
        self._running = [self._start() for _ in range(self.number)]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def are_running(self, num_finished: int) -> bool:
        """Look after the workers; False once all have ended by themselves.

        Args:
            num_finished: Trials that have ended so far.

        Raises:
            ValueError: If a worker refuses what the user wants, in its words; or if workers are
                killed again and again, and no trial is finished.
            RuntimeError: If a worker has failed; with the last line of what it said.
        """
        if num_finished != self._finished:
            self._finished, self._deaths = num_finished, 0
        ended = [process for process in self._running if process.poll() is not None]
        for process in ended:
            self._running.remove(process)
            assert process.returncode is not None
            if self._are_told:  # However it ended: some had not begun yet.
                continue
            if process.returncode < 0:
                self._replace(process.returncode)
            elif process.returncode == _MISTAKE:
                raise ValueError(self._last_words())
            elif process.returncode not in _ENDED:
                raise RuntimeError(f"A worker has failed ({self._last_words()}); see {self.log}.")
        return bool(self._running)

    def _replace(self, returncode: int) -> None:
        self._deaths += 1
        if self._deaths > _DEATHS * self.number:
            raise ValueError(
                f"{self._deaths} workers were killed before a trial was finished, the last by "
                f"{signal.Signals(-returncode).name}; is there enough memory for {self.number}?"
            )
        self._running.append(self._start())

    def _start(self) -> subprocess.Popen[bytes]:
        assert self._lifeline is not None
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C is for this process, which passes it on once.
            return subprocess.Popen(
                self.command,
                stdin=self._lifeline[0],
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )

    def tell(self, number: signal.Signals) -> None:
        """Send a signal to all, which tells them to end."""
        self._are_told = True
        for process in self._running:
            if process.poll() is None:
                process.send_signal(number)

    def stop(self) -> None:
        """End those that still run: give them the grace time to hand back their trials."""
        self.tell(signal.SIGTERM)
        end = time.monotonic() + self._grace + AFTER_GRACE
        for process in self._running:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running = []
        for end_of_pipe in self._lifeline or ():
            os.close(end_of_pipe)
        self._lifeline = None

    def _last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1].removeprefix("error: ") if lines else ""


def _threads(number: int) -> dict[str, str]:
    """Threads of each worker; by themselves all would use all cores, and slow each other down."""
    if number == 1:
        return {}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"OMP_NUM_THREADS": str(max(1, (cores or 1) // number))}
