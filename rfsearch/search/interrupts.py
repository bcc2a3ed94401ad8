"""Being told to stop, and waiting for a safe place to do it.

An interrupt in the middle of a write to the database can be lost there, or come out as another
error. So the first one is only noted, for the search to look at between its steps. After SIGTERM
there is a grace time, since whoever sends it kills soon after; Ctrl-C may take as long as an
epoch.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

_STOP = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Notes the first SIGINT or SIGTERM inside a `with` block; a second one interrupts at once.

    Args:
        grace: Seconds after SIGTERM at which it interrupts by itself.

    Attributes:
        requested: The signal, once there was one.
    """

    def __init__(self, grace: float = 20.0) -> None:
        self.grace = grace
        self.requested: signal.Signals | None = None

    def __enter__(self) -> Self:
        # Only the main thread may set how signals are handled.
        self._is_main = threading.current_thread() is threading.main_thread()
        if self._is_main:
            self._previous: dict[signal.Signals, Any] = {
                number: signal.getsignal(number) for number in (*_STOP, signal.SIGALRM)
            }
            for number in _STOP:
                signal.signal(number, self._note)
            signal.signal(signal.SIGALRM, _interrupt)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_main:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in self._previous.items():
                signal.signal(number, handler)

    def raise_if_requested(self) -> None:
        """Interrupt here.

        Raises:
            KeyboardInterrupt: If an interrupt was noted.
        """
        if self.requested:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = signal.Signals(number)
        for name in _STOP:
            signal.signal(name, _interrupt)
        if number == signal.SIGTERM:
            signal.setitimer(signal.ITIMER_REAL, self.grace)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
