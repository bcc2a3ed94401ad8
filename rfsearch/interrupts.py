"""Ctrl-C that waits for a safe place.

An interrupt in the middle of a write to the database can be lost there, or come out as another
error. So the first one is only noted, for the search to look at between its steps.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class Interrupts:
    """Notes the first interrupt inside a `with` block; a second one interrupts at once.

    Attributes:
        requested: Whether there was one.
    """

    requested = False

    def __enter__(self) -> Self:
        self._previous = signal.getsignal(signal.SIGINT)
        self._set(self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._set(self._previous)

    def raise_if_requested(self) -> None:
        """Interrupt here.

        Raises:
            KeyboardInterrupt: If an interrupt was noted.
        """
        if self.requested:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._set(self._previous)

    def _set(self, handler: signal._HANDLER) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
