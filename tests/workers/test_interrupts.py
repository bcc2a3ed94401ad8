from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from rfsearch.workers.interrupts import STOP, Interrupts


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_interrupts_by_itself_after_the_grace_time(number: signal.Signals) -> None:
    before = [signal.getsignal(one) for one in (*STOP, signal.SIGALRM)]
    with Interrupts(grace=0.2) as interrupts:
        signal.raise_signal(number)
        assert interrupts.requested == number
        with pytest.raises(KeyboardInterrupt):
            time.sleep(30)
    assert [signal.getsignal(one) for one in (*STOP, signal.SIGALRM)] == before


def test_the_first_signal_alone_is_answered() -> None:
    said: list[signal.Signals] = []
    for _ in range(2):  # It can be used again.
        with Interrupts(say=said.append) as interrupts:
            signal.raise_signal(signal.SIGTERM)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert interrupts.requested == signal.SIGTERM
    assert said == [signal.SIGTERM] * 2
    assert signal.set_wakeup_fd(-1) == -1


def test_the_answer_does_not_wait_for_what_the_main_thread_is_doing() -> None:
    noted: list[signal.Signals | None] = []
    with Interrupts(say=lambda _: noted.append(interrupts.requested)) as interrupts:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        # One of Python's instructions, which takes seconds, as a backward pass may.
        hashlib.pbkdf2_hmac("sha256", b"a", b"b", 4_000_000)
        assert interrupts.requested == signal.SIGINT
    assert noted == [None]


def test_a_lost_connection_may_be_told_twice_and_after_ctrl_c() -> None:
    with Interrupts(grace=0.2) as interrupts:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        assert interrupts.requested == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):  # Nobody will press it again.
            time.sleep(30)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGALRM])
def test_what_was_asked_for_is_not_disturbed_by_asking_again(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rfsearch.workers.interrupts.AFTER_GRACE", 0.2)
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        interrupts.give_time()
        signal.raise_signal(number)
        time.sleep(0.3)
        with pytest.raises(KeyboardInterrupt):  # It has taken too long.
            signal.raise_signal(number)


def test_nohup_is_heeded() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGHUP)
        assert not interrupts.requested
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


#: Waits until its standard input ends; `sys.argv[1]` says what it does about SIGTERM.
ENDS = """
import signal, sys, time
from rfsearch.workers import interrupts
if sys.argv[1] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
interrupts.AFTER_GRACE = 0.1
interrupts.end_with_standard_input(0.1)
print("up", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("manner", "code"), [("obedient", -signal.SIGTERM), ("deaf", -signal.SIGKILL)]
)
def test_a_process_ends_with_its_standard_input(manner: str, code: int) -> None:
    command = [sys.executable, "-c", ENDS, manner]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(timeout=60) == code


def test_nothing_comes_after_the_end() -> None:
    with Interrupts(grace=0.1):
        signal.raise_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_ctrl_c_may_take_as_long_as_a_batch() -> None:
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
