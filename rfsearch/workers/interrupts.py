"""Being told to stop, and waiting for a safe place to do it.

An interrupt in the middle of a write to the database can be lost there, or come out as another
error. So the first one is only noted, for the search to look at between its steps. After SIGTERM
there is a grace time, since whoever sends it kills soon after, and after SIGHUP, whose sender has
gone; Ctrl-C may take as long as a step. SIGHUP that was ignored, as `nohup` wants it, stays so.

Python notes a signal only between two of its own instructions, and a backward pass is one. So a
thread of its own gives the answer, which the system wakes at once.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any, Self

#: What asks a program to end. A lost connection may send SIGHUP several times.
STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Seconds after the grace time that whoever watches a worker gives it before killing it.
AFTER_GRACE = 5.0


def _say_nothing(number: signal.Signals) -> None:
    pass


class Interrupts:
    """Notes the first signal to stop inside a `with` block; a second one interrupts at once.

    Args:
        grace: Seconds after SIGTERM or SIGHUP at which it interrupts by itself.
        say: Called with the first signal as soon as it comes, from another thread.

    Attributes:
        requested: The signal, once there was one.
    """

    def __init__(
        self, grace: float = 20.0, say: Callable[[signal.Signals], None] = _say_nothing
    ) -> None:
        self.grace = grace
        self.requested: signal.Signals | None = None
        self._say = say
        self._undisturbed_until = 0.0
        self._previous: dict[signal.Signals, Any] = {}
        self._until_the_end = ExitStack()

    def __enter__(self) -> Self:
        # Only the main thread may set how signals are handled.
        if threading.current_thread() is threading.main_thread():
            handlers = dict.fromkeys(STOP, self._note) | {signal.SIGALRM: self._interrupt}
            for number, handler in handlers.items():
                previous = signal.getsignal(number)
                if number == signal.SIGHUP and previous == signal.SIG_IGN:
                    continue
                self._previous[number] = previous
                signal.signal(number, handler)
            self._until_the_end.enter_context(_answers(self._say))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._until_the_end.close()
        if self._previous:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def raise_if_requested(self) -> None:
        """Interrupt here.

        Raises:
            KeyboardInterrupt: If an interrupt was noted.
        """
        if self.requested:
            raise KeyboardInterrupt

    def give_time(self) -> None:
        """Let no further signal disturb what comes now, as far as that is short.

        Who asks again, since it takes long, must not interrupt what was asked for.
        """
        self._undisturbed_until = time.monotonic() + AFTER_GRACE

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number != signal.SIGHUP:
            self._interrupt(number, frame)
            return
        is_timed = signal.getitimer(signal.ITIMER_REAL)[0] > 0
        if number != signal.SIGINT and not is_timed:
            signal.setitimer(signal.ITIMER_REAL, self.grace)
        if not self.requested:
            self.requested = signal.Signals(number)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if time.monotonic() >= self._undisturbed_until:
            raise KeyboardInterrupt


@contextmanager
def _answers(say: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Have the first signal to stop answered whatever the main thread is doing."""
    told, tells = socket.socketpair()

    def answer() -> None:
        while number := told.recv(1)[0]:  # No signal has the number 0.
            if number in STOP:
                say(signal.Signals(number))
                return

    thread = threading.Thread(target=answer, name="answers to signals", daemon=True)
    thread.start()
    tells.setblocking(False)
    previous = signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        with suppress(BlockingIOError):  # So many signals came that it has long been answered.
            tells.send(b"\0")  # Closing it would end nothing where a child process has it, too.
        thread.join()
        told.close()
        tells.close()


def end_with_standard_input(grace: float) -> None:
    """End this process, as SIGTERM does, once its standard input ends.

    Whoever starts a worker holds the other end of it, which the system closes however that
    process ends. A worker that does not end within its grace time is killed.
    """

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace + AFTER_GRACE)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
