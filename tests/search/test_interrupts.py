from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from rfsearch.search.interrupts import Interrupts


@pytest.fixture(autouse=True)
def usual_handler() -> Iterator[None]:
    """Python's own: a shell without job control starts background commands with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_first_interrupt_waits_and_the_second_does_not() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        interrupts.raise_if_requested()
        signal.raise_signal(signal.SIGINT)
        assert interrupts.requested
        with pytest.raises(KeyboardInterrupt):
            interrupts.raise_if_requested()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_nothing_is_noted_outside() -> None:
    with Interrupts() as interrupts:
        pass
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert not interrupts.requested


def test_sigterm_interrupts_by_itself_after_the_grace_time() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)]
    with Interrupts(grace=0.2) as interrupts:
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.requested == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            time.sleep(30)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)] == before


def test_nothing_comes_after_the_end() -> None:
    with Interrupts(grace=0.1):
        signal.raise_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_ctrl_c_may_take_as_long_as_an_epoch() -> None:
    with Interrupts(grace=0.1) as interrupts:
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.3)
    assert interrupts.requested == signal.SIGINT


def test_another_thread_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    inside: list[object] = []

    def work() -> None:
        with Interrupts():
            inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [before]
